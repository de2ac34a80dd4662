"""Kernels: a training part and a test part of patterns, standardised, as linear read-outs see them.

A read-out with an L2 penalty depends on patterns only through their inner products, so where
there are more units than training stimuli it is found among combinations of the training
patterns: weights over stimuli in place of weights over units. Inner products add up over blocks
of units, so that patterns are never held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.linalg.blas import dgemm, dsyrk

from patchclamp.registry.errors import UndefinedError

Array = NDArray[np.float64]

BLOCK = 1 << 24
"""Numbers in the units that are read at once: 128 MB in float64."""

CACHED = 1 << 17
"""Numbers of a block that are worked on at once: 1 MB in float64, which caches hold."""

CONSTANT = 1e-12
"""A unit whose standard deviation is this share of its largest value is constant in training;
what is left is rounding."""

RANK = 1e-12
"""Directions with less than this share of the largest variance are rounding: left out."""


class Patterns(Protocol):
    """What patterns must offer: their shape, and blocks of units. An array does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of stimuli and of units."""

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[np.floating]:
        """Return all stimuli of a block of units."""


@dataclass(frozen=True)
class Part:
    """Some rows of patterns."""

    patterns: Patterns
    rows: NDArray[np.intp]

    def block(self, start: int, stop: int) -> Array:
        """Return (stimulus, unit) of a block of units; `UndefinedError` where it is not finite."""
        return self.taken(self.patterns[:, start:stop])

    def taken(self, values: NDArray[np.floating]) -> Array:
        """Return these rows of all patterns' values; `UndefinedError` where they are not finite."""
        found = np.asarray(values, dtype=np.float64)[self.rows]
        finite = np.atleast_1d(np.isfinite(found).all(axis=1))
        if not finite.all():
            wrong = self.rows[~finite]
            raise UndefinedError(
                f"{wrong.size} of {len(finite)} patterns hold NaN or infinite values",
                where=tuple(int(row) for row in wrong),
            )
        return found


@dataclass(frozen=True)
class Split:
    """Training and test patterns in the columns that weights are given to.

    `train` (training stimulus, column) and `test` (test stimulus, column), dimensionless. The
    columns are units, or, where `dual`, training stimuli: an entry is then the inner product
    with that stimulus' pattern. Centred on the training part either way.
    """

    train: Array
    test: Array
    dual: bool

    def toward(self, rows: Array) -> Array:
        """Return the column weights of sums over training patterns; `rows`: (stimulus, ...)."""
        return rows if self.dual else np.tensordot(self.train.T, rows, axes=1)

    def gram(self) -> Array:
        """Return the inner products of the training patterns: (stimulus, stimulus)."""
        return self.train if self.dual else self.train @ self.train.T

    def inside(self, train: NDArray[np.intp], test: NDArray[np.intp]) -> Split:
        """Return a split of the training part, by its row numbers, centred anew.

        Units keep the scale that they have in the whole training part: what lies outside of it
        has no say either way.
        """
        if not self.dual:
            centre = self.train[train].mean(axis=0)
            return Split(self.train[train] - centre, self.train[test] - centre, dual=False)
        inner, cross = self.train[np.ix_(train, train)], self.train[np.ix_(test, train)]
        means = inner.mean(axis=0)
        return Split(
            inner - means - means[:, None] + means.mean(),
            cross - cross.mean(axis=1, keepdims=True) - means + means.mean(),
            dual=True,
        )

    @cached_property
    def axes(self) -> tuple[Array, Array]:
        """Return principal axes of the training part as column weights, and their variances.

        (column, axis) and (axis,): `train @ axes` has orthogonal columns whose squared lengths
        are the second. Axes without variance are left out.
        """
        if self.dual:
            variances, vectors = eigh(self.train, driver="evd")
        else:
            variances, vectors = eigh(self.train.T @ self.train, driver="evd")
        kept = variances > RANK * max(variances[-1], np.finfo(float).tiny)
        variances, vectors = variances[kept], vectors[:, kept]
        return (vectors / np.sqrt(variances) if self.dual else vectors), variances


def check_finite(patterns: Patterns, *, block: int = BLOCK) -> None:
    """Raise `UndefinedError` with the rows of patterns that are not finite."""
    part = Part(patterns, np.arange(patterns.shape[0]))
    step = max(1, block // max(1, patterns.shape[0]))
    for start in range(0, patterns.shape[1], step):
        part.block(start, start + step)


def whole(patterns: Patterns) -> Array:
    """Return patterns as one array: (stimulus, unit)."""
    return np.asarray(patterns[slice(None), slice(0, patterns.shape[1])], dtype=np.float64)


def make_split(
    train: Part, test: Part, *, scale: bool = True, units: bool = False, block: int = BLOCK
) -> Split:
    """Return a split whose patterns are centred, and scaled, by the training part.

    Both parts: (stimulus, unit), any units, read in blocks of `block` numbers. `scale` divides
    each unit by its standard deviation (ddof 0); a unit that is constant in training becomes 0.
    `units` keeps the units as columns even where stimuli are fewer. Patterns that are not finite
    raise `UndefinedError` with their rows.

    >>> x = np.array([[0.0, 5.0, 1.0], [2.0, 5.0, 1.0], [4.0, 5.0, 9.0]])
    >>> s = make_split(Part(x, np.array([0, 1])), Part(x, np.array([2])))
    >>> s.train.tolist(), s.test.tolist()
    ([[1.0, -1.0], [-1.0, 1.0]], [[-3.0, 3.0]])
    """
    n_train, n_test, n_units = len(train.rows), len(test.rows), train.patterns.shape[1]
    dual = n_train <= n_units and not units
    if not dual:
        blocks = list(_blocks(train, test, scale=scale, step=n_units))
        x, y = (np.concatenate([block[side] for block in blocks], axis=1) for side in (1, 2))
        return Split(x, y, dual=False)
    inner = np.zeros((n_train, n_train), order="F")
    cross = np.zeros((n_train, n_test), order="F")
    for _, x, y, _ in _blocks(train, test, scale=scale, step=_step(train, test, block)):
        # Added in place, and of the symmetric product one half only.
        inner = dsyrk(1.0, x.T, beta=1.0, c=inner, trans=1, lower=1, overwrite_c=1)
        if n_test:
            cross = dgemm(1.0, x.T, y.T, beta=1.0, c=cross, trans_a=1, overwrite_c=1)
    inner = np.tril(inner)
    return Split(inner + np.tril(inner, -1).T, np.ascontiguousarray(cross.T), dual=True)


def unit_weights(
    train: Part, weights: Array, *, dual: bool, scale: bool = True, block: int = BLOCK
) -> tuple[Array, Array]:
    """Return weights over columns of a split as weights over units, and what is then added.

    `weights`: (column, ...); result: (unit, ...), per unit of activation, and (...): with them
    weights · pattern + offset is the decision, but for the read-out's own intercept.
    """
    found, offset = [], np.zeros(weights.shape[1:])
    nobody = Part(train.patterns, train.rows[:0])
    step = _step(train, nobody, block)
    for start, x, _, (mean, deviation) in _blocks(train, nobody, scale=scale, step=step):
        part = x.T @ weights if dual else weights[start : start + x.shape[1]]
        found.append(part / deviation.reshape(-1, *[1] * (part.ndim - 1)))
        offset -= np.tensordot(mean, found[-1], axes=1)
    return np.concatenate(found), offset


def _step(train: Part, test: Part, block: int) -> int:
    return max(1, block // max(1, len(train.rows) + len(test.rows)))


def _blocks(
    train: Part, test: Part, *, scale: bool, step: int
) -> Iterator[tuple[int, Array, Array, tuple[Array, Array]]]:
    """Yield the first unit of each block, both parts standardised, and by what.

    `step` units are read at once, and worked on in blocks that stay in the processor's cache.
    """
    both = Part(train.patterns, np.concatenate([train.rows, test.rows]))
    same, n = train.patterns is test.patterns, len(train.rows)
    inside = max(1, CACHED // max(1, len(both.rows)))
    for start in range(0, train.patterns.shape[1], step):
        ours = np.asarray(train.patterns[:, start : start + step])
        theirs = ours if same else np.asarray(test.patterns[:, start : start + step])
        for first in range(0, ours.shape[1], inside):
            some = slice(first, first + inside)
            if same:
                x, y = np.split(both.taken(ours[:, some]), [n])
            else:
                x, y = train.taken(ours[:, some]), test.taken(theirs[:, some])
            yield start + first, *_standardised(x, y, scale=scale)


def _standardised(x: Array, y: Array, *, scale: bool) -> tuple[Array, Array, tuple[Array, Array]]:
    """Return both parts standardised by the first, and by what."""
    largest = np.maximum(x.max(axis=0, initial=0), -x.min(axis=0, initial=0))
    mean = x.mean(axis=0)
    x, y = x - mean, y - mean
    deviation = np.ones(len(mean))
    if scale:
        deviation = np.sqrt(np.einsum("su,su->u", x, x) / len(x))
        deviation = np.where(deviation > CONSTANT * largest, deviation, np.inf)
        x, y = x * (1 / deviation), y * (1 / deviation)
    return x, y, (mean, deviation)
