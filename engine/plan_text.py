"""What a plan will do, in words: sets, captures, conditions and passes; loads no weights."""

from __future__ import annotations

import sys
from argparse import Namespace
from math import prod

from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.registry import SITES
from patchclamp.specs.load import load
from patchclamp.specs.quantities import write_size


def plan_command(arguments: Namespace) -> int:
    """Print what a run would do; a spec that cannot be run is refused as `run` refuses it."""
    for spec in arguments.spec:
        sys.stdout.write(describe_plan(make_plan(load(spec))) + "\n")
    return 0


def describe_plan(plan: Plan) -> str:
    """Return a plan in words, one line each for sets, captures and analyses."""
    spec = plan.loaded.spec
    lines = [
        f"{spec.name}: {plan.model.choice.id}@{plan.model.revision}, "
        f"{plan.model.shape.layers} layers x {plan.model.shape.heads} heads, "
        f"{spec.model.weights} weights in {spec.model.dtype}"
    ]
    for name, of_set in plan.sets.items():
        tokens = int(of_set.lengths.sum())
        lines.append(
            f"  stimuli.{name}: {len(of_set.table)} stimuli, {tokens} tokens, longest "
            f"{of_set.tokens.longest}, in {_count(plan.batches(name), 'batch', 'batches')}"
        )
    for capture in plan.captures:
        if capture.internal:
            lines.append(f"  interventions.{_mean_in_words(plan, capture)}")
            continue
        shape = capture_shape(plan, capture)
        dims = ", ".join(f"{dim} {size}" for dim, size in shape.items())
        size = write_size(4 * prod(shape.values()))
        lines.append(f"  captures.{capture.name}: {capture.site} ({dims}), {size} in float32")
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


def _mean_in_words(plan: Plan, capture: CapturePlan) -> str:
    intervention = capture.name.partition("@")[0]
    value = getattr(plan.loaded.spec.interventions[intervention], "value")  # noqa: B009
    return f"{intervention}: mean of {capture.site} over {capture.stimuli}, per {value.per}"


def capture_shape(plan: Plan, capture: CapturePlan) -> dict[str, int]:
    """Return the size of each dim of a capture."""
    of_set, config = plan.sets[capture.stimuli], plan.model.config
    heads = plan.model.shape.heads
    channels = getattr(config, "head_dim", None) or config.hidden_size // heads
    sizes = {
        "stimulus": len(capture.chosen.rows),
        "layer": len(capture.layers),
        "head": heads,
        "kv_head": heads,
        "position": capture.chosen.index.shape[1],
        "query": capture.chosen.index.shape[1],
        "key": of_set.tokens.longest,
        "unit": config.hidden_size,
        "neuron": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "token": config.vocab_size,
        "channel": channels,
    }
    return {dim: int(sizes[dim]) for dim in SITES[capture.site].dims}


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
