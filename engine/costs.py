"""Costs: bytes and passes of a plan, told before any weight is loaded, and held against a budget.

Sizes of captures are exact, from shapes alone. Disk adds what lies beside one another for a while:
the shards of everything that is measured, the file that the largest of them becomes, and the copies
of small ones in the result; what analyses say, and the words of stimuli, come on top. Memory is an
estimate: weights, what one batch holds, and what an analysis may hold.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from patchclamp.analyses.context import MEMORY
from patchclamp.engine.attributing import score_record
from patchclamp.engine.beside import LARGE
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.model import ModelSource, weight_files
from patchclamp.engine.plan import Plan
from patchclamp.engine.positions import Chosen
from patchclamp.engine.problems import Problems
from patchclamp.engine.records import Cache
from patchclamp.engine.sizes import ITEM, capture_bytes, file_bytes, score_bytes, shard_bytes
from patchclamp.registry.errors import StoreError
from patchclamp.specs.captures import Reduction
from patchclamp.specs.quantities import said

_STREAMS = 12
"""Tensors as wide as the residual stream that a block holds at once, beside its attention map."""
_NEURONS = 6
"""Tensors as wide as its MLP that a block keeps for a pass that goes back."""
_MAPS = 4
"""Attention maps in float32 that a layer holds at once where they are captured: they are computed
beside the model's own pass."""
_LOSS = 24
"""Bytes that each logit takes until the gradient of a loss over all tokens is there: it and its
gradient, in the model's precision and in float64."""
WORTH = 64 << 20
"""Bytes from which on a cheaper way of capturing is pointed out."""


@dataclass(frozen=True)
class Cheaper:
    """Another way to capture, in the spec's words, and its bytes."""

    words: str
    bytes: int


def cheaper(plan: Plan, capture: CapturePlan) -> Iterator[Cheaper]:
    """Yield what a large capture could ask for instead that is smaller, the most telling first."""
    size = capture_bytes(plan, capture)
    yield from (option for option in _others(plan, capture) if option.bytes < size)


def _others(plan: Plan, capture: CapturePlan) -> Iterator[Cheaper]:
    if capture.chosen.every and capture.gradient is None and not capture.reduce:
        lengths = plan.sets[capture.stimuli].lengths[list(capture.chosen.rows)]
        index = (lengths[:, None] - 1).astype(np.int32)
        last = Chosen(capture.chosen.rows, index, (0,), "last")
        yield _instead(plan, replace(capture, chosen=last), "positions: last")
    if not capture.reduce and not capture.is_map:
        norms = (Reduction(kind="norm"),)
        yield _instead(plan, replace(capture, reduce=norms), "reduce: norm")
    if not capture.reduce and capture.is_map:
        share = (Reduction(kind="column_mean"),)
        yield _instead(plan, replace(capture, reduce=share), "reduce: column_mean")


def _instead(plan: Plan, capture: CapturePlan, words: str) -> Cheaper:
    return Cheaper(words, capture_bytes(plan, capture))


def parameters(model: ModelSource) -> int:
    """Return the number of a model's parameters, from the headers of its files or its config."""
    if model.choice.weights == "random" or not any(model.folder.glob("*.safetensors")):
        from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

        family = AutoModelForMaskedLM if model.architecture.encoder else AutoModelForCausalLM
        with torch.device("meta"):
            made = family.from_config(model.config)
        return sum(p.numel() for p in made.parameters())
    count = 0
    for file in weight_files(model.folder):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        count += sum(prod(of["shape"]) for name, of in header.items() if name != "__metadata__")
    return count


def analysis_memory(plan: Plan) -> int:
    """Return the bytes of activations that an analysis may hold: the budget, less the weights."""
    budget = plan.loaded.spec.run.budget.memory
    if budget is None:
        return MEMORY
    return max(_AT_LEAST, int(budget) - _weight_bytes(plan))


_AT_LEAST = 1 << 20
"""Bytes that an analysis may always hold; a budget below that is refused for the weights alone."""


def _weight_bytes(plan: Plan) -> int:
    return 0 if plan.remote else parameters(plan.model) * ITEM[plan.model.choice.dtype]


def memory_bytes(plan: Plan, cache: Cache | None = None) -> int:
    """Estimate the most memory that a run holds: weights, one batch, and one analysis."""
    del cache
    batch = max((_batch_bytes(plan, name) for name in plan.sets), default=0)
    largest = max((file_bytes(plan, capture) for capture in plan.captures), default=0)
    return _weight_bytes(plan) + max(batch, min(analysis_memory(plan), largest))


def _batch_bytes(plan: Plan, name: str) -> int:
    """Estimate what the largest pass of a set holds: what is kept, logits, and what a block makes.

    Where a number is differentiated, every block keeps what it makes until the pass goes back.
    """
    shape, longest = plan.model.shape, plan.sets[name].tokens.longest
    captures = [capture for capture in plan.captures if capture.stimuli == name]
    graded = any(capture.gradient is not None for capture in captures)
    scored = max((r.beside for r in plan.score_readings() if r.own == name), default=0)
    rows = min(len(plan.sets[name].table), plan.loaded.spec.run.batch.tokens // longest)
    tokens = max(1, rows, scored) * longest
    item = ITEM[plan.model.choice.dtype]
    kept = sum(
        capture_bytes(plan, capture) * max(1, rows) // max(1, len(capture.chosen.rows))
        for capture in captures
    )
    block = shape.units * _STREAMS + shape.heads * longest
    if graded or scored:
        graph = shape.units * _STREAMS + shape.neurons * _NEURONS
        block = max(block, shape.layers * graph)
    read = any(capture.site in ("logits", "logprobs") for capture in captures)
    # What is read of logits is a copy; a gradient of them is as large as they are.
    logits = 2 if read or graded or scored else int(name in plan.answered())
    each = logits * int(plan.model.config.vocab_size) * item
    if any(capture.gradient and capture.gradient.of == "cross_entropy" for capture in captures):
        each = int(plan.model.config.vocab_size) * _LOSS
    if any(capture.is_map for capture in captures):
        each += 4 * _MAPS * shape.heads * longest
    return (block * item + each) * tokens + kept


def disk_bytes(plan: Plan, cache: Cache) -> int:
    """Return the bytes that a run adds to the disk: its records, and what the result copies."""
    asked = (capture for capture in plan.captures if not capture.internal)
    copied = (size for capture in asked if (size := file_bytes(plan, capture)) < LARGE)
    return recorded_bytes(plan, cache) + sum(copied)


def recorded_bytes(plan: Plan, cache: Cache) -> int:
    """Return the most bytes that records take: shards, and the largest file that they become.

    What is recorded of the untrained twin comes before, and stays.
    """
    due, twin = due_captures(plan, cache), plan.twin
    largest = max((file_bytes(plan, capture) for capture in due), default=0)
    whole = sum(shard_bytes(plan, capture) for capture in due) + largest
    # Shards of scores, and the one file that they become.
    whole += sum(
        2 * score_bytes(plan, reading)
        for reading in plan.score_readings()
        if cache.find(score_record(plan, reading)) is None
    )
    return whole + (0 if twin is None else recorded_bytes(twin, cache))


def due_captures(plan: Plan, cache: Cache) -> list[CapturePlan]:
    """Return the captures that are not recorded yet."""
    return [c for c in plan.captures if cache.find(plan.record(c)) is None]


def check_budget(plan: Plan, cache: Cache) -> None:
    """P425: the plan keeps within its budget of disk and memory; raises `SpecError`."""
    problems, budget = Problems(plan.loaded), plan.loaded.spec.run.budget
    for key, needed in (("disk", disk_bytes), ("memory", memory_bytes)):
        allowed = getattr(budget, key)
        if allowed is not None and (need := needed(plan, cache)) > allowed:
            message = f"the run needs {said(need)} of {key} and may have {said(allowed)}"
            due = due_captures(plan, cache)
            problems.add(("run", "budget", key), "P425", f"{message}{_largest(plan, due)}")
    problems.raise_if_any()


def check_space(plan: Plan, cache: Cache) -> None:
    """Raise `StoreError` if the disk of the cache has not the space for what is still to come."""
    there = sum(
        file.stat().st_size
        for capture in plan.captures
        for file in (cache.folder(plan.record(capture)) / "shards").glob("*")
    )
    need, free = recorded_bytes(plan, cache) - there, shutil.disk_usage(cache.root).free
    if need > free:
        largest = _largest(plan, due_captures(plan, cache))
        raise StoreError(
            f"the run needs {said(need)} of disk in {str(cache.root)!r}, where {said(free)} are "
            f"free{largest}. Nothing more has been run; PATCHCLAMP_CACHE names another folder"
        )


def _largest(plan: Plan, due: Sequence[CapturePlan]) -> str:
    """Say which capture is the largest, and how it could be smaller."""
    if not due:
        return ""
    capture = max(due, key=lambda one: capture_bytes(plan, one))
    others = " or ".join(
        f"'{option.words}', {said(option.bytes)}" for option in cheaper(plan, capture)
    )
    instead = f"; it could be {others}" if others else ""
    size = said(capture_bytes(plan, capture))
    return f"; the largest capture is {capture.name!r} ({size}){instead}"
