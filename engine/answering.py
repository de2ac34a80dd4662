"""Answering: what metrics are computed from, under interventions, batch by batch.

A unit of work is a stimulus under a condition, numbered condition x stimuli + stimulus. Each batch
runs under every condition that it still lacks (`conditions`), and clean before that where this
saves more than it costs (`savings`) or where a divergence from the clean distribution is measured.
Each pass is a shard. The clean answers themselves come from the
pass that captures come from (`recording`), as those of the one condition without changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from patchclamp.analyses.readings import CLEAN, Change
from patchclamp.engine.answers import ask
from patchclamp.engine.batches import Batch
from patchclamp.engine.beginning import Clean
from patchclamp.engine.conditions import (
    Sweeping,
    batch_sweep,
    clean_inputs,
    clean_of,
    needs_clean,
    pack_inputs,
    relay_inputs,
    wanted,
)
from patchclamp.engine.passes import AHEAD, Found, Inputs, Passes, Relay
from patchclamp.engine.plan import VOCABULARY, Plan
from patchclamp.engine.records import Cache, Record, digest_of
from patchclamp.engine.savings import Pack, Sweep, plain, sessions_of
from patchclamp.engine.shards import write_shard
from patchclamp.engine.sizes import most_rows
from patchclamp.engine.steps import answers_step
from patchclamp.engine.values import Values
from patchclamp.registry.errors import GuardError

Answers = dict[str, npt.NDArray[np.float64]]
"""What metrics are computed from, each (stimulus, ...): see `engine.body.read_answers`."""
Changes = tuple[Change, ...]


@dataclass(frozen=True)
class Asking:
    """The answers of a set under some conditions; `reads` is what else is read of the logits."""

    stimuli: str
    conditions: tuple[Changes, ...]
    reads: tuple[str, ...]
    record: Record
    values: Values


def asking(plan: Plan, name: str, conditions: Sequence[Changes], values: Values) -> Asking:
    """Return what is asked of a set, with the record that the answers are kept as.

    Of the clean run everything is read that another analysis might need.
    """
    reads = plan.reads(name)
    if tuple(conditions) == (CLEAN.changes,):
        reads = tuple(sorted({*reads, VOCABULARY}))
    parts: dict[str, Any] = {
        **plan.identity(name),
        "answers": plan.answers_digest(name),
        "reads": list(reads),
        "conditions": digest_of([[values.identity(c, name) for c in of] for of in conditions]),
    }
    record = Record("answers", f"answers of {name}", parts)
    return Asking(name, tuple(conditions), reads, record, values)


def clean_asking(plan: Plan, name: str) -> Asking:
    """Return what is asked of a set as it is."""
    return asking(plan, name, (CLEAN.changes,), Values(plan))


def ask_all(passes: Passes, asked: Asking, cache: Cache) -> None:
    """Run what is left of the passes under every condition."""
    plan, name = passes.plan, asked.stimuli
    optimise = plan.loaded.spec.run.optimise
    sweeping = Sweeping(plan, name, asked.conditions, asked.reads, asked.values, optimise)
    count = len(plan.sets[name].table)
    folder = cache.shards(asked.record)
    done = cache.open_shards(asked.record).done
    numbers = range(len(asked.conditions))
    lacking = [row for row in range(count) if any(n * count + row not in done for n in numbers)]
    for batch in passes.batches(name, lacking):
        sweep = batch_sweep(sweeping, batch)
        if done:
            sweep = sweep.only(lambda number, row: number * count + row not in done)
        run = _in_sessions if plan.remote else _here
        for pack, found in run(passes, sweeping, sweep, batch):
            units = [part.number * count + row for part in pack.parts for row in part.rows]
            answers = answers_in(found)  # those of runs aside stand behind the others
            write_shard(folder, units, {k: v[: len(units)] for k, v in answers.items()})
    passes.settle()


def _here(
    passes: Passes, sweeping: Sweeping, sweep: Sweep, batch: Batch
) -> Iterator[tuple[Pack, Found]]:
    """Run a batch clean where that is needed, in halves where memory does not suffice for it, and
    then the packs."""
    name = sweeping.name

    def run(packs: Sequence[Pack], clean: Clean) -> Iterator[tuple[Pack, Found]]:
        for pack in packs:
            yield from passes.run_pack(
                name, pack, lambda p: pack_inputs(sweeping, p, clean), clean.left
            )

    if not needs_clean(sweeping, sweep):
        yield from run(sweep.packs, clean_of(sweeping, batch))
        return
    for ran, found in passes.run(name, batch, lambda b: clean_inputs(sweeping, sweep, b)):
        some = sweep.only(partial(_is_among, frozenset(ran.rows)))
        yield from run(some.packs, clean_of(sweeping, ran, found))


def _is_among(rows: frozenset[int], number: int, row: int) -> bool:
    """Return whether a stimulus, under whatever condition, is one of some."""
    del number
    return row in rows


def _in_sessions(
    passes: Passes, sweeping: Sweeping, sweep: Sweep, batch: Batch
) -> Iterator[tuple[Pack, Found]]:
    """Run packs in sessions, each of which is one request with a clean pass of its own."""
    del batch

    def prepare(session: Sweep) -> Relay:
        return relay_inputs(sweeping, session)

    every = sessions_of(sweep, most=most_rows(passes.plan, (), sweeping.name))
    for number, session in enumerate(every):
        if number % AHEAD == 0:
            passes.send(every[number : number + AHEAD], prepare)
        for ran, found in passes.run_session(sweeping.name, session, prepare):
            yield from zip(ran.packs, found, strict=True)


def answers_in(found: Found) -> dict[str, torch.Tensor]:
    """Return the answers among what a pass found."""
    return {
        key.removeprefix("answers."): value
        for key, value in found.items()
        if key.startswith("answers.")
    }


def clean_answers(found: Found, asked: Asking, rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return the answers of a clean pass, which does not diverge from itself."""
    answers = answers_in(found)
    if "distribution" in asked.reads:
        answers |= {name: torch.zeros(len(rows), dtype=torch.float64) for name in ("kl", "js")}
    return answers


def without_distribution(reads: Sequence[str]) -> tuple[str, ...]:
    """Return what is read of a pass that others do not diverge from."""
    return tuple(read for read in reads if read != "distribution")


def collect(plan: Plan, asked: Asking, cache: Cache) -> dict[Changes, Answers]:
    """Put the shards of the answers together; raises `GuardError` for what is not finite."""
    count = len(plan.sets[asked.stimuli].table)
    whole: Answers = {}
    for units, tensors in cache.open_shards(asked.record).tensors():
        for name, value in tensors.items():
            shape = (count * len(asked.conditions), *value.shape[1:])
            whole.setdefault(name, np.full(shape, np.nan))[units] = value.numpy()
    for name, values in whole.items():
        if not np.isfinite(values).all():
            number, row = divmod(int(np.argwhere(~np.isfinite(values))[0][0]), count)
            under = "".join(f" under {c.intervention!r}" for c in asked.conditions[number][:1])
            raise GuardError(
                f"guard 'finite' failed on {name} of {asked.stimuli!r}{under}: stimulus "
                f"{plan.sets[asked.stimuli].table.ids[row]!r} gives NaN or infinity"
            )
    return {
        changes: {name: values[i * count : (i + 1) * count] for name, values in whole.items()}
        for i, changes in enumerate(asked.conditions)
    }


def plain_inputs(plan: Plan, asked: Asking, changes: Changes, row: int) -> Inputs:
    """Return the pass of a stimulus alone under changes, without savings."""
    reads = without_distribution(asked.reads)
    sweeping = Sweeping(plan, asked.stimuli, (changes,), reads, asked.values, optimise=False)
    pack = plain([wanted(sweeping, 0, (row,))]).packs[0]
    return pack_inputs(sweeping, pack, Clean({}, {}))


def look_at_answers(passes: Passes, asked: Asking, row: int) -> dict[str, torch.Tensor]:
    """Return the clean answers of a stimulus that runs alone."""
    reads = without_distribution(asked.reads)
    said = ask(passes.plan.sets[asked.stimuli].tokens, (row,), reads=reads)
    found = passes.forward(said.ids, [answers_step(passes.plan.model, said)])
    return answers_in(found)
