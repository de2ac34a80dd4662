"""Held-out predictions against scikit-learn pipelines, and the scores of predictions."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from patchclamp.analyses import decoding
from patchclamp.registry.errors import AnalysisError, UndefinedError


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(limits=1):
        yield


def problem(stimuli=60, units=10, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(stimuli) % classes)
    patterns = rng.normal(size=(stimuli, units)) * rng.uniform(0.1, 30, units) + 50
    patterns += 2 / np.sqrt(units) * rng.normal(size=(classes, units))[codes] * patterns.std(axis=0)
    return patterns, codes, rng.permutation(np.arange(stimuli) % 4)


def pipeline_predictions(patterns, codes, folds, inverse_penalty):
    predicted = np.empty_like(codes)
    for fold in np.unique(folds):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=inverse_penalty, tol=1e-8, max_iter=100_000)
        )
        model.fit(patterns[folds != fold], codes[folds != fold])
        predicted[folds == fold] = model.predict(patterns[folds == fold])
    return predicted


@pytest.mark.parametrize("units", [10, 200])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("inverse_penalty", [0.01, 1.0, 100.0])
def test_predictions_are_those_of_a_scikit_learn_pipeline(units, classes, inverse_penalty):
    patterns, codes, folds = problem(units=units, classes=classes)
    labellings = np.stack([codes, np.random.default_rng(1).permutation(codes)])
    result = decoding.held_out_predictions(
        patterns, labellings, folds, inverse_penalty=inverse_penalty
    )
    for predicted, labels in zip(result, labellings, strict=True):
        expected = pipeline_predictions(patterns, labels, folds, inverse_penalty)
        np.testing.assert_array_equal(predicted, expected)
    assert 1 / classes + 0.05 < (result[0] == codes).mean() < 1


def test_units_that_are_constant_in_training_have_no_say():
    patterns, codes, folds = problem()
    plain = decoding.held_out_predictions(patterns, codes[None], folds, inverse_penalty=1.0)
    leaky = np.where(folds == 2, codes * 1e6, 3.0)
    more = np.column_stack([patterns, leaky, np.full(60, 7.0)])
    result = decoding.held_out_predictions(more, codes[None], folds, inverse_penalty=1.0)
    np.testing.assert_array_equal(result[0, folds == 2], plain[0, folds == 2])


def test_held_out_stimuli_never_reach_their_own_fit():
    patterns, codes, folds = problem()
    changed = codes.copy()
    changed[folds == 1] = (changed[folds == 1] + 1) % 3
    first, second = (
        decoding.held_out_predictions(patterns, labels[None], folds, inverse_penalty=1.0)[0]
        for labels in (codes, changed)
    )
    np.testing.assert_array_equal(first[folds == 1], second[folds == 1])
    assert (first[folds != 1] != second[folds != 1]).any()


def test_a_class_that_training_lacks_is_never_predicted():
    patterns, codes, folds = problem(classes=2)
    labels = np.where(folds == 0, 2, 0) + 0 * codes
    result = decoding.held_out_predictions(patterns, labels[None], folds, inverse_penalty=1.0)[0]
    assert (result[folds == 0] == 0).all()


def test_patterns_that_are_not_finite_are_refused_by_row():
    patterns, codes, folds = problem()
    patterns[7, 1] = np.inf
    with pytest.raises(UndefinedError, match="1 of 60 patterns hold NaN") as error:
        decoding.held_out_predictions(patterns, codes[None], folds, inverse_penalty=1.0)
    assert error.value.where == (7,)


def test_a_fit_that_does_not_converge_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_ITERATIONS", 2)
    patterns, codes, folds = problem()
    text = "with C = 1 did not converge on 45 stimuli within 2 iterations: use a smaller C"
    with pytest.raises(AnalysisError, match=text):
        decoding.held_out_predictions(patterns, codes[None], folds, inverse_penalty=1.0)


def test_the_majority_is_that_of_the_training_folds():
    codes = np.array([0, 0, 1, 1, 1, 0])
    folds = np.array([0, 0, 0, 1, 1, 1])
    # Outside fold 0 are classes 1, 1, 0; outside fold 1 are 0, 0, 1.
    assert decoding.majority_predictions(codes, folds).tolist() == [1, 1, 1, 0, 0, 0]


def test_of_equal_majorities_the_first_class_is_taken():
    folds = np.array([0, 0, 1, 1])
    assert decoding.majority_predictions(np.array([1, 0, 1, 0]), folds).tolist() == [0, 0, 0, 0]


def test_balanced_accuracy_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labellings = rng.permuted(np.tile(np.repeat([0, 1, 2], [30, 8, 4]), (5, 1)), axis=1)
    predicted = rng.integers(0, 3, size=(2, 5, 42))
    result = decoding.balanced_accuracy(predicted, labellings)
    for place in range(2):
        for row in range(5):
            expected = metrics.balanced_accuracy_score(labellings[row], predicted[place, row])
            assert result[place, row] == pytest.approx(expected)
