"""Squared distances between patterns on plain arrays: one matrix product, block by block.

An RDM is kept condensed: one number for each pair of stimuli i < j, in the order of
`scipy.spatial.distance.pdist`. Each metric is a squared distance between rows y_i of one matrix:

1. bring each pattern to y_i = (x_i - m_i) / l_i - c. The offset m_i and length l_i are those of
   the metric: mean and norm for a correlation (1 - r = |u_i - u_j|² / 2 for unit patterns u), 0
   and norm for a cosine, 0 and 1 for a distance. The common c, a mean over stimuli, moves no
   distance, but takes away what all patterns share, and with it most of the cancellation;
2. |y_i - y_j|² = |y_i|² + |y_j|² - 2 y_i·y_j, from one matrix product;
3. compute the pairs where that difference cancels again, directly.

Patterns larger than memory are read in blocks of stimuli, two at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, dsyrk

from patchclamp.analyses.pairs import BLOCK, row_start
from patchclamp.registry.errors import UndefinedError

CANCELLED = 1e-4
"""A squared distance below this share of |y_i|² + |y_j|² is computed again; above it, the
relative error of the Gram form stays under 1e-11."""

CONSTANT = 16 * np.finfo(np.float64).eps
"""Deviation per unit, as a share of a pattern's largest value, that centring leaves by rounding."""

PLAIN = 1e-280, 1e280
"""Between these a sum of squares has neither lost digits to underflow nor overflown."""

OWN = 0.1
"""A norm follows from sums, Σx² - n·mean², where that is at least this share of Σx²."""

CHUNK = 16
"""Patterns prepared at a time, so that they stay in the processor's cache."""

UNITS = 1024
"""Units that enter one matrix product: enough for its full speed, and few to make room for."""

REFERENCE = 16
"""Patterns whose mean is taken away from all; any reference would do, the nearer the better."""


@runtime_checkable
class Rows(Protocol):
    """Patterns (stimulus, unit) that are read when they are sliced: an array, or a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of stimuli and units."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]:
        """Return the patterns of some stimuli."""


@dataclass(frozen=True)
class Form:
    """What a metric takes from each pattern, and what a squared distance is multiplied by.

    `undefined` says which patterns it does not exist for.
    """

    centred: bool
    scaled: bool
    factor: float
    undefined: str = ""


@dataclass(frozen=True)
class _Block:
    """Patterns from row `start` on, with what each is centred by and divided by.

    A length of 0 means that a pattern has no direction.
    """

    start: int
    values: NDArray[np.floating]
    offset: NDArray[np.float64]
    length: NDArray[np.float64]

    @property
    def rows(self) -> slice:
        """Which rows of all."""
        return slice(self.start, self.start + len(self.values))


def squared_distances(
    rows: Rows, form: Form, *, leave_out: bool = False, block: int | None = None
) -> NDArray[np.float64]:
    """Return factor * |u_i - u_j|² of each pair, u being the patterns in the form of the metric.

    `rows`: (stimulus, unit); result: (pair,). A pattern without a direction raises
    `UndefinedError` with its row; with `leave_out` its pairs are NaN. NaN or infinity in a
    pattern, and distances that overflow, raise it in any case. `block` patterns are read at a
    time, None reads all; results differ by rounding only.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # refused by name
        return _squared_distances(rows, form, leave_out, block)


def _squared_distances(
    rows: Rows, form: Form, leave_out: bool, block: int | None
) -> NDArray[np.float64]:
    n = rows.shape[0]
    reference = _reference(rows, form)
    squared = np.full(n, np.nan)
    result = np.empty(n * (n - 1) // 2)
    size = n if block is None else max(1, block)
    for start in range(0, n, size):
        second = _read(rows, slice(start, start + size), form)
        if not leave_out:
            _refuse(second.start, second.length == 0, form.undefined)
        for other in (start, *range(0, start, size)):  # its own squares come first
            part = slice(other, other + size)
            first = second if other == start else _read(rows, part, form)
            gram = _gram(first, second, reference)
            if first is second:
                squared[second.rows] = np.where(second.length > 0, np.diagonal(gram), np.nan)
                np.fill_diagonal(gram, 0.0)  # no pair, so not to be taken for a near one
            _fill(result, (first, second), (gram, squared), form.factor)
    _refuse_overflow(result, int((~np.isnan(squared)).sum()))
    return result


def _reference(rows: Rows, form: Form) -> NDArray[np.float64]:
    """Return the mean of some patterns, each brought to the form of the metric: (unit,)."""
    step = -(-rows.shape[0] // REFERENCE)
    some = np.asarray(rows[::step], dtype=np.float64)
    some, offset, length = _moments(some, form)
    good = length > 0
    weight = 1 / (length[good] * max(1, int(good.sum())))
    return np.asarray(weight @ some[good] - weight @ offset[good])


def _read(rows: Rows, part: slice, form: Form) -> _Block:
    """Return some patterns with their moments; `UndefinedError` if they are not finite."""
    values = rows[part]
    offset, length = np.empty(len(values)), np.empty(len(values))
    for start in range(0, len(values), CHUNK):
        some = slice(start, start + CHUNK)
        chunk = np.asarray(values[some], dtype=np.float64)
        plain, offset[some], length[some] = _moments(chunk, form)
        if plain is not chunk:
            values = np.array(values, dtype=np.float64)
            values[some] = plain
    _refuse(part.start, np.isnan(length), "{} with NaN or infinite values")
    return _Block(part.start, values, offset, length)


def _gram(first: _Block, second: _Block, reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return products of y = x - m - l c, without 1 / l: (first, second), upper half if the same.

    Units are taken some at a time: then no copy of all patterns is made.
    """
    gram = np.zeros((len(first.values), len(second.values)))
    # One room for all units of a block: fresh memory for each costs as much as filling it.
    room = np.empty((len(first.values) + (0 if second is first else len(second.values))) * UNITS)
    ours, theirs = np.split(room, [len(first.values) * UNITS])
    for start in range(0, first.values.shape[1], UNITS):
        units = slice(start, start + UNITS)
        left = _centred(first, reference, units, ours)
        if first is second:
            dsyrk(1.0, left.T, trans=1, lower=1, beta=1.0, c=gram.T, overwrite_c=1)
        else:
            right = _centred(second, reference, units, theirs)
            dgemm(1.0, right.T, left.T, trans_a=1, beta=1.0, c=gram.T, overwrite_c=1)
    return gram


def _centred(
    block: _Block, reference: NDArray[np.float64], units: slice, room: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return some units of y, in room that is used again."""
    taken = np.stack([block.offset, block.length], axis=1)
    basis = np.stack([np.ones(len(reference[units])), reference[units]])
    result = room[: len(block.values) * basis.shape[1]].reshape(len(block.values), -1)
    for start in range(0, len(result), 4 * CHUNK):
        rows = slice(start, start + 4 * CHUNK)
        np.matmul(taken[rows], basis, out=result[rows])
        np.subtract(block.values[rows, units], result[rows], out=result[rows])
    return result


def _moments(
    values: NDArray[np.float64], form: Form
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return patterns with their offset and length: (stimulus, unit), (stimulus,), (stimulus,).

    The length is 0 for a pattern without a direction, NaN for one that is not finite. A pattern
    of extreme size comes back scaled by a power of two, where its length divides that out again.
    """
    units = values.shape[1]
    squares = np.vecdot(values, values)
    mean = np.vecdot(values, np.ones(units)) / units if form.centred else np.zeros(len(values))
    variance = squares - units * mean**2
    plain = (squares > PLAIN[0]) & (squares < PLAIN[1]) & (variance >= OWN * squares)
    length = np.sqrt(variance) if form.scaled else np.ones(len(values))
    if plain.all():
        return values, mean, length
    odd = np.flatnonzero(~plain)
    length[odd] = np.where(np.isfinite(values[odd]).all(axis=1), 1.0, np.nan)
    odd = odd[np.isfinite(length[odd])]
    if odd.size and form.scaled:
        values = values.copy()
        # A power of two scales without rounding, and keeps squares clear of over- and underflow.
        _, exponent = np.frexp(np.abs(values[odd]).max(axis=1, keepdims=True))
        values[odd] = np.ldexp(values[odd], -exponent)
        if form.centred:
            values[odd] -= values[odd].mean(axis=1, keepdims=True)
        mean[odd], norm = 0.0, np.linalg.norm(values[odd], axis=1)
        constant = norm <= (CONSTANT * math.sqrt(units) if form.centred else 0.0)
        length[odd] = np.where(constant, 0.0, norm)
    return values, mean, length


def _fill(
    result: NDArray[np.float64],
    blocks: tuple[_Block, _Block],
    products: tuple[NDArray[np.float64], NDArray[np.float64]],
    factor: float,
) -> None:
    """Write the dissimilarities between two blocks, or within one, into a condensed RDM."""
    (first, second), (gram, squared) = blocks, products
    lengths = [np.where(block.length > 0, block.length, np.nan) for block in blocks]
    own, other = (
        factor * squared[block.rows] / length**2
        for block, length in zip(blocks, lengths, strict=True)
    )
    widest = np.fmax.reduce(other, initial=0.0)
    for start in range(0, len(gram), CHUNK):
        skip = start + 1 if second is first else 0
        rows = slice(start, start + CHUNK)
        values = gram[rows, skip:]
        values *= 1 / lengths[1][skip:]
        values *= (-2 * factor / lengths[0][rows])[:, None]
        values += other[skip:]
        values += own[rows, None]
        near = np.fmin.reduce(values, axis=1, initial=np.inf) <= CANCELLED * (own[rows] + widest)
        for row in np.flatnonzero(near).tolist():
            again = np.flatnonzero(values[row] <= CANCELLED * (other[skip:] + own[start + row]))
            values[row, again] = factor * _direct(first, start + row, second, skip + again)
        for row in range(len(values)):
            number, past = first.start + start + row, row if second is first else 0
            begin = row_start(number, len(squared)) + second.start + skip + past - number - 1
            result[begin : begin + values.shape[1] - past] = values[row, past:]


def _direct(
    first: _Block, row: int, second: _Block, others: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the squared distance of one pattern from each of some others, unit by unit."""
    own = (first.values[row] - first.offset[row]) / first.length[row]
    result = np.empty(len(others))
    step = max(1, BLOCK // len(own))
    for start in range(0, len(others), step):
        some = others[start : start + step, None]
        difference = second.values[some[:, 0]] - second.offset[some]
        difference = difference / second.length[some] - own
        result[start : start + step] = np.vecdot(difference, difference)
    return result


def _refuse(start: int, wrong: NDArray[np.bool_], message: str) -> None:
    rows = tuple(int(row) + start for row in np.flatnonzero(wrong))
    if rows:
        count = "1 pattern" if len(rows) == 1 else f"{len(rows)} patterns"
        raise UndefinedError(message.format(count), where=rows)


def _refuse_overflow(result: NDArray[np.float64], defined: int) -> None:
    """Refuse values that are not finite, other than those of pairs that are left out."""
    if np.count_nonzero(np.isfinite(result)) < defined * (defined - 1) // 2:
        raise UndefinedError("activations are too large to be squared: distances overflow")
