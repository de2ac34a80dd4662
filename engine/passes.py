"""Passes: batches of a set through the model, in halves where memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from patchclamp.engine.backend import Backend, Step
from patchclamp.engine.batches import Batch, pad
from patchclamp.engine.plan import Plan
from patchclamp.registry.errors import ModelError

Found = dict[str, torch.Tensor]
Inputs = tuple[tuple[tuple[int, ...], ...], list[Step]]
"""Token ids of each input row, and the steps of the pass."""

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
    """Batches that have been run; guards' own passes are none."""

    def __post_init__(self) -> None:
        self.tokens = self.plan.loaded.spec.run.batch.tokens

    def batches(self, name: str, rows: Sequence[int]) -> Iterator[Batch]:
        """Yield batches of some stimuli; smaller ones once memory has run out."""
        of_set, left = self.plan.sets[name], list(rows)
        while left:
            budget, packed = self.tokens, of_set.batches(left, self.tokens)
            left = []
            for number, batch in enumerate(packed):
                yield batch
                if self.tokens < budget:
                    left = sorted(row for later in packed[number + 1 :] for row in later.rows)
                    break

    def run(
        self, name: str, batch: Batch, prepare: Callable[[Batch], Inputs]
    ) -> Iterator[tuple[Batch, Found]]:
        """Run a batch, or its halves where it does not fit into memory, and yield what is found."""
        try:
            found = self.forward(*prepare(batch))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            halves = self._halves(name, batch, error)
        else:
            yield batch, found
            # Only now has what it gave been kept.
            self.done += 1
            self.advance(name)
            return
        # Outside the handler, where the failed pass's tensors are no longer held.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for half in halves:
            yield from self.run(name, half, prepare)

    def forward(self, ids: Sequence[Sequence[int]], steps: list[Step]) -> Found:
        """Run token ids through the model; stops early where no logits are read."""
        self.run_so_far += 1
        # Any id may pad: the mask hides it, and not every tokenizer has a padding token.
        inputs = pad(ids, pad_id=0)
        stop = all(step["do"] not in ("answers", "objective") for step in steps)
        return self.backend.forward(inputs, steps, stop=stop)

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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return any(said in str(error).lower() for said in _OUT_OF_MEMORY)
