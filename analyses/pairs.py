"""Condensed pairs: where a pair of stimuli stands, and sums over pairs for many labellings at once.

Under a labelling every stimulus has a code, and whatever a model RDM or a contrast says of a pair
is a function of its two codes. So a thousand permuted labellings are one matrix of weights (pair,
labelling), built row by row in blocks that fit the cache, and one matrix product with the values
of all layers; the observed labelling is simply the first. No loop runs over pairs, and no value
is gathered again for another layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 2**21
"""Numbers in a block of weights (16 MiB of float64): small enough for the last cache."""

Weigh = Callable[[NDArray[np.int32], NDArray[np.int32]], NDArray[np.generic]]
"""Weights (pair, labelling) from the codes of the first stimulus, (labelling) where all pairs have
the same or (pair, labelling), and those of the second, (pair, labelling)."""


def stimuli_of(n_pairs: int) -> int:
    """Return the number of stimuli that have so many pairs; `ValueError` if none has.

    >>> stimuli_of(6)
    4
    """
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n * (n - 1) // 2 != n_pairs:
        raise ValueError(f"{n_pairs} values are no condensed matrix: n (n - 1) / 2 are needed")
    return n


def row_start(row: int, n: int) -> int:
    """Return the condensed position of the pair (row, row + 1) among n stimuli.

    >>> [row_start(row, 4) for row in range(3)]
    [0, 3, 5]
    """
    return row * n - row * (row + 1) // 2


def pair_rows(pair: int, n_pairs: int) -> tuple[int, int]:
    """Return the two rows i < j of a condensed position.

    >>> [pair_rows(pair, 6) for pair in range(6)]
    [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    """
    first, second = np.triu_indices(stimuli_of(n_pairs), 1)
    return int(first[pair]), int(second[pair])


def pairs_of(table: ArrayLike, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what a table of two codes says of each pair of stimuli.

    `table`: (code, code), symmetric; `codes`: (stimulus,); result: (pair,).

    >>> pairs_of([[0, 1], [1, 0]], np.array([0, 0, 1]))
    array([0., 1., 1.])
    """
    first, second = np.triu_indices(len(codes), 1)
    return np.asarray(np.asarray(table, dtype=np.float64)[codes[first], codes[second]])


def pair_sums(
    values: ArrayLike, labellings: NDArray[np.int64], weigh: Weigh
) -> NDArray[np.float64]:
    """Return sums of pair values, weighted by what each labelling makes of the pairs.

    `values`: (..., pair), any units; `labellings`: (labelling, stimulus), codes from 0; result:
    (..., labelling), in the units of the values: sum over pairs of value * weigh(code_i, code_j).

    >>> labellings = np.array([[0, 0, 1], [0, 1, 1]])
    >>> pair_sums([1.0, 2.0, 4.0], labellings, same)
    array([1., 4.])
    """
    values = np.asarray(values, dtype=np.float64)
    codes = np.ascontiguousarray(labellings.T, dtype=np.int32)
    n, drawn = codes.shape
    flat = values.reshape(-1, values.shape[-1])
    if flat.shape[1] * drawn <= BLOCK:  # one block: no loop over rows
        first, second = np.triu_indices(n, 1)
        weights = np.asarray(weigh(codes[first], codes[second]), dtype=np.float64)
        return np.asarray((flat @ weights).reshape(*values.shape[:-1], drawn))
    result = np.zeros((len(flat), drawn))
    size = max(1, BLOCK // drawn)
    weights = np.empty((min(size + n, flat.shape[1]), drawn))
    begun = filled = 0
    for row in range(n - 1):
        rest = n - row - 1
        weights[filled : filled + rest] = weigh(codes[row], codes[row + 1 :])
        filled += rest
        if filled >= size or row == n - 2:
            result += flat[:, begun : begun + filled] @ weights[:filled]
            begun, filled = begun + filled, 0
    return result.reshape(*values.shape[:-1], drawn)


def stimulus_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each stimulus the sum over the pairs that it is in.

    `values`: (rdm, pair), any units; result: (rdm, stimulus), in the units of the values.

    >>> stimulus_sums(np.array([[1.0, 2.0, 4.0]]))
    array([[3., 5., 6.]])
    """
    n = stimuli_of(values.shape[1])
    result = np.zeros((len(values), n))
    for row in range(n - 1):
        some = values[:, row_start(row, n) : row_start(row + 1, n)]
        result[:, row] += some.sum(axis=1)
        result[:, row + 1 :] += some
    return result


def same(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Weigh pairs of one code 1, others 0."""
    return np.asarray(first == second)


def looked_up(table: ArrayLike) -> Weigh:
    """Return the weighing that looks the two codes up in a table (code, code).

    >>> looked_up([[0.0, 5.0], [5.0, 0.0]])(np.array([0], np.int32), np.array([[1]], np.int32))
    array([[5.]])
    """
    table = np.asarray(table, dtype=np.float64)
    flat, width = table.ravel(), np.int32(len(table))

    def weigh(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.float64]:
        return flat.take(second + first * width)  # faster than two indices, by a factor of 3

    return weigh
