"""Sizes: bytes of what a plan captures, asks and attributes, exact from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from patchclamp.analyses.asking import ScoreReading
from patchclamp.engine.captures import CapturePlan, Variable
from patchclamp.engine.plan import Plan

ITEM = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number in each precision."""
_TENSOR = 512
"""Bytes that a tensor takes in a result beside its numbers, at most."""
_NUMBERS = 12
"""Numbers in float64 that are read of the logits of a stimulus, at most, beside its options'."""


def sizes(plan: Plan, capture: CapturePlan) -> dict[str, int]:
    """Return the size of every dim that a capture may have."""
    config, of_set = plan.model.config, plan.sets[capture.stimuli]
    heads = plan.model.shape.heads
    shared = int(getattr(config, "num_key_value_heads", None) or heads)
    channels = getattr(config, "head_dim", None) or config.hidden_size // heads
    inner = next(
        (size for name in _NEURONS if (size := getattr(config, name, None))), 4 * config.hidden_size
    )
    chosen = capture.chosen.index.shape[1]
    given = {
        "stimulus": len(capture.chosen.rows),
        "every": 1,
        "class": max((len(of) for of in capture.classes.values()), default=1),
        "layer": len(capture.layers),
        "head": heads,
        "kv_head": shared,
        "position": chosen,
        "query": chosen,
        "key": capture.keys_of(of_set.tokens.longest),
        "unit": config.hidden_size,
        "neuron": inner,
        "token": config.vocab_size,
        "channel": channels,
        "rank": max((how.k for how in capture.reduce if how.kind == "topk"), default=1),
    }
    if capture.heads is not None:
        count = sum(map(len, capture.heads)) if capture.named else len(capture.heads[0])
        given |= {"head": count, "kv_head": count}
    return {dim: int(size) for dim, size in given.items()}


_NEURONS = ("intermediate_size", "n_inner", "ffn_dim")
"""Names that configs have for the number of neurons of an MLP."""


def item_size(plan: Plan, capture: CapturePlan, variable: Variable) -> int:
    """Return the bytes of one number, as the model gives it or as it is reduced."""
    if variable.partial:
        return 8
    return 4 if capture.reduce else ITEM[plan.model.choice.dtype]


def capture_bytes(plan: Plan, capture: CapturePlan) -> int:
    """Return the bytes that a capture gives, in the model's own precision where it is whole."""
    size = sizes(plan, capture)
    return sum(
        prod(size[dim] for dim in variable.dims) * item_size(plan, capture, variable)
        for variable in capture.variables()
    )


def file_bytes(plan: Plan, capture: CapturePlan) -> int:
    """Return the most bytes that a capture's file takes: float32, before it is compressed."""
    size = sizes(plan, capture)
    return sum(
        prod(size[dim] for dim in variable.dims) * (8 if variable.partial else 4)
        for variable in capture.variables()
    )


def shard_bytes(plan: Plan, capture: CapturePlan) -> int:
    """Return the bytes of a capture's shards: batches are as wide as their longest stimulus."""
    whole = capture_bytes(plan, capture)
    if any(variable.partial for variable in capture.variables()):
        return whole * plan.batches(capture.stimuli)
    if not capture.chosen.every:
        return whole
    lengths = plan.sets[capture.stimuli].lengths / plan.sets[capture.stimuli].tokens.longest
    return int(whole * (lengths ** (2 if capture.is_map and capture.keys is None else 1)).mean())


def score_bytes(plan: Plan, reading: ScoreReading) -> int:
    """Return the bytes of what is attributed: nodes in float64, edges in float32."""
    nodes, senders, receivers = reading.sizes
    return len(plan.sets[reading.own].table) * (8 * (nodes + 1) + 4 * senders * receivers)


def answer_bytes(plan: Plan, name: str) -> int:
    """Return the bytes of a stimulus's answers under one condition."""
    tokens = plan.sets[name].tokens
    options = len(tokens.parts) if tokens.are_options else 0
    variants = len(tokens.spellings) // max(1, len(tokens.parts))
    return 8 * (_NUMBERS + options + (variants if variants > 1 else 0))


def result_bytes(plan: Plan, captures: Sequence[CapturePlan], name: str) -> tuple[int, int]:
    """Return the most bytes that a pass of a set gives: for each stimulus, and beside them."""
    each, once = answer_bytes(plan, name), _TENSOR * _NUMBERS
    for capture in captures:
        whole, stimuli = capture_bytes(plan, capture), max(1, len(capture.chosen.rows))
        if any(variable.partial for variable in capture.variables()):
            once += whole
        else:
            each += -(-whole // stimuli)
        each += 8 * len(capture.layers)  # how many numbers are not finite
        once += _TENSOR * len(capture.layers) * (1 + len(capture.variables()))
    return each, once


def most_rows(plan: Plan, captures: Sequence[CapturePlan], name: str) -> int | None:
    """Return how many stimuli a pass may have for the limit of a server's results, None for any.

    There is always one: where it is too much, `check_remote` has refused the plan.
    """
    return _most(plan, *result_bytes(plan, captures, name))


def most_scored(plan: Plan, reading: ScoreReading) -> int | None:
    """Return the same of a pass that attributes."""
    each = score_bytes(plan, reading) // len(plan.sets[reading.own].table)
    return _most(plan, each, _TENSOR * (2 + len(reading.spots)))


def _most(plan: Plan, each: int, once: int) -> int | None:
    limit = plan.loaded.spec.run.batch.result
    return max(1, (int(limit) - once) // each) if plan.remote else None
