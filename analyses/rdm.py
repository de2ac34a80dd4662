"""Kernels of representational similarity on plain arrays: RDMs, Fisher z, and comparing RDMs.

An RDM is kept condensed: one number for each pair of stimuli i < j, in the order of
`scipy.spatial.distance.pdist`. Its values come from one matrix product:

1. centre each pattern over units and give it unit length, so that 1 - r = |u_i - u_j|² / 2;
2. subtract the mean of the unit patterns over stimuli, which moves no distance but takes away
   the offset that all patterns share, and with it most of the cancellation;
3. |u_i - u_j|² = g_ii + g_jj - 2 g_ij from the Gram matrix g;
4. compute the pairs where that difference cancels again, directly.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.registry.errors import UndefinedError

TIE = 1e-12
"""Values closer than this share of the largest are tied; a vector that varies less is constant.
A Gram matrix errs by about 1e-15, so equal dissimilarities come out different by that much."""

CANCELLED = 1e-4
"""A squared distance below this share of g_ii + g_jj is computed again; above it, the relative
error of the Gram form stays under 1e-11."""

IDENTICAL = 1e-10
"""Within this of |r| = 1, z is rounding: activations of one float32 forward pass differ by about
1e-5 of their scale between batches, which moves 1 - r by half the square of that."""

CONSTANT = 16 * np.finfo(np.float64).eps
"""Deviation per unit, as a share of a pattern's largest value, that centring leaves by rounding."""

BLOCK = 2**22
"""Numbers in a temporary array (32 MiB of float64)."""


def dissimilarities(patterns: ArrayLike) -> NDArray[np.float64]:
    """Return 1 - r of each pair of patterns, r being Pearson's over units.

    `patterns`: (stimulus, unit), any units; result: (pair,), dimensionless, 0 to 2. Exact
    duplicates give 0. A pattern that is constant has no r, and one with NaN or infinity no
    value at all: `UndefinedError` with their rows. Method: see the top of this module;
    Kriegeskorte, Mur & Bandettini 2008, doi:10.3389/neuro.06.004.2008.

    >>> dissimilarities([[1, 2, 3], [2, 4, 6], [3, 2, 1]]).round(6)
    array([0., 2., 2.])
    """
    unit = _unit_patterns(patterns)
    centred = unit - unit.mean(axis=0)
    gram = centred @ centred.T
    lengths = np.diagonal(gram)
    first, second = np.triu_indices(len(unit), 1)
    scale = lengths[first] + lengths[second]
    squared = scale - 2 * gram[first, second]
    again = np.flatnonzero(squared <= CANCELLED * scale)
    step = max(1, BLOCK // unit.shape[1])
    for start in range(0, len(again), step):
        pair = again[start : start + step]
        difference = unit[first[pair]] - unit[second[pair]]
        squared[pair] = np.einsum("pu,pu->p", difference, difference)
    return np.asarray(np.clip(squared / 2, 0.0, 2.0), dtype=np.float64)


def correlations(patterns: ArrayLike) -> NDArray[np.float64]:
    """Return Pearson's r over units of each pair of patterns: 1 - `dissimilarities`.

    `patterns`: (stimulus, unit); result: (pair,), dimensionless, -1 to 1. Errors as there.

    >>> correlations([[1, 2, 3], [2, 4, 6], [3, 2, 1]]).round(6)
    array([ 1., -1., -1.])
    """
    return 1.0 - dissimilarities(patterns)


def fisher_z(*, dissimilarity: ArrayLike) -> NDArray[np.float64]:
    """Return Fisher's z = arctanh(r) of each pair, from its `dissimilarity` d = 1 - r.

    `dissimilarity`: (pair,), dimensionless; result: (pair,), in Fisher z, where sampling error
    depends little on r: z = ln((2 - d) / d) / 2. It is the z of r, never of 1 - r; the argument
    must be named, so that neither is taken for the other. It takes d because a stored r has lost
    what sets near-duplicates apart. A pair with d or 2 - d below 1e-10 is refused, not clipped:
    its z would be rounding error, and one such pair can carry a mean. It raises
    `UndefinedError` with the two rows of the first. Source: Fisher 1915, doi:10.2307/2331838.

    >>> fisher_z(dissimilarity=[0.5, 1.0, 1.5]).round(3)
    array([ 0.549,  0.   , -0.549])
    """
    d = np.asarray(dissimilarity, dtype=np.float64)
    extreme = np.flatnonzero(~((d >= IDENTICAL) & (d <= 2 - IDENTICAL)))
    if extreme.size:
        first = int(extreme[0])
        raise UndefinedError(
            f"Fisher z is decided by rounding for {extreme.size} of {d.size} pairs of patterns, "
            f"which are identical or opposite: 1 - |r| < {IDENTICAL:g}; "
            f"the first has 1 - r = {d[first]:.3g}",
            where=pair_rows(first, d.size),
        )
    return np.asarray(0.5 * (np.log(2 - d) - np.log(d)), dtype=np.float64)


def pair_rows(pair: int, n_pairs: int) -> tuple[int, int]:
    """Return the two rows i < j of a condensed position.

    >>> [pair_rows(pair, 6) for pair in range(6)]
    [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    """
    first, second = np.triu_indices(stimuli_of(n_pairs), 1)
    return int(first[pair]), int(second[pair])


def stimuli_of(n_pairs: int) -> int:
    """Return the number of stimuli that have so many pairs; `ValueError` if none has.

    >>> stimuli_of(6)
    4
    """
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n * (n - 1) // 2 != n_pairs:
        raise ValueError(f"{n_pairs} values are no condensed matrix: n (n - 1) / 2 are needed")
    return n


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return average ranks from 1, taking values that differ by rounding only as tied.

    `values`: (pair,); result: (pair,). Neighbours in sorted order closer than `TIE` times the
    largest magnitude share a rank; otherwise as `scipy.stats.rankdata(method="average")`.

    >>> ranks([0.3, 0.1, 0.1 + 1e-15, 0.2])
    array([4. , 1.5, 1.5, 3. ])
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order]) > TIE * np.abs(values).max(initial=0.0)
    run = np.concatenate([[0], np.cumsum(gaps)]).astype(np.intp)[: values.size]
    size = np.bincount(run)
    middle = np.cumsum(size) - (size - 1) / 2
    result = np.empty(values.size)
    result[order] = middle[run]
    return result


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Return Pearson's r of two condensed vectors.

    Both: (pair,); result dimensionless. A vector that is constant up to `TIE` times its
    largest magnitude, or not finite, raises `UndefinedError`.

    >>> round(pearson([1, 2, 4], [1, 3, 2]), 4)
    0.3273
    """
    return float(standardised(first) @ standardised(second))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rho of two condensed vectors: Pearson's r of their average `ranks`.

    >>> round(spearman([1, 2, 4], [1, 3, 2]), 4)
    0.5
    """
    _need_finite(first)
    _need_finite(second)
    return pearson(ranks(first), ranks(second))


def standardised(vector: ArrayLike) -> NDArray[np.float64]:
    """Return a vector centred and scaled to unit length; `UndefinedError` if it is constant.

    >>> standardised([1.0, 3.0]).round(3)
    array([-0.707,  0.707])
    """
    vector = _need_finite(vector)
    centred = vector - (vector.mean() if vector.size else 0.0)
    length = np.linalg.norm(centred)
    if length <= TIE * np.sqrt(vector.size) * np.abs(vector).max(initial=0.0):
        raise UndefinedError(f"{vector.size} values that are all equal correlate with nothing")
    return np.asarray(centred / length, dtype=np.float64)


def _need_finite(vector: ArrayLike) -> NDArray[np.float64]:
    vector = np.asarray(vector, dtype=np.float64)
    wrong = int((~np.isfinite(vector)).sum())
    if wrong:
        raise UndefinedError(f"{wrong} of {vector.size} values are NaN or infinite")
    return vector


def _unit_patterns(patterns: ArrayLike) -> NDArray[np.float64]:
    """Return the patterns centred over units, each of length 1."""
    values = np.array(patterns, dtype=np.float64)
    _refuse_rows(np.logical_not(np.isfinite(values).all(axis=1)), "{} with NaN or infinite values")
    # A power of two scales without rounding, and keeps squares clear of over- and underflow.
    _, exponent = np.frexp(np.abs(values).max(axis=1, keepdims=True, initial=0.0))
    values = np.ldexp(values, -exponent)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    constant = length[:, 0] <= CONSTANT * math.sqrt(values.shape[1])
    _refuse_rows(constant, "a correlation is undefined for {}, constant over units")
    return np.asarray(values / length, dtype=np.float64)


def _refuse_rows(wrong: NDArray[np.bool_], message: str) -> None:
    rows = tuple(int(row) for row in np.flatnonzero(wrong))
    if rows:
        count = "1 pattern" if len(rows) == 1 else f"{len(rows)} patterns"
        raise UndefinedError(message.format(count), where=rows)
