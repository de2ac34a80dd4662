"""Scores against scikit-learn, and their weighted forms against repeated stimuli."""

import numpy as np
import pytest
from sklearn import metrics

from patchclamp.analyses.calibration import calibration_bins, calibration_error
from patchclamp.analyses.scores import auroc, balanced_accuracy, predicted_classes, scores


def problem(classes, seed=0, n=60):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % classes)
    columns = 1 if classes == 2 else classes
    decisions = np.round(4 * rng.normal(size=(n, columns)))  # with ties
    decisions += (codes[:, None] == np.arange(classes)[-columns:]) * 3
    return decisions / 4, codes


def ones(n):
    return np.ones((1, n))


def test_balanced_accuracy_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labellings = rng.permuted(np.tile(np.repeat([0, 1, 2], [30, 8, 4]), (5, 1)), axis=1)
    predicted = rng.integers(0, 3, size=(2, 5, 42))
    result = balanced_accuracy(predicted, np.broadcast_to(labellings, predicted.shape), 3)
    for place in range(2):
        for row in range(5):
            expected = metrics.balanced_accuracy_score(labellings[row], predicted[place, row])
            assert result[place, row] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("chances", [True, False])
def test_scores_are_those_of_scikit_learn(classes, chances):
    decisions, codes = problem(classes)
    found = scores(decisions, codes, ones(60), n_classes=classes, chances=chances)
    predicted = predicted_classes(decisions)
    assert found["accuracy"][0] == pytest.approx(metrics.accuracy_score(codes, predicted))
    balanced = metrics.balanced_accuracy_score(codes, predicted)
    assert found["balanced_accuracy"][0] == pytest.approx(balanced)
    full = np.column_stack([np.zeros(60), decisions]) if classes == 2 else decisions
    share = np.exp(full - np.logaddexp.reduce(full, axis=1, keepdims=True))
    if classes == 2:
        assert found["auroc"][0] == pytest.approx(metrics.roc_auc_score(codes, decisions[:, 0]))
    elif chances:
        expected = metrics.roc_auc_score(codes, share, multi_class="ovr", average="macro")
        assert found["auroc"][0] == pytest.approx(expected)
    if chances:
        assert found["log_loss"][0] == pytest.approx(metrics.log_loss(codes, share))
    else:
        assert "log_loss" not in found


@pytest.mark.parametrize("classes", [2, 3])
def test_a_weight_of_two_is_a_stimulus_twice(classes):
    decisions, codes = problem(classes)
    weights = np.random.default_rng(1).integers(0, 3, size=(4, 60)).astype(float)
    found = scores(decisions, codes, weights, n_classes=classes, chances=True)
    for draw, row in enumerate(weights.astype(int)):
        again = scores(
            np.repeat(decisions, row, axis=0),
            np.repeat(codes, row),
            ones(row.sum()),
            n_classes=classes,
            chances=True,
        )
        for name in ("accuracy", "balanced_accuracy", "auroc", "log_loss"):
            assert found[name][draw] == pytest.approx(again[name][0]), name


def test_the_area_does_not_change_with_the_scale_and_turns_with_the_sign():
    decisions, codes = problem(2)
    values, positive = decisions[:, 0], codes == 1
    area = auroc(values, positive, ones(60))
    np.testing.assert_allclose(auroc(np.exp(3 * values) - 7, positive, ones(60)), area)
    np.testing.assert_allclose(auroc(-values, positive, ones(60)), 1 - area)
    np.testing.assert_allclose(auroc(np.zeros(60), positive, ones(60)), 0.5)


def test_a_calibrated_read_out_has_little_calibration_error_and_a_boastful_one_much():
    rng = np.random.default_rng(0)
    log_odds = rng.normal(scale=2, size=(20_000, 1))
    codes = (rng.random(20_000) < 1 / (1 + np.exp(-log_odds[:, 0]))).astype(int)
    honest, boastful = (
        scores(factor * log_odds, codes, ones(20_000), n_classes=2, chances=True)
        for factor in (1, 4)
    )
    assert honest["calibration_error"][0] < 0.02
    confidence = 1 / (1 + np.exp(-np.abs(log_odds[:, 0])))
    right = (log_odds[:, 0] > 0) == codes
    expected = calibration_error(calibration_bins(confidence, right, bins=10))
    assert honest["calibration_error"][0] == pytest.approx(expected)
    assert boastful["calibration_error"][0] > 0.08
    assert honest["log_loss"][0] < boastful["log_loss"][0]


def test_certainty_is_no_trouble():
    decisions = np.array([[-800.0], [800.0], [800.0], [-800.0]])
    found = scores(decisions, np.array([0, 1, 0, 1]), ones(4), n_classes=2, chances=True)
    assert found["log_loss"][0] == pytest.approx(400)
    assert found["calibration_error"][0] == pytest.approx(0.5)
