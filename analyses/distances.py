"""Squared distances between patterns on plain arrays: one matrix product, block by block.

An RDM is kept condensed: one number for each pair of stimuli i < j, in the order of
`scipy.spatial.distance.pdist`. Each metric is a squared distance between rows y_i of one matrix:

1. bring each pattern to y_i = (x_i - m_i) / l_i - c. The offset m_i and length l_i are those of
   the metric: mean and norm for a correlation (1 - r = |u_i - u_j|² / 2 for unit patterns u), 0
   and norm for a cosine, 0 and 1 for a distance. The common c, a mean over stimuli, moves no
   distance, but takes away what all patterns share, and with it most of the cancellation;
   where they share little, there is no c, and x need not be touched;
2. |y_i - y_j|² = |y_i|² + |y_j|² - 2 y_i·y_j, from one matrix product: of y, or without a c of
   x, less what the means contribute, units * m_i * m_j;
3. compute the pairs where that difference cancels again, directly.

Patterns larger than memory are read in blocks of stimuli, two at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, dsyrk

from patchclamp.analyses.moments import Form, moments
from patchclamp.analyses.pairs import BLOCK, row_start
from patchclamp.registry.errors import UndefinedError

CANCELLED = 1e-4
"""A squared distance below this share of |y_i|² + |y_j|² is computed again; above it, the
relative error of the Gram form stays under 1e-11."""

CHUNK = 32
"""Patterns whose moments are taken at a time, so that they stay in the processor's cache."""

FILLED = 64
"""Rows of products that become distances, or of some units that are centred, at a time."""

UNITS = 1024
"""Units that enter one matrix product: enough for its full speed, and few to make room for."""

REFERENCE = 16
"""Patterns whose mean is taken away from all; any reference would do, the nearer the better."""

APART = 0.01
"""Patterns whose variance about their mean is this share of their squares share little: of pairs
that are typical, none is so near that it must be computed again."""


@runtime_checkable
class Rows(Protocol):
    """Patterns (stimulus, unit) that are read when they are sliced: an array, or a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of stimuli and units."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]:
        """Return the patterns of some stimuli."""


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
            gram, means = _gram(first, second, reference)
            if first is second:
                own = np.diagonal(gram) - means * second.offset
                squared[second.rows] = np.where(second.length > 0, own, np.nan)
                np.fill_diagonal(gram, 0.0)  # no pair, so not to be taken for a near one
            _fill(result, (first, second), (gram, means, squared), form.factor)
    _refuse_overflow(result, int((~np.isnan(squared)).sum()))
    return result


def _reference(rows: Rows, form: Form) -> NDArray[np.float64] | None:
    """Return the mean of some patterns, each brought to the form of the metric: (unit,).

    None where patterns share so little that it need not be taken away.
    """
    step = -(-rows.shape[0] // REFERENCE)
    some = np.asarray(rows[::step], dtype=np.float64)
    some, offset, length = moments(some, form)
    good = length > 0
    formed = (some[good] - offset[good, None]) / length[good, None]
    mean = formed.sum(axis=0) / max(1, len(formed))
    squares = np.vecdot(formed, formed).mean() if len(formed) else 0.0
    return None if squares - mean @ mean >= APART * squares else np.asarray(mean)


def _read(rows: Rows, part: slice, form: Form) -> _Block:
    """Return some patterns with their moments; `UndefinedError` if they are not finite."""
    values = rows[part]
    offset, length = np.empty(len(values)), np.empty(len(values))
    for start in range(0, len(values), CHUNK):
        some = slice(start, start + CHUNK)
        chunk = np.asarray(values[some], dtype=np.float64)
        plain, offset[some], length[some] = moments(chunk, form)
        if plain is not chunk:
            values = np.array(values, dtype=np.float64)
            values[some] = plain
    _refuse(part.start, np.isnan(length), "{} with NaN or infinite values")
    return _Block(part.start, values, offset, length)


def _gram(
    first: _Block, second: _Block, reference: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return products of y, without 1 / l: (first, second), upper half if they are the same.

    With a reference y = x - m - l c. Without, they are those of x itself, and what is left to
    take away is the offset of the second times what comes with them, (first,).
    """
    n_units = first.values.shape[1]
    gram = np.empty((len(first.values), len(second.values)))
    bare = reference is None and all(map(_as_it_is, (first.values, second.values)))
    size = n_units if bare else UNITS  # some units at a time: no copy of all patterns is made
    # One room for all units of a block: fresh memory for each costs as much as filling it.
    room = np.empty(0 if bare else (len(first.values) + len(second.values)) * UNITS)
    ours, theirs = np.split(room, [len(first.values) * UNITS])
    for start in range(0, n_units, size):
        units, beta = slice(start, start + size), float(start > 0)
        left = first.values if bare else _centred(first, reference, units, ours)
        if first is second:
            dsyrk(1.0, left.T, trans=1, lower=1, beta=beta, c=gram.T, overwrite_c=1)
        else:
            right = second.values if bare else _centred(second, reference, units, theirs)
            dgemm(1.0, right.T, left.T, trans_a=1, beta=beta, c=gram.T, overwrite_c=1)
    return gram, first.offset * (n_units if reference is None else 0)


def _as_it_is(values: NDArray[np.floating]) -> bool:
    """Return whether a product can take values without a copy."""
    return values.dtype == np.float64 and values.flags.c_contiguous


def _centred(
    block: _Block,
    reference: NDArray[np.float64] | None,
    units: slice,
    room: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return some units of y, or without a reference of x, in room that is used again."""
    values = block.values[:, units]
    result = room[: values.size].reshape(values.shape)
    if reference is None:
        np.copyto(result, values)
        return result
    taken = np.stack([block.offset, block.length], axis=1)
    basis = np.stack([np.ones(len(reference[units])), reference[units]])
    for start in range(0, len(result), FILLED):
        rows = slice(start, start + FILLED)
        np.matmul(taken[rows], basis, out=result[rows])
        np.subtract(values[rows], result[rows], out=result[rows])
    return result


def _fill(
    result: NDArray[np.float64],
    blocks: tuple[_Block, _Block],
    products: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    factor: float,
) -> None:
    """Write the dissimilarities between two blocks, or within one, into a condensed RDM."""
    (first, second), (gram, means, squared) = blocks, products
    lengths = [np.where(block.length > 0, block.length, np.nan) for block in blocks]
    own, other = (
        factor * squared[block.rows] / length**2
        for block, length in zip(blocks, lengths, strict=True)
    )
    widest = np.fmax.reduce(other, initial=0.0)
    # What is added to each product: own + other, and what the means contribute, of rank 3.
    left = np.stack([own, np.ones(len(own)), 2 * factor * means / lengths[0]], axis=1)
    right = np.stack([np.ones(len(other)), other, second.offset / lengths[1]])
    for start in range(0, len(gram), FILLED):
        skip = start + 1 if second is first else 0
        rows = slice(start, start + FILLED)
        values = gram[rows, skip:]
        values *= (-2 * factor / lengths[0][rows])[:, None] * (1 / lengths[1][skip:])
        values += left[rows] @ right[:, skip:]
        near = np.fmin.reduce(values, axis=1, initial=np.inf) <= CANCELLED * (own[rows] + widest)
        for row in np.flatnonzero(near).tolist():
            past = row if second is first else 0  # before it is what no product was written to
            bound = CANCELLED * (other[skip + past :] + own[start + row])
            again = past + np.flatnonzero(values[row, past:] <= bound)
            if again.size:
                values[row, again] = factor * _direct(first, start + row, second, skip + again)
        number, n = first.start + start, len(squared)
        begin = row_start(number, n) + second.start + skip - number - 1
        for row, found in enumerate(values):
            some = found[row:] if second is first else found
            result[begin : begin + len(some)] = some
            begin += n - number - row - 1 if second is first else n - number - row - 2


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
    if np.isfinite(result.sum()):
        return  # so is each of them
    if np.count_nonzero(np.isfinite(result)) < defined * (defined - 1) // 2:
        raise UndefinedError("activations are too large to be squared: distances overflow")
