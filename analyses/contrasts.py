"""Kernels for statistics over pairs of labelled stimuli, for many labellings at a time.

Every statistic here depends on the pairs only through sums over the pairs within each class,
which for one-hot labels Y (stimulus, class) and a symmetric matrix S with an empty diagonal are
diag(Yᵀ S Y) / 2. So a thousand permuted labellings are one matrix product, and no loop over
pairs. The observed labelling is simply the first row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.rdm import BLOCK, standardised, stimuli_of
from patchclamp.registry.errors import UndefinedError


@dataclass(frozen=True)
class PairSums:
    """Sums of a pair value, per labelling and class.

    `within` and `pairs`: (labelling, class), the sum over the pairs inside a class and their
    number; `total` and `n_pairs`: the sum and number of all pairs.
    """

    within: NDArray[np.float64]
    pairs: NDArray[np.float64]
    total: float
    n_pairs: int


def pair_sums(values: ArrayLike, labellings: NDArray[np.int64], n_classes: int) -> PairSums:
    """Return the sums of a pair value within each class, for each labelling.

    `values`: (pair,), condensed, any units; `labellings`: (labelling, stimulus), class numbers
    from 0. The sums keep the units of `values`.

    >>> sums = pair_sums([1.0, 2.0, 4.0], np.array([[0, 0, 1], [0, 1, 1]]), 2)
    >>> sums.within.tolist(), sums.total
    ([[1.0, 0.0], [0.0, 4.0]], 7.0)
    """
    values = np.asarray(values, dtype=np.float64)
    n = stimuli_of(values.size)
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = values
    square += square.T
    step = max(1, BLOCK // (n * n_classes))
    within = [
        _within(square, labellings[start : start + step], n_classes)
        for start in range(0, len(labellings), step)
    ]
    size = np.stack([(labellings == c).sum(axis=1) for c in range(n_classes)], axis=1)
    pairs = (size * (size - 1) / 2).astype(np.float64)
    return PairSums(np.concatenate(within), pairs, float(values.sum()), values.size)


def _within(
    square: NDArray[np.float64], labellings: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    one_hot = (labellings[..., None] == np.arange(n_classes)).astype(np.float64)
    columns = one_hot.transpose(1, 0, 2).reshape(len(square), -1)
    sums = np.einsum("sc,sc->c", columns, square @ columns) / 2
    return np.asarray(sums, dtype=np.float64).reshape(len(labellings), n_classes)


def category_correlation(
    values: ArrayLike, labellings: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    """Return Pearson's r of an RDM with the category model of each labelling.

    `values`: (pair,), dissimilarities or their ranks; result: (labelling,), dimensionless. The
    model RDM is 0 within and 1 across classes. With d standardised to mean 0 and length 1, and
    shares w and a = 1 - w of the N pairs within and across, r = -sum(d within) / sqrt(N w a).
    Given ranks this is Spearman's rho, since the ranks of a binary vector are linear in it.
    A constant RDM, or a labelling without a pair within or across, raises `UndefinedError`.

    >>> category_correlation([1.0, 3.0, 2.0], np.array([[0, 0, 1]]), 2).round(4)
    array([0.866])
    """
    sums = pair_sums(standardised(values), labellings, n_classes)
    within = sums.pairs.sum(axis=1)
    across = _some(sums.n_pairs - within, "across the classes")
    share = _some(within, "within the classes") / sums.n_pairs
    return np.asarray(-sums.within.sum(axis=1) / np.sqrt(share * across), dtype=np.float64)


def discriminative(sums: PairSums) -> NDArray[np.float64]:
    """Return the mean over pairs within a class minus the mean over pairs across classes.

    Result: (labelling,), in the units of the sums. Classes are pooled: each pair counts once,
    so a large class counts for more. `UndefinedError` if a labelling lacks such pairs.

    >>> discriminative(pair_sums([3.0, 1.0, 2.0], np.array([[0, 0, 1]]), 2))
    array([1.5])
    """
    within, pairs = sums.within.sum(axis=1), sums.pairs.sum(axis=1)
    across = _some(sums.n_pairs - pairs, "across the classes")
    mean = within / _some(pairs, "within the classes")
    return np.asarray(mean - (sums.total - within) / across, dtype=np.float64)


def discriminative_target(sums: PairSums) -> NDArray[np.float64]:
    """Return the mean within class 0 minus the mean over its pairs with class 1, all others.

    Result: (labelling,), in the units of the sums; two classes. Pairs among the others take no
    part. `UndefinedError` if a labelling lacks such pairs.

    >>> discriminative_target(pair_sums([3.0, 1.0, 2.0], np.array([[0, 0, 1]]), 2))
    array([1.5])
    """
    within = sums.within[:, 0] / _some(sums.pairs[:, 0], "within the target class")
    across = _some(sums.n_pairs - sums.pairs.sum(axis=1), "across the classes")
    outside = (sums.total - sums.within.sum(axis=1)) / across
    return np.asarray(within - outside, dtype=np.float64)


def categorical(sums: PairSums) -> NDArray[np.float64]:
    """Return the mean within class 0 minus the mean within class 1.

    Result: (labelling,), in the units of the sums. It compares how coherent two classes are and
    says nothing about whether they are apart. `UndefinedError` if a class has no pair.

    >>> categorical(pair_sums([3.0, 0, 0, 0, 0, 1.0], np.array([[0, 0, 1, 1]]), 2))
    array([2.])
    """
    first = sums.within[:, 0] / _some(sums.pairs[:, 0], "within the first class")
    second = sums.within[:, 1] / _some(sums.pairs[:, 1], "within the second class")
    return np.asarray(first - second, dtype=np.float64)


def _some(pairs: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Return numbers of pairs, refusing zeros: their mean would be 0 / 0."""
    empty = int((pairs == 0).sum())
    if empty:
        raise UndefinedError(
            f"{empty} of {len(pairs)} labellings leave no pair of stimuli {where}; the observed "
            "labels are the first of them, and exchanging whole groups of unequal size can "
            "empty a small class: give it more stimuli, or groups of equal size"
        )
    return pairs
