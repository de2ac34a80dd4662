"""Ridge: the least-squares classifier, for any number of labellings of the same patterns."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

from patchclamp.analyses.splits import CONSTANT, Array, Split


def fit_ridge(split: Split, targets: Array, strength: float) -> tuple[Array, Array]:
    """Return weights (column, ...) and intercepts (...) of least squares with an L2 penalty.

    `targets`: (training stimulus, ...), one fit for each of the other axes. Minimises
    |y - f|² + a |w|² with a = `strength` over w and an intercept that is not penalised. All
    fits share one Cholesky factor: of (K + a I) over stimuli, or (XᵀX + a I) over units, which
    give the same read-out. A thousand labellings cost little more than one.

    Source: Hoerl & Kennard 1970; the two forms in Saunders, Gammerman & Vovk 1998.
    """
    intercept = targets.mean(axis=0)
    flat = (targets - intercept).reshape(len(targets), -1)
    matrix = split.train.copy() if split.dual else split.train.T @ split.train
    matrix[np.diag_indices_from(matrix)] += strength
    right = flat if split.dual else split.train.T @ flat
    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    if right.shape[1] > len(matrix):  # then one product with the inverse is less work
        weights = _inverse(factor[0]) @ right
    else:
        weights = cho_solve(factor, right, check_finite=False)
    return np.asarray(weights).reshape(-1, *targets.shape[1:]), np.asarray(intercept)


def _inverse(lower: Array) -> Array:
    """Return the inverse of a matrix from its lower Cholesky factor."""
    inverse, info = dpotri(lower, lower=True)
    assert info == 0, "a Cholesky factor has no zero on its diagonal"
    inverse = np.tril(inverse)
    return np.asarray(inverse + np.tril(inverse, -1).T)


def ridge_decisions(train: Array, test: Array, targets: Array, strength: float) -> Array:
    """Return the decisions of fits that have patterns of their own, few units each.

    `train` (fit, stimulus, unit) and `test` (fit, tested stimulus, unit), any units; `targets`
    (fit, stimulus, class); result: (fit, tested stimulus, class). As `fit_ridge`, after units are
    standardised by each fit's training part.

    >>> x = np.array([[[1.0], [2.0], [3.0]]])
    >>> ridge_decisions(x, x[:, :1], np.array([[[-1.0], [0.0], [1.0]]]), 0.0).round(6)
    array([[[-1.]]])
    """
    mean = train.mean(axis=1, keepdims=True)
    largest = np.abs(train).max(axis=1, keepdims=True)
    centred = train - mean
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True))
    deviation = np.where(deviation > CONSTANT * largest, deviation, np.inf)
    intercepts = targets.mean(axis=1, keepdims=True)
    x, y = centred / deviation, targets - intercepts
    turned = x.transpose(0, 2, 1)
    matrix = turned @ x + strength * np.eye(x.shape[2])
    weights = np.linalg.solve(matrix, turned @ y)
    return np.asarray(((test - mean) / deviation) @ weights + intercepts)
