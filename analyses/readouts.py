"""Linear read-outs: one function for each estimator, from labellings to weights.

A read-out's decisions are linear in a pattern, one for each class; with two classes one, whose
sign says which. All functions take many labellings of the same patterns, because a null
distribution asks for nothing else, and give every labelling weights of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.logistic import fit_logistic
from patchclamp.analyses.ridge import fit_ridge
from patchclamp.analyses.splits import Array, Split
from patchclamp.analyses.support_vectors import support_vectors
from patchclamp.registry.errors import AnalysisError

Labellings = NDArray[np.int64]
"""Class numbers: (labelling, stimulus)."""

SVM_TOLERANCE = 1e-6
"""Violation of the optimality conditions at which a support vector machine has converged."""

L1_TOLERANCE = 1e-6
"""Relative norm of the subgradient at which an L1 read-out has converged."""

L1_ITERATIONS = 10_000
"""Passes of liblinear after which a fit is refused."""

FREE_INTERCEPT = 1e3
"""liblinear penalises its intercept; so far scaled up, the penalty on it is negligible."""


@dataclass(frozen=True)
class Linear:
    """Weights (column, labelling, class) and intercepts (labelling, class) of read-outs.

    With two classes there is one column of decisions, for the second class against the first.
    """

    weights: Array
    intercepts: Array

    def of(self, labellings: slice) -> Linear:
        """Return the read-outs of some labellings."""
        return Linear(self.weights[:, labellings], self.intercepts[labellings])

    def decisions(self, columns: Array) -> Array:
        """Return (labelling, stimulus, class) for patterns given in the columns of a split."""
        found = np.tensordot(columns, self.weights, axes=1) + self.intercepts
        return np.moveaxis(found, 0, 1)


Fit = Callable[[Split, Labellings, int, float], Linear]
"""From a split, the labellings of its training part, the number of classes and a strength."""


@dataclass(frozen=True)
class Readout:
    """An estimator: how it is fitted, and what it needs and gives.

    `scale`: units are divided by their standard deviation in training. `units`: it needs them
    as columns. `chances`: its decisions are log-odds. `two`: it knows two classes only.
    `stronger`: the sign of the change in strength that penalises more; 0 has no penalty.
    `quick`: a fit that is good enough to choose a strength by, where there is one.
    """

    fit: Fit
    scale: bool = True
    units: bool = False
    chances: bool = False
    two: bool = False
    stronger: int = 0
    quick: Fit | None = None


def one_hot(labellings: Labellings, n_classes: int) -> Array:
    """Return (stimulus, labelling, class): 1 in a stimulus' class, else 0; the second of two.

    >>> one_hot(np.array([[0, 1, 1]]), 2)[:, 0].tolist()
    [[0.0], [1.0], [1.0]]
    """
    classes = np.arange(n_classes)[1 if n_classes == 2 else 0 :]
    return np.asarray(labellings.T[..., None] == classes, dtype=np.float64)


def _ridge(split: Split, labellings: Labellings, n_classes: int, strength: float) -> Linear:
    """Least squares of ±1, one class against the rest."""
    weights, intercepts = fit_ridge(split, 2 * one_hot(labellings, n_classes) - 1, strength)
    return Linear(weights, without_absent(intercepts, labellings, n_classes))


def _logistic(
    split: Split, labellings: Labellings, n_classes: int, strength: float, *, fine: bool = True
) -> Linear:
    """Multinomial logistic regression."""
    absent = np.zeros((len(labellings), 1 if n_classes == 2 else n_classes))
    absent = without_absent(absent, labellings, n_classes)
    targets = one_hot(labellings, n_classes)
    several = (labellings != labellings[:, :1]).any(axis=1)
    weights = np.zeros((split.train.shape[1], *absent.shape))
    intercepts = np.zeros_like(absent)
    if several.any():
        weights[:, several], intercepts[several] = fit_logistic(
            split, targets[:, several], strength, fine=fine
        )
    return Linear(weights, intercepts + absent)


def _svm(split: Split, labellings: Labellings, n_classes: int, strength: float) -> Linear:
    """Support vector machines with hinge loss, one class against the rest."""
    gram = split.gram()

    def fit(target: NDArray[np.bool_]) -> tuple[Array, float]:
        found = support_vectors(gram, target, strength)
        if found.violation <= SVM_TOLERANCE:
            return split.toward(found.rows), found.intercept
        from sklearn.svm import SVC  # here, because to plan a probe should not take a second

        machine = SVC(C=strength, kernel="precomputed", tol=SVM_TOLERANCE).fit(gram, target)
        rows = np.zeros(len(gram))
        rows[machine.support_] = machine.dual_coef_[0]
        return split.toward(rows), float(machine.intercept_[0])

    return _one_by_one(fit, split, labellings, n_classes)


def _l1(split: Split, labellings: Labellings, n_classes: int, strength: float) -> Linear:
    """Logistic regression with an L1 penalty, one class against the rest."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    def fit(target: NDArray[np.bool_]) -> tuple[Array, float]:
        model = LogisticRegression(
            C=strength,
            l1_ratio=1,
            solver="liblinear",
            intercept_scaling=FREE_INTERCEPT,
            tol=L1_TOLERANCE,
            max_iter=L1_ITERATIONS,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(split.train, target)
            except ConvergenceWarning as warning:
                raise AnalysisError(
                    f"an L1 read-out with C = {strength:g} did not converge on {len(target)} "
                    f"stimuli within {L1_ITERATIONS} iterations: use a smaller C"
                ) from warning
        return model.coef_[0], float(model.intercept_[0])

    return _one_by_one(fit, split, labellings, n_classes)


def _one_by_one(
    fit: Callable[[NDArray[np.bool_]], tuple[Array, float]],
    split: Split,
    labellings: Labellings,
    n_classes: int,
) -> Linear:
    """Return read-outs fitted one labelling and class at a time."""
    targets = one_hot(labellings, n_classes).astype(bool)
    weights = np.zeros((split.train.shape[1], *targets.shape[1:]))
    intercepts = np.where(targets[0], 1.0, -1.0)
    for place in np.argwhere(targets.any(axis=0) & ~targets.all(axis=0)):
        at = tuple(place)
        weights[(slice(None), *at)], intercepts[at] = fit(targets[(slice(None), *at)])
    return Linear(weights, without_absent(intercepts, labellings, n_classes))


def _centroid(split: Split, labellings: Labellings, n_classes: int, strength: float) -> Linear:
    """The nearest class mean: decision x · m - |m|² / 2, larger where x is nearer to m."""
    del strength
    rows = (labellings.T[..., None] == np.arange(n_classes)).astype(np.float64)
    rows /= np.maximum(rows.sum(axis=0), 1)
    means = split.toward(rows)
    lengths = np.einsum("slc,slc->lc", rows, np.tensordot(split.train, means, axes=1))
    intercepts = without_absent(-lengths / 2, labellings, n_classes, columns=n_classes)
    if n_classes > 2:
        return Linear(means, intercepts)
    return Linear(means[..., 1:] - means[..., :1], intercepts[:, 1:] - intercepts[:, :1])


def without_absent(
    intercepts: Array, labellings: Labellings, n_classes: int, *, columns: int | None = None
) -> Array:
    """Return intercepts that rule out a class which a labelling lacks in the training part."""
    present = np.stack([(labellings == c).any(axis=1) for c in range(n_classes)], axis=1)
    if (columns or intercepts.shape[1]) == n_classes:
        return np.where(present, intercepts, -np.inf)
    only = np.where(present[:, :1], -np.inf, np.inf)
    return np.where(present.all(axis=1, keepdims=True), intercepts, only)


READOUTS: Mapping[str, Readout] = {
    "ridge": Readout(_ridge, stronger=1),
    "logistic": Readout(_logistic, chances=True, stronger=-1, quick=partial(_logistic, fine=False)),
    "l1": Readout(_l1, units=True, stronger=-1),
    "svm": Readout(_svm, stronger=-1),
    "centroid": Readout(_centroid),
    "difference": Readout(_centroid, scale=False, two=True),
}
"""Every estimator, by the kind of its spec; a logistic one with an L1 penalty is `l1`."""
