"""Efforts: how many passes a plan takes, and how many requests to a server, before any is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchclamp.analyses.asking import ScoreReading
from patchclamp.analyses.readings import Change
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.conditions import Sweeping, batch_sweep, needs_clean
from patchclamp.engine.plan import Plan
from patchclamp.engine.recording import taken_along, to_screen
from patchclamp.engine.savings import sessions_of
from patchclamp.engine.sizes import most_rows, most_scored, result_bytes
from patchclamp.engine.values import Values

Changes = tuple[Change, ...]


@dataclass(frozen=True)
class Effort:
    """Forward passes, how many whole ones they are worth, the requests that they take to a server,
    and the most bytes of the result of one."""

    passes: int = 0
    work: float = 0.0
    requests: int = 0
    result: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.passes + other.passes,
            self.work + other.work,
            self.requests + other.requests,
            max(self.result, other.result),
        )


def effort_of(plan: Plan, name: str, conditions: Sequence[Changes], *, optimise: bool) -> Effort:
    """Return what a set takes under conditions."""
    of_set, total = plan.sets[name], Effort()
    each, once = result_bytes(plan, (), name)
    sweeping = Sweeping(plan, name, tuple(conditions), plan.reads(name), Values(plan), optimise)
    for batch in of_set.batches(range(len(of_set.table)), plan.loaded.spec.run.batch.tokens):
        whole = batch_sweep(sweeping, batch)
        for sweep in sessions_of(whole, most=most_rows(plan, (), name)) if plan.remote else [whole]:
            clean = needs_clean(sweeping, sweep)
            through = clean and (plan.remote or "distribution" in sweeping.reads)
            size = plan.model.shape.layers, batch.length, len(batch.rows)
            work = sweep.work(*size, through=through)
            rows = sum(len(part.rows) for pack in sweep.packs for part in pack.parts)
            result = once + each * rows
            total += Effort(len(sweep.packs) + clean, work, 1, result)
    return total


def all_passes(plan: Plan, *, optimise: bool | None = None) -> int:
    """Return the number of forward passes of a plan, if nothing has been measured before."""
    changed = changed_effort(plan, optimise=optimise).passes
    return clean_passes(plan) + changed + plan.written_passes()


def changed_effort(plan: Plan, *, optimise: bool | None = None) -> Effort:
    """Return what a plan takes under its interventions."""
    if optimise is None:
        optimise = plan.loaded.spec.run.optimise
    found = (effort_of(plan, name, of, optimise=optimise) for name, of in plan.conditions().items())
    return sum(found, Effort())


def clean_passes(plan: Plan) -> int:
    """Return the number of forward passes without changes, if nothing was measured before."""
    clean, screening = backward_passes(plan), to_screen(plan)
    for name in dict.fromkeys((*plan.clean_sets(), *screening)):
        of_set = [c for c in plan.captures if c.stimuli == name and c.gradient is None]
        answered = name in plan.answered()
        if name in screening:
            clean += plan.batches(name, most=most_rows(plan, (), name))
            along = {capture.name for capture in taken_along(plan, name)}
            of_set = [capture for capture in of_set if capture.name not in along]
            answered &= not plan.loaded.spec.run.optimise
        if answered or of_set:
            clean += plan.batches(name, most=most_rows(plan, of_set, name))
    return clean


def backward_passes(plan: Plan) -> int:
    """Return the number of backward passes: one for each number that is differentiated."""
    objectives: dict[tuple[str, str, str], list[CapturePlan]] = {}
    for capture in plan.captures:
        of = capture.gradient
        if of is not None:
            objectives.setdefault((capture.stimuli, of.of, of.at), []).append(capture)
    graded = sum(
        plan.batches(name, most=most_rows(plan, captures, name))
        for (name, *_), captures in objectives.items()
    )
    return graded + sum(score_passes(plan, reading) for reading in plan.score_readings())


def score_passes(plan: Plan, reading: ScoreReading) -> int:
    """Return the number of passes that attribute what a reading asks for, forward and backward."""
    most = most_scored(plan, reading)
    return plan.batches(reading.own, beside=reading.beside, most=most)
