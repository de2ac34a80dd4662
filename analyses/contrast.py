"""Univariate maps: the difference of class means, or a factorial design, unit by unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from patchclamp.analyses.cell_means import (
    Array,
    Effects,
    between_items,
    permuted_between,
    permuted_within,
    within_items,
)
from patchclamp.analyses.context import Context
from patchclamp.analyses.contrast_design import Design, make_design
from patchclamp.analyses.patterns import FEATURES, Variables, meaning
from patchclamp.analyses.permutation import description, p_fdr, p_largest, permuted_labels
from patchclamp.analyses.places import SHARE, Place, at_place, place_dims, places
from patchclamp.analyses.readings import CaptureReading, ModelShape, Readings
from patchclamp.analyses.splits import Part
from patchclamp.specs.analyses_representation import Contrast

WORDS = {
    "difference": ("activation", "difference of cell means"),
    "t": ("1", "difference over its standard error (Welch, or paired within groups)"),
    "df": ("1", "degrees of freedom of t"),
    "p": ("1", "two-sided p of t, each unit alone"),
    "d": ("1", "difference over the root mean variance of the cells (Cohen's d)"),
    "d_low": ("1", "d, lower end of its 95 % interval"),
    "d_high": ("1", "d, upper end of its 95 % interval"),
}
"""Units and meaning of what is said of each unit."""


@dataclass(frozen=True)
class Map:
    """What is found at one place: effects, and the largest |t| of each permutation."""

    effects: Effects
    largest: Array | None


def readings(entry: Contrast, shape: ModelShape) -> Readings:
    """Return what a contrast needs measured: its capture."""
    del shape
    assert entry.of is not None, "the loader fills in `of`"
    return {"of": CaptureReading(entry.of)}


def analyse(entry: Contrast, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Return how class means differ, for each unit at each place.

    `data["of"]`: `activation(stimulus, layer, [head], position, unit or channel)` in any order of
    dims, with label coordinates on stimulus and, unless stimuli are independent, `group`. With
    `factors` all variables have a dim `effect` first: each factor, and `first:second`, the
    difference of differences.

    * `difference`, first class minus second, in units of activation, `t`, `df`, and `p`,
      two-sided;
    * `d`, standardised, with `d_low` and `d_high`, a 95 % interval;
    * `p_fdr`, adjusted over all places and units of an effect (Benjamini & Hochberg), or with
      `correct: max` `p_max`, from the largest |t| over all of them under permuted labels;
    * `order`, the place of a unit by |t| among the units of its place, 1 the largest.

    What is independent are groups. Where each holds one cell of the design, their means are the
    items; where each holds all, their differences are. Any other design is refused: then only
    some groups can tell a difference within them, and pooling them with the rest needs a model.
    A unit in which nothing varies has no t: NaN, last in order, and no part in a correction.

    A cell of fewer than 2 items, and a class or column that does not exist, raise
    `AnalysisError`; activations that are not finite raise `UndefinedError`.
    """
    design = make_design(entry, data["of"])
    labellings = _labellings(entry, design, context)
    with threadpool_limits(limits=1):  # same rounding and no contention on any number of cores
        maps = [
            at_place(place, design.ids, partial(_map, design, place, labellings, context.memory))
            for place in places(design.capture, rows=("stimulus",), memory=context.memory)
        ]
    return _result(entry, design, maps, labellings)


def _labellings(entry: Contrast, design: Design, context: Context) -> NDArray[np.int64] | None:
    """Return permuted cells of the items, or of the stimuli of items that have both."""
    if entry.test is None:
        return None
    rng = context.seeds.generator("permutation")
    return permuted_labels(design.exchanged, design.blocks, entry.test.n, rng)


def _map(design: Design, place: Place, labellings: NDArray[np.int64] | None, memory: int) -> Map:
    """Return the map of one place, block by block of its units."""
    n = len(design.rows) + (0 if labellings is None else 4 * len(labellings))
    step = max(1, memory // (8 * SHARE * n))
    found, largest = [], []
    for start in range(0, place.shape[1], step):
        values = Part(place, design.rows).block(start, start + step)
        if design.within:
            found.append(within_items(design.item_cells(values), design.weights))
        else:
            found.append(between_items(design.items(values), design.cells, design.weights))
        if labellings is not None:
            t = np.abs(_permuted(design, values, labellings))
            largest.append(np.fmax.reduce(t, axis=1, initial=-np.inf))
    joined = {
        name: np.concatenate([getattr(part, name) for part in found], axis=-1)
        for name in Effects.__dataclass_fields__
    }
    return Map(Effects(**joined), np.max(largest, axis=0) if largest else None)


def _permuted(design: Design, values: Array, labellings: NDArray[np.int64]) -> Array:
    if not design.within:
        return permuted_between(design.items(values), labellings)
    members = [np.flatnonzero(design.item == item) for item in range(design.n_items)]
    parts, labels = [values[rows] for rows in members], [labellings[:, rows] for rows in members]
    return permuted_within(parts, labels)


def _result(
    entry: Contrast, design: Design, maps: list[Map], labellings: NDArray[np.int64] | None
) -> xr.Dataset:
    """Return the maps as one labelled dataset."""
    capture = design.capture
    (units,) = (str(d) for d in capture.data["activation"].dims if d in FEATURES)
    dims = ("effect", *place_dims(capture), units)
    sizes = [capture.data.sizes[dim] for dim in dims[1:-1]]

    def stacked(name: str) -> Array:
        values = np.stack([getattr(m.effects, name) for m in maps], axis=1)
        return values.reshape(len(values), *sizes, -1)

    fields = dict(zip(("psi", *list(WORDS)[1:]), WORDS, strict=True))
    found = {name: stacked(field) for field, name in fields.items()}
    variables: Variables = {
        name: (dims, values, meaning(*WORDS[name], f"contrast_{name}/1"))
        for name, values in found.items()
    }
    variables |= _corrected(entry, dims, found, [m.largest for m in maps])
    order = np.argsort(np.argsort(-np.abs(found["t"]), axis=-1, kind="stable"), axis=-1) + 1
    words = f"place of the {units} by |t| at its place, 1 the largest"
    variables["order"] = (dims, order, meaning("1", words, "contrast_order/1"))
    attrs = _attributes(entry, design, found["t"])
    if labellings is not None:
        attrs |= {"permuted": str(entry.column), "tail": "two-sided"}
        attrs |= description(design.exchanged, design.blocks, len(labellings))
    coords: dict[str, ArrayLike] = {"effect": list(design.effects)}
    result = capture.result(variables, coords, attrs)
    return result if entry.factors else result.squeeze("effect", drop=True)


def _corrected(
    entry: Contrast, dims: tuple[str, ...], found: Mapping[str, Array], largest: list[Array | None]
) -> Variables:
    """Return p corrected over all places and units, effect by effect."""
    if entry.correct == "fdr":
        adjusted = np.stack([p_fdr(p) for p in found["p"]])
        words = "p adjusted for the false discovery rate over all places and units"
        return {"p_fdr": (dims, adjusted, meaning("1", words, "p_fdr/1"))}
    if entry.correct == "max":
        null = np.max([one for one in largest if one is not None], axis=0)
        p = p_largest(np.abs(found["t"]), null)
        words = "permutation p, corrected over all places and units by the maximum of |t|"
        return {"p_max": (dims, p, meaning("1", words, "permutation_p_max/1"))}
    return {}


def _attributes(entry: Contrast, design: Design, t: Array) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {
        "design": "within groups" if design.within else "between",
        "test": "Welch t" if not design.within else "t of differences within groups",
        "interval": "95 % of d (Bonett 2008)",
        "n_stimuli": len(design.rows),
        "n_groups": design.n_items,
        "n_undefined": int(np.isnan(t).sum()),
        "first": ", ".join(design.first),
        "second": ", ".join(design.second),
    }
    return found
