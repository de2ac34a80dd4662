"""Answering: what metrics are computed from, under interventions, batch by batch.

A unit of work is a stimulus under a condition, numbered condition x stimuli + stimulus. Each batch
runs under every condition that it still lacks, and clean before that where a divergence from the
clean distribution is measured. Each pass is a shard. The clean answers themselves come from the
pass that captures come from (`recording`), as those of the one condition without changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from patchclamp.analyses.readings import CLEAN, Change
from patchclamp.engine.answers import ask
from patchclamp.engine.batches import Batch
from patchclamp.engine.passes import Found, Inputs, Passes
from patchclamp.engine.plan import Plan
from patchclamp.engine.records import Cache, Record, digest_of
from patchclamp.engine.shards import write_shard
from patchclamp.engine.steps import answers_step, in_order, write_steps
from patchclamp.engine.values import Values
from patchclamp.registry.errors import GuardError

Answers = dict[str, npt.NDArray[np.float64]]
"""What metrics are computed from, each (stimulus, ...): see `engine.body.read_answers`."""
Changes = tuple[Change, ...]
Clean = dict[int, torch.Tensor]
"""The clean distribution of each stimulus of a batch."""


@dataclass(frozen=True)
class Asking:
    """The answers of a set under some conditions; `reads` is what else is read of the logits."""

    stimuli: str
    conditions: tuple[Changes, ...]
    reads: tuple[str, ...]
    record: Record


def asking(plan: Plan, name: str, conditions: Sequence[Changes], values: Values) -> Asking:
    """Return what is asked of a set, with the record that the answers are kept as."""
    parts: dict[str, Any] = {
        **plan.identity(name),
        "answers": plan.answers_digest(name),
        "reads": list(plan.reads(name)),
        "conditions": digest_of([[values.identity(c, name) for c in of] for of in conditions]),
    }
    record = Record("answers", f"answers of {name}", parts)
    return Asking(name, tuple(conditions), plan.reads(name), record)


def clean_asking(plan: Plan, name: str) -> Asking:
    """Return what is asked of a set as it is."""
    return asking(plan, name, (CLEAN.changes,), Values(plan, {}))


def ask_all(passes: Passes, asked: Asking, values: Values, cache: Cache) -> None:
    """Run what is left of the passes under every condition."""
    count = len(passes.plan.sets[asked.stimuli].table)
    folder = cache.shards(asked.record)
    done = cache.open_shards(asked.record).done
    lacking = [
        row
        for row in range(count)
        if any(number * count + row not in done for number in range(len(asked.conditions)))
    ]
    for batch in passes.batches(asked.stimuli, lacking):
        clean: Clean = {}
        if "distribution" in asked.reads:
            for ran, found in passes.run(
                asked.stimuli, batch, lambda b: _prepare(passes.plan, asked, (b, ()), ({}, values))
            ):
                clean.update(zip(ran.rows, found["answers.distribution"], strict=True))
        for number, changes in enumerate(asked.conditions):
            rows = tuple(row for row in batch.rows if number * count + row not in done)
            if not rows:
                continue
            part = Batch(rows, batch.length)

            def prepare(b: Batch, changes: Changes = changes, clean: Clean = clean) -> Inputs:
                return _prepare(passes.plan, asked, (b, changes), (clean, values))

            for ran, found in passes.run(asked.stimuli, part, prepare):
                write_shard(folder, [number * count + row for row in ran.rows], answers_in(found))


def _prepare(
    plan: Plan,
    asked: Asking,
    what: tuple[Batch, Changes],
    given: tuple[Clean, Values],
) -> Inputs:
    (batch, changes), (clean, values) = what, given
    tokens = plan.sets[asked.stimuli].tokens
    reads = asked.reads
    distribution = None
    if changes and "distribution" in reads:
        reads = tuple(read for read in reads if read != "distribution")
        distribution = torch.stack([clean[row] for row in batch.rows])
    said = ask(tokens, batch.rows, reads=reads, clean=distribution)
    edits = write_steps(plan.model, changes, lambda c: values.of(c, asked.stimuli, batch.rows))
    for step in edits:
        step["rows"] = None if len(said.ids) == len(batch.rows) else _rows_of(said.first, said.ids)
    return said.ids, in_order([*edits, answers_step(plan.model, said)])


def _rows_of(first: Sequence[int], ids: Sequence[object]) -> torch.Tensor:
    """Return the stimulus that each input row is of: its text with one of its answers after it."""
    starts = torch.zeros(len(ids), dtype=torch.long)
    starts[torch.tensor(first[1:], dtype=torch.long)] = 1
    return starts.cumsum(0)


def answers_in(found: Found) -> dict[str, torch.Tensor]:
    """Return the answers among what a pass found; a clean run does not diverge from itself."""
    answers = {
        key.removeprefix("answers."): value
        for key, value in found.items()
        if key.startswith("answers.")
    }
    if "distribution" in answers:
        count = len(answers.pop("distribution"))
        answers |= {name: torch.zeros(count, dtype=torch.float64) for name in ("kl", "js")}
    return answers


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


def look_at_answers(passes: Passes, asked: Asking, row: int) -> dict[str, torch.Tensor]:
    """Return the clean answers of a stimulus that runs alone."""
    said = ask(passes.plan.sets[asked.stimuli].tokens, (row,), reads=asked.reads)
    found = passes.forward(said.ids, [answers_step(passes.plan.model, said)])
    return answers_in(found)
