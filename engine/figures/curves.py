"""Curves over layers: values with intervals, what chance gives, and controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from patchclamp.engine.figures.facts import (
    NATURAL,
    facts,
    label,
    marks_mean,
    null_of,
    p_of,
    significant,
    squeezed,
)
from patchclamp.engine.figures.sketch import Array, Axis, Band, Curve, Layer, Panel, Sketch
from patchclamp.engine.figures.variables import headline, names_along

SERIES = 6
"""Most curves of one panel; more cannot be told apart."""

UNCOUNTED = frozenset(
    {"head", "kv_head", "stimulus", "unit", "neuron", "channel", "feature", "permutation"}
    | {"model_layer"}
)
"""Dims that are shown as maps, however few labels they have."""

COVERAGE = (0.025, 0.975)
"""Ends of the band that shows what permuted labels give."""

SHARES = ("accuracy", "auroc", "share", "precision", "recall")
"""Names of shares of a whole, whose axis runs from 0 to 1."""


def layer_curves(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the headline numbers of an analysis by layer, a panel for each.

    Each has its interval (`x_low`, `x_high`), the middle 95 % of its null (`null` or `null_x`) and
    its controls (`control_x`), where the dataset holds them; filled markers are significant. Empty
    where no number has a layer, or too many places at each.
    """
    names = [name for name in headline(data) if _drawable(data, name)]
    if not names:
        return ()
    panels = tuple(panel for name in names for panel in _panels(data, name))
    title = ", ".join(name.replace("_", " ") for name in names)
    tested = next((name for name in names if p_of(data, name)), names[0])
    sentence = _sentence(data, names)
    return (Sketch("layer_curves", f"{title} by layer", sentence, panels, facts(data, tested)),)


def _drawable(data: xr.Dataset, name: str) -> bool:
    """Return whether a variable is numbers by layer, and by little else."""
    values = squeezed(data[name], keep=("layer",))
    others = [dim for dim in values.dims if dim != "layer"]
    few = all(values.sizes[dim] <= SERIES for dim in others) and len(others) <= 1
    countable = not UNCOUNTED & set(map(str, others))
    return "layer" in values.dims and values.dtype.kind == "f" and few and countable


def _panels(data: xr.Dataset, name: str) -> Iterator[Panel]:
    """Yield the panel of a variable; where it has a null, one for each of its series."""
    values = squeezed(data[name], keep=("layer",))
    others = [str(dim) for dim in values.dims if dim != "layer"]
    null = null_of(data, name)
    if others and null is not None:
        panels = [
            _panel(data.sel({others[0]: [series]}), name, f"{others[0].replace('_', ' ')} {series}")
            for series in values[others[0]].to_numpy().tolist()
        ]
        limits = _shared_limits(panels)
        yield from (replace(panel, y=replace(panel.y, limits=limits)) for panel in panels)
    else:
        yield _panel(data, name, name.replace("_", " "))


def _shared_limits(panels: Sequence[Panel]) -> tuple[float | None, float | None]:
    """Return limits that hold all panels, so that one can be read against the other."""
    if panels[0].y.limits != (None, None):
        return panels[0].y.limits
    drawn = [
        values
        for panel in panels
        for layer in panel.layers
        for values in (getattr(layer, name, None) for name in ("y", "low", "high"))
        if values is not None
    ]
    low, high = float(np.nanmin(np.concatenate(drawn))), float(np.nanmax(np.concatenate(drawn)))
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def _panel(data: xr.Dataset, name: str, title: str) -> Panel:
    layers: list[Layer] = []
    null = null_of(data, name)
    if null is not None:
        spread = squeezed(data[null], keep=("layer", "permutation")).transpose("permutation", ...)
        low, high = np.quantile(spread.to_numpy(), COVERAGE, axis=0)
        layers.append(Band("permuted labels, 95 %", _x(spread), low, high))
    layers += _ceiling(data)
    layers += _curves(data, name)
    layers += _controls(data, name)
    return Panel(title, tuple(layers), _layer_axis(data), value_axis(data[name]))


def _ceiling(data: xr.Dataset) -> Iterator[Band]:
    """Yield how well any model could do, given how much repetitions agree."""
    bounds = [data.get(f"ceiling_{end}") for end in ("low", "high")]
    if any(bound is None or set(squeezed(bound, ("layer",)).dims) != {"layer"} for bound in bounds):
        return
    low, high = (squeezed(bound, ("layer",)) for bound in bounds if bound is not None)
    yield Band("noise ceiling", _x(low), low.to_numpy(), high.to_numpy())


def _curves(data: xr.Dataset, name: str) -> Iterator[Curve]:
    values = squeezed(data[name], keep=("layer",))
    bounds = [data.get(f"{name}_{end}") for end in ("low", "high")]
    filled = significant(data, name)
    for series, one in _series(values):
        low, high = (None if bound is None else _at(bound, series) for bound in bounds)
        solid = None if filled is None else _at(filled, series).astype(bool)
        title = _title(values, series) or name.replace("_", " ")
        yield Curve(title, _x(one), one.to_numpy(), low, high, solid)


def _controls(data: xr.Dataset, name: str) -> Iterator[Curve]:
    """Yield what the controls of a probe reach."""
    controls = data.get(f"control_{name}")
    if controls is None or "control" not in controls.dims:
        return
    controls = squeezed(controls, keep=("layer", "control"))
    if set(controls.dims) != {"layer", "control"}:
        return
    for control in controls["control"].to_numpy().tolist():
        one = controls.sel(control=control)
        yield Curve(control.replace("_", " "), _x(one), one.to_numpy(), role="control")


def _series(values: xr.DataArray) -> Iterator[tuple[dict[str, object], xr.DataArray]]:
    """Yield the values of each series, with its label."""
    others = [str(dim) for dim in values.dims if dim != "layer"]
    if not others:
        yield {}, values
        return
    (dim,) = others
    for one in values[dim].to_numpy().tolist():
        yield {dim: one}, values.sel({dim: one})


def _title(values: xr.DataArray, series: dict[str, object]) -> str:
    """Return the name of a series: its label, or what a position is called."""
    names = []
    for dim, one in series.items():
        place = values[dim].to_numpy().tolist().index(one)
        names.append(names_along(values, dim)[place])
    return " ".join(names)


def _at(data: xr.DataArray, series: dict[str, object]) -> Array:
    chosen = squeezed(data.sel(series) if series else data, keep=("layer",))
    return np.asarray(chosen.transpose("layer").to_numpy())


def _x(data: xr.DataArray) -> Array:
    return np.asarray(data["layer"].to_numpy(), dtype=np.float64)


def _layer_axis(data: xr.Dataset) -> Axis:
    layers = data["layer"].to_numpy().tolist()
    ticks = tuple((float(n), str(n)) for n in layers) if len(layers) <= 14 else None
    return Axis("layer", ticks=ticks, whole=True)


def value_axis(values: xr.DataArray) -> Axis:
    """Return an axis that does not mislead: shares run from 0 to 1, and 0 is in view of others."""
    share = values.attrs.get("units") == NATURAL and any(s in str(values.name) for s in SHARES)
    return Axis(label(values), limits=(0.0, 1.05) if share else (None, None), zero=not share)


def _sentence(data: xr.Dataset, names: Sequence[str]) -> str:
    """Return what the curves show; markers are filled where significant, and without a test."""
    meanings = (str(data[name].attrs.get("long_name", name)) for name in names)
    parts = [f"{capital('; '.join(dict.fromkeys(meanings)))}, at each layer."]
    if any(f"{name}_low" in data for name in names):
        parts.append("Shading: interval.")
    if any(null_of(data, name) is not None for name in names):
        parts.append("Grey band: the middle 95 % of what permuted labels give.")
    if "ceiling_low" in data:
        parts.append("Band above: noise ceiling.")
    if any(f"control_{name}" in data for name in names):
        parts.append("Broken lines: controls.")
    tested = [name for name in names if marks_mean(data, name)]
    if tested:
        of = "" if tested == list(names) else f" of {' and '.join(tested).replace('_', ' ')}"
        parts.append(f"Filled markers{of}: {marks_mean(data, tested[0])}.")
    return " ".join(parts)


def capital(text: str) -> str:
    """Return a text that begins a sentence."""
    return text[:1].upper() + text[1:]
