"""Points: stimuli in a plane, estimates against exact values, and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import xarray as xr

from patchclamp.engine.figures.curves import SERIES, capital
from patchclamp.engine.figures.facts import facts, label
from patchclamp.engine.figures.names import ROOM
from patchclamp.engine.figures.sketch import Axis, Band, Curve, Panel, Points, Sketch
from patchclamp.engine.figures.variables import each, spanning, spread

PLANES = ("mds", "pca")
"""Variables that place stimuli in a plane, over `component`; the analysis computes them."""

NAMED = 12
"""Points that are named, the largest; more names would cover the points."""


def stimulus_maps(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return stimuli in the plane that an analysis placed them in, a panel for each layer.

    `mds` or `pca` (stimulus, component, [layer]); colours and forms are the classes of the label
    that the analysis is about. All panels have the same limits. Empty where no plane was computed.
    """
    sketches = []
    for name in PLANES:
        if name not in data or not {"stimulus", "component"} <= set(data[name].dims):
            continue
        values = data[name]
        if f"{name}_share" in data:
            values = values.assign_coords(share=data[f"{name}_share"])
        panels = [
            _plane(data, one, title) for title, one in each(values, ("stimulus", "component"))
        ]
        sentence = f"{capital(str(values.attrs.get('long_name', name)))}: each point is a stimulus."
        if name == "mds":
            sentence += " Distances can be read, directions cannot; axes say how much of them "
            sentence += "they show."
        title = f"Stimuli in a plane ({name.upper()})"
        shown = spread(panels)
        sketches.append(Sketch(f"stimulus_maps-{name}", title, sentence, shown, facts(data, name)))
    return tuple(sketches)


def _plane(data: xr.Dataset, values: xr.DataArray, title: str) -> Panel:
    whole = data[str(values.name)]
    reach = 1.05 * float(np.nanmax(np.abs(whole.to_numpy()))) or 1.0
    classes, groups = _classes(data)
    layers = []
    for group in classes:
        chosen = groups == group
        x, y = (values.isel(component=number).to_numpy()[chosen] for number in (0, 1))
        layers.append(Points(str(group), x, y))
    axes = [
        Axis(f"component {number}{_share(values, number - 1)}", limits=(-reach, reach))
        for number in (1, 2)
    ]
    return Panel(title, tuple(layers), *axes)


def _share(values: xr.DataArray, component: int) -> str:
    """Return how much of the distances a component holds, where that is known."""
    share = values.coords.get("share")
    return "" if share is None else f" ({100 * share.to_numpy()[component]:.0f} %)"


def _classes(data: xr.Dataset) -> tuple[list[str], np.ndarray]:
    """Return the classes of stimuli, and that of each; one where no label has few enough."""
    for attr in ("permuted", "target", "by"):
        column = str(data.attrs.get(attr, ""))
        if column in data.coords and data.coords[column].dims == ("stimulus",):
            labels = data.coords[column].to_numpy().astype(str)
            classes = sorted(set(labels.tolist()))
            if len(classes) <= SERIES:
                return classes, labels
    return [""], np.full(data.sizes["stimulus"], "")


def estimates(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return estimated effects against exact ones, for the parts that were verified.

    `score` and `exact` over one dim; names are those of the coordinate `node`. What was not
    verified has no point. On the diagonal both are equal.
    """
    if not {"exact", "score"} <= set(data.data_vars) or data["score"].dims != data["exact"].dims:
        return ()
    exact, estimate = (data[name].to_numpy().ravel() for name in ("exact", "score"))
    both = np.isfinite(exact) & np.isfinite(estimate)
    if not both.any():
        return ()
    reach = ROOM * float(np.abs(np.concatenate([exact[both], estimate[both]])).max()) or 1.0
    order = np.argsort(-np.abs(exact[both]), kind="stable")
    x, y = exact[both][order], estimate[both][order]
    nodes = np.array(_names(data["exact"]))[both][order]
    names = tuple(str(node) if number < NAMED else "" for number, node in enumerate(nodes))
    ends = np.array([-reach, reach])
    layers = (Curve("equal", ends, ends, role="muted"), Points("", x, y, names))
    axes = [Axis(label(data[n]), limits=(-reach, reach)) for n in ("exact", "score")]
    sentence = f"Estimated against exact effects of {int(both.sum())} parts, each patched. On the "
    sentence += "broken line both are equal."
    panel = Panel("estimate and exact value", layers, *axes)
    return (Sketch("estimates", "Estimates verified", sentence, (panel,), facts(data, "exact")),)


def _names(values: xr.DataArray) -> list[str]:
    """Return what each place is called: a node, or the ends of an edge."""
    labels = (values[dim].to_numpy().astype(str).tolist() for dim in values.dims)
    return [" → ".join(ends) for ends in product(*labels)]


def calibration_curve(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return how often answers are right by confidence: `bin_confidence`, `bin_accuracy` (bin).

    On the diagonal confidence is what it says; bins without stimuli have no point.
    """
    names = ("bin_confidence", "bin_accuracy")
    if any(name not in data or data[name].dims != ("bin",) for name in names):
        return ()
    confidence, accuracy = (data[name].to_numpy() for name in names)
    there = np.isfinite(confidence) & np.isfinite(accuracy)
    ends = np.array([0.0, 1.0])
    number = data["bin_count"].to_numpy()[there] if "bin_count" in data else ()
    layers = (
        Curve("calibrated", ends, ends, role="muted"),
        Curve("answers", confidence[there], accuracy[there]),
        Points("", confidence[there], accuracy[there], tuple(f"{n:g}" for n in number)),
    )
    whole = (-0.02, 1.02)  # a point at the end is seen as a whole
    axes = (Axis("mean confidence", limits=whole), Axis("share right", limits=whole))
    panel = Panel("calibration", layers, *axes)
    sentence = "How often the chosen answer is right, by how confident the model is of it."
    sentence += " Numbers: stimuli in each bin." if len(number) else ""
    return (Sketch("calibration", "Calibration", sentence, (panel,), facts(data, names[1])),)


def dose_curves(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return an outcome over the dose of interventions, a curve for each.

    Every headline variable over `dose` and at most one small dim, with its interval. Where controls
    were drawn, `control_x` over `control` and `draw` beside its dims, each intervention has a panel
    of its own, with all draws of each control as a band.
    """
    panels = []
    names = list(spanning(data, ("dose",))) if "dose" in data.dims else []
    for name in names:
        curves = tuple(_doses(data, name))
        bands = dict(_drawn(data, name))
        axes = _dose_axis(data), Axis(label(data[name]), zero=True)
        if not bands:
            panels.append(Panel(name.replace("_", " "), curves, *axes))
        for curve in curves if bands else ():
            panels.append(Panel(curve.label, (*bands.get(curve.label, ()), curve), *axes))
    if not panels:
        return ()
    meanings = (str(data[name].attrs.get("long_name", name)) for name in names)
    sentence = f"{capital('; '.join(dict.fromkeys(meanings)))}, by dose."
    if any(f"{name}_low" in data for name in names):
        sentence += " Shading or line: interval."
    if any(isinstance(layer, Band) for panel in panels for layer in panel.layers):
        sentence += " Grey: all draws of each control."
    sketch = Sketch("dose_curves", "Effect by dose", sentence, tuple(panels), facts(data, names[0]))
    return (sketch,)


def _dose_axis(data: xr.Dataset) -> Axis:
    doses = data["dose"].to_numpy().astype(np.float64)
    few = tuple((float(dose), f"{dose:g}") for dose in doses) if len(doses) <= SERIES else None
    return Axis("dose", ticks=few)


def _drawn(data: xr.Dataset, name: str) -> Iterator[tuple[str, tuple[Band, ...]]]:
    """Yield, for each condition, what its controls reach at each dose, from lowest to highest."""
    controls = data.get(f"control_{name}")
    if controls is None or not {"condition", "dose", "control", "draw"} <= set(controls.dims):
        return
    ends = [controls.min("draw"), controls.max("draw")]
    x = data["dose"].to_numpy().astype(np.float64)
    for condition in controls["condition"].to_numpy().tolist():
        bands = []
        for control in controls["control"].to_numpy().tolist():
            low, high = (e.sel(condition=condition, control=control).to_numpy() for e in ends)
            if np.isfinite(low).any():
                bands.append(Band(str(control).replace("_", " "), x, low, high))
        yield str(condition), tuple(bands)


def _doses(data: xr.Dataset, name: str) -> Iterator[Curve]:
    bounds = [data.get(f"{name}_{end}") for end in ("low", "high")]
    for title, one in each(data[name], ("dose",)):
        low, high = (
            None if bound is None else dict(each(bound, ("dose",)))[title].to_numpy()
            for bound in bounds
        )  # fmt: skip
        x = one["dose"].to_numpy().astype(np.float64)
        yield Curve(title.partition(" ")[2] or name.replace("_", " "), x, one.to_numpy(), low, high)
