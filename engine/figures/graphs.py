"""Graphs: circuits as nodes and edges, from the first layer up."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
import xarray as xr

from patchclamp.engine.figures.facts import facts, label, scale_of
from patchclamp.engine.figures.sketch import Graph, Node, Panel, Sketch
from patchclamp.engine.figures.variables import PANELS

EDGES = 60
"""Edges that are drawn, the largest; more is a blot."""


def circuit_graph(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return each circuit as a graph: nodes at their layer, coloured by effect, edges by weight.

    `member([circuit], node)` says which nodes are in a circuit; `effect` over the same dims colours
    them, `edge([circuit], sender, receiver)` joins them and NaN is no edge, both optional. Nodes
    are named as L9H1 or MLP11; a receiver such as `L5H1.k` is drawn at its node, and of several
    edges between two nodes the largest. `logits` stand above all others, what else has no layer in
    its name below. Empty without `member`.
    """
    if "member" not in data or "node" not in data["member"].dims:
        return ()
    circuits = data["circuit"].to_numpy().tolist() if "circuit" in data["member"].dims else [None]
    panels = []
    for circuit in circuits[:PANELS]:
        here = data if circuit is None else data.sel(circuit=circuit)
        graph = _graph(here, data)
        panels.append(Panel(str(circuit or "circuit"), (graph,)))
    sentence = "The nodes of each circuit, from the first layer below to the last above"
    sentence += ", coloured by their effect." if "effect" in data else "."
    if "edge" in data:
        meaning = str(data["edge"].attrs.get("long_name", "weight of an edge"))
        sentence += (
            f" Arrows: {meaning}; thicker where it is larger, blue above 0 and orange below; "
        )
        sentence += f"of several between two nodes the largest, at most {EDGES}."
    return (Sketch("circuit_graph", "Circuits", sentence, tuple(panels), facts(data, "member")),)


def _graph(data: xr.Dataset, whole: xr.Dataset) -> Graph:
    names = [str(n) for n in data["node"].to_numpy()[data["member"].to_numpy().astype(bool)]]
    edges = _edges(data)
    names = list(dict.fromkeys([*names, *(end for *ends, _ in edges for end in ends)]))
    effect = data.get("effect")
    values = {} if effect is None else {
        str(n): float(v) for n, v in zip(effect["node"].to_numpy(), effect.to_numpy(), strict=True)
    }  # fmt: skip
    rows = defaultdict(list)
    for name in names:
        rows[_layer(name)].append(name)
    nodes = []
    for row, layer in enumerate(sorted(rows)):
        members = sorted(rows[layer], key=_order)
        for place, name in enumerate(members):
            column = place - (len(members) - 1) / 2
            nodes.append(Node(name, column, row, values.get(name)))
    shown = effect if effect is not None else whole["member"]
    scale = scale_of(
        whole[str(shown.name)].to_numpy().astype(np.float64),
        label(shown),
        signed=effect is not None,
    )
    return Graph(tuple(nodes), edges, scale)


def _edges(data: xr.Dataset) -> tuple[tuple[str, str, float], ...]:
    """Return the largest edges, by size; of those between two nodes the largest."""
    if "edge" not in data:
        return ()
    weights = data["edge"].transpose("sender", "receiver")
    found: dict[tuple[str, str], float] = {}
    for start, row in zip(weights["sender"].to_numpy(), weights.to_numpy(), strict=True):
        for end, weight in zip(weights["receiver"].to_numpy(), row, strict=True):
            ends = (str(start), str(end).partition(".")[0])
            if np.isfinite(weight) and weight != 0 and abs(weight) > abs(found.get(ends, 0.0)):
                found[ends] = float(weight)
    edges = [(*ends, weight) for ends, weight in found.items()]
    return tuple(sorted(edges, key=lambda edge: -abs(edge[2]))[:EDGES])


def _layer(name: str) -> float:
    """Return the layer of a node; below all for what has none, such as the embedding."""
    if name == "logits":
        return np.inf
    numbers = re.search(r"\d+", name)
    return -1 if numbers is None else int(numbers.group())


def _order(name: str) -> tuple[bool, list[int]]:
    """Return where a node stands in its layer: heads by number, then the MLP."""
    return name.startswith("MLP"), [int(number) for number in re.findall(r"\d+", name)]
