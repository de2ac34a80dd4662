"""What a plan brings over the wire, and refusals of what a server cannot do or should not send.

Bytes down are exact for captures, before compression, and for answers what each of them holds.
Bytes up are about: each request carries the source of what runs there, and its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from patchclamp.analyses.asking import ScoreReading
from patchclamp.analyses.readings import CaptureReading, GenerationReading, MetricReading
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.costs import WORTH, cheaper
from patchclamp.engine.efforts import changed_effort, clean_passes
from patchclamp.engine.plan import Plan, of_kind
from patchclamp.engine.problems import Problems
from patchclamp.engine.recording import by_objective
from patchclamp.engine.sizes import (
    answer_bytes,
    capture_bytes,
    most_rows,
    result_bytes,
    score_bytes,
    shard_bytes,
)
from patchclamp.registry import BACKENDS
from patchclamp.specs.backends import DRAWN, GENERATION, GRADIENTS, READS, cannot
from patchclamp.specs.quantities import said

SOURCE = 22 << 10
"""Bytes of a request beside its tokens: source of what runs there, steps; measured at 18–22 kB."""
_TOKEN = 4
"""Bytes up for a token, its mask and its position, compressed."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Traffic:
    """Something that is asked of a server: bytes that come back, and where the spec asks for it."""

    name: str
    path: Path
    down: int
    capture: CapturePlan | None = None


def traffic(plan: Plan) -> Iterator[Traffic]:
    """Yield what a plan brings back: each capture, what is attributed, and the answers."""
    for capture in plan.captures:
        finite = 8 * len(capture.chosen.rows) * len(capture.layers)
        down = shard_bytes(plan, capture) + finite
        path = _path(plan, capture)
        yield Traffic(".".join(map(str, path[:2])), path, down, capture)
    for (name, _), reading in of_kind(plan.readings, ScoreReading).items():
        yield Traffic(f"scores of {name}", ("analyses", name), score_bytes(plan, reading))
    for name in plan.answered():
        units = len(plan.sets[name].table) * (1 + len(plan.conditions().get(name, ())))
        yield Traffic(f"answers of {name}", ("stimuli", name), answer_bytes(plan, name) * units)


def _path(plan: Plan, capture: CapturePlan) -> Path:
    """Return the entry of the spec that a capture is for."""
    if capture.name in plan.loaded.spec.captures:
        return ("captures", capture.name)
    for name, parts in plan.readings.items():
        named = [r.name for r in parts.values() if isinstance(r, CaptureReading)]
        if capture.name in named:
            return ("analyses", name)
    return ("interventions",)


def check_remote(plan: Plan) -> None:
    """P316, P427: the backend can do all of a plan, and no activations come back unasked for.

    Raises `SpecError`; a plan that is measured here is passed by.
    """
    if not plan.remote:
        return
    problems = Problems(plan.loaded)
    backend = plan.loaded.spec.run.backend
    lacks = BACKENDS[backend].lacks
    if plan.model.revision == "local":
        problems.add(
            ("model", "id"),
            "P316",
            f"{plan.model.choice.id!r} is a folder here; a server knows models by their hub ids",
        )
    for path, what, capability in _needs(plan):
        if capability in lacks:
            one = cannot(backend, path, what, capability)
            problems.add(one.path, one.code, one.message, allowed=one.allowed)
    _check_download(plan, problems)
    _check_result(plan, problems)
    problems.raise_if_any()


def _needs(plan: Plan) -> Iterator[tuple[Path, str, str]]:
    """Yield what measuring a plan needs: for which entry, in words, and the capability."""
    for capture in plan.captures:
        if capture.gradient is not None:
            yield _path(plan, capture), "gradients are taken", GRADIENTS
    for name, parts in plan.readings.items():
        path = ("analyses", name)
        for reading in parts.values():
            if isinstance(reading, ScoreReading):
                yield path, "gradients are taken", GRADIENTS
            elif isinstance(reading, GenerationReading):
                yield path, "texts are continued", GENERATION
            elif isinstance(reading, CaptureReading) and reading.twin:
                yield path, "an untrained twin is measured", DRAWN
            elif isinstance(reading, MetricReading):
                changes = [change for of in reading.conditions for change in of.changes]
                if any(change.into for change in changes):
                    yield path, "edges are cut by what norms and projections do", READS


def _check_result(plan: Plan, problems: Problems) -> None:
    """P427: what one stimulus gives is within the limit of a request's result."""
    limit = int(plan.loaded.spec.run.batch.result)
    for name in plan.sets:
        for part in by_objective([c for c in plan.captures if c.stimuli == name]):
            need = sum(result_bytes(plan, part, name))
            if need > limit:
                capture = max(part, key=lambda one: sum(result_bytes(plan, (one,), name)))
                one = Traffic(".".join(map(str, _path(plan, capture)[:2])), (), 0, capture)
                message = (
                    f"one stimulus brings {said(need)} in one request, and 'run.batch.result' "
                    f"allows {said(limit)}; the most is {one.name}{_instead(plan, one)}"
                )
                problems.add(_path(plan, capture), "P427", message)


def _check_download(plan: Plan, problems: Problems) -> None:
    """P427: what comes back is within the budget, or where there is none no large whole capture."""
    allowed, found = plan.loaded.spec.run.budget.download, list(traffic(plan))
    total = sum(one.down for one in found)
    if allowed is not None:
        if total > allowed:
            largest = max(found, key=lambda one: one.down)
            message = (
                f"the server would send {said(total)} and may send {said(allowed)}; the most is "
                f"{largest.name}, {said(largest.down)}{_instead(plan, largest)}"
            )
            problems.add(("run", "budget", "download"), "P427", message)
        return
    for one in found:
        if one.down > WORTH:
            message = (
                f"{one.name} would bring {said(one.down)} from the server"
                f"{_instead(plan, one)}. Where all of it is meant, say so with 'run: {{budget: "
                f"{{download: {said(total)}}}}}'"
            )
            problems.add(one.path, "P427", message)


def _instead(plan: Plan, one: Traffic) -> str:
    """Say what would be less: a reduction, which the server does."""
    if one.capture is None:
        return ""
    less = [
        f"'{other.words}' brings {said(other.bytes)}"
        for other in cheaper(plan, one.capture)
        if other.bytes < capture_bytes(plan, one.capture)
    ]
    return f": {' and '.join(less)}" if less else ""


def in_words(plan: Plan) -> Iterator[str]:
    """Yield what a plan says of a server: requests, sessions, and bytes up and down."""
    changed = changed_effort(plan)
    requests = clean_passes(plan) + changed.requests
    tokens = sum(
        int(of.tokens.longest)
        * len(of.table)
        * ((name in plan.clean_sets()) + len(plan.conditions().get(name, ())))
        for name, of in plan.sets.items()
    )
    up = requests * SOURCE + tokens * _TOKEN
    found = list(traffic(plan))
    down = sum(one.down for one in found)
    yield (
        f"  server: {requests} requests and a few more that guards make; about {said(up)} up, at "
        f"most {said(down)} down, at most {said(max(_largest(plan), changed.result))} for one of "
        "them"
    )
    if changed.requests:
        conditions = sum(map(len, plan.conditions().values()))
        yield (
            f"    {conditions} conditions in {changed.requests} sessions of {changed.passes} passes"
            f", worth {changed.work:.3g} whole ones; what they begin with stays there"
        )
    for one in found:
        yield f"    {one.name}: {said(one.down)} down"


def _largest(plan: Plan) -> int:
    """Return the most bytes of the result of a request without changes, before compression."""
    largest = 0
    for name in plan.clean_sets():
        captures = [capture for capture in plan.captures if capture.stimuli == name]
        for part in by_objective(captures) or [()]:
            each, once = result_bytes(plan, part, name)
            of_set, most = plan.sets[name], most_rows(plan, part, name)
            batches = of_set.batches(
                range(len(of_set.table)), plan.loaded.spec.run.batch.tokens, most
            )
            largest = max(largest, *(once + each * len(batch.rows) for batch in batches))
    return largest
