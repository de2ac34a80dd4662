"""What a plan will do, in words: sets, captures, conditions and passes; loads no weights."""

from __future__ import annotations

import sys
from argparse import Namespace
from math import prod

from patchclamp.engine.plan import CapturePlan, Plan, make_plan
from patchclamp.registry import SITES
from patchclamp.specs.load import load
from patchclamp.specs.quantities import write_size


def plan_command(arguments: Namespace) -> int:
    """Print what a run would do; a spec that cannot be run is refused as `run` refuses it."""
    for spec in arguments.spec:
        sys.stdout.write(describe_plan(make_plan(load(spec))) + "\n")
    return 0


def describe_plan(plan: Plan) -> str:
    """Return a plan in words, one line each for sets, captures, means and analyses."""
    spec = plan.loaded.spec
    lines = [
        f"{spec.name}: {plan.model.choice.id}@{plan.model.revision}, "
        f"{plan.model.shape.layers} layers x {plan.model.shape.heads} heads, "
        f"{spec.model.weights} weights in {spec.model.dtype}"
    ]
    for name, of_set in plan.sets.items():
        tokens = sum(map(len, of_set.tokens.ids))
        lines.append(
            f"  stimuli.{name}: {len(of_set.table)} stimuli, {tokens} tokens, longest "
            f"{of_set.tokens.longest}, in {_count(len(of_set.batches), 'batch', 'batches')}"
        )
    for capture in plan.captures:
        shape = capture_shape(plan, capture)
        dims = ", ".join(f"{dim} {size}" for dim, size in shape.items())
        size = write_size(4 * prod(shape.values()))
        lines.append(f"  captures.{capture.name}: {capture.site} ({dims}), {size} in float32")
    for mean in plan.means:
        lines.append(
            f"  interventions.{mean.intervention}: mean of {mean.site} over {mean.stimuli}, "
            f"per {mean.per}"
        )
    conditions = plan.conditions()
    for (name, _), reading in plan.metric_readings().items():
        lines.append(
            f"  analyses.{name}: {len(reading.conditions)} conditions of {reading.stimuli}"
        )
    distinct = sum(len(changes) for changes in conditions.values())
    passes = _count(plan.passes(), "forward pass", "forward passes")
    clean = _count(len(plan.clean_sets()), "set", "sets")
    lines.append(f"  {passes}: {clean} clean, {_count(distinct, 'intervention', 'interventions')}")
    return "\n".join(lines)


def capture_shape(plan: Plan, capture: CapturePlan) -> dict[str, int]:
    """Return the size of each dim of a capture."""
    of_set, config = plan.sets[capture.stimuli], plan.model.config
    heads = plan.model.shape.heads
    channels = getattr(config, "head_dim", None) or config.hidden_size // heads
    sizes = {
        "stimulus": len(of_set.table),
        "layer": len(capture.layers),
        "head": heads,
        "position": of_set.tokens.longest if capture.positions == "all" else 1,
        "unit": config.hidden_size,
        "channel": channels,
    }
    return {dim: int(sizes[dim]) for dim in SITES[capture.site].dims}


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
