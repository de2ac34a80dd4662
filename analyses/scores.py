"""Scores of predictions, weighted, so that an interval over groups is the same sum again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

DRAWN = 1 << 16
"""Numbers of bootstrap draws that are sorted, or compared, at once: half a megabyte."""

BINS = 10
"""Bins of confidence of equal width that a calibration error is taken over."""


def predicted_classes(decisions: Array) -> NDArray[np.int16]:
    """Return the class with the largest decision; of two, the second where theirs is above 0.

    `decisions`: (..., class), or (..., 1) for two classes; result: (...).

    >>> predicted_classes(np.array([[-1.0], [2.0]])).tolist()
    [0, 1]
    """
    if decisions.shape[-1] == 1:
        return np.asarray(decisions[..., 0] > 0, dtype=np.int16)
    return np.asarray(decisions.argmax(axis=-1), dtype=np.int16)


def balanced_accuracy(
    predicted: NDArray[np.integer], labellings: NDArray[np.int64], n_classes: int
) -> Array:
    """Return the mean over classes of the share of a class that is predicted as it.

    `predicted`, `labellings`: (..., stimulus), class numbers; result: (...), 0 to 1, with chance
    at 1 / classes for any class sizes. The shares are taken over the predictions of all folds
    together. A class that a labelling lacks is left out of its mean.

    >>> balanced_accuracy(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]]), 2).tolist()
    [0.5]
    """
    correct = predicted == labellings
    shares = []
    for number in range(n_classes):
        member = labellings == number
        with np.errstate(invalid="ignore"):
            shares.append((correct & member).sum(axis=-1) / member.sum(axis=-1))
    return np.asarray(np.nanmean(np.stack(shares), axis=0))


def auroc(decisions: ArrayLike, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Return the chance that a stimulus of a class has the higher decision, ties counted half.

    `decisions`, `positive`: (stimulus,); `weights`: (draw, stimulus), not negative; result:
    (draw,), the area under the receiver operating characteristic: 0.5 without information.

    >>> auroc([0.1, 0.4, 0.4, 0.8], np.array([False, False, True, True]), np.ones((1, 4)))
    array([0.875])
    """
    values = np.asarray(decisions, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf) != 0)
    starts = np.union1d(starts, [0])  # values of -inf do not differ from what stands before
    found = np.empty(len(weights))
    for draws in _draws(weights):
        sorted_weights = weights[draws][:, order]
        inside = np.add.reduceat(sorted_weights * positive[order], starts, axis=1)
        outside = np.add.reduceat(sorted_weights * ~positive[order], starts, axis=1)
        below = np.cumsum(outside, axis=1) - outside
        total = inside.sum(axis=1) * outside.sum(axis=1)
        found[draws] = (inside * (below + outside / 2)).sum(axis=1) / total
    return found


def _draws(weights: Array) -> Iterator[slice]:
    """Yield some draws at a time, of (draw, stimulus)."""
    step = max(1, DRAWN // max(1, weights.shape[1]))
    for start in range(0, len(weights), step):
        yield slice(start, start + step)


def log_chances(decisions: Array) -> Array:
    """Return log-probabilities of every class from log-odds: (stimulus, class).

    `decisions`: (stimulus, class), or (stimulus, 1) against a first class with decision 0.

    >>> np.exp(log_chances(np.array([[0.0]]))).tolist()
    [[0.5, 0.5]]
    """
    if decisions.shape[-1] == 1:
        decisions = np.concatenate([np.zeros_like(decisions), decisions], axis=-1)
    return decisions - np.logaddexp.reduce(decisions, axis=-1, keepdims=True)


def calibration_errors(chances: Array, codes: NDArray[np.int64], weights: Array) -> Array:
    """Return how far confidence and accuracy are apart, over bins of confidence: (draw,).

    `chances`: (stimulus, class), probabilities; `weights`: (draw, stimulus). The error of
    `analyses.calibration`, of each stimulus as often as its weight says. It is never below 0, so
    that of few stimuli, and in draws that repeat some, it is too large.
    """
    confidence, correct = chances.max(axis=1), chances.argmax(axis=1) == codes
    gaps = np.abs(weights @ ((correct - confidence)[:, None] * _bins(confidence)))
    return np.asarray(gaps.sum(axis=1) / weights.sum(axis=1))


def calibrated_errors(chances: Array, uniform: Array) -> Array:
    """Return calibration errors of a read-out that is right as often as it is confident: (draw,).

    `chances`: (stimulus, class), probabilities; `uniform`: (draw, stimulus), 0 to 1, the same for
    stimuli that are right or wrong together: one is right where it is below the confidence. So
    this is the size that the error has by chance alone.
    """
    confidence = chances.max(axis=1)
    bins, found = _bins(confidence), np.empty(len(uniform))
    for draws in _draws(uniform):
        gaps = np.abs(((uniform[draws] < confidence) - confidence) @ bins)
        found[draws] = gaps.sum(axis=1) / len(confidence)
    return found


def _bins(confidence: Array) -> Array:
    """Return which bin each confidence is in: (stimulus, bin), 0 or 1."""
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1), confidence, side="right") - 1
    return np.asarray(np.minimum(bins, BINS - 1)[:, None] == np.arange(BINS), dtype=np.float64)


def accuracies(
    predicted: NDArray[np.integer], codes: NDArray[np.int64], weights: Array, n_classes: int
) -> dict[str, Array]:
    """Return accuracy and balanced accuracy of predictions by name: (draw,).

    `predicted`, `codes`: (stimulus,), class numbers; `weights`: (draw, stimulus), how often each
    counts, no class without any.

    >>> found = accuracies(np.array([0, 0, 0]), np.array([0, 0, 1]), np.ones((1, 3)), 2)
    >>> found["accuracy"].round(2).tolist(), found["balanced_accuracy"].tolist()
    ([0.67], [0.5])
    """
    right = predicted == codes
    member = codes[:, None] == np.arange(n_classes)
    shares = (weights @ (member & right[:, None])) / (weights @ member)
    return {
        "accuracy": weights @ right / weights.sum(axis=1),
        "balanced_accuracy": shares.mean(axis=1),
    }


def scores(
    decisions: Array, codes: NDArray[np.int64], weights: Array, *, n_classes: int, chances: bool
) -> Mapping[str, Array]:
    """Return every score of held-out decisions by name: (draw,).

    `decisions`: (stimulus, class), or (stimulus, 1) for two classes; `weights`: (draw,
    stimulus), how often each counts. `auroc` is that of the second class, and with more than two
    the mean over classes against their rest. `log_loss` (nat, mean of -log p of the true class)
    and `calibration_error` exist where decisions are log-odds: `chances`.
    """
    member = codes[:, None] == np.arange(n_classes)
    last = range(n_classes) if n_classes > 2 else range(1, 2)
    # Of several classes, log-odds can be compared between stimuli only as probabilities.
    columns = log_chances(decisions) if chances and n_classes > 2 else decisions
    columns = columns if n_classes > 2 else np.repeat(columns, 2, axis=1)
    areas = [auroc(columns[:, c], member[:, c], weights) for c in last]
    found = accuracies(predicted_classes(decisions), codes, weights, n_classes)
    found["auroc"] = np.mean(areas, axis=0)
    if chances:
        logs = log_chances(decisions)
        said = -logs[np.arange(len(codes)), codes]
        found["log_loss"] = weights @ said / weights.sum(axis=1)
        found["calibration_error"] = calibration_errors(np.exp(logs), codes, weights)
    return found
