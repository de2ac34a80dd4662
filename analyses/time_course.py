"""RDMs of time courses: one for each unit, a pattern being its values at a stimulus' positions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dger

from patchclamp.analyses.distances import CANCELLED, CONSTANT
from patchclamp.analyses.pairs import BLOCK
from patchclamp.registry.errors import UndefinedError

BATCH = 8
"""Units done at a time: their patterns and products stay in the processor's cache."""


def course_dissimilarities(
    courses: NDArray[np.floating], *, leave_out: bool = False
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
    half = n // 2
    place = _places(n, half)
    # Used again for every batch: fresh memory takes longer than what is done in it.
    own, turned = np.empty((BATCH, n, positions)), np.empty((BATCH, positions, n))
    room = np.empty((BATCH, half * n + (n - half) ** 2))
    for start in range(0, units, BATCH):
        rows = slice(start, start + BATCH)
        unit = _unit_courses(courses[rows], own[: len(courses[rows])], leave_out)
        np.copyto(turned[: len(unit)], unit.transpose(0, 2, 1))
        products = _products(unit, turned[: len(unit)], room[: len(unit)])
        out = products.take(place, axis=1, out=result[rows], mode="clip")
        np.subtract(1.0, out, out=out)
        if np.fmin.reduce(out, axis=None, initial=np.inf) <= CANCELLED:
            which, pair = np.nonzero(out <= CANCELLED)
            step = max(1, BLOCK // positions)
            for begin in range(0, len(which), step):
                u, p = which[begin : begin + step], pair[begin : begin + step]
                difference = unit[u, first[p]] - unit[u, second[p]]
                out[u, p] = np.vecdot(difference, difference) / 2
        if np.fmax.reduce(out, axis=None, initial=0.0) > 2:
            np.minimum(out, 2.0, out=out)  # opposite courses, but for rounding
    return result


def _products(
    unit: NDArray[np.float64], turned: NDArray[np.float64], room: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return inner products of a first half of stimuli with all, and of the rest with themselves.

    So a quarter of the work is left out: what the rest has with the first half is known then.
    """
    units, n, _ = unit.shape
    half = n // 2
    above, below = room[:, : half * n], room[:, half * n :]
    np.matmul(unit[:, :half], turned, out=above.reshape(units, half, n))
    np.matmul(unit[:, half:], turned[:, :, half:], out=below.reshape(units, n - half, n - half))
    return room


def _places(n: int, half: int) -> NDArray[np.intp]:
    """Return where `_products` has each pair of stimuli: (pair,)."""
    first, second = np.triu_indices(n, 1)
    below = half * n + (first - half) * (n - half) + second - half
    return np.where(first < half, first * n + second, below)


def _unit_courses(
    courses: NDArray[np.floating], room: NDArray[np.float64], leave_out: bool
) -> NDArray[np.float64]:
    """Return courses centred over positions, each of length 1, in a room of their shape.

    NaN for one that is constant.
    """
    shape, positions = courses.shape, courses.shape[2]
    np.copyto(room, courses)
    values = room.reshape(-1, positions)
    mean = values @ np.full(positions, 1 / positions)
    # In place, and without a loop over courses: they are short.
    dger(-1.0, np.ones(positions), mean, a=values.T, overwrite_a=1)
    length = np.sqrt(np.vecdot(values, values))
    if not np.isfinite(length).all():
        _refuse(~np.isfinite(length).reshape(shape[:2]), "{} with NaN or infinite values")
    constant = length <= CONSTANT * math.sqrt(positions) * np.abs(mean)
    if constant.any():
        if not leave_out:
            message = "a correlation is undefined for {}, constant over positions"
            _refuse(constant.reshape(shape[:2]), message)
        length = np.where(constant, np.nan, length)
    values *= (1 / length)[:, None]
    return room


def _refuse(wrong: NDArray[np.bool_], message: str) -> None:
    units = np.flatnonzero(wrong.any(axis=1))
    if units.size:
        rows = tuple(np.flatnonzero(wrong[units[0]]).tolist())
        count = "1 pattern" if len(rows) == 1 else f"{len(rows)} patterns"
        raise UndefinedError(message.format(count), where=rows)
