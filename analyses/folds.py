"""Folds of a cross-validation: whole groups, of balanced size, drawn without the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.registry.errors import AnalysisError


def group_folds(groups: ArrayLike, n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold of each stimulus, 0 to `n_folds` - 1, no group in two folds.

    `groups`: (stimulus,), group numbers or names; where stimuli are independent give each its
    own. Groups are shuffled, then dealt from the largest to the smallest, each to the fold
    that has the fewest stimuli so far (the first of equals). Labels are not looked at: folds
    stratified by the true labels would make permuted labels easier or harder than the true
    ones, and their p wrong. Fewer groups than folds raise `AnalysisError`.

    >>> group_folds(["a", "a", "b", "c", "c", "d"], 2, np.random.default_rng(0)).tolist()
    [1, 1, 0, 0, 0, 1]
    """
    names, group, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(names) < n_folds:
        raise AnalysisError(
            f"{n_folds} folds need at least {n_folds} groups; there are {len(names)} "
            f"(of {len(group)} stimuli): use fewer folds"
        )
    shuffled = rng.permutation(len(names))
    fold_of = np.empty(len(names), dtype=np.int64)
    filled = np.zeros(n_folds, dtype=np.int64)
    for number in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[number] = filled.argmin()
        filled[fold_of[number]] += sizes[number]
    return fold_of[group]
