"""Sums of Fisher z over sets of pairs of time courses, with few logarithms.

The mean similarity of a set of pairs needs no z of its own for each pair:

    sum of z = sum of ln((1 + r) / (1 - r)) / 2 = ln(product of (1 + r) / (1 - r)) / 2,

so that one logarithm serves as many pairs as a product holds without overflow. It is the same
number but for rounding. Labels that are exchanged a thousand times need each pair's z, and
`course_dissimilarities`; a choice that is not tested, or a score, needs these sums alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.rdm import IDENTICAL, fisher_z
from patchclamp.analyses.time_course import (
    ROWS,
    Courses,
    batch_of,
    course_dissimilarities,
    short_buffer,
    unit_courses,
)
from patchclamp.registry.errors import UndefinedError

NEAR = 1e-4
"""A unit with a pair this close to |r| = 1 is done pair by pair: there 1 - r loses digits. Of
others the factors, NEAR to 2, have a product over ROWS of them that stays far from overflow."""

Array = NDArray[np.float64]


def course_similarities(courses: NDArray[np.floating]) -> Array:
    """Return Fisher z of each pair of stimuli by the time course of each unit.

    `courses`: (unit, stimulus, position), any units; result: (unit, pair), in Fisher z. NaN in all
    pairs of a stimulus whose course is constant, as where a feature is silent, and in a pair
    whose courses are multiples of each other, whose z is infinite.
    """
    d = course_dissimilarities(courses, leave_out=True)
    d[(d < IDENTICAL) | (d > 2 - IDENTICAL)] = np.nan
    return fisher_z(dissimilarity=d, out=d)


@short_buffer()
def course_sums(
    courses: NDArray[np.floating],
    cells: NDArray[np.int64],
    *,
    wanted: NDArray[np.bool_] | None = None,
) -> Array:
    """Return the sum of `course_similarities` over pairs of stimuli of two cells, for each unit.

    `courses`: (unit, stimulus, position), any units; `cells`: (stimulus,), numbers from 0 without
    a gap; result: (unit, cell, cell), the lower triangle 0, in Fisher z. A pair without a z makes
    the sums of its cells NaN, and a constant course all of its cell, even where it has no pair.
    Sums that are not `wanted`, (cell, cell), are 0 where they are not NaN. Activations that are
    not finite raise `UndefinedError`.
    """
    units, n, positions = courses.shape
    order, count = np.argsort(cells, kind="stable"), int(cells.max()) + 1
    ordered = Courses(courses, order)
    asked = np.ones((count, count), bool) if wanted is None else wanted
    result = np.zeros((units, count, count))
    batch, strips = batch_of(n, positions), _strips(cells[order], asked)
    own, room = np.empty((positions + 1) * batch * n), np.empty(ROWS * batch * n)
    for start in range(0, units, batch):
        some = ordered[start : start + batch]
        try:
            unit, constant = unit_courses(some, own)
        except UndefinedError as error:
            raise UndefinedError(str(error), where=tuple(order[[*error.where]].tolist())) from error
        # One more position, 1 in all courses: their products are then 1 + r.
        unit = own[: unit.size + constant.size].reshape(positions + 1, *constant.shape)
        unit[-1] = 1.0
        out, near = result[start : start + batch], np.zeros(len(some), dtype=bool)
        for strip in strips:
            near |= _add_strip(out, unit, strip, room)
        if near.any():
            out[near] = _pair_by_pair(some[near], cells[order], count)
        for which, stimulus in np.argwhere(constant) if constant.any() else ():
            cell = cells[order[stimulus]]
            out[which, cell, cell:] = out[which, : cell + 1, cell] = np.nan
    return result


@dataclass(frozen=True)
class _Strip:
    """Rows `start` to `stop`, all of one `cell`, and whether any of its sums is `wanted`.

    `columns`: where this cell and each later one begin, counted from the first row.
    """

    start: int
    stop: int
    cell: int
    wanted: bool
    columns: NDArray[np.intp]


def _strips(cells: NDArray[np.int64], wanted: NDArray[np.bool_]) -> list[_Strip]:
    """Return all rows in order, as few at a time as their products may have; `cells` are sorted."""
    strips, ends = [], np.searchsorted(cells, np.arange(len(wanted)), side="right")
    for cell, (begin, end) in enumerate(pairwise([0, *ends.tolist()])):
        some = bool(wanted[cell, cell:].any())
        bounds = np.linspace(begin, end, -(-(end - begin) // ROWS) + 1).astype(int).tolist()
        for start, stop in pairwise(bounds):
            columns = np.append(start, ends[cell:-1]) - start
            strips.append(_Strip(start, stop, cell, some, columns))
    return strips


def _add_strip(out: Array, unit: Array, strip: _Strip, room: Array) -> NDArray[np.bool_]:
    """Add the pairs of some rows with all rows from the first of them on; return who is near 1.

    `out` (unit, cell, cell); `unit` (position, unit, stimulus), in the order of cells.
    """
    rows, units, columns = strip.stop - strip.start, unit.shape[1], unit.shape[2] - strip.start
    factor = room[: rows * units * columns].reshape(rows, units, columns)
    left, right = unit[:, :, strip.start : strip.stop], unit[:, :, strip.start :]
    np.matmul(left.transpose(1, 2, 0), right.transpose(1, 0, 2), out=factor.transpose(1, 0, 2))
    np.einsum("iui->iu", factor[:, :, :rows])[...] = 1.0  # no pair: r as if 0
    if not strip.wanted:
        return _near(factor)
    above = np.multiply.reduce(factor, axis=0)
    below = np.multiply.reduce(np.subtract(2.0, factor, out=factor), axis=0)
    near = np.zeros(units, dtype=bool)
    # Products of 1 - r², each at most 1: where one is below 2 NEAR, so is the whole.
    if (above * below).min() < 2 * NEAR:
        near = _near(factor)
        above[near] = below[near] = 1.0
    z = np.log(np.divide(above, below, out=above), out=above)
    z[:, :rows] /= 2  # among themselves each pair came twice
    out[:, strip.cell, strip.cell :] += np.add.reduceat(z, strip.columns, axis=1) / 2
    return near


def _near(factor: Array) -> NDArray[np.bool_]:
    """Return which units have a pair near |r| = 1, from 1 + r or 1 - r: (row, unit, column)."""
    if factor.max() <= 2 - NEAR and factor.min() >= NEAR:
        return np.zeros(factor.shape[1], dtype=bool)
    return np.asarray((np.abs(factor - 1) > 1 - NEAR).any(axis=(0, 2)))


def _pair_by_pair(courses: NDArray[np.floating], cells: NDArray[np.int64], n: int) -> Array:
    """Return `course_sums` from each pair's own z; `cells` are sorted."""
    z = course_similarities(courses)
    first, second = np.triu_indices(len(cells), 1)
    pair = cells[first] * n + cells[second]
    order = np.argsort(pair, kind="stable")
    found, begins = np.unique(pair[order], return_index=True)
    result = np.zeros((len(z), n * n))
    result[:, found] = np.add.reduceat(z[:, order], begins, axis=1)
    return result.reshape(-1, n, n)
