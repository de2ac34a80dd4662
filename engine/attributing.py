"""Attributing: changes of activations times gradients, batch by batch, in one pass each.

A pass holds a batch of stimuli as they are patched, their partners, and the stimuli again at each
point of the path at which the gradient is taken; of it only scores come back (`products`). Each
pass is a shard, and the whole is one record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from safetensors.numpy import save

from patchclamp.analyses.asking import ScoreReading, Spot
from patchclamp.analyses.edges import receiver, sender
from patchclamp.analyses.paths import node
from patchclamp.analyses.readings import Change
from patchclamp.engine.batches import Batch
from patchclamp.engine.datasets import stimulus_coords
from patchclamp.engine.guards import deviation, judge_alone, most_padded
from patchclamp.engine.passes import Found, Passes
from patchclamp.engine.plan import Plan
from patchclamp.engine.records import Cache, Record, digest_of
from patchclamp.engine.rig import Rig
from patchclamp.engine.score_steps import score_inputs, tokens_at
from patchclamp.engine.shards import write_shard
from patchclamp.engine.sizes import most_scored
from patchclamp.engine.verdicts import Verdict
from patchclamp.engine.whole import write_whole
from patchclamp.registry import SITES
from patchclamp.registry.errors import GuardError

Scores = dict[str, NDArray[np.float64]]
"""What attribution has found, each (stimulus, ...): `total`, `nodes` and `edges`."""


def score_record(plan: Plan, reading: ScoreReading) -> Record:
    """Return the record that scores are kept as: no name is part of it."""
    sets = [plan.identity(name) for name in (reading.own, reading.other)]
    parts: dict[str, Any] = {
        **sets[0],
        "source": digest_of(sorted(sets[1].items())),
        "answers": plan.answers_digest(reading.own),
        "metric": reading.metric,
        "points": [list(point) for point in reading.points],
        "along": None if reading.along is None else _content(plan, reading, reading.along),
        "spots": [_content(plan, reading, spot) for spot in reading.spots],
        "edges": [
            [[spot.site, spot.layer, list(spot.heads)] for spot in ends]
            for ends in (reading.senders, reading.receivers)
        ],
    }
    return Record("scores", f"scores of {reading.own}", parts)


def _content(plan: Plan, reading: ScoreReading, spot: Spot) -> list[Any]:
    index = [tokens_at(plan, name, spot).tolist() for name in (reading.own, reading.other)]
    return [spot.site, spot.layer, list(spot.heads), digest_of(index)]


def scores_of(rig: Rig, reading: ScoreReading) -> tuple[Record, dict[str, Any]]:
    """Attribute, if no record has the scores; returns the record and how it was made."""
    cache, record = rig.cache, score_record(rig.plan, reading)
    if cache.find(record) is None:
        with cache.locked([record], rig.wait):
            if cache.find(record) is None:
                attribute_all(rig.open(), reading, cache)
                with cache.distrusted([record]):
                    found = collect_scores(rig.plan, reading, cache)
                    verdicts = check_scores(rig.checked(), reading, found)
                path = cache.folder(record) / "data.safetensors"
                write_whole(path, save(found))
                cache.finish(record, path, rig.made(verdicts))
    return record, cache.finished(record)


def attribute_all(passes: Passes, reading: ScoreReading, cache: Cache) -> None:
    """Run what is left of the passes of a reading."""
    plan, name = passes.plan, reading.own
    record = score_record(plan, reading)
    folder, done = cache.shards(record), cache.open_shards(record).done
    rows = [row for row in range(len(plan.sets[name].table)) if row not in done]
    most = most_scored(plan, reading)
    for every in passes.batches(name, rows, beside=reading.beside, most=most):
        for batch, found in passes.run(name, every, lambda b: score_inputs(plan, reading, b)):
            write_shard(folder, batch.rows, scores_in(plan, reading, batch, found))


def scores_in(
    plan: Plan, reading: ScoreReading, batch: Batch, found: Found
) -> dict[str, torch.Tensor]:
    """Return the scores that a pass found, nodes side by side; raises `GuardError` for NaN."""
    tensors: dict[str, torch.Tensor] = {}
    if "total" in found:
        tensors["total"] = found["total"].reshape(len(batch.rows), -1).sum(1)
    if reading.spots:
        spots = [found[f"spot.{number}"] for number in range(len(reading.spots))]
        tensors["nodes"] = torch.cat([spot.reshape(len(batch.rows), -1) for spot in spots], 1)
    if reading.senders:
        tensors["edges"] = found["edges"]
    for name, tensor in tensors.items():
        # Where there is no edge, there is no score in any stimulus.
        there = tensor[:, ~tensor.isnan().all(0)] if name == "edges" else tensor
        if not torch.isfinite(there).all():
            bad = ~torch.isfinite(there).flatten(1).all(1)
            id_ = plan.sets[reading.own].table.ids[batch.rows[int(bad.nonzero()[0])]]
            raise GuardError(
                f"guard 'finite' failed on attribution of {reading.metric}: stimulus {id_!r} of "
                f"{reading.own!r} gives NaN or infinity"
            )
    return tensors


def collect_scores(plan: Plan, reading: ScoreReading, cache: Cache) -> Scores:
    """Put the shards of scores together."""
    record, count = score_record(plan, reading), len(plan.sets[reading.own].table)
    scores: Scores = {}
    for rows, tensors in cache.open_shards(record).tensors():
        for name, tensor in tensors.items():
            array = tensor.numpy()
            scores.setdefault(name, np.full((count, *array.shape[1:]), np.nan, array.dtype))
            scores[name][rows] = array
    return scores


def check_scores(passes: Passes, reading: ScoreReading, scores: Scores) -> list[Verdict]:
    """Hold scores against a stimulus that runs alone."""
    plan, name = passes.plan, reading.own
    row, _, padding = most_padded(plan, name)
    alone = Batch((row,), int(plan.sets[name].lengths[row]))
    found = passes.put_through(score_inputs(plan, reading, alone))
    worst = 0.0
    for key, tensor in scores_in(plan, reading, alone, found).items():
        together = scores[key][[row]]
        if np.isfinite(together).any():
            worst = max(worst, deviation(tensor.numpy(), together))
    return [judge_alone(plan, name, (row, padding), worst)]


def score_dataset(plan: Plan, reading: ScoreReading, scores: Scores) -> xr.Dataset:
    """Label scores by stimulus, node, sender and receiver."""
    along = reading.along
    data = xr.Dataset(
        coords=dict(stimulus_coords(plan.sets[reading.own])),
        attrs={"along": "embed" if along is None else _node(along.site, along.layer, None)},
    )
    if "total" in scores:
        data["total"] = ("stimulus", scores["total"].astype(np.float64))
    if reading.spots:
        data["score"] = (("stimulus", "node"), scores["nodes"].astype(np.float64))
        data = data.assign_coords(_parts(plan, reading.spots, ("node", _node)))
    if reading.senders:
        data["edge"] = (("stimulus", "sender", "receiver"), scores["edges"])
        data = data.assign_coords(_parts(plan, reading.senders, ("sender", sender)))
        data = data.assign_coords(_parts(plan, reading.receivers, ("receiver", receiver)))
    return data


def _node(site: str, layer: int, head: int | None) -> str:
    return node(Change("", site, layer, head))


def _parts(
    plan: Plan, spots: Sequence[Spot], what: tuple[str, Callable[[str, int, int | None], str]]
) -> dict[str, Any]:
    """Return the names of the parts of some spots, and their site, layer and head, -1 for none."""
    dim, name = what
    parts: list[tuple[str, int, int | None]] = []
    for spot in spots:
        dims = SITES["mlp_out" if spot.site == "mlp_in" else spot.site].dims
        every: Sequence[int | None] = spot.heads or (None,)
        if not spot.heads and {"head", "kv_head"} & set(dims):
            shape = plan.model.shape
            every = range(shape.kv_heads if "kv_head" in dims else shape.heads)
        parts += [(spot.site, spot.layer, head) for head in every]
    sites, layers, heads = zip(*parts, strict=True)
    return {
        dim: [name(*part) for part in parts],
        f"{dim}_site": (dim, list(sites)),
        f"{dim}_layer": (dim, list(layers)),
        f"{dim}_head": (dim, [-1 if head is None else head for head in heads]),
    }
