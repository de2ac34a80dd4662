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


def stratified_folds(
    codes: NDArray[np.int64], groups: ArrayLike, n_folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the fold of each stimulus, with equally many groups of each class in every fold.

    `codes`: (stimulus,), class numbers, constant in each group; `groups`: (stimulus,). The
    groups of a class are shuffled and dealt in turn, beginning after the last fold that the class
    before was dealt to; sizes of groups are not looked at. So a partition is as likely as any
    that differs from it by an exchange of labels between groups of one fold: a test that
    exchanges labels inside folds, and no others, is exact, although folds were drawn with a look
    at them. A label that varies in a group, and fewer groups than folds, raise `AnalysisError`.

    >>> rng = np.random.default_rng(0)
    >>> stratified_folds(np.array([0, 0, 1, 1]), [7, 8, 9, 9], 2, rng).tolist()
    [0, 1, 0, 0]
    """
    names, first, group = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    label = codes[first]
    if not np.array_equal(label[group], codes):
        row = int(np.flatnonzero(label[group] != codes)[0])
        raise AnalysisError(
            f"group {str(names[group[row]])!r} holds several classes, so that folds of whole "
            "groups cannot be stratified: leave 'stratify' out, and exchange labels within groups"
        )
    if len(names) < n_folds:
        raise AnalysisError(
            f"{n_folds} folds need at least {n_folds} groups; there are {len(names)} "
            f"(of {len(group)} stimuli): use fewer folds"
        )
    fold_of, dealt = np.empty(len(names), dtype=np.int64), 0
    for code in np.unique(label):
        members = rng.permutation(np.flatnonzero(label == code))
        fold_of[members] = (dealt + np.arange(len(members))) % n_folds
        dealt += len(members)
    return fold_of[group]
