"""Maps: values by layer and head, or by layer and position, and dissimilarity matrices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from patchclamp.engine.figures.curves import SERIES, capital
from patchclamp.engine.figures.facts import facts, label, marks_mean, scale_of, significant
from patchclamp.engine.figures.sketch import Array, Axis, Flags, Matrix, Panel, Scale, Sketch
from patchclamp.engine.figures.variables import (
    HEADS,
    each,
    headline,
    names_along,
    spanning,
    spread,
    upwards,
)

WRITTEN = 60
"""Most cells of a map whose numbers are written into them."""

UNITS = ("unit", "neuron", "channel", "feature")

COLUMNS = 512
"""Most units that are drawn side by side."""

STIMULI = 400
"""Most stimuli of an RDM that is drawn cell by cell."""


def head_maps(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the headline numbers of an analysis by layer and head, dots where significant.

    Panels of one variable share their colours. Nodes that are heads, such as L4H10, stand at their
    layer and head; others are left out. Empty where no number has heads.
    """
    data = _by_head(data)
    heads = next((dim for dim in HEADS if dim in data.dims), None)
    if heads is None or "layer" not in data.dims:
        return ()
    return tuple(
        maps(data, name, ("layer", heads), "head_maps") for name in spanning(data, ("layer", heads))
    )


def _by_head(data: xr.Dataset) -> xr.Dataset:
    """Return the headline numbers of nodes by layer and head; data without such nodes as it is."""
    if "node" not in data.dims or {"layer", "head"} & set(data.dims):
        return data
    found = [re.fullmatch(r"L(\d+)H(\d+)", str(node)) for node in data["node"].to_numpy()]
    if not any(found):
        return data
    names = [name for name in headline(data) if "node" in data[name].dims]
    if not names:
        return data
    heads = data[names].isel(node=np.flatnonzero(np.array([bool(one) for one in found])))
    places = [tuple(map(int, one.groups())) for one in found if one]
    heads = heads.drop_vars("node").assign_coords(
        layer=("node", [layer for layer, _ in places]), head=("node", [head for _, head in places])
    )
    return heads.set_index(node=["layer", "head"]).unstack("node")


def path_maps(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the headline numbers of an analysis by sender and receiver of paths."""
    dims = ("sender", "receiver")
    if not set(dims) <= set(data.dims):
        return ()
    return tuple(maps(data, name, dims, "path_maps") for name in spanning(data, dims))


def unit_maps(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the first headline number of an analysis by layer and unit, neuron or channel.

    Empty where there are more units than columns can be told apart.
    """
    dim = next((dim for dim in UNITS if 1 < data.sizes.get(dim, 0) <= COLUMNS), None)
    if dim is None or "layer" not in data.dims:
        return ()
    names = list(spanning(data, ("layer", dim)))[:1]
    return tuple(maps(data, name, ("layer", dim), "unit_maps") for name in names)


def position_maps(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the headline numbers of an analysis by layer and position.

    A position is named by what the spec calls it, or by its token where all stimuli share it. Empty
    where there are so few positions without a name that curves show them.
    """
    named = {"position_name", "position_token", "token_text"} & set(data.coords)
    least = 1 if named else SERIES
    if data.sizes.get("position", 0) <= least or "layer" not in data.dims:
        return ()
    dims = ("layer", "position")
    return tuple(maps(data, name, dims, "position_maps") for name in spanning(data, dims))


def maps(data: xr.Dataset, name: str, dims: tuple[str, str], kind: str) -> Sketch:
    """Return a number by two dims, a panel for each label of the others, evenly spread if many."""
    values, scale = data[name], _scale(data, name)
    marked = significant(data, name)
    panels = []
    for title, one in each(values, dims):
        marks = None
        if marked is not None:
            here = dict(each(marked, dims))[title]
            marks = upwards(here).to_numpy().astype(bool)
        panels.append(
            Panel(title or name.replace("_", " "), (_matrix(one, scale, marks),), *_axes(dims))
        )
    place = " and ".join(dims)
    sentence = f"{capital(str(values.attrs.get('long_name', name)))}, by {place}."
    shown = spread(panels)
    if len(panels) > len(shown):
        sentence += f" {len(shown)} of {len(panels)} panels."
    if len(panels) > 1:
        sentence += " All panels share their colours."
    if marks_mean(data, name):
        sentence += f" Dots: {marks_mean(data, name)}."
    title = f"{name.replace('_', ' ')} by {place}"
    return Sketch(f"{kind}-{name}", title, sentence, shown, facts(data, name))


def _scale(data: xr.Dataset, name: str) -> Scale:
    values = data[name]
    return scale_of(values.to_numpy(), label(values), unit=str(values.attrs.get("units")))


def _matrix(values: xr.DataArray, scale: Scale, marks: Flags | None = None) -> Matrix:
    values = upwards(values)
    rows, columns = map(str, values.dims)
    numbers = values.to_numpy().astype(np.float64)
    return Matrix(
        numbers,
        names_along(values, rows),
        names_along(values, columns),
        scale,
        marks,
        _text(numbers),
    )


def _text(numbers: Array) -> tuple[tuple[str, ...], ...] | None:
    """Return the numbers of a small map to be written into it."""
    if numbers.size > WRITTEN:
        return None
    largest = float(np.nanmax(np.abs(numbers), initial=0.0))
    digits = 2 if largest < 10 else 1 if largest < 100 else 0
    return tuple(
        tuple(_written(x, digits) if np.isfinite(x) else "" for x in row) for row in numbers
    )


def _written(value: float, digits: int) -> str:
    """Return a number with a minus, which 0 has not."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−" if float(text) else "")


def _axes(dims: Sequence[str]) -> tuple[Axis, Axis]:
    return Axis(dims[1].replace("_", " ")), Axis(dims[0].replace("_", " "))


def layer_pairs(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return numbers of each layer with each layer of another capture: second-order RSA."""
    if "model_layer" not in data.dims:
        return ()
    dims = ("layer", "model_layer")
    return tuple(maps(data, name, dims, "layer_pairs") for name in spanning(data, dims))


def rdm_images(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the RDMs of an analysis beside its model RDMs, stimuli in the order of their labels.

    `rdm([layer], stimulus, other)` and `model_rdms(model_rdm, stimulus, other)`, where `other` is
    the stimuli again. Empty where they were not kept.
    """
    if "rdm" not in data or "other" not in data["rdm"].dims:
        return ()
    order, column = _by_label(data)
    if len(order) > STIMULI:
        return ()
    names = _class_names(data, order, column)
    panels = [
        *spread(list(_rdm_panels(data["rdm"], order, "layer", names))),
        *spread(list(_rdm_panels(data.get("model_rdms"), order, "model_rdm", names))),
    ]
    sentence = f"{capital(str(data['rdm'].attrs.get('long_name', 'dissimilarity')))}, by pair of "
    sentence += "stimuli" + (f", in the order of {column}." if column else ".")
    if "model_rdms" in data:
        sentence += " Model RDMs stand last, each with colours of its own."
    title = "Representational dissimilarity"
    return (Sketch("rdm_images", title, sentence, tuple(panels), facts(data, "rdm")),)


def _by_label(data: xr.Dataset) -> tuple[np.ndarray, str | None]:
    """Return the order of stimuli by the label that the analysis is about, and its name."""
    column = next(
        (
            str(data.attrs[a])
            for a in ("permuted", "target", "by")
            if data.attrs.get(a) in data.coords
        ),
        None,
    )
    labels = data[column].to_numpy() if column else np.arange(data.sizes["stimulus"])
    return np.argsort(labels, kind="stable"), column


def _class_names(data: xr.Dataset, order: np.ndarray, column: str | None) -> tuple[str, ...]:
    """Return the name of each class at its middle stimulus, and nothing at the others."""
    names = [""] * len(order)
    if column is not None:
        labels = data[column].to_numpy()[order]
        for label in dict.fromkeys(labels.tolist()):
            at = np.flatnonzero(labels == label)
            names[int(at[len(at) // 2])] = str(label)
    return tuple(names)


def _rdm_panels(
    values: xr.DataArray | None, order: np.ndarray, dim: str, names: tuple[str, ...]
) -> Iterator[Panel]:
    """Yield a panel for each label of a dim; RDMs of the data share their colours."""
    if values is None:
        return
    shared = None
    if dim == "layer":
        meaning = str(values.attrs.get("long_name", values.name))
        shared = scale_of(values.to_numpy(), meaning, signed=False)
    for title, one in each(values, ("stimulus", "other")):
        matrix = one.to_numpy().astype(np.float64)[np.ix_(order, order)]
        scale = shared or scale_of(matrix, "model dissimilarity", signed=False)
        drawn = Matrix(matrix, names, names, scale, square=True)
        alone = (
            f"{dim.replace('_', ' ')} {values[dim].item()}" if values.sizes.get(dim) == 1 else ""
        )
        yield Panel(title or alone or "RDM", (drawn,), Axis("stimulus"), Axis("stimulus"))
