"""Circuits as labelled tables, and the areas of their curve of faithfulness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.circuit_search import Step

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of nodes at which the faithfulness curve is measured."""


def members(circuits: Mapping[str, frozenset[str]], nodes: Sequence[str]) -> xr.Dataset:
    """Return which nodes circuits have, and how many."""
    member = [[name in kept for name in nodes] for kept in circuits.values()]
    data = xr.Dataset(coords={"circuit": list(circuits), "node": list(nodes)})
    about = {"units": "1", "long_name": "1 where the circuit has the node"}
    data["member"] = (("circuit", "node"), np.asarray(member, dtype=np.int8), about)
    sizes = np.asarray([len(kept) for kept in circuits.values()], dtype=np.int32)
    data["size"] = ("circuit", sizes, {"units": "node", "long_name": "nodes of the circuit"})
    return data


def steps(trace: Sequence[Step]) -> xr.Dataset:
    """Return the steps of pruning, in order."""
    if not trace:
        return xr.Dataset()
    data = xr.Dataset(coords={"step": np.arange(len(trace), dtype=np.int32)})
    said = {
        "step_circuit": ([one.circuit for one in trace], "text", "circuit that is pruned"),
        "step_node": ([one.what for one in trace], "text", "node or edge that is tried, the first"),
        "step_share": (
            [one.share for one in trace],
            "1",
            "metric without it as a share of the model's",
        ),
        "step_count": (
            np.asarray([one.count for one in trace], np.int32),
            "1",
            "nodes or edges that are tried together",
        ),
        "step_removed": (
            np.asarray([one.out for one in trace], np.int8),
            "1",
            "1 where they were left out",
        ),
    }
    for name, (column, units, long_name) in said.items():
        data[name] = ("step", column, {"units": units, "long_name": long_name})
    return data


def alone(own: xr.Dataset, metric: str, units: str) -> xr.Dataset:
    """Return the effect of each node ablated alone."""
    single = own.isel(condition=own["node"].to_numpy() != "all")
    effect = (single["value"] - single["clean"]).mean("stimulus").to_numpy()
    about = {"units": units, "long_name": f"mean change of {metric} when the node alone is ablated"}
    return xr.Dataset(
        {"effect": ("node", effect, {**about, "scale": float(np.abs(own["clean"]).max())})},
        coords={"node": single["node"].to_numpy()},
    )


def areas(sizes: Sequence[float], curve: NDArray[np.float64]) -> tuple[float, float]:
    """Return the areas under a faithfulness curve and between it and 1.

    `sizes` (share,) of nodes that are kept, `curve` (share,) with 1 for the full model. CPR is the
    integral of f, CMD that of |1 - f|, over a linear axis of shares by the trapezoid rule.
    Source: Mueller et al. 2025, MIB: a mechanistic interpretability benchmark.

    >>> cpr, cmd = areas(SIZES, np.ones(10))
    >>> round(cpr, 9), cmd
    (0.999, 0.0)
    """
    return float(np.trapezoid(curve, sizes)), float(np.trapezoid(np.abs(1 - curve), sizes))
