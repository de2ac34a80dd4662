"""The rig: a model with its backend, loaded when the first pass is due, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import torch

from patchclamp.engine.backend import Backend, Pending, open_backend
from patchclamp.engine.guards import check_identities
from patchclamp.engine.heap import kept_heap
from patchclamp.engine.passes import Passes
from patchclamp.engine.plan import Plan
from patchclamp.engine.provenance import versions
from patchclamp.engine.records import Cache
from patchclamp.engine.verdicts import Verdict, of_texts
from patchclamp.engine.weights import choose_device, load_weights, threads_for
from patchclamp.registry import BACKENDS
from patchclamp.registry.errors import BudgetError, DetachedError

_SAMPLED = 2
"""Passes after which the time of all is judged."""

SERVER = "server: "
"""What stands before words of a server, or about it, where progress is shown."""

Progress = Callable[[str, int, int], None]
"""Called with what is running, passes done and passes in all."""


@dataclass
class Rig:
    """What a plan is measured with; `identities` are what guards said of its sites."""

    plan: Plan
    cache: Cache
    progress: Progress
    closing: ExitStack
    device: str
    identities: list[Verdict] = field(default_factory=list)
    passes: Passes | None = None
    module: torch.nn.Module | None = None
    threads: int = 0
    started: float = 0.0
    begun: float = field(default_factory=monotonic)
    total: int = 0
    """Passes that are known to be due."""
    aside: int = 0
    """Passes through the untrained twin, which has a rig of its own."""
    detach: bool = False
    """Whether to send passes to a server and not to wait for them."""
    server: dict[str, Any] | None = None
    """What is known of the server that measures, if one does."""
    wire: Any = None
    """The wire to it, which counts what goes over it (`engine.remote.wire.Wire`)."""

    def open(self) -> Passes:
        """Load the model if it is not loaded yet."""
        if self.passes is None:
            remote = BACKENDS[self.plan.loaded.spec.run.backend].remote
            backend = self._connect() if remote else self._load()
            self.passes = Passes(self.plan, backend, self._advance)
            self.started = monotonic()
        return self.passes

    def _load(self) -> Backend:
        run = self.plan.loaded.spec.run
        self.module = load_weights(self.plan.model, self.device)
        if self.device == "cpu" and run.budget.memory is None:  # else none is to spare
            self.closing.enter_context(kept_heap())
        self.threads = self.closing.enter_context(threads_for(self.module, run.threads))
        return open_backend(run.backend, self.module, self.plan.model.tokenizer)

    def _connect(self) -> Backend:
        from patchclamp.engine.remote.connect import connect

        run = self.plan.loaded.spec.run
        backend, self.server = connect(
            self.plan.model, run, self.cache, self._tell, detach=self.detach
        )
        self.wire = backend.jobs.wire
        self.closing.callback(self.wire.close)
        return backend

    def _tell(self, said: str) -> None:
        """Show what a server says."""
        done = 0 if self.passes is None else self.passes.done
        self.progress(f"{SERVER}{said}", done, max(self.total, done, 1))

    def turn_to(self, plan: Plan) -> None:
        """Measure another plan of the same model from here on."""
        self.plan = plan
        if self.passes is not None:
            self.passes.plan = plan

    def checked(self) -> Passes:
        """Return the passes of a model whose sites are what the site table says."""
        passes = self.open()
        if not self.identities:
            self.identities = check_identities(passes, self.module)
        return passes

    def made(self, verdicts: Sequence[Verdict]) -> dict[str, Any]:
        """Return how a record has been made, and what guards said of it."""
        return {
            **self.setting(),
            "guards": [verdict.as_dict() for verdict in (*self.identities, *verdicts)],
        }

    def setting(self) -> dict[str, Any]:
        """Return what this rig measures with, now."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "backend": self.plan.loaded.spec.run.backend,
            "device": self.device,
            "threads": self.threads,
            "batch_tokens": self.plan.loaded.spec.run.batch.tokens,
            "versions": versions(),
            **({} if self.server is None else {"server": self.server}),
        }

    def account(self, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return how everything was measured, for the provenance: this rig, and every record.

        A record that was there already says itself what made it and what guards found.
        """
        guards = [verdict.as_dict() for verdict in of_texts(self.plan)]
        for made in records.values():
            guards += [guard for guard in made["guards"] if guard not in guards]
        passes = self.aside + (0 if self.passes is None else self.passes.run_so_far)
        told = {**self.setting(), "forward_passes": passes, "guards": guards, "records": records}
        told["seconds"] = round(monotonic() - self.begun, 1)
        return told if self.wire is None else {**told, "wire": self.wire.account()}

    def wait(self) -> None:
        """Say that another run measures the same, and that this one waits for it."""
        self.progress("waiting for another run that measures the same", 0, max(self.total, 1))

    def _advance(self, what: str) -> None:
        assert self.passes is not None
        allowed = self.plan.loaded.spec.run.budget.time
        if allowed is not None and self.passes.done >= _SAMPLED:
            self._check_time(allowed)
        self.progress(what, self.passes.done, max(self.total, self.passes.done))

    def _check_time(self, allowed: float) -> None:
        """Stop once the passes so far say that the rest will not fit the budget of time."""
        assert self.passes is not None
        spent, total = monotonic() - self.started, max(self.total, self.passes.done)
        needed = spent / self.passes.done * total
        if needed > allowed:
            raise BudgetError(
                f"{self.passes.done} of {total} passes took {spent:.1f} s, so that the run needs "
                f"about {needed:.3g} s and may take {allowed:g} s (run.budget.time); what was "
                "measured is kept, and a run with a larger budget goes on from there"
            )


@contextmanager
def leaving(rig: Rig) -> Iterator[None]:
    """Say what a server has been left with, where it is not waited for."""
    try:
        yield
    except Pending:
        assert rig.passes is not None, "they are what was sent"
        assert rig.server is not None, "it was asked before that"
        count = max(1, rig.passes.pending)
        raise DetachedError(
            f"{count} {'request is' if count == 1 else 'requests are'} with {rig.server['host']} "
            "and not waited for; run the spec again, without --detach, to collect the results and "
            "go on"
        ) from None


@contextmanager
def rig_of(plan: Plan, cache: Cache, progress: Progress, *, detach: bool = False) -> Iterator[Rig]:
    """Open a rig for a plan; what it changed in the process, such as threads, is undone after."""
    with ExitStack() as closing:
        run = plan.loaded.spec.run
        device = "server" if BACKENDS[run.backend].remote else choose_device(run.device)
        yield Rig(plan, cache, progress, closing, device, detach=detach)
