"""RDMs of time courses: one for each unit, a pattern being its values at a stimulus' positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.distances import CANCELLED
from patchclamp.analyses.moments import CONSTANT
from patchclamp.analyses.pairs import BLOCK
from patchclamp.registry.errors import UndefinedError

CACHED = 15 * 2**14
"""Numbers in the courses, or products, of units that are done at a time: they stay in the
processor's cache."""

ROWS = 25
"""Stimuli whose products with all others are done at a time."""


BUFFER = 256
"""Numbers in numpy's buffer while a row is broadcast."""


@contextmanager
def short_buffer() -> Iterator[None]:
    """Keep numpy from copying what is broadcast into its buffer, which takes as long again.

    It does so for rows of up to half of a buffer, which is 8,192 numbers unless it is set.
    """
    size = np.setbufsize(BUFFER)
    try:
        yield
    finally:
        np.setbufsize(size)


@dataclass(frozen=True)
class Courses:
    """Time courses (unit, stimulus, position) with stimuli in an `order`, taken as they are read.

    A capture has units last. Some units of it are read as they lie, before they are turned: each
    line of the processor's cache is then fetched once.
    """

    values: NDArray[np.floating]
    order: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of units, stimuli and positions."""
        units, _, positions = self.values.shape
        return units, len(self.order), positions

    def __getitem__(self, units: slice) -> NDArray[np.floating]:
        """Return the courses of some units."""
        some = self.values[units]
        if some.strides[0] < some.strides[2]:
            return some.transpose(1, 2, 0)[self.order].transpose(2, 0, 1)
        return some if (self.order[1:] > self.order[:-1]).all() else some[:, self.order]


@short_buffer()
def course_dissimilarities(
    courses: NDArray[np.floating] | Courses, *, leave_out: bool = False
) -> NDArray[np.float64]:
    """Return 1 - r of each pair of stimuli for each unit, r being Pearson's over positions.

    `courses`: (unit, stimulus, position), any units; result: (unit, pair), dimensionless, 0 to 2,
    equal to `dissimilarities` of each unit alone. A course that is constant, as a feature that a
    stimulus leaves silent, has no r: `UndefinedError` with the rows of such stimuli in the first
    unit that has any, or with `leave_out` NaN for their pairs.
    """
    units, n, positions = courses.shape
    result = np.empty((units, n * (n - 1) // 2))
    first, second = np.triu_indices(n, 1)
    place = _places(n)
    # Used again for every batch: fresh memory takes longer than what is done in it.
    batch = batch_of(n, positions)
    own, room = np.empty(positions * batch * n), np.empty((batch, _before(n, n)))
    for start in range(0, units, batch):
        rows = slice(start, start + batch)
        unit, constant = unit_courses(courses[rows], own)
        if not leave_out:
            _refuse(constant, "a correlation is undefined for {}, constant over positions")
        elif constant.any():
            unit[:, constant] = np.nan
        products = _products(unit, room[: unit.shape[1]])
        out = products.take(place, axis=1, out=result[rows], mode="clip")
        np.subtract(1.0, out, out=out)
        if np.fmin.reduce(out, axis=None, initial=np.inf) <= CANCELLED:
            which, pair = np.nonzero(out <= CANCELLED)
            step = max(1, BLOCK // positions)
            for begin in range(0, len(which), step):
                u, p = which[begin : begin + step], pair[begin : begin + step]
                difference = unit[:, u, first[p]] - unit[:, u, second[p]]
                out[u, p] = np.einsum("xp,xp->p", difference, difference) / 2
        if np.fmax.reduce(out, axis=None, initial=0.0) > 2:
            np.minimum(out, 2.0, out=out)  # opposite courses, but for rounding
    return result


def batch_of(n: int, positions: int) -> int:
    """Return how many units of so many stimuli and positions are done at a time."""
    return max(1, CACHED // max(1, n * max(n, positions)))


def _products(unit: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return inner products of some stimuli at a time with all from the first of them on.

    So nearly half of the work is left out: what they have with those before is known then.
    """
    _, units, n = unit.shape
    left, right = unit.transpose(1, 2, 0), unit.transpose(1, 0, 2)
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        some = room[:, _before(start, n) : _before(stop, n)].reshape(units, stop - start, -1)
        np.matmul(left[:, start:stop], right[:, :, start:], out=some)
    return room


def _before(row: int, n: int) -> int:
    """Return how many products of n stimuli come before those of a row that begins some rows."""
    return sum(min(ROWS, row - start) * (n - start) for start in range(0, row, ROWS))


def _places(n: int) -> NDArray[np.intp]:
    """Return where `_products` has each pair of stimuli: (pair,)."""
    first, second = np.triu_indices(n, 1)
    starts = np.arange(0, n, ROWS)
    before = np.array([_before(start, n) for start in starts.tolist()])
    strip = first // ROWS
    start = starts[strip]
    return np.asarray(before[strip] + (first - start) * (n - start) + second - start)


def unit_courses(
    courses: NDArray[np.floating], room: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return courses centred over positions, each of length 1, and which are constant.

    `courses`: (unit, stimulus, position), any units; results: (position, unit, stimulus), in
    `room`, and (unit, stimulus). Positions come first, so that every step runs over all courses
    at once, which is fastest in a `short_buffer`. A constant course becomes 0; one that is not
    finite raises `UndefinedError`.
    """
    *shape, positions = courses.shape
    unit = room[: courses.size].reshape(positions, *shape)
    np.copyto(unit, courses.transpose(2, 0, 1))
    values = unit.reshape(positions, -1)
    mean = np.full(positions, 1 / positions) @ values
    values -= mean
    length = np.sqrt(np.einsum("xc,xc->c", values, values))
    if not np.isfinite(length.sum()):
        _refuse(~np.isfinite(length).reshape(shape), "{} with NaN or infinite values")
    constant = length <= CONSTANT * math.sqrt(positions) * np.abs(mean)
    if constant.any():
        length[constant] = np.inf
    values *= np.reciprocal(length, out=length)
    return unit, constant.reshape(shape)


def _refuse(wrong: NDArray[np.bool_], message: str) -> None:
    units = np.flatnonzero(wrong.any(axis=1))
    if units.size:
        rows = tuple(np.flatnonzero(wrong[units[0]]).tolist())
        count = "1 pattern" if len(rows) == 1 else f"{len(rows)} patterns"
        raise UndefinedError(message.format(count), where=rows)
