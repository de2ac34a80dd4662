"""Ridge: the least-squares classifier, for any number of labellings of the same patterns."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from patchclamp.analyses.splits import Array, Split


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
    weights = cho_solve(factor, right, check_finite=False)
    return np.asarray(weights).reshape(-1, *targets.shape[1:]), np.asarray(intercept)
