"""The folds of a probe: whole groups, held out of training in every set that has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.decoding import Fold
from patchclamp.analyses.folds import group_folds, stratified_folds
from patchclamp.analyses.probe_design import Design, said
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.inference import CrossValidation


def make_folds(design: Design, cv: CrossValidation, seeds: Seeds, *, choosing: bool) -> list[Fold]:
    """Return the folds of a cross-validation; with `choosing`, those inside each training part.

    They are drawn without a look at labels, or, stratified, with as many groups of each class in
    every fold as can be; labels are then exchanged inside folds only. A class of one group, and
    one that a training part lacks, raise `AnalysisError`.
    """
    need_groups(design)
    rng = seeds.generator("cv")
    if cv.stratify:
        groups = np.array(design.names)[design.units]
        numbers = stratified_folds(design.codes, groups, cv.folds, rng)
    else:
        numbers = group_folds(design.units, cv.folds, rng)
    return _folds(design, (numbers, numbers), cv, seeds, choosing=choosing)


def across(
    design: Design, other: Design, cv: CrossValidation, seeds: Seeds, *, choosing: bool
) -> list[Fold]:
    """Return folds that train on one set and test on another.

    One of them, if the sets share no group (or no stimulus, where there are no groups). Else what
    they share is held out, fold by fold: a group that is tested on in one set is not trained on
    in the other.
    """
    if cv.stratify:
        raise AnalysisError(
            "'stratify' divides one set into folds, and another set is tested on: leave it out"
        )
    need_groups(design)
    need_groups(other)
    ours, theirs = ([d.names[u] for u in d.units] for d in (design, other))
    if not set(ours) & set(theirs):
        numbers = np.ones(len(ours), dtype=np.int64), np.zeros(len(theirs), dtype=np.int64)
        return _folds(design, numbers, cv, seeds, choosing=choosing)
    both = group_folds([*ours, *theirs], cv.folds, seeds.generator("cv"))
    numbers = both[: len(ours)], both[len(ours) :]
    return _folds(design, numbers, cv, seeds, choosing=choosing)


def on_all(design: Design, cv: CrossValidation, seeds: Seeds, *, choosing: bool) -> Fold:
    """Return the fold that trains on all rows and holds none out."""
    rows = np.arange(len(design.codes))
    return Fold(rows, rows[:0], _inner(design, rows, cv, (seeds, "whole", choosing)))


def fold_numbers(folds: list[Fold], n: int) -> NDArray[np.int64]:
    """Return the number of the fold that each row is held out by: (row,)."""
    numbers = np.empty(n, dtype=np.int64)
    for number, fold in enumerate(folds):
        numbers[fold.test] = number
    return numbers


def _folds(
    design: Design,
    numbers: tuple[NDArray[np.int64], NDArray[np.int64]],
    cv: CrossValidation,
    seeds: Seeds,
    *,
    choosing: bool,
) -> list[Fold]:
    """Return a fold for each number; `numbers` are those of training rows and of tested rows."""
    ours, theirs = numbers
    folds = []
    for number in np.unique(theirs).tolist():
        train, test = np.flatnonzero(ours != number), np.flatnonzero(theirs == number)
        _need_every_class(design, train, number)
        inner = _inner(design, train, cv, (seeds, str(number), choosing))
        folds.append(Fold(train, test, inner))
    return folds


def _inner(
    design: Design, train: NDArray[np.intp], cv: CrossValidation, how: tuple[Seeds, str, bool]
) -> NDArray[np.int64]:
    seeds, name, choosing = how
    if not choosing:
        return np.zeros(len(train), dtype=np.int64)
    try:
        return group_folds(design.units[train], cv.inner, seeds.generator(f"cv.inner.{name}"))
    except AnalysisError as error:
        where = f"the training part of fold {name}" if name.isdigit() else "the whole set"
        raise AnalysisError(f"inside {where}, {error}") from error


def need_groups(design: Design) -> None:
    """Raise `AnalysisError` if a class is one group, which cannot be learnt and tested."""
    for code, name in enumerate(design.classes):
        rows = design.codes == code
        if len(np.unique(design.units[rows])) == 1:
            raise AnalysisError(
                f"class {name!r} of {said(design)} is one group of {rows.sum()} stimuli: what "
                "holds it out leaves nothing to learn it from; use at least 2 groups of each class"
            )


def _need_every_class(design: Design, train: NDArray[np.intp], fold: int) -> None:
    sizes = np.bincount(design.codes[train], minlength=design.n_classes)
    if (sizes == 0).any():
        missing = int(sizes.argmin())
        raise AnalysisError(
            f"class {design.classes[missing]!r} of {said(design)} is missing from the training "
            f"data of fold {fold}: all its {(design.codes == missing).sum()} stimuli are held out "
            "there; use more groups of this class, or other folds"
        )
