"""What a spec asks of its backend that this backend cannot do, told before anything is read."""

from __future__ import annotations

from collections.abc import Iterator

from patchclamp.registry import BACKENDS
from patchclamp.specs.analyses_representation import Probe
from patchclamp.specs.captures import Capture
from patchclamp.specs.diagnostics import Path, Problem
from patchclamp.specs.spec import Spec
from patchclamp.specs.walk import models_in

GRADIENTS, READS, DRAWN, GENERATION = (
    "gradients",
    "weight reads",
    "weights drawn anew",
    "generation",
)
"""What a backend may lack."""


def check_backend(spec: Spec) -> Iterator[Problem]:
    """P316: the backend can do what captures, analyses and the model ask of it."""
    lacks = BACKENDS[spec.run.backend].lacks
    if not lacks:
        return
    for path, what, capability in _asked(spec):
        if capability in lacks:
            yield cannot(spec.run.backend, path, what, capability)


def cannot(backend: str, path: Path, what: str, capability: str) -> Problem:
    """Return the problem of a place that asks for what a backend cannot do."""
    able = tuple(name for name, other in BACKENDS.items() if capability not in other.lacks)
    why = BACKENDS[backend].lacks[capability]
    message = f"{what}, and the backend {backend!r} has no {capability}: {why}"
    return Problem(path, "P316", message, able)


def _asked(spec: Spec) -> Iterator[tuple[Path, str, str]]:
    """Yield what a spec says that needs a capability: where, in words, and which."""
    # Most specs are for a backend that can do all of it.
    from patchclamp.specs.analyses_circuits import Attribution, PruneEdges
    from patchclamp.specs.analyses_steering import Steering

    if spec.model.weights == "random":
        yield ("model", "weights"), "weights are random", DRAWN
    for name, capture in spec.captures.items():
        if isinstance(capture, Capture) and capture.gradient is not None:
            yield ("captures", name, "gradient"), "a gradient is recorded", GRADIENTS
    for path, entry in models_in(spec.analyses, ("analyses",)):
        if isinstance(entry, Probe) and "random_twin" in entry.controls:
            yield (*path, "controls"), "an untrained twin is measured", DRAWN
        elif isinstance(entry, Attribution):
            yield path, "attribution is computed from gradients", GRADIENTS
        elif isinstance(entry, PruneEdges):
            yield path, "edges are cut by what norms and projections do", READS
        elif isinstance(entry, Steering) and entry.generate is not None:
            yield (*path, "generate"), "texts are continued", GENERATION
