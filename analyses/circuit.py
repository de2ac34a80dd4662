"""Circuits: pruned from all nodes or given, and held against random ones of their size.

1. A node is a head (`L4H10`) or an MLP (`MLP4`). What a circuit leaves out is ablated.
2. Pruning goes through the nodes in passes and leaves out each without which the metric stays
   above a share of the full model's, until a pass changes nothing. An emptied circuit stays empty.
3. Each circuit is measured on its own set and others, and random circuits of its size on the same.
4. If asked, edges between the nodes of each circuit are pruned too: see `circuit_edges`.

Source: Lan, Torr & Barez 2024, Towards interpretable sequence continuation (two-way pruning);
Mueller et al. 2025, MIB (CPR and CMD).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.circuit_edges import evaluate, prune_edges
from patchclamp.analyses.circuit_search import Search, reading
from patchclamp.analyses.circuit_tables import SIZES, alone, areas, members, steps
from patchclamp.analyses.context import Context
from patchclamp.analyses.edges import ends
from patchclamp.analyses.effects import require_baseline
from patchclamp.analyses.paths import node
from patchclamp.analyses.readings import (
    Change,
    CircuitReading,
    Condition,
    ModelShape,
    Readings,
)
from patchclamp.analyses.units import parts
from patchclamp.registry import METRICS
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_circuits import Circuit, Given, Prune


def nodes_of(entry: Circuit, shape: ModelShape) -> dict[str, Change]:
    """Return every node that a circuit may have, with the change that ablates it."""
    for units in entry.units:
        if units.site not in ("z", "mlp_out"):
            raise AnalysisError(
                f"nodes of a circuit are heads (site z) and MLPs (site mlp_out); got {units.site!r}"
            )
    do = cast("str", entry.with_)
    return {node(change): change for units in entry.units for _, change in parts(units, shape, do)}


def readings(entry: Circuit, shape: ModelShape) -> Readings:
    """Return each node alone ablated on the set of the analysis, and all nodes on every set."""
    nodes = nodes_of(entry, shape)
    if entry.edges is not None:
        ends(entry.units, shape)  # refuses what has no edges
    alone = [Condition((("node", name),), (change,)) for name, change in nodes.items()]
    empty = Condition((("node", "all"),), tuple(nodes.values()))
    found: Readings = {"own": reading(entry, cast("str", entry.stimuli), (*alone, empty))}
    for name in entry.transfer:
        found[f"transfer.{name}"] = reading(entry, name, (empty,))
    for name, how in entry.circuits.items():
        if isinstance(how, Given) and how.path is not None:
            found[f"given.{name}"] = CircuitReading(how.path, name)
    return found


def analyse(
    entry: Circuit, data: Mapping[str, xr.Dataset], context: Context
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Find, evaluate and transfer circuits; yields what has to be measured.

    With m(C) the mean metric over stimuli when every node outside C is ablated, N all nodes:

        faithfulness        = m(C) / m(N)                 as the study of sequence continuation
        random_faithfulness   of random circuits of the same size (control)
        share_of_gap        = (m(C) - m({})) / (m(N) - m({}))

    Raises `AnalysisError` where m(N) is not reliably positive on a set.
    """
    own = data["own"]
    changes = nodes_of(entry, context.shape)
    clean = own["clean"]
    metric = METRICS[entry.metric.kind]
    groups = own["group"].to_numpy() if "group" in own.coords else None
    require_baseline(metric.name, clean.to_numpy(), groups, context.seeds)
    search = Search(entry, changes, float(clean.mean()))
    circuits: dict[str, frozenset[str]] = {}
    for name, how in entry.circuits.items():
        if isinstance(how, Prune):
            circuits[name] = yield from search.prune(name, how)
        else:
            circuits[name] = _given(name, nodes_in(how, data.get(f"given.{name}")), changes)
    rng = context.seeds.generator("random circuits")
    drawn = {
        name: _random(rng, list(changes), len(kept), entry.random)
        for name, kept in circuits.items()
    }
    columns: dict[str, list[xr.DataArray]] = {}
    sets = {cast("str", entry.stimuli): own, **{n: data[f"transfer.{n}"] for n in entry.transfer}}
    for stimuli, measured in sets.items():
        found = yield from _evaluate(search, stimuli, measured, (circuits, drawn))
        for key, column in found.items():
            columns.setdefault(key, []).append(column)
    result = xr.Dataset({key: xr.concat(found, "set") for key, found in columns.items()})
    result = result.assign_coords(set=list(sets))
    result = result.assign(members(circuits, list(changes)))
    result = result.assign(alone(own, metric.name, metric.units))
    if entry.members:
        result = result.assign((yield from _members(search, circuits)))
    if entry.faithfulness:
        result = result.assign((yield from _curve(search, own)))
    if entry.edges is not None:
        full = {name: float(measured["clean"].mean()) for name, measured in sets.items()}
        result = result.assign((yield from _edges(search, circuits, full, context)))
    result = result.assign(steps(search.trace))
    about = {"intervention": str(entry.with_), "metric": metric.name}
    return result.assign_attrs(**about, n_stimuli=own.sizes["stimulus"])


def _edges(
    search: Search,
    circuits: Mapping[str, frozenset[str]],
    full: Mapping[str, float],
    context: Context,
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Prune the edges of every circuit and measure what is left; `full` is m(N) of each set."""
    how = search.entry.edges
    assert how is not None, "asked by the caller"
    found = {}
    for name, kept in circuits.items():
        pruned = yield from prune_edges(search, (name, kept), how, context.shape)
        found[name] = kept, pruned
    return (yield from evaluate(search, found, full, context))


def nodes_in(how: Given, found: xr.Dataset | None) -> frozenset[str]:
    """Return the nodes of a circuit that is given by name, or as it was found by another run."""
    if found is None:
        return frozenset(how.nodes)
    return frozenset(map(str, found["node"].to_numpy()[found["member"].to_numpy() == 1]))


def _given(name: str, given: frozenset[str], nodes: Mapping[str, Change]) -> frozenset[str]:
    unknown = sorted(given - set(nodes))
    if unknown:
        raise AnalysisError(
            f"circuit {name!r} has the node {unknown[0]!r}, which is none of the analysis's units"
        )
    return given


def _random(
    rng: np.random.Generator, nodes: list[str], size: int, count: int
) -> list[frozenset[str]]:
    return [frozenset(rng.choice(nodes, size=size, replace=False).tolist()) for _ in range(count)]


def _evaluate(
    search: Search,
    stimuli: str,
    measured: xr.Dataset,
    what: tuple[Mapping[str, frozenset[str]], Mapping[str, Sequence[frozenset[str]]]],
) -> Generator[Readings, Mapping[str, xr.Dataset], dict[str, xr.DataArray]]:
    """Measure circuits and their random controls on one set."""
    circuits, drawn = what
    metric = METRICS[search.entry.metric.kind]
    full = float(measured["clean"].mean())
    empty = float(measured["value"].isel(condition=measured["node"].to_numpy() == "all").mean())
    names = list(circuits)
    values = yield from search.measure(stimuli, list(circuits.values()))
    means = values.mean(axis=1)
    coords = {"circuit": names}
    attrs = {"units": "1", "estimand": f"faithfulness_{metric.estimand}", "scale": 1.0}

    def labelled(column: NDArray[np.float64], dims: tuple[str, ...], what: str) -> xr.DataArray:
        return xr.DataArray(column, dims=dims, coords=coords, attrs={**attrs, "long_name": what})

    found = {
        "faithfulness": labelled(
            means / full, ("circuit",), "metric of the circuit / of the model"
        ),
        "share_of_gap": labelled(
            (means - empty) / (full - empty),
            ("circuit",),
            "metric of the circuit, where 0 is nothing kept and 1 the model",
        ),
    }
    if search.entry.random:
        controls = []
        for name in names:
            values = yield from search.measure(stimuli, drawn[name])
            controls.append(values.mean(axis=1) / full)
        found["random_faithfulness"] = labelled(
            np.stack(controls),
            ("circuit", "draw"),
            "metric of random circuits of the same size / of the model",
        ).assign_coords(draw=np.arange(search.entry.random, dtype=np.int32))
    return found


def _members(
    search: Search, circuits: Mapping[str, frozenset[str]]
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Remove each member of a circuit from it."""
    shares = np.full((len(circuits), len(search.nodes)), np.nan)
    names = list(search.nodes)
    for number, kept in enumerate(circuits.values()):
        members = [name for name in names if name in kept]
        if not members:
            continue
        stimuli = cast("str", search.entry.stimuli)
        values = yield from search.measure(stimuli, [kept - {name} for name in members])
        for name, share in zip(members, values.mean(axis=1) / search.full, strict=True):
            shares[number, names.index(name)] = share
    about = {"units": "1", "long_name": "metric of the circuit without the node / of the model"}
    coords = {"circuit": list(circuits), "node": names}
    return xr.Dataset({"faithfulness_without": (("circuit", "node"), shares, about)}, coords=coords)


def _curve(
    search: Search, own: xr.Dataset
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Keep the nodes whose ablation lowers the metric most, so many at a time; CPR and CMD."""
    alone = own.isel(condition=own["node"].to_numpy() != "all")
    effect = (alone["value"] - alone["clean"]).mean("stimulus").to_numpy()
    names = np.asarray(alone["node"].to_numpy())
    ranked = names[np.argsort(effect, kind="stable")].tolist()
    counts = [round(share * len(ranked)) for share in SIZES]
    stimuli = cast("str", search.entry.stimuli)
    kept = [frozenset(ranked[:count]) for count in counts]
    values = yield from search.measure(stimuli, kept)
    empty = float(own["value"].isel(condition=own["node"].to_numpy() == "all").mean())
    curve = (values.mean(axis=1) - empty) / (search.full - empty)
    cpr, cmd = areas(SIZES, curve)
    gap = "metric, where 0 is nothing kept and 1 the model"
    return xr.Dataset(
        {
            "curve": (
                "kept",
                curve,
                {"units": "1", "long_name": f"{gap}, by share of nodes kept"},
            ),
            "cpr": ((), cpr, {"units": "1", "long_name": "area under the curve (CPR)"}),
            "cmd": ((), cmd, {"units": "1", "long_name": "area between the curve and 1 (CMD)"}),
        },
        coords={"kept": np.asarray(SIZES)},
    )
