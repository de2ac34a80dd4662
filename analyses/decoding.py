"""Kernels of cross-validated decoding on plain arrays: held-out predictions and their scores."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from patchclamp.registry.errors import AnalysisError, UndefinedError

TOLERANCE = 1e-6
"""Largest entry of the mean gradient at which a fit has converged. scikit-learn's default, 1e-4,
stops so early that decision values are off by a quarter of their size where units > stimuli."""

MAX_ITERATIONS = 10_000
"""Iterations of L-BFGS after which a fit is refused; well-posed ones take under 200."""


def held_out_predictions(
    patterns: NDArray[np.float64],
    labellings: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    inverse_penalty: float,
) -> NDArray[np.int64]:
    """Return the class that a probe fitted without its fold predicts for each stimulus.

    `patterns`: (stimulus, unit), any units; `labellings`: (labelling, stimulus), class numbers;
    `folds`: (stimulus,); result: (labelling, stimulus). Logistic regression, multinomial with
    more than two classes, L2 penalty |w|² / (2 C) with C = `inverse_penalty` on the summed
    loss, intercept free. Units are standardised by mean and standard deviation (ddof 0) of the
    training stimuli; one that is constant there has weight 0. A class that a labelling lacks in
    the training data is never predicted; if one class is left, it always is.

    Patterns that are not finite raise `UndefinedError` with their rows, a fit that does not
    converge `AnalysisError`.
    """
    wrong = np.flatnonzero(~np.isfinite(patterns).all(axis=1))
    if wrong.size:
        raise UndefinedError(
            f"{wrong.size} of {len(patterns)} patterns hold NaN or infinite values",
            where=tuple(int(row) for row in wrong),
        )
    predicted = np.empty_like(labellings)
    for fold in np.unique(folds):
        held_out = folds == fold
        train, test = _prepared(patterns[~held_out], patterns[held_out])
        for row, labels in enumerate(labellings[:, ~held_out]):
            predicted[row, held_out] = _fit_predict(train, labels, test, inverse_penalty)
    return predicted


def _prepared(
    train: NDArray[np.float64], test: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both parts standardised by the training part, in no more columns than its rows.

    The L2 solution lies in the span of the training patterns. Coordinates in an orthonormal
    basis of that span keep all inner products with it, so predictions are the same, and each
    of the fits to many labellings is as small as the number of stimuli.
    """
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    if train.shape[1] > train.shape[0]:
        basis, _ = np.linalg.qr(train.T)
        train, test = train @ basis, test @ basis
    return train, test


def _fit_predict(
    train: NDArray[np.float64],
    labels: NDArray[np.int64],
    test: NDArray[np.float64],
    inverse_penalty: float,
) -> NDArray[np.int64]:
    if (labels == labels[0]).all():
        return np.full(len(test), labels[0])
    model = LogisticRegression(C=inverse_penalty, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(train, labels)
        except ConvergenceWarning as warning:
            raise AnalysisError(
                f"logistic regression with C = {inverse_penalty:g} did not converge on "
                f"{len(train)} stimuli within {MAX_ITERATIONS} iterations: use a smaller C"
            ) from warning
    return np.asarray(model.predict(test), dtype=np.int64)


def majority_predictions(codes: NDArray[np.int64], folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the most frequent class outside each stimulus's fold: (stimulus,).

    `codes`, `folds`: (stimulus,). Of equally frequent classes the first (lowest number) is
    taken. Where classes are nearly balanced, the class in the majority outside a fold is in the
    minority inside, so this baseline may fall below chance.

    >>> majority_predictions(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])).tolist()
    [1, 1, 0, 0]
    """
    predicted = np.empty_like(codes)
    for fold in np.unique(folds):
        predicted[folds == fold] = np.bincount(codes[folds != fold]).argmax()
    return predicted


def balanced_accuracy(
    predicted: NDArray[np.int64], labellings: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean over classes of the share of a class that is predicted as it.

    `predicted`: (..., labelling, stimulus); `labellings`: (labelling, stimulus), every class in
    each; result: (..., labelling), 0 to 1, with chance at 1 / classes for any class sizes. The
    shares are taken over the predictions of all folds together.

    >>> balanced_accuracy(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]])).tolist()
    [0.5]
    """
    correct = (predicted == labellings).astype(np.float64)
    member = (labellings[..., None] == np.unique(labellings)).astype(np.float64)
    recall = np.einsum("...ls,lsc->...lc", correct, member) / member.sum(axis=1)
    return np.asarray(recall.mean(axis=-1), dtype=np.float64)
