"""The pass of a batch for attribution: its runs side by side, and what is done in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.analyses.asking import ScoreReading, Spot
from patchclamp.analyses.edges import before
from patchclamp.engine.answers import Asked, ask
from patchclamp.engine.backend import Step
from patchclamp.engine.batches import Batch
from patchclamp.engine.edge_steps import HEADS, key_of, norm_of, stream_of
from patchclamp.engine.model import ModelSource
from patchclamp.engine.passes import Inputs, whole
from patchclamp.engine.plan import Plan
from patchclamp.engine.positions import choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.steps import (
    answers_step,
    in_order,
    leaf_step,
    place,
    read_answers_at,
    read_answers_of,
)
from patchclamp.registry import METRICS
from patchclamp.registry.errors import AnalysisError

EVERY = Spot("embed", 0)
"""All tokens, as they are embedded: what moves along a path of inputs."""


def tokens_at(plan: Plan, name: str, spot: Spot) -> NDArray[np.int64]:
    """Return the positions of a spot in every stimulus, (stimulus, place), -1 for none."""
    of_set = plan.sets[name]
    chosen = choose(spot.positions, of_set, (), Problems(plan.loaded))
    if chosen is None:
        raise AnalysisError(f"positions {spot.positions!r} are not there in all of {name!r}")
    index = np.full((len(of_set.table), chosen.index.shape[1]), -1, dtype=np.int64)
    index[list(chosen.rows)] = chosen.index
    return index


def score_inputs(plan: Plan, reading: ScoreReading, batch: Batch) -> Inputs:
    """Return the pass of a batch: its runs side by side, and what is done in them."""
    model, end, points = plan.model, reading.end, reading.points
    tokens = {run: plan.sets[name].tokens for run, name in _runs(reading).items()}
    reads = METRICS[reading.metric].reads
    own = {run: ask(of, batch.rows, reads=reads) for run, of in tokens.items()}
    count = len(own["into"].ids)
    said = own[end] if end else ask(tokens["into"], batch.rows * len(points), reads=reads)
    ids = list(said.ids)
    blocks: dict[str, Any] = {
        "path": [
            (number * count, (number + 1) * count, weight)
            for number, (_, weight) in enumerate(points)
        ]
    }
    for run, asked in own.items():
        if run == end:
            blocks[run] = (0, count)
            continue
        blocks[run] = (len(ids), len(ids) + count)
        ids += asked.ids
    shares = {"blocks": blocks, "shares": [share for share, _ in points]}
    steps: list[Step] = []
    if not end:
        steps.append(_blend_step(plan, reading, batch, (own["into"], shares)))
    steps += [leaf_step(model), *_watch_steps(plan, reading)]
    more = _attribute_step(plan, reading, batch, (own["into"], blocks))
    *before, last = _reading_answers(plan, reading, said)
    steps += [*before, {**last, **more}]
    return whole(ids, in_order(steps))


def _reading_answers(plan: Plan, reading: ScoreReading, said: Asked) -> list[Step]:
    """Return the steps that read what the metric needs of the logits, and nothing else."""
    if not plan.loaded.spec.run.optimise:
        return [answers_step(plan.model, said)]
    if METRICS[reading.metric].whole:
        return read_answers_at(plan.model, said, narrow=True)
    return read_answers_of(plan.model, said)


def _runs(reading: ScoreReading) -> dict[str, str]:
    return {"into": reading.own, "source": reading.other}


def _of_rows(said: Asked, batch: Batch) -> NDArray[np.int64]:
    """Return the number in the batch of the stimulus that each input row of a block is of."""
    starts = np.zeros(len(said.ids), dtype=np.int64)
    starts[list(said.first)] = 1
    del batch
    return starts.cumsum() - 1


def _index(
    plan: Plan, reading: ScoreReading, spot: Spot, what: tuple[Batch, NDArray[np.int64]]
) -> dict[str, torch.Tensor]:
    """Return the positions of a spot in each run, (input row, place)."""
    batch, stimulus = what
    rows = np.asarray(batch.rows)[stimulus]
    found = {
        run: torch.from_numpy(tokens_at(plan, name, spot)[rows])
        for run, name in _runs(reading).items()
    }
    return {**found, "path": found[reading.end or "into"]}


def _blend_step(
    plan: Plan, reading: ScoreReading, batch: Batch, what: tuple[Asked, dict[str, Any]]
) -> Step:
    said, shares = what
    along = reading.along
    step: Step = {"do": "blend", **shares, "into": None, "source": None}
    if along is None:
        return {**step, "place": place(plan.model, "embed", 0)}
    index = _index(plan, reading, along, (batch, _of_rows(said, batch)))
    where = place(plan.model, along.site, along.layer, write=True)
    return {**step, "place": where, "into": index["into"], "source": index["source"]}


def _watch_steps(plan: Plan, reading: ScoreReading) -> list[Step]:
    """Keep what nodes, senders and receivers have, and what moves along the path."""
    model = plan.model
    along = reading.along or EVERY
    watched = {} if reading.end else {"total": (along.site, along.layer)}
    for number, spot in enumerate(reading.spots):
        watched[f"spot.{number}"] = (spot.site, spot.layer)
    steps: list[Step] = []
    for spot in (*reading.senders, *reading.receivers):
        watched[key_of((spot.site, spot.layer))] = (spot.site, spot.layer)
        if spot.site == "mlp_in":
            # In parallel blocks, what an MLP is given is what attention is given too.
            where = place(model, spot.site, spot.layer)
            steps.append({"do": "apart", "place": where})
    for spot in reading.receivers:
        stream = stream_of(model, spot.site, spot.layer)
        if stream is not None:
            watched[key_of(stream)] = stream
    return steps + [
        {"do": "watch", "key": key, "place": place(model, *where)} for key, where in watched.items()
    ]


def _attribute_step(
    plan: Plan, reading: ScoreReading, batch: Batch, what: tuple[Asked, dict[str, Any]]
) -> Step:
    said, blocks = what
    stimulus = _of_rows(said, batch)
    total = [] if reading.end else [("total", reading.along or EVERY)]
    nodes = [
        {
            "key": key,
            "heads": list(spot.heads) or None,
            **_index(plan, reading, spot, (batch, stimulus)),
        }
        for key, spot in (
            *total,
            *((f"spot.{number}", spot) for number, spot in enumerate(reading.spots)),
        )
    ]
    slopes = [
        *(node["key"] for node in nodes),
        *(key_of((r.site, r.layer)) for r in reading.receivers),
    ]
    step: Step = {
        "do": "attribute",
        "of": reading.metric,
        "at": "answer",
        "blocks": blocks,
        "stimulus": torch.from_numpy(stimulus),
        "count": len(batch.rows),
        "nodes": nodes,
        "slopes": slopes,
        "edges": None,
        "modules": [],
    }
    if reading.senders:
        inside = _index(plan, reading, EVERY, (batch, stimulus))["into"] >= 0
        step["edges"] = _edges(plan, reading) | {"inside": inside}
        step["modules"] = _modules(step["edges"])
    return step


def _edges(plan: Plan, reading: ScoreReading) -> dict[str, Any]:
    """Return senders, and receivers grouped by what they read the stream through."""
    model = plan.model
    senders: list[dict[str, Any]] = []
    for spot in reading.senders:
        part = place(model, spot.site, spot.layer)["parts"][-1]
        out = part["path"] if spot.site == "z" else None
        one = {"key": key_of((spot.site, spot.layer)), "out": out, "spot": spot}
        senders.append({**one, **_picked(spot, part["heads"] if spot.site == "z" else 1)})
    groups: dict[tuple[str, int], dict[str, Any]] = {}
    for spot in reading.receivers:
        heads = spot.site in HEADS
        kind = "attn_in" if heads else spot.site
        stream = stream_of(model, spot.site, spot.layer)
        group = groups.setdefault(
            (kind, spot.layer),
            {
                "norm": norm_of(model, spot.site, spot.layer),
                "stream": stream and key_of(stream),
                "seen": sum(s["count"] for s in senders if _sees(model, s["spot"], spot)),
                "members": [],
                "count": 0,
            },
        )
        part = place(model, spot.site, spot.layer)["parts"][-1]
        member = {"key": key_of((spot.site, spot.layer)), "into": part["path"] if heads else None}
        picked = _picked(spot, part["heads"] if heads else 1)
        group["members"].append({**member, "part": part, **picked})
        group["count"] += picked["count"]
    for one in senders:
        del one["spot"]
    return {"senders": senders, "groups": list(groups.values()), "units": model.shape.units}


def _picked(spot: Spot, whole: int) -> dict[str, Any]:
    """Return how many heads a spot has, and which, None for all: these need not be copied."""
    some = len(spot.heads) not in (0, whole)
    return {"count": len(spot.heads) or whole, "heads": list(spot.heads) if some else None}


def _sees(model: ModelSource, one: Spot, other: Spot) -> bool:
    ends = (one.site, one.layer, None), (other.site, other.layer, None)
    return before(*ends, parallel=model.architecture.parallel)


def _modules(edges: Mapping[str, Any]) -> list[str]:
    paths = [one["out"] for one in edges["senders"]]
    for group in edges["groups"]:
        paths += [group["norm"], *(one["into"] for one in group["members"])]
    return sorted({path for path in paths if path})
