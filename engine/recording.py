"""Recording: the clean passes of every set, which give captures; each batch's part is a shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.engine.answering import Asking, clean_answers, without_distribution
from patchclamp.engine.answers import ask
from patchclamp.engine.batches import Batch
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.passes import Found, Inputs, Passes, whole
from patchclamp.engine.plan import Plan
from patchclamp.engine.problems import Problems
from patchclamp.engine.records import Cache, Record
from patchclamp.engine.rows import as_text
from patchclamp.engine.screen import screened_sets
from patchclamp.engine.shards import write_shard
from patchclamp.engine.sizes import most_rows
from patchclamp.engine.steps import (
    capture_steps,
    in_order,
    leaf_step,
    objective_step,
    read_answers_at,
)
from patchclamp.registry import METRICS
from patchclamp.registry.errors import GuardError
from patchclamp.specs.stimuli import Rows

SCREENED = "screened"
"""Sort of the records whose shards are of stimuli that meet what a set is screened for."""


@dataclass(frozen=True)
class Work:
    """Stimuli of a set that have not given some captures, or their answers, yet.

    `holds` tells of a batch, by its answers, of which stimuli captures are kept at all: those that
    a set is screened for.
    """

    stimuli: str
    captures: tuple[CapturePlan, ...]
    rows: tuple[int, ...]
    asked: Asking | None = None
    holds: Callable[[Mapping[str, torch.Tensor]], NDArray[np.bool_]] | None = None

    def record(self, plan: Plan, capture: CapturePlan) -> Record:
        """Return the record that shards of a capture belong to."""
        record = plan.record(capture)
        return record if self.holds is None else replace(record, sort=SCREENED)


def outstanding(
    plan: Plan,
    cache: Cache,
    asked: Sequence[Asking] = (),
    captures: Sequence[CapturePlan] | None = None,
) -> list[Work]:
    """Return what is left to record, judged by the records and the shards that there are.

    Stimuli that lack the same go through the model together and give it all in one pass;
    gradients, each of its own number, take a pass each.
    """
    wanted: list[CapturePlan | Asking] = [
        *distinct(plan, plan.captures if captures is None else captures),
        *asked,
    ]
    work: list[Work] = []
    for name in plan.sets:
        ones = [one for one in wanted if one.stimuli == name]
        if not ones:
            continue
        lacking = np.stack([_lacking(plan, one, cache) for one in ones], axis=1)
        left = lacking.any(axis=1)
        while left.any():
            need = lacking[left.argmax()]
            alike = left & (lacking == need).all(axis=1)
            needed = [one for one, needs in zip(ones, need, strict=True) if needs]
            work += _works(name, needed, tuple(np.flatnonzero(alike).tolist()))
            left &= ~alike
    return work


def distinct(plan: Plan, captures: Sequence[CapturePlan]) -> list[CapturePlan]:
    """Return one capture of each content: two names for the same are recorded once."""
    found: dict[str, CapturePlan] = {}
    for capture in captures:
        found.setdefault(plan.record(capture).key, capture)
    return list(found.values())


def to_screen(plan: Plan) -> tuple[str, ...]:
    """Return the sets with `keep_if` of which it is not known yet what stays."""
    names = screened_sets(Problems(plan.loaded))
    return tuple(name for name in names if not plan.sets[name].table.screened)


def taken_along(plan: Plan, name: str) -> tuple[CapturePlan, ...]:
    """Return the captures that the pass that screens a set gives of what stays.

    Where less than half of a set can be taken, writing all that might be costs more than it saves.
    """
    if plan.remote or not plan.loaded.spec.run.optimise:
        return ()
    entry, table = plan.loaded.spec.stimuli[name], plan.sets[name].table
    if isinstance(entry, Rows) and entry.take is not None:
        by = entry.take.by
        sorts = 1 if by is None else len({as_text(row[by]) for row in table.rows})
        if 2 * entry.take.n * sorts < len(table):
            return ()
    of_set = [c for c in plan.captures if c.stimuli == name and c.gradient is None]
    alone = [c for c in of_set if not any(variable.partial for variable in c.variables())]
    return tuple(distinct(plan, alone))


def _lacking(plan: Plan, one: CapturePlan | Asking, cache: Cache) -> NDArray[np.bool_]:
    """Return which stimuli of its set have not given a capture, or their answers, yet."""
    lacking = np.zeros(len(plan.sets[one.stimuli].table), dtype=bool)
    record, rows = (
        (one.record, slice(None))
        if isinstance(one, Asking)
        else (plan.record(one), np.asarray(one.chosen.rows))
    )
    if cache.find(record) is None:
        lacking[rows] = True
        for done in cache.open_shards(record).rows:
            lacking[done] = False
    return lacking


def _works(name: str, need: Sequence[CapturePlan | Asking], rows: tuple[int, ...]) -> list[Work]:
    asked = next((one for one in need if isinstance(one, Asking)), None)
    work = []
    for part in by_objective([one for one in need if isinstance(one, CapturePlan)]):
        plain = part[0].gradient is None
        work.append(Work(name, part, rows, asked if plain else None))
    if asked is not None and not any(one.asked for one in work):
        work.append(Work(name, (), rows, asked))
    return work


def by_objective(captures: Sequence[CapturePlan]) -> list[tuple[CapturePlan, ...]]:
    """Return captures that one pass can give together: activations, and gradients of one number."""
    parts: dict[tuple[str, str] | None, list[CapturePlan]] = {}
    for capture in captures:
        of = capture.gradient
        parts.setdefault(None if of is None else (of.of, of.at), []).append(capture)
    return [tuple(part) for part in parts.values()]


def record_clean(passes: Passes, work: Sequence[Work], cache: Cache) -> None:
    """Run what is left of the clean passes; a batch is done when its shards are written."""
    for part in work:
        folders = {c.name: cache.shards(part.record(passes.plan, c)) for c in part.captures}

        def steps(batch: Batch, part: Work = part) -> Inputs:
            return prepare(passes.plan, part, batch)

        most = most_rows(passes.plan, part.captures, part.stimuli)
        for every in passes.batches(part.stimuli, part.rows, most=most, ahead=steps):
            for batch, found in passes.run(part.stimuli, every, steps):
                answers = None
                if part.asked is not None:
                    answers = clean_answers(found, part.asked, batch.rows)
                among = _among(part, batch.rows, answers)
                for capture in part.captures:
                    tensors, rows = gather(passes.plan, capture, batch.rows, found, among)
                    if rows:
                        write_shard(folders[capture.name], rows, tensors, cache.intact)
                if part.asked is not None and answers is not None:
                    folder = cache.shards(part.asked.record)
                    write_shard(folder, batch.rows, answers, cache.intact)
    passes.settle()


def _among(
    work: Work, rows: Sequence[int], answers: Mapping[str, torch.Tensor] | None
) -> frozenset[int]:
    """Return of which stimuli of a batch captures are kept."""
    if work.holds is None or answers is None:
        return frozenset(rows)
    return frozenset(row for row, held in zip(rows, work.holds(answers), strict=True) if held)


def prepare(plan: Plan, work: Work, batch: Batch) -> Inputs:
    """Return the tokens of a batch and all that is read of them in its clean pass."""
    of_set = plan.sets[work.stimuli]
    lengths = torch.from_numpy(of_set.lengths[list(batch.rows)])
    steps = [
        step
        for capture in work.captures
        for step in capture_steps(plan.model, capture, batch.rows, lengths)
    ]
    gradient = next((capture.gradient for capture in work.captures), None)
    if gradient is None and work.asked is None:
        return whole([of_set.tokens.ids[row] for row in batch.rows], in_order(steps))
    if work.asked is None:
        reads = () if gradient is None else METRICS[gradient.of].reads
    else:
        reads = without_distribution(work.asked.reads)
    said = ask(of_set.tokens, batch.rows, reads=reads)
    first = torch.tensor(said.first)
    starts = torch.zeros(len(said.ids), dtype=torch.long).index_fill(0, first, 1)
    for step in steps:
        step |= {"rows": first, "first": first[starts.cumsum(0) - 1]}
    if gradient is not None:
        steps += [leaf_step(plan.model), objective_step(plan.model, said, gradient)]
    else:
        logits = any(capture.site in ("logits", "logprobs") for capture in work.captures)
        narrow = plan.loaded.spec.run.optimise and not logits
        steps += read_answers_at(plan.model, said, narrow=narrow)
    return whole(said.ids, in_order(steps))


def gather(
    plan: Plan,
    capture: CapturePlan,
    rows: Sequence[int],
    found: Found,
    among: frozenset[int],
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Return what a pass found for a capture, as it is stored, and the rows, `among` some, of it.

    Raises `GuardError` for the first stimulus that gives a number which is not finite.
    """
    keys = [f"{capture.name}/{layer}" for layer in capture.layers]
    taking_part = capture.chosen.places(rows) >= 0
    held = [i for i, row in enumerate(rows) if taking_part[i] and row in among]
    _check_finite(plan, capture, [rows[i] for i in held], [found[f"{k}/bad"][held] for k in keys])
    tensors: dict[str, torch.Tensor] = {}
    for variable in capture.variables():
        parts = [found[f"{key}/{variable.name}"] for key in keys]
        if not variable.partial and len(held) < len(rows):
            parts = [part[held] for part in parts]
        if "layer" not in variable.dims:
            parts = [torch.cat(parts, 1) if capture.named else parts[0]]
        tensors.update(zip(capture.stored(variable), parts, strict=True))
    return tensors, [rows[i] for i in held]


def _check_finite(
    plan: Plan, capture: CapturePlan, rows: Sequence[int], bad: Sequence[torch.Tensor]
) -> None:
    for layer, counts in zip(capture.layers, bad, strict=True):
        if counts.any():
            row = rows[int(counts.nonzero()[0])]
            at = f" at layer {layer}" if capture.layered else ""
            raise GuardError(
                f"guard 'finite' failed on capture {capture.name!r}: stimulus "
                f"{plan.sets[capture.stimuli].table.ids[row]!r}{at} holds NaN or infinity"
            )
