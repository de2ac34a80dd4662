"""The RDMs of a capture, place by place, never holding more of it than memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.places import at_place, places, size
from patchclamp.analyses.precision import Noise, crossnobis, mahalanobis, shrunk_precision
from patchclamp.analyses.rdm import Metric, dissimilarities
from patchclamp.analyses.rsa_items import Items
from patchclamp.analyses.time_course import Courses, course_dissimilarities
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.rdms import Rdm

HELD = 2**24
"""Numbers of RDMs held at once (128 MiB)."""

COPIES = 4
"""A block of patterns is held as it is read, in order, and in part centred, as float64."""


@dataclass(frozen=True)
class Chunk:
    """RDMs of some places: `values` (place, pair), and where each is: labels by dim."""

    at: tuple[Mapping[str, int | str], ...]
    values: NDArray[np.float64]


def rdms(items: Items, how: Rdm, *, memory: int) -> Iterator[Chunk]:
    """Yield the RDMs of every place, some places at a time.

    Pairs are those of `items`. Errors are told with their place and stimuli. The capture is read
    a layer, a head, a position or a block of stimuli at a time, as `memory` (bytes) allows; RDMs
    themselves, which are smaller, are not counted.
    """
    pairs = len(items) * (len(items) - 1) // 2
    most = max(1, HELD // max(1, pairs))
    held: list[NDArray[np.float64]] = []
    at: list[Mapping[str, int | str]] = []
    names = list(items.names)
    for place in places(items.capture, rows=("stimulus",), memory=memory):
        source = PlaceRows(place.values.variable, items.capture.order[items.rows])
        held.append(at_place(place, names, lambda s=source: _rdm(s, items, how, memory)))  # type: ignore[misc]
        at.append(place.at)
        if len(held) == most:
            yield Chunk(tuple(at), np.stack(held))
            held, at = [], []
    if held:
        yield Chunk(tuple(at), np.stack(held))


@dataclass(frozen=True)
class PlaceRows:
    """Patterns of one place that are read when they are sliced: (stimulus, unit)."""

    values: xr.Variable
    order: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of stimuli and units."""
        return len(self.order), self.values.sizes[str(self.values.dims[-1])]

    def __getitem__(self, rows: slice) -> NDArray[np.floating]:
        """Return the patterns of some stimuli."""
        return np.asarray(self.values.isel(stimulus=self.order[rows]).to_numpy())


def _rdm(source: PlaceRows, items: Items, how: Rdm, memory: int) -> NDArray[np.float64]:
    n, units = source.shape
    leave_out = how.missing == "leave_out"
    block = memory // (2 * COPIES * 8 * units)
    if how.metric in ("mahalanobis", "crossnobis"):
        return _weighed(source, items, how, memory)
    metric = cast("Metric", how.metric)
    if items.averaged is None:
        fits = None if block >= n else max(2, block)
        return dissimilarities(source, metric=metric, leave_out=leave_out, block=fits)
    _need(8 * COPIES * units * len(items), memory, f"the means of {len(items)} values")
    means = _means(source, items.member, len(items), max(1, block))
    return dissimilarities(means, metric=metric, leave_out=leave_out)


def _means(source: PlaceRows, member: NDArray[np.intp], n: int, block: int) -> NDArray[np.float64]:
    """Return the mean pattern of each item, reading some stimuli at a time: (item, unit)."""
    total = np.zeros((n, source.shape[1]))
    for start in range(0, source.shape[0], block):
        rows = slice(start, start + block)
        np.add.at(total, member[rows], np.asarray(source[rows], dtype=np.float64))
    return np.asarray(total / np.bincount(member, minlength=n)[:, None])


def _weighed(source: PlaceRows, items: Items, how: Rdm, memory: int) -> NDArray[np.float64]:
    """Return distances weighed by noise, which is estimated from repeats within each cell."""
    n, units = source.shape
    _need(8 * COPIES * units * n, memory, f"{n} patterns with their noise")
    patterns = np.asarray(source[:], dtype=np.float64)
    if how.metric == "mahalanobis":
        means, residuals = _cells(patterns, items.member, len(items))
        precision = shrunk_precision(residuals, n - len(items), _noise(how, n - len(items)))
        return mahalanobis(means, precision)
    folds = items.capture.labels(str(how.folds))
    fold = folds.codes[items.rows]
    k = len(folds.classes)
    cell = items.member * k + fold
    _need_every_cell(items, folds.classes, cell, str(how.folds))
    means, residuals = _cells(patterns, cell, len(items) * k)
    dof = n - len(items) * k
    precision = shrunk_precision(residuals, dof, _noise(how, dof))
    return crossnobis(means.reshape(len(items), k, units).transpose(1, 0, 2), precision)


def _cells(
    patterns: NDArray[np.float64], cell: NDArray[np.intp], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean pattern of each cell, and what is left of each pattern."""
    total = np.zeros((n, patterns.shape[1]))
    np.add.at(total, cell, patterns)
    means = total / np.bincount(cell, minlength=n)[:, None]
    return means, patterns - means[cell]


def _noise(how: Rdm, dof: int) -> Noise:
    assert how.noise is not None, "the grammar fills it in"
    if how.noise != "none" and dof < 1:
        raise AnalysisError(
            f"'noise: {how.noise}' needs several stimuli in each cell, whose differences are noise "
            f"alone; there is one for each value of {how.average_by!r}"
            + (f" and {how.folds!r}" if how.folds else "")
            + ": give repeats, or set rdm.noise to 'none'"
        )
    return how.noise


def _need_every_cell(
    items: Items, classes: tuple[str, ...], cell: NDArray[np.intp], folds: str
) -> None:
    missing = np.setdiff1d(np.arange(len(items) * len(classes)), cell)
    if missing.size:
        item, fold = divmod(int(missing[0]), len(classes))
        raise AnalysisError(
            f"crossnobis needs every value of {items.averaged!r} in every fold: "
            f"{items.names[item]!r} has no stimulus with {folds} {classes[fold]!r} "
            f"({len(missing)} of {len(items) * len(classes)} cells are empty)"
        )


def _need(needed: int, memory: int, what: str) -> None:
    if needed > memory:
        raise AnalysisError(
            f"{what} need {size(needed)} at once, and run.budget.memory allows {size(memory)}: "
            "allow more, or take fewer stimuli"
        )


def course_rdms(items: Items, how: Rdm, *, memory: int) -> Iterator[Chunk]:
    """Yield the RDM of every unit, its patterns being time courses, some units at a time.

    As `rdms`, with the unit as one more label of each place.
    """
    names = list(items.names)
    order = items.capture.order[items.rows]
    pairs = len(items) * (len(items) - 1) // 2
    for place in places(items.capture, rows=("stimulus", "position"), memory=memory):
        dim = str(place.values.dims[-1])
        n_units, positions = place.values.sizes[dim], place.values.sizes["position"]
        most = min(HELD // max(1, pairs), memory // (8 * COPIES * positions * len(order)))
        for start in range(0, n_units, max(1, most)):
            some = place.values.isel({dim: slice(start, start + max(1, most))})
            values = Courses(some.to_numpy().transpose(2, 0, 1), order)
            found = at_place(place, names, lambda v=values: _course_rdms(v, items, how))  # type: ignore[misc]
            labels = some[dim].values.tolist()
            yield Chunk(tuple({**place.at, dim: label} for label in labels), found)


def _course_rdms(courses: Courses, items: Items, how: Rdm) -> NDArray[np.float64]:
    """Return RDMs (unit, pair) of courses (unit, stimulus, position)."""
    if items.averaged is not None:
        weights = np.zeros((len(items), len(items.member)))
        weights[items.member, np.arange(len(items.member))] = 1
        means = (weights / weights.sum(axis=1, keepdims=True)) @ courses[:].astype(np.float64)
        courses = Courses(means, np.arange(len(items)))
    leave_out = how.missing == "leave_out"
    if how.metric == "correlation":
        return course_dissimilarities(courses, leave_out=leave_out)
    assert how.metric not in ("mahalanobis", "crossnobis"), "the grammar refuses it"
    metric = cast("Metric", how.metric)
    return np.stack([dissimilarities(c, metric=metric, leave_out=leave_out) for c in courses[:]])
