"""Bars: the largest effects, methods side by side, and shares of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from patchclamp.engine.figures.curves import capital
from patchclamp.engine.figures.facts import (
    NATURAL,
    facts,
    label,
    marks_mean,
    p_of,
    significant,
    squeezed,
)
from patchclamp.engine.figures.sketch import (
    Array,
    Axis,
    Bars,
    Curve,
    Flags,
    Layer,
    Level,
    Panel,
    Points,
    Sketch,
)
from patchclamp.engine.figures.variables import each, headline, spread, unit_name

TOP = 15
"""Effects that are shown; the maps show all."""

BY = ("chosen_by",)
"""The dim of methods that are compared."""

PLACES = ("layer", "head", "kv_head", "neuron", "feature", "unit", "node", "position", "sender",
          "receiver")  # fmt: skip
"""Dims that say which part of a model an effect is of."""


def effect_bars(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the largest effects of an analysis, each with its interval, the largest on top.

    Solid bars are significant, or have an interval that excludes 0. Empty where nothing has heads
    or other parts.
    """
    numbers = dict.fromkeys((*headline(data), *(n for n in ("effect",) if n in data)))
    names = [n for n in numbers if {*_parts(data[n])} - {"layer", "position"}]
    if not names:
        return ()
    name = names[0]
    values = squeezed(data[name])
    if set(values.dims) != set(_parts(values)):
        return ()
    flat = values.stack(place=list(values.dims))
    order = np.argsort(-np.abs(flat.to_numpy()), kind="stable")
    order = order[np.isfinite(flat.to_numpy()[order])][:TOP]
    low, high = (_stacked(data, f"{name}_{end}", values.dims, order) for end in ("low", "high"))
    filled, meaning = _filled(data, name, (low, high), order)
    bars = Bars(
        tuple(unit_name(_scalar(flat, int(place))) for place in order),
        flat.to_numpy()[order], low, high, filled,
    )  # fmt: skip
    panel = Panel(name.replace("_", " "), (bars,), Axis(label(values)))
    sentence = (
        f"{capital(str(values.attrs.get('long_name', name)))}: the {len(order)} largest of "
        f"{flat.sizes['place']} by size.{meaning}"
    )
    title = f"Largest by {name.replace('_', ' ')}"
    return (Sketch(f"effect_bars-{name}", title, sentence, (panel,), facts(data, name)),)


def _parts(values: xr.DataArray) -> tuple[str, ...]:
    return tuple(dim for dim in PLACES if dim in values.dims)


def _scalar(flat: xr.DataArray, place: int) -> xr.DataArray:
    """Return one element with its labels as scalar coordinates."""
    labels = flat["place"].to_numpy()[place]
    names = [str(name) for name in flat.indexes["place"].names]
    return xr.DataArray(0.0, coords=dict(zip(names, labels, strict=True)))


def _stacked(data: xr.Dataset, name: str, dims: Sequence[object], order: Array) -> Array | None:
    if name not in data:
        return None
    flat = squeezed(data[name]).stack(place=list(dims))
    return np.asarray(flat.to_numpy()[order])


def _filled(
    data: xr.Dataset, name: str, bounds: tuple[Array | None, Array | None], order: Array
) -> tuple[Flags | None, str]:
    """Return which bars are solid, and what that means."""
    low, high = bounds
    interval = " Lines: interval." if low is not None else ""
    marked = significant(data, name)
    if marked is not None:
        flat = squeezed(marked).stack(place=list(squeezed(data[name]).dims))
        return flat.to_numpy()[order].astype(bool), f"{interval} Solid: {marks_mean(data, name)}."
    if low is not None and high is not None:
        return np.asarray((low > 0) | (high < 0)), f"{interval} Solid: the interval excludes 0."
    return None, ""


def method_comparison(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return methods side by side by what they reach on held-out data, the best on top.

    A panel for each variable over `chosen_by`, with its interval; `base_rate` is a level of
    accuracy. Where they are compared at several layers, the first variable has a panel for each.
    """
    names = [n for n in headline(data) if "chosen_by" in data[n].dims]
    if not names:
        return ()
    places = [title for title, _ in each(data[names[0]], BY)]
    wanted = [(name, "") for name in names]
    if len(places) > 1:
        wanted = [(names[0], place) for place in spread(places)]
    panels = tuple(_method_panel(data, *one) for one in wanted)
    first = data[names[0]]
    sentence = f"{capital(str(first.attrs.get('long_name', names[0])))}, by method, the best on top"
    of = f"{len(wanted)} of {len(places)}" if len(wanted) < len(places) else "all"
    sentence += f", at {of} places." if len(places) > 1 else "."
    if f"{names[0]}_low" in data:
        sentence += " Lines: interval."
    tested = next((name for name, _ in wanted if p_of(data, name)), names[0])
    if marks_mean(data, tested):
        sentence += f" Solid {tested.replace('_', ' ')}: {marks_mean(data, tested)}."
    title = "Methods compared on held-out data"
    return (Sketch("method_comparison", title, sentence, panels, facts(data, tested)),)


def _method_panel(data: xr.Dataset, name: str, place: str) -> Panel:
    values = _at(data[name], place)
    order = np.argsort(-values.to_numpy(), kind="stable")
    bounds = [data.get(f"{name}_{end}") for end in ("low", "high")]
    low, high = (None if b is None else _at(b, place).to_numpy()[order] for b in bounds)
    marked = significant(data, name)
    filled = None if marked is None else _at(marked, place).to_numpy()[order]
    names = tuple(str(m).replace("_", " ") for m in values["chosen_by"].to_numpy()[order])
    layers: list[Layer] = [Bars(names, values.to_numpy()[order], low, high, filled)]
    if name == "accuracy" and "base_rate" in data and data["base_rate"].ndim == 0:
        layers.append(Level("base rate", float(data["base_rate"])))
    share = values.attrs.get("units") == NATURAL
    axis = Axis(label(values), limits=(0.0, 1.0) if share else (None, None))
    return Panel(place or name.replace("_", " "), tuple(layers), axis)


def _at(values: xr.DataArray, place: str) -> xr.DataArray:
    """Return the values of all methods at a place, as `each` names it."""
    return dict(each(values, BY))[place]


def circuit_bars(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return how faithful each circuit is beside random ones of its size, and by size.

    `faithfulness([set], circuit)` as bars, `random_faithfulness([set], circuit, draw)` as points on
    them, a panel for each set; the same of `edge_faithfulness`; `curve(kept)` as a curve. Empty
    without `faithfulness`.
    """
    if "faithfulness" not in data or "circuit" not in data["faithfulness"].dims:
        return ()
    panels = [*_faithfulness(data, ""), *_faithfulness(data, "edge_")]
    if "curve" in data and data["curve"].dims == ("kept",):
        kept = data["kept"].to_numpy().astype(np.float64)
        curve = Curve("", kept, data["curve"].to_numpy())
        axes = (Axis("share of nodes that are kept", limits=(0.0, 1.02)), Axis("faithfulness"))
        panels.append(Panel("by size", (curve,), *axes))
    sentence = "What of the metric is left with only a circuit kept, by circuit."
    if "random_faithfulness" in data:
        sentence += " Points: random circuits of its size."
    return (Sketch("circuit_bars", "Faithfulness of circuits", sentence, tuple(panels),
                   facts(data, "faithfulness")),)  # fmt: skip


def _faithfulness(data: xr.Dataset, of: str) -> Iterator[Panel]:
    """Yield a panel for each set: circuits of nodes, or with only some edges between them."""
    name, random = f"{of}faithfulness", f"random_{of}faithfulness"
    if name not in data:
        return
    for title, values in each(data[name], ("circuit",)):
        names = tuple(map(str, values["circuit"].to_numpy()))
        layers: list[Layer] = [Bars(names, values.to_numpy())]
        if random in data:
            drawn = dict(each(data[random], ("circuit", "draw")))[title].to_numpy()
            rows = np.repeat(np.arange(len(names), dtype=np.float64), drawn.shape[1])
            layers.append(Points("random circuits of its size", drawn.ravel(), rows))
        words = " ".join(part for part in ("edges" if of else "", title) if part)
        yield Panel(words or "faithfulness", tuple(layers), Axis("faithfulness"))


def class_bars(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return headline numbers by class of stimuli, beside that of all: `x_by` over `class`."""
    names = [n for n in headline(data) if f"{n}_by" in data and data[f"{n}_by"].dims == ("class",)]
    panels = []
    for name in names:
        values = data[f"{name}_by"]
        low, high = (data.get(f"{name}_by_{end}") for end in ("low", "high"))
        bars = Bars(
            tuple(map(str, values["class"].to_numpy())), values.to_numpy(),
            None if low is None else low.to_numpy(), None if high is None else high.to_numpy(),
        )  # fmt: skip
        share = values.attrs.get("units") == NATURAL
        axis = Axis(label(data[name]), limits=(0.0, 1.02) if share else (None, None))
        level = Level("all stimuli", float(data[name]))
        panels.append(Panel(name.replace("_", " "), (bars, level), axis))
    if not panels:
        return ()
    meanings = (str(data[name].attrs.get("long_name", name)) for name in names)
    by = str(data.attrs.get("by", "class"))
    sentence = f"{capital('; '.join(meanings))}, by {by}. Lines: interval."
    facts_ = facts(data, f"{names[0]}_by")
    return (Sketch("class_bars", f"By {by}", sentence, tuple(panels), facts_),)


def share_bars(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return what a model answers: how often it chooses each option, beside how often it is right.

    `chosen_share` and `right_share` over `option`.
    """
    names = [n for n in ("chosen_share", "right_share", "option_accuracy") if n in data]
    if "chosen_share" not in names:
        return ()
    panels = []
    for name in names:
        values = data[name]
        bars = Bars(tuple(map(str, values["option"].to_numpy())), values.to_numpy())
        panels.append(Panel(name.replace("_", " "), (bars,), Axis("share", limits=(0.0, 1.0))))
    sentence = "How often each option is chosen, how often it is right, and how often the answer is"
    sentence += " right where it is. A model without a bias chooses each as often as it is right."
    facts_ = facts(data, "chosen_share")
    return (Sketch("share_bars", "What is answered", sentence, tuple(panels), facts_),)
