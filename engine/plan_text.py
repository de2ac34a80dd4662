"""What a plan will do and cost, in words; loads no weights unless it is asked to take the time."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from time import monotonic

from patchclamp.analyses.asking import ScoreReading
from patchclamp.engine.answering import clean_asking
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.costs import (
    WORTH,
    cheaper,
    check_budget,
    disk_bytes,
    memory_bytes,
    parameters,
)
from patchclamp.engine.efforts import all_passes, backward_passes, changed_effort
from patchclamp.engine.measure import passes_due
from patchclamp.engine.notices import warnings_of
from patchclamp.engine.plan import Plan, make_plan, of_kind
from patchclamp.engine.recording import Work, by_objective, prepare, taken_along, to_screen
from patchclamp.engine.records import Cache, open_cache
from patchclamp.engine.remote.costs import check_remote, in_words
from patchclamp.engine.rig import rig_of
from patchclamp.engine.screening import as_screened
from patchclamp.engine.sizes import capture_bytes, score_bytes, sizes
from patchclamp.engine.token_table import token_table
from patchclamp.specs.diagnostics import one_line
from patchclamp.specs.load import load
from patchclamp.specs.quantities import said

SAMPLED = 2
"""Batches that are run to tell how long a run takes."""


def plan_command(arguments: Namespace) -> int:
    """Print what a run would do; a spec that cannot be run is refused as `run` refuses it."""
    cache = open_cache()
    for spec in arguments.spec:
        loaded = load(spec, arguments.set)
        for cell in loaded.cells:
            plan = as_screened(make_plan(loaded.at(cell), cache), cache)
            check_remote(plan)
            sys.stdout.write(describe_plan(plan, cache, why=arguments.why) + "\n")
            for warning in warnings_of(plan.loaded, [plan]):
                sys.stdout.write(f"  {one_line(warning)}\n")
            check_budget(plan, cache)
            if arguments.time:
                sys.stdout.write(f"  {time_in_words(plan, cache)}\n")
            for of_set in plan.given.values():
                sys.stdout.write("\n" + token_table(of_set, plan.model))
    return 0


def describe_plan(plan: Plan, cache: Cache | None = None, *, why: bool = False) -> str:
    """Return a plan in words: sets, captures with their sizes, conditions, passes and costs.

    With `why`, it also says of every capture whether it has been recorded before, or what differs
    from the most similar one that has.
    """
    cache = cache or open_cache()
    spec = plan.loaded.spec
    lines = [
        f"{spec.name}: {plan.model.choice.id}@{plan.model.revision}, "
        f"{plan.model.shape.layers} layers x {plan.model.shape.heads} heads, "
        f"{parameters(plan.model):,} parameters, {spec.model.weights} weights in {spec.model.dtype}"
    ]
    for name, of_set in plan.given.items():
        tokens = int(of_set.lengths.sum())
        lines.append(
            f"  stimuli.{name}: {len(of_set.table)} stimuli, {tokens} tokens, longest "
            f"{of_set.tokens.longest}, in {_count(plan.batches(name), 'batch', 'batches')}"
        )
    lines += _screening(plan)
    for capture in plan.captures:
        lines += _capture(plan, capture, cache, why)
    for (name, _), reading in plan.metric_readings().items():
        lines.append(f"  analyses.{name}: {len(reading.conditions)} conditions of {reading.asked}")
    for (name, _), scores in of_kind(plan.readings, ScoreReading).items():
        lines.append(f"  analyses.{name}: {_scores(plan, scores)}")
    for written in plan.generations():
        most = _count(written.tokens, "token", "tokens")
        conditions = _count(len(written.conditions), "condition", "conditions")
        lines.append(
            f"  {written.stimuli} is continued by at most {most}, clean and under {conditions}"
        )
    return "\n".join([*lines, *_costs(plan, cache), *(in_words(plan) if plan.remote else ())])


def _screening(plan: Plan) -> Iterator[str]:
    """Yield what `keep_if` will decide, and what takes a pass of its own after that."""
    names = to_screen(plan)
    if names:
        of = ", ".join(names)
        yield f"  'keep_if' decides first what stays of {of}: the rest is at most this"
    for name in names:
        along = {plan.record(capture).key for capture in taken_along(plan, name)}
        later = [
            capture.name
            for capture in plan.captures
            if capture.stimuli == name and plan.record(capture).key not in along
        ]
        if later:
            yield f"    the same pass does not give {', '.join(later)}: measured after that"
    for name, of_set in plan.given.items():
        if of_set.table.screened:
            counts = of_set.table.screened
            yield f"  'keep_if' has kept {counts['kept']} of {counts['asked']} stimuli of {name}"


def _capture(plan: Plan, capture: CapturePlan, cache: Cache, why: bool) -> Iterator[str]:
    """Yield a capture in words: dims and bytes, what would be cheaper, and whether it is there."""
    size = sizes(plan, capture)
    bytes_ = capture_bytes(plan, capture)
    if capture.internal and capture.of_source is not None:
        yield f"  interventions: {capture.name}"
    else:
        for variable in capture.variables():
            dims = ", ".join(f"{dim} {size[dim]}" for dim in variable.dims if dim != "every")
            yield f"  captures.{capture.name}: {variable.name} of {capture.site} ({dims})"
        precision = "float32" if capture.reduce else plan.model.choice.dtype
        yield f"    {said(bytes_)} in {precision}{_dropped(plan, capture)}"
    if bytes_ >= WORTH:
        for option in cheaper(plan, capture):
            yield f"    '{option.words}' would be {said(option.bytes)}"
    if why:
        record = plan.record(capture)
        there = cache.find(record)
        reason = f"recorded {there['at']}" if there else f"recompute ({cache.why_not(record)})"
        yield f"    {reason}"


def _scores(plan: Plan, reading: ScoreReading) -> str:
    """Say what is attributed of which run, at how many points, and how large that is."""
    nodes, senders, receivers = reading.sizes
    what = (
        f"{senders} senders x {receivers} receivers" if senders else _count(nodes, "node", "nodes")
    )
    points = _count(len(reading.points), "point", "points")
    return (
        f"scores of {what} in {reading.own}, gradients at {points}, "
        f"{said(score_bytes(plan, reading))}"
    )


def _dropped(plan: Plan, capture: CapturePlan) -> str:
    dropped = len(plan.sets[capture.stimuli].table) - len(capture.chosen.rows)
    return f"; {_count(dropped, 'stimulus', 'stimuli')} too short and dropped" if dropped else ""


def _costs(plan: Plan, cache: Cache) -> Iterator[str]:
    distinct = sum(len(changes) for changes in plan.conditions().values())
    passes = all_passes(plan)
    forward = _count(passes, "forward pass", "forward passes")
    backward = backward_passes(plan)
    if backward:
        forward += f", {_count(backward, 'backward pass', 'backward passes')}"
    clean = _count(len({*plan.clean_sets(), *to_screen(plan)}), "set", "sets")
    due = passes if to_screen(plan) else passes_due(plan, cache)
    plain, changed = all_passes(plan, optimise=False), changed_effort(plan)
    if distinct and plan.loaded.spec.run.optimise:
        whole = passes - changed.passes + changed.work
        forward += f" (worth {whole:.3g} whole ones; {plain} without savings)"
    yield (
        f"  {forward}: {clean} clean, {_count(distinct, 'intervention', 'interventions')}"
        + ("" if due == passes else f"; {due} due, the rest is recorded already")
    )
    if plan.twin is not None:
        of = ", ".join(capture.name for capture in plan.twin.captures)
        passes = passes_due(plan.twin, cache)
        more = _count(passes, "forward pass", "forward passes")
        yield f"  {more} more of the untrained twin, for captures {of}"
    yield f"  memory about {said(memory_bytes(plan))}, disk about {said(disk_bytes(plan, cache))}"


def time_in_words(plan: Plan, cache: Cache) -> str:
    """Load the model, run two batches of the largest set, and say how long the whole would take."""
    screening = to_screen(plan)
    due = all_passes(plan) if screening else passes_due(plan, cache)
    if not due:
        return "time: none, everything is recorded"
    run = {*plan.clean_sets(), *screening}
    name = max(sorted(run), key=lambda n: int(plan.sets[n].lengths.sum()))
    rows = tuple(range(len(plan.sets[name].table)))
    of_set = by_objective([c for c in plan.captures if c.stimuli == name])
    plain = next((part for part in of_set if part[0].gradient is None), ())
    asks = name in plan.answered() or name in screening
    asked = clean_asking(plan, name) if asks else None
    # What reads nothing would stop before the first block.
    graded = not plain and asked is None
    work = Work(name, of_set[0] if graded else plain, rows, asked)
    seconds = []
    with rig_of(plan, cache, lambda *_: None) as rig:
        passes = rig.open()
        for batch, _ in zip(passes.batches(name, rows), range(SAMPLED), strict=False):
            started = monotonic()
            list(passes.run(name, batch, lambda b: prepare(plan, work, b)))
            seconds.append(monotonic() - started)
    # The first batch also pays for what is done once; a backward pass takes about two forward.
    each = min(seconds)
    whole = each / (3 if graded else 1) * (due + 2 * backward_passes(plan))
    return f"time: about {_duration(whole)} on {rig.device}, at {_duration(each)} a batch"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
