"""Facts: what a figure rests on, read from the attributes of a labelled dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from patchclamp.engine.figures.sketch import Array, Facts, Scale
from patchclamp.specs.formats import count

ALPHA = 0.05
"""Below it a place is marked; readers expect the mark, and the exact p stands in the result."""

TAILS = {"greater": "one-sided (greater)", "less": "one-sided (less)"}
"""Attribute `tail` -> how a test is described by it."""

CHOSEN = ("rsa", "probe", "selection")
"""Kinds of which the best place is a choice among many, and larger than it is by the choice."""

NATURAL = "1"
"""Units of shares, correlations and probabilities."""


def facts(data: xr.Dataset, variable: str) -> Facts:
    """Return what a variable rests on."""
    attrs, one = data.attrs, data[variable]
    p = p_of(data, variable)
    tested = p is not None or null_of(data, variable) is not None
    return Facts(
        dims=" × ".join(f"{dim} {one.sizes[dim]}" for dim in one.dims) or "one number",
        n=_n({"n_stimuli": data.sizes["stimulus"], **attrs} if "stimulus" in data.dims else attrs)
        + _base_rate(data, variable),
        test=_test(attrs) if tested else str(attrs.get("inference", "")),
        correction=_correction(data, p),
        units=units(one),
        interval=str(attrs.get("interval", "")) if f"{variable}_low" in data else "",
    )


def _n(attrs: dict[str, Any]) -> str:
    """Return how many stimuli there are, and in how many groups."""
    parts = []
    if "n_stimuli" in attrs:
        parts.append(count(int(attrs["n_stimuli"]), "stimulus").replace("stimuluss", "stimuli"))
    if attrs.get("n_groups"):
        parts.append(f"in {count(int(attrs['n_groups']), 'group')}")
    if "n_classes" in attrs:
        parts.append(f"of {attrs['n_classes']} classes")
    if "n_folds" in attrs:
        parts.append(f"{attrs['n_folds']} folds")
    return ", ".join([" ".join(parts[:2]), *parts[2:]]) if parts else ""


def _base_rate(data: xr.Dataset, variable: str) -> str:
    """Return what an accuracy is held against."""
    if not variable.endswith("accuracy") or "base_rate" not in data or data["base_rate"].ndim:
        return ""
    return f", base rate {data['base_rate'].item():.3g}"


def _test(attrs: dict[str, Any]) -> str:
    if "n_permutations" not in attrs:
        return str(attrs.get("test", ""))
    what = attrs.get("permuted") or attrs.get("target") or "labels"
    how = f" {attrs['permutation']}" if attrs.get("permutation") else ""
    tail = f", {TAILS.get(attrs['tail'], attrs['tail'])}" if attrs.get("tail") else ""
    return f"{attrs['n_permutations']} permutations of {what}{how}{tail}"


def _correction(data: xr.Dataset, p: str | None) -> str:
    if p is None:
        return ""
    if p.startswith("p_max"):
        return "maximum statistic over all places"
    if p.startswith(("q", "p_fdr")):
        return "false discovery rate"
    return str(data.attrs.get("correction", "none"))


def units(data: xr.DataArray) -> str:
    """Return the units of a variable in words."""
    unit = str(data.attrs.get("units", ""))
    return "none" if unit == NATURAL else unit


def label(data: xr.DataArray) -> str:
    """Return what an axis says of a variable: its name, and its units where it has any."""
    unit = str(data.attrs.get("units", NATURAL))
    name = str(data.name).replace("_", " ")
    return name if unit == NATURAL else f"{name} ({unit})"


def p_of(data: xr.Dataset, variable: str) -> str | None:
    """Return the variable that holds the p values of a variable, the corrected ones first."""
    names = (f"{variable}_p_max", f"{variable}_q", f"{variable}_p", "p_max", "p_fdr", "q", "p")
    return next((name for name in names if name in data and _fits(data, name, variable)), None)


def null_of(data: xr.Dataset, variable: str) -> str | None:
    """Return the variable that holds what permuted labels give."""
    names = (f"null_{variable}", "null")
    dims = {"permutation", *data[variable].dims}
    return next((name for name in names if name in data and set(data[name].dims) == dims), None)


def _fits(data: xr.Dataset, p: str, variable: str) -> bool:
    """Return whether a p value is that of a variable: it says so (`of`), or has its dims."""
    of = data[p].attrs.get("of")
    return of == variable if of else set(data[p].dims) == set(data[variable].dims)


def significant(data: xr.Dataset, variable: str) -> xr.DataArray | None:
    """Return where a variable is significant, corrected where it was; None without a test."""
    p = p_of(data, variable)
    return None if p is None else data[p] < ALPHA


def marks_mean(data: xr.Dataset, variable: str) -> str:
    """Return what a mark means, as the end of a sentence; empty where nothing is marked."""
    p = p_of(data, variable)
    return "" if p is None else f"{p} < {ALPHA}"


def scale_of(values: Array, name: str, *, unit: str = "", signed: bool | None = None) -> Scale:
    """Return the scale of colours for all of a figure's values.

    Values on both sides of 0 diverge around it, evenly; others run from 0, or from their lowest
    where they are far from it; a share always runs to 1 at least.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if signed or (signed is None and low < 0 < high):
        reach = max(abs(low), abs(high)) or 1.0
        return Scale(-reach, reach, name, diverging=True)
    if low == high == 0:
        return Scale(0.0, 1.0, name)
    if high <= 0:
        return Scale(low, 0.0, name)
    if unit == NATURAL:
        return Scale(0.0, max(1.0, high), name)
    return Scale(0.0 if low < 0.5 * high else low, high, name)


def squeezed(data: xr.DataArray, keep: tuple[str, ...] = ()) -> xr.DataArray:
    """Return a variable without the dims that have one label."""
    return data.squeeze([d for d in data.dims if data.sizes[d] == 1 and d not in keep], drop=True)
