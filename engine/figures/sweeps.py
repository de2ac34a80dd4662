"""Sweeps: numbers over models and their checkpoints, as maps by layer or as curves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from patchclamp.engine.figures.curves import SERIES, capital, value_axis
from patchclamp.engine.figures.facts import facts, squeezed
from patchclamp.engine.figures.maps import maps
from patchclamp.engine.figures.sketch import Axis, Curve, Panel, Sketch
from patchclamp.engine.figures.variables import HEADS, each, headline, in_order, spanning
from patchclamp.engine.store import sweep_dims


def sweep_panels(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return headline numbers over models and their checkpoints: a panel for each model.

    Columns are revisions in the order of their steps, rows layers; layers that a model lacks are
    gaps. All panels share their colours. Numbers without layers are curves over the steps, one for
    each model. Empty where nothing is swept, or where curves by layer say it better.
    """
    along = _along(data)
    if along is None:
        return ()
    data = data.sel({along: in_order(data[along].to_numpy().tolist())})
    swept = [dim for dim in sweep_dims(data.dims) if data.sizes[dim] > 1]
    if "layer" not in data.dims:
        return _sweep_curves(data, along)
    if len(swept) == 1 and data.sizes[along] <= SERIES:
        return ()  # curves, one for each, say it better
    dims = ("layer", along)
    names = (name for name in spanning(data, dims) if not set(HEADS) & set(data[name].dims))
    return tuple(maps(data, name, dims, "sweep_panels") for name in names)  # heads have maps


def _along(data: xr.Dataset) -> str | None:
    """Return the dim that stands across: the steps of training, or what is swept innermost."""
    swept = [dim for dim in sweep_dims(data.dims) if data.sizes[dim] > 1]
    return ("revision" if "revision" in swept else swept[-1]) if swept else None


def _sweep_curves(data: xr.Dataset, along: str) -> tuple[Sketch, ...]:
    """Return the headline numbers that have nothing but what is swept, a panel for each."""
    swept = set(sweep_dims(data.dims))
    names = [n for n in headline(data) if {along} <= set(data[n].dims) <= swept]
    panels = []
    for name in names:
        curves = tuple(_curves(data, name, along))
        if len(curves) <= SERIES:
            steps = enumerate(map(str, data[along].to_numpy().tolist()))
            axis = Axis(along, ticks=tuple((float(i), text) for i, text in steps))
            panels.append(Panel(name.replace("_", " "), curves, axis, value_axis(data[name])))
    if not panels:
        return ()
    meanings = (str(data[name].attrs.get("long_name", name)) for name in names)
    sentence = f"{capital('; '.join(dict.fromkeys(meanings)))}, by {along}."
    if any(f"{name}_low" in data for name in names):
        sentence += " Shading: interval."
    title = f"{', '.join(name.replace('_', ' ') for name in names)} by {along}"
    return (Sketch("sweep_panels", title, sentence, tuple(panels), facts(data, names[0])),)


def _curves(data: xr.Dataset, name: str, along: str) -> Iterator[Curve]:
    bounds = [data.get(f"{name}_{end}") for end in ("low", "high")]
    for title, one in each(squeezed(data[name], (along,)), (along,)):
        low, high = (
            None if bound is None else dict(each(bound, (along,)))[title].to_numpy()
            for bound in bounds
        )
        x = np.arange(one.sizes[along], dtype=np.float64)
        yield Curve(title or name.replace("_", " "), x, one.to_numpy(), low, high)
