"""Edges of circuits: cut as long as a circuit keeps its metric, and tested together.

1. Edges go between the nodes of a circuit, from the embeddings and to the logits. One that is cut
   leaves its receiver with what the intervention puts in the sender's place.
2. Each is cut alone; then, from the least effect to the largest, they are cut for good as long as
   the metric stays above a share of the circuit's own: several at a time while that succeeds,
   fewer where it fails. So what is kept has been tested together.
3. Random sets of as many of the same edges are the control.

Source: Lan, Torr & Barez 2024 (edges of a pruned circuit); Conmy et al. 2023, ACDC (one by one);
Miller, Chughtai & Saunders 2024 (edges that are cut exactly).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from patchclamp.analyses.circuit_search import Search, Step
from patchclamp.analyses.context import Context
from patchclamp.analyses.edges import Nodes, before, ends_of, parts, receiver, sender
from patchclamp.analyses.readings import Change, End, ModelShape, Readings
from patchclamp.registry import METRICS
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_circuits import PruneEdges

Edge = tuple[str, str]
"""Names of a sender and a receiver."""

Ends = Mapping[Edge, tuple[End, End]]


def edges_of(nodes: Iterable[Change], shape: ModelShape) -> dict[Edge, tuple[End, End]]:
    """Return the edges between nodes, from the embeddings and to the logits."""
    picked: Nodes = {}
    for change in nodes:
        picked.setdefault((change.layer, change.head is None), set()).add(change.head or 0)
    senders, receivers = map(parts, ends_of(picked, shape))
    return {
        (sender(*one), receiver(*other)): (one, other)
        for one in senders
        for other in receivers
        if before(one, other, parallel=shape.parallel)
    }


def cutting(do: str, edges: Ends, cut: Iterable[Edge]) -> tuple[Change, ...]:
    """Return the changes that cut some edges: one for each sender."""
    by_sender: dict[End, list[End]] = {}
    for edge in cut:
        one, other = edges[edge]
        by_sender.setdefault(one, []).append(other)
    return tuple(Change(do, *one, into=tuple(of)) for one, of in by_sender.items())


@dataclass(frozen=True)
class Pruned:
    """The edges of a circuit, those that are kept, and what cutting each alone does."""

    edges: Ends
    kept: frozenset[Edge]
    effects: Mapping[Edge, float]


def prune_edges(
    search: Search, circuit: tuple[str, frozenset[str]], how: PruneEdges, shape: ModelShape
) -> Generator[Readings, Mapping[str, xr.Dataset], Pruned]:
    """Cut edges of a circuit, a name and its nodes; see the module."""
    name, kept = circuit
    if not kept:
        return Pruned({}, frozenset(), {})
    edges = edges_of((search.nodes[node] for node in sorted(kept)), shape)
    do = str(search.entry.with_)
    alone = [(), *(cutting(do, edges, [edge]) for edge in edges)]
    values = yield from search.measure(search.stimuli, [kept] * len(alone), alone)
    own, *each = values.mean(axis=1).tolist()
    if not own > 0:
        metric = METRICS[search.entry.metric.kind].name
        raise AnalysisError(
            f"the edges of circuit {name!r} cannot be pruned by a share of its own {metric}, which "
            f"is {own:.4g}: take a circuit that does the task"
        )
    effects = {edge: value - own for edge, value in zip(edges, each, strict=True)}
    waiting, cut, size = sorted(edges, key=lambda edge: -effects[edge]), frozenset[Edge](), 1
    while waiting:
        some = waiting[:size]
        tried = cut | set(some)
        found = yield from search.measure(search.stimuli, [kept], [cutting(do, edges, tried)])
        out = float(found.mean()) > how.keep_above * own
        share = float(found.mean()) / search.full
        search.trace.append(Step(name, " -> ".join(some[0]), share, out, len(some)))
        if out:
            cut, waiting, size = tried, waiting[size:], 2 * size
        elif len(some) == 1:
            waiting, size = waiting[1:], 1
        else:
            size = len(some) // 2
    return Pruned(edges, frozenset(edges) - cut, effects)


def evaluate(
    search: Search,
    circuits: Mapping[str, tuple[frozenset[str], Pruned]],
    full: Mapping[str, float],
    context: Context,
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Measure circuits of edges, and random ones of their size, on every set of `full`."""
    rng, do = context.seeds.generator("random edges"), str(search.entry.with_)
    cuts: dict[str, list[tuple[Change, ...]]] = {}
    for name, (_, pruned) in circuits.items():
        edges = list(pruned.edges)
        cuts[name] = [cutting(do, pruned.edges, set(edges) - pruned.kept)]
        for _ in range(search.entry.random):
            some = rng.permutation(len(edges))[len(pruned.kept) :]
            cuts[name].append(cutting(do, pruned.edges, [edges[i] for i in some]))
    rows = []
    for stimuli, whole in full.items():
        row = []
        for name, (kept, _) in circuits.items():
            values = yield from search.measure(stimuli, [kept] * len(cuts[name]), cuts[name])
            row.append(values.mean(axis=1) / whole)
        rows.append(row)
    shares, metric = np.asarray(rows), METRICS[search.entry.metric.kind]
    about = {"units": "1", "estimand": f"faithfulness_{metric.estimand}", "scale": 1.0}
    words = "metric with only the edges of the circuit / of the model"
    data = xr.Dataset(coords={"set": list(full), "circuit": list(circuits)})
    dims = ("set", "circuit")
    data["edge_faithfulness"] = (dims, shares[..., 0], {**about, "long_name": words})
    if search.entry.random:
        words = "metric with as many random edges of the circuit / of the model"
        column = (*dims, "draw"), shares[..., 1:], {**about, "long_name": words}
        data["random_edge_faithfulness"] = column
        data = data.assign_coords(draw=np.arange(search.entry.random, dtype=np.int32))
    return data.assign(tables({name: of for name, (_, of) in circuits.items()}, metric.units))


def tables(circuits: Mapping[str, Pruned], units: str) -> xr.Dataset:
    """Return the edges of circuits, and what cutting each does."""
    senders, receivers = (
        list(dict.fromkeys(edge[end] for of in circuits.values() for edge in of.edges))
        for end in (0, 1)
    )
    shape = (len(circuits), len(senders), len(receivers))
    kept, effect = np.full(shape, np.nan), np.full(shape, np.nan)
    for number, of in enumerate(circuits.values()):
        for edge, value in of.effects.items():
            at = number, senders.index(edge[0]), receivers.index(edge[1])
            effect[at] = value
            kept[at] = value if edge in of.kept else np.nan
    dims = ("circuit", "sender", "receiver")
    words = "mean change of the metric when it alone is cut from the circuit"
    sizes = np.asarray([len(of.kept) for of in circuits.values()], dtype=np.int32)
    return xr.Dataset(
        {
            "edge": (dims, kept, {"units": units, "long_name": f"edge of the circuit: {words}"}),
            "edge_effect": (dims, effect, {"units": units, "long_name": f"of every edge: {words}"}),
            "edge_size": ("circuit", sizes, {"units": "edge", "long_name": "edges of the circuit"}),
        },
        coords={"circuit": list(circuits), "sender": senders, "receiver": receivers},
    )
