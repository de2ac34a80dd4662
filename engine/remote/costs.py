"""What a plan brings over the wire, and refusals of what a server cannot do or should not send.

Bytes down are exact for captures, before compression, and for answers what each of them holds.
Bytes up are about: each request carries the source of what runs there, and its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from patchclamp.analyses.asking import ScoreReading
from patchclamp.analyses.readings import CaptureReading, GenerationReading, MetricReading
from patchclamp.engine.answering import all_passes
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.costs import WORTH, capture_bytes, cheaper, shard_bytes
from patchclamp.engine.plan import Plan
from patchclamp.engine.problems import Problems
from patchclamp.registry import BACKENDS
from patchclamp.specs.backends import DRAWN, GENERATION, GRADIENTS, READS, cannot
from patchclamp.specs.quantities import said

SOURCE = 16 << 10
"""Bytes of a request beside its tokens: source of what runs there, steps; measured at 14 kB."""
_TOKEN = 4
"""Bytes up for a token, its mask and its position, compressed."""
_ANSWER = 96
"""Bytes down for a stimulus under a condition: up to twelve numbers in float64."""
_ITEM = {"float32": 4, "float16": 2, "bfloat16": 2}

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Traffic:
    """Something that is asked of a server: bytes that come back, and where the spec asks for it."""

    name: str
    path: Path
    down: int
    capture: CapturePlan | None = None


def traffic(plan: Plan) -> Iterator[Traffic]:
    """Yield what a plan brings back: each capture, the answers, and whole distributions."""
    for capture in plan.captures:
        finite = 8 * len(capture.chosen.rows) * len(capture.layers)
        down = shard_bytes(plan, capture) + finite
        path = _path(plan, capture)
        yield Traffic(".".join(map(str, path[:2])), path, down, capture)
    for name in plan.answered():
        count = len(plan.sets[name].table)
        conditions = len(plan.conditions().get(name, ()))
        yield Traffic(f"answers of {name}", ("stimuli", name), _ANSWER * count * (1 + conditions))
        if "distribution" in plan.reads(name):
            whole = count * int(plan.model.config.vocab_size) * _ITEM[plan.model.choice.dtype]
            path = _diverging(plan, name)
            # It comes back once, and goes up with each condition.
            yield Traffic(f"distributions of {name}", path, whole * (1 + conditions))


def _path(plan: Plan, capture: CapturePlan) -> Path:
    """Return the entry of the spec that a capture is for."""
    if capture.name in plan.loaded.spec.captures:
        return ("captures", capture.name)
    for name, parts in plan.readings.items():
        named = [r.name for r in parts.values() if isinstance(r, CaptureReading)]
        if capture.name in named:
            return ("analyses", name)
    return ("interventions",)


def _diverging(plan: Plan, stimuli: str) -> Path:
    found = (name for (name, _), r in plan.metric_readings().items() if r.asked == stimuli)
    return ("analyses", next(found))


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
        if not one.name.startswith("distributions"):
            return ""
        return ": a divergence from the clean run needs whole distributions; 'logit_diff' does not"
    less = [
        f"'{other.words}' brings {said(other.bytes)}"
        for other in cheaper(plan, one.capture)
        if other.bytes < capture_bytes(plan, one.capture)
    ]
    return f": {' and '.join(less)}" if less else ""


def in_words(plan: Plan) -> Iterator[str]:
    """Yield what a plan says of a server: requests, and bytes up and down."""
    requests = all_passes(plan)
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
        f"most {said(down)} down"
    )
    for one in found:
        yield f"    {one.name}: {said(one.down)} down"
