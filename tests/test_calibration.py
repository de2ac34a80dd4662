"""Calibration against scikit-learn and closed forms; a calibrated model against its own null."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from patchclamp.analyses.calibration import (
    brier_scores,
    calibrated_errors,
    calibration_bins,
    calibration_error,
)
from patchclamp.registry.errors import UndefinedError

RNG = np.random.default_rng(0)
CONFIDENCE = RNG.uniform(0, 1, 500)
RIGHT = (RNG.random(500) < CONFIDENCE**2).astype(float)


def test_the_curve_is_that_of_scikit_learn() -> None:
    found = calibration_bins(CONFIDENCE, RIGHT, bins=10)
    accuracy, confidence = calibration_curve(RIGHT, CONFIDENCE, n_bins=10)
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, confidence)
    assert found.count.sum() == 500


def test_the_error_is_the_weighted_mean_of_gaps() -> None:
    found = calibration_bins(CONFIDENCE, RIGHT, bins=7)
    by_loop = 0.0
    for low, high in zip(found.edges, found.edges[1:], strict=False):
        rows = (low <= CONFIDENCE) & (high > CONFIDENCE)
        by_loop += abs(RIGHT[rows].sum() - CONFIDENCE[rows].sum()) / 500
    assert calibration_error(found) == pytest.approx(by_loop)


def test_ends_and_edges_belong_somewhere() -> None:
    found = calibration_bins([0.0, 0.5, 1.0], [0, 1, 1], bins=2)
    assert found.count.tolist() == [1, 2]
    assert calibration_error(calibration_bins([1.0, 0.0], [1, 0], bins=10)) == 0
    assert calibration_error(calibration_bins([1.0, 0.0], [0, 1], bins=10)) == 1


def test_a_calibrated_model_has_an_error_as_large_as_its_null_and_a_bold_one_a_larger() -> None:
    null = calibrated_errors(CONFIDENCE, bins=10, n=200, rng=np.random.default_rng(1))
    honest = (np.random.default_rng(2).random(500) < CONFIDENCE).astype(float)
    assert calibration_error(calibration_bins(CONFIDENCE, honest, bins=10)) < null.max()
    assert calibration_error(calibration_bins(CONFIDENCE, RIGHT, bins=10)) > null.max()
    assert null.min() > 0


def test_the_p_of_calibrated_models_is_uniform() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.25, 1, 60)
    null = calibrated_errors(confidence, bins=10, n=400, rng=rng)
    errors = calibrated_errors(confidence, bins=10, n=400, rng=rng)
    p = [(1 + (null >= error).sum()) / 401 for error in errors]
    assert np.mean(np.asarray(p) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)


def test_brier_scores_are_twice_the_binary_ones_for_two_options() -> None:
    pairs = np.stack([1 - CONFIDENCE, CONFIDENCE], axis=1)
    scores = brier_scores(pairs, RIGHT.astype(int))
    assert scores.mean() == pytest.approx(2 * brier_score_loss(RIGHT, CONFIDENCE))
    assert brier_scores(np.full((1, 4), 0.25), [2])[0] == pytest.approx(3 / 4)


@pytest.mark.parametrize("wrong", [1.2, -0.1, np.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(UndefinedError, match="confidence is a probability, from 0 to 1; 1 of 2"):
        calibration_bins([0.5, wrong], [1, 0], bins=4)
