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
    them, `edge([circuit], sender, receiver)` joins them, both optional. A receiver such as `L5H1.k`
    is drawn at its node. Nodes are named as L9H1 or
    MLP11; what has no layer in its name stands below all others. Empty without `member`.
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
        sentence += (
            " Arrows: edges, thicker where they weigh more, blue where they add and orange where "
            f"they take away; at most the {EDGES} largest."
        )
    return (Sketch("circuit_graph", "Circuits", sentence, tuple(panels), facts(data, "member")),)


def _graph(data: xr.Dataset, whole: xr.Dataset) -> Graph:
    names = [str(n) for n in data["node"].to_numpy()[data["member"].to_numpy().astype(bool)]]
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
    return Graph(tuple(nodes), _edges(data, set(names)), scale)


def _edges(data: xr.Dataset, names: set[str]) -> tuple[tuple[str, str, float], ...]:
    """Return the largest edges between members, by size."""
    if "edge" not in data:
        return ()
    weights = data["edge"].transpose("sender", "receiver")
    ends = [str(end).partition(".")[0] for end in weights["receiver"].to_numpy()]
    found = [
        (str(start), end, float(weight))
        for start, row in zip(weights["sender"].to_numpy(), weights.to_numpy(), strict=True)
        for end, weight in zip(ends, row, strict=True)
        if np.isfinite(weight) and weight != 0 and {str(start), end} <= names
    ]
    return tuple(sorted(found, key=lambda edge: -abs(edge[2]))[:EDGES])


def _layer(name: str) -> int:
    """Return the layer of a node; -1 for what has none, such as the embedding."""
    numbers = re.search(r"\d+", name)
    return -1 if numbers is None else int(numbers.group())


def _order(name: str) -> tuple[bool, list[int]]:
    """Return where a node stands in its layer: heads by number, then the MLP."""
    return name.startswith("MLP"), [int(number) for number in re.findall(r"\d+", name)]
