"""Passes: batches of a set through the model, in halves where memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from patchclamp.engine.backend import Backend, Begins, Pending, Prefix, Step, begin
from patchclamp.engine.batches import Batch, pad
from patchclamp.engine.plan import Plan
from patchclamp.engine.savings import Pack, Sweep
from patchclamp.registry.errors import ModelError

Found = dict[str, torch.Tensor]
Together = TypeVar("Together", Batch, Pack, Sweep)
"""What goes through the model at once."""


@dataclass(frozen=True)
class Inputs:
    """What goes through the model: its tensors, the steps, and what a pass begins with.

    `begins` says what it takes of what a clean pass left, None for nothing.
    """

    tensors: Mapping[str, torch.Tensor]
    steps: list[Step]
    prefix: Prefix | None = None
    begins: Begins | None = None


@dataclass(frozen=True)
class Relay:
    """Passes that one request takes to a server; those after the clean one begin with its own."""

    clean: Inputs | None
    parts: tuple[Inputs, ...]


def whole(ids: Sequence[Sequence[int]], steps: list[Step]) -> Inputs:
    """Return a pass of token ids, from the first layer and token on."""
    # Any id may pad: the mask hides it, and not every tokenizer has a padding token.
    return Inputs(pad(ids, pad_id=0), steps)


AHEAD = 8
"""Passes that a server is sent before the first of them is waited for: it serves others, too."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass
class Passes:
    """Runs batches of a plan's sets through a backend and counts them.

    `tokens` is how many go through at once; it is halved whenever memory runs out.
    """

    plan: Plan
    backend: Backend
    advance: Callable[[str], None]
    tokens: int = field(init=False)
    run_so_far: int = field(default=0, init=False)
    done: int = field(default=0, init=False)
    """Passes whose results are kept; guards' own are none."""
    pending: int = field(default=0, init=False)
    """Passes that a server has and that are not waited for."""

    def __post_init__(self) -> None:
        self.tokens = self.plan.loaded.spec.run.batch.tokens

    def batches(
        self,
        name: str,
        rows: Sequence[int],
        *,
        beside: int = 1,
        most: int | None = None,
        ahead: Callable[[Batch], Inputs] | None = None,
    ) -> Iterator[Batch]:
        """Yield batches of some stimuli, at `most` so many, so many times `beside` one another.

        They are smaller once memory has run out. With `ahead`, which prepares them, a server is
        sent some of them before the first is yielded.
        """
        of_set, left = self.plan.sets[name], list(rows)
        while left:
            budget, packed = self.tokens, of_set.batches(left, max(1, self.tokens // beside), most)
            left = []
            for number, batch in enumerate(packed):
                if ahead is not None and number % AHEAD == 0:
                    self.send(packed[number : number + AHEAD], ahead)
                yield batch
                if self.tokens < budget:
                    left = sorted(row for later in packed[number + 1 :] for row in later.rows)
                    break

    def send(self, ones: Sequence[Together], prepare: Callable[[Together], Inputs | Relay]) -> None:
        """Let a server have passes before the first of them is waited for; here, do nothing.

        So they wait in its queue beside one another, and not one after the other.
        """
        send = getattr(self.backend, "send", None)
        if send is not None and len(ones) > 1:
            for one in ones:
                send(_plain(prepare(one)))

    def run(
        self, name: str, batch: Batch, prepare: Callable[[Batch], Inputs]
    ) -> Iterator[tuple[Batch, Found]]:
        """Run a batch, or its halves where it does not fit into memory, and yield what is found."""
        return self._run(name, batch, prepare, self._halves)

    def run_pack(
        self,
        name: str,
        pack: Pack,
        prepare: Callable[[Pack], Inputs],
        left: Found | None,
    ) -> Iterator[tuple[Pack, Found]]:
        """Run a pack, or its halves where it does not fit into memory; see `run`.

        `left` is what the clean pass left that it begins with.
        """
        return self._run(name, pack, prepare, self._half_packs, left)

    def run_session(
        self, name: str, session: Sweep, prepare: Callable[[Sweep], Relay]
    ) -> Iterator[tuple[Sweep, list[Found]]]:
        """Run a session, or its halves where it does not fit into memory, each in one request."""
        return self._run(name, session, prepare, self._half_sweeps)

    def _run(
        self,
        name: str,
        one: Together,
        prepare: Callable[[Together], Inputs | Relay],
        halved: Callable[[str, Together, BaseException], list[Together]],
        left: Found | None = None,
    ) -> Iterator[tuple[Together, Any]]:
        found: Any
        before = self.run_so_far
        try:
            inputs = prepare(one)
            if isinstance(inputs, Relay):
                found = self.pass_on(inputs)
            else:
                found = self.put_through(inputs, left)
        except Pending:
            self.pending += 1
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            halves = halved(name, one, error)
        else:
            ran = self.run_so_far - before
            yield one, found
            # Only now has what it gave been kept.
            self.done += ran
            self.advance(name)
            return
        # Outside the handler, where the failed pass's tensors are no longer held.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for half in halves:
            yield from self._run(name, half, prepare, halved, left)

    def settle(self) -> None:
        """Raise `Pending` if a server has passes that what follows would need."""
        if self.pending:
            raise Pending

    def forward(self, ids: Sequence[Sequence[int]], steps: list[Step]) -> Found:
        """Run token ids through the model; stops early where no logits are read."""
        return self.put_through(whole(ids, steps))

    def put_through(self, inputs: Inputs, left: Found | None = None) -> Found:
        """Run what is prepared through the model; stops early where no logits are read.

        `left` is what the clean pass left that it begins with.
        """
        self.run_so_far += 1
        steps, prefix = inputs.steps, inputs.prefix
        if inputs.begins is not None:
            steps, prefix = begin(steps, inputs.begins, left or {})
        return self.backend.forward(inputs.tensors, steps, stop=_stops(inputs), prefix=prefix)

    def pass_on(self, relay: Relay) -> list[Found]:
        """Run a relay, on a server in one request; returns what each of its parts found."""
        together = getattr(self.backend, "relay", None)
        if together is None:
            left = None if relay.clean is None else self.put_through(relay.clean)
            return [self.put_through(part, left) for part in relay.parts]
        passes = _plain(relay)
        self.run_so_far += len(passes)
        found: list[Found] = together(passes)
        return found

    def _half_sweeps(self, name: str, session: Sweep, error: BaseException) -> list[Sweep]:
        packs = session.packs
        if len(packs) > 1:
            half = (len(packs) + 1) // 2
            return [Sweep(packs[:half]), Sweep(packs[half:])]
        return [Sweep((pack,)) for pack in self._half_packs(name, packs[0], error)]

    def _half_packs(self, name: str, pack: Pack, error: BaseException) -> list[Pack]:
        """Halve the conditions of a pack, or the stimuli of its only one."""
        parts = pack.parts
        if len(parts) > 1:
            half = (len(parts) + 1) // 2
            return [replace(pack, parts=some) for some in (parts[:half], parts[half:])]
        rows = parts[0].rows
        length = int(self.plan.sets[name].lengths[list(rows)].max())
        halves = self._halves(name, Batch(rows, length), error)
        return [replace(pack, parts=(replace(parts[0], rows=b.rows),)) for b in halves]

    def _halves(self, name: str, batch: Batch, error: BaseException) -> list[Batch]:
        of_set = self.plan.sets[name]
        if len(batch.rows) == 1:
            raise ModelError(
                f"there is not enough memory for stimulus {of_set.table.ids[batch.rows[0]]!r} of "
                f"{name!r} alone ({batch.length} tokens): capture fewer layers or positions, or "
                "reduce what is captured"
            ) from error
        self.tokens = max(1, batch.length * len(batch.rows) // 2)
        half = (len(batch.rows) + 1) // 2
        parts = (batch.rows[:half], batch.rows[half:])
        return [Batch(rows, int(of_set.lengths[list(rows)].max())) for rows in parts]


def _stops(inputs: Inputs) -> bool:
    """Return whether a pass ends at its last step: nothing is asked of what follows."""
    keep = bool(inputs.prefix and inputs.prefix.get("keep"))
    last = ("answers", "objective", "attribute")
    return not keep and all(step["do"] not in last for step in inputs.steps)


def _plain(inputs: Inputs | Relay) -> list[dict[str, Any]]:
    """Return passes as plain data, for `engine.traced.relay`."""
    relay = inputs if isinstance(inputs, Relay) else Relay(None, (inputs,))
    passes = [(relay.clean, True)] if relay.clean is not None else []
    return [
        {
            "inputs": dict(one.tensors),
            "steps": one.steps,
            # After one that was stopped, NDIF's sandbox takes no further pass in a request.
            "stop": _stops(one) and not leaves,
            "prefix": one.prefix,
            "begins": one.begins,
            "leaves": leaves,
        }
        for one, leaves in [*passes, *((part, False) for part in relay.parts)]
    ]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return any(said in str(error).lower() for said in _OUT_OF_MEMORY)
