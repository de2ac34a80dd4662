"""Kernels of calibration: whether probabilities that a model gives are shares of what comes true.

`confidence` is the probability that was given to the answer that was chosen, `right` whether that
was the right one; both (stimulus,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.registry.errors import UndefinedError


@dataclass(frozen=True)
class Bins:
    """Equal bins of confidence from 0 to 1: how many stimuli are in each, and their means.

    `count`, `confidence` and `accuracy` are (bin,); the means of an empty bin are NaN. A
    confidence on an edge is in the bin above it, 1 in the last.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def calibration_bins(confidence: ArrayLike, right: ArrayLike, *, bins: int) -> Bins:
    """Return the calibration curve: mean confidence and share of right answers, by bin.

    `confidence`: (stimulus,), probabilities; `right`: (stimulus,), 0 or 1. A confidence that is no
    probability raises `UndefinedError`.

    >>> found = calibration_bins([0.6, 0.7, 0.9], [1, 0, 1], bins=2)
    >>> found.count.tolist(), found.accuracy.round(2).tolist()
    ([0, 3], [nan, 0.67])
    """
    given = np.asarray(confidence, dtype=np.float64)
    wrong = tuple(int(row) for row in np.flatnonzero(~((given >= 0) & (given <= 1))))
    if wrong:
        raise UndefinedError(
            f"confidence is a probability, from 0 to 1; {len(wrong)} of {given.size} are none, "
            f"such as {given[wrong[0]]:g}",
            where=wrong,
        )
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, given, side="right") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [
            np.bincount(which, weights=np.asarray(values, np.float64), minlength=bins) / count
            for values in (given, right)
        ]
    return Bins(edges, count, *means)


def calibration_error(found: Bins) -> float:
    """Return the expected calibration error: sum of n_b / N |accuracy_b - confidence_b|.

    From 0 to 1; binned with equal widths, so that it depends on the number of bins, and above 0
    for a finite sample even if every probability is right: compare `calibrated_errors`. Source:
    Guo et al. 2017, On calibration of modern neural networks, section 2.

    >>> calibration_error(calibration_bins([0.75, 0.75], [1, 0], bins=2))
    0.25
    """
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(found.count * gaps) / found.count.sum())


def calibrated_errors(
    confidence: ArrayLike, *, bins: int, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return calibration errors of a model that gives these probabilities and is right so often.

    Result: (draw,). In each draw a stimulus is answered rightly with the probability that was
    given to its answer, independently of the others; so this is the size that the error has by
    chance alone.

    >>> calibrated_errors([1.0, 1.0], bins=10, n=2, rng=np.random.default_rng(0))
    array([0., 0.])
    """
    given = np.asarray(confidence, dtype=np.float64)
    outcomes = rng.random((n, given.size)) < given
    return np.array(
        [calibration_error(calibration_bins(given, right, bins=bins)) for right in outcomes]
    )


def brier_scores(probabilities: ArrayLike, key: ArrayLike) -> NDArray[np.float64]:
    """Return the Brier score of each stimulus: sum over options of (p - y)^2, from 0 to 2.

    `probabilities`: (stimulus, option), each row adding up to 1; `key`: (stimulus,), the number of
    the right option, for which y is 1. Equal probabilities of k options score (k - 1) / k. Source:
    Brier 1950, Verification of forecasts expressed in terms of probability.

    >>> brier_scores([[1.0, 0.0], [0.5, 0.5]], [1, 0])
    array([2. , 0.5])
    """
    given = np.asarray(probabilities, dtype=np.float64)
    truth = np.zeros_like(given)
    truth[np.arange(len(given)), np.asarray(key)] = 1
    return np.asarray(((given - truth) ** 2).sum(axis=1), dtype=np.float64)
