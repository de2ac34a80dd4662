"""Held-out predictions against scikit-learn: scaling, choosing and fitting inside the fold."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from patchclamp.analyses.decoding import (
    Estimator,
    Fold,
    direction,
    held_out,
    majority_predictions,
)
from patchclamp.registry.errors import UndefinedError


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(limits=1):
        yield


def problem(stimuli=60, units=10, classes=3, seed=0, effect=2.0):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(stimuli) % classes)
    patterns = rng.normal(size=(stimuli, units)) * rng.uniform(0.1, 30, units) + 50
    centres = rng.normal(size=(classes, units))[codes] * patterns.std(axis=0)
    return patterns + effect / np.sqrt(units) * centres, codes, folds_of(stimuli, rng)


def folds_of(stimuli, rng, n=4, inner=3):
    number = rng.permutation(np.arange(stimuli) % n)
    return [
        Fold(train, np.flatnonzero(number == fold), rng.permutation(np.arange(len(train)) % inner))
        for fold in range(n)
        for train in [np.flatnonzero(number != fold)]
    ]


def by_hand(patterns, labels, folds, model):
    predicted = np.empty_like(labels)
    for fold in folds:
        fitted = make_pipeline(StandardScaler(), model).fit(
            patterns[fold.train], labels[fold.train]
        )
        predicted[fold.test] = fitted.predict(patterns[fold.test])
    return predicted


@pytest.mark.parametrize("units", [10, 200])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("kind", "strength", "model"),
    [
        ("logistic", 0.01, LogisticRegression(C=0.01, tol=1e-9, max_iter=10_000)),
        ("logistic", 10.0, LogisticRegression(C=10, tol=1e-9, max_iter=10_000)),
        ("ridge", 3.0, RidgeClassifier(alpha=3.0)),
    ],
)
def test_predictions_are_those_of_a_scikit_learn_pipeline(units, classes, kind, strength, model):
    patterns, codes, folds = problem(units=units, classes=classes)
    labellings = np.stack([codes, np.random.default_rng(1).permutation(codes)])
    found = held_out(patterns, labellings, folds, Estimator(kind, (strength,), classes))
    for predicted, labels in zip(found.predicted, labellings, strict=True):
        np.testing.assert_array_equal(predicted, by_hand(patterns, labels, folds, model))
    assert 1 / classes + 0.05 < (found.predicted[0] == codes).mean() < 1


@pytest.mark.parametrize("units", [10, 200])
def test_a_strength_is_chosen_on_inner_folds_for_each_labelling(units):
    patterns, codes, folds = problem(units=units, classes=2, effect=1.0)
    rng = np.random.default_rng(1)
    labellings = np.stack([codes, *rng.permuted(np.tile(codes, (4, 1)), axis=1)])
    estimator = Estimator("ridge", (1.0, 100.0, 1000.0))
    found = held_out(patterns, labellings, folds, estimator)
    chosen = []
    for labels, predicted in zip(labellings, found.predicted, strict=True):
        for fold in folds:
            scaler = StandardScaler().fit(patterns[fold.train])
            scaled = scaler.transform(patterns[fold.train])
            best = best_alpha(scaled, labels[fold.train], fold.inner, estimator.strengths)
            model = RidgeClassifier(alpha=best).fit(scaled, labels[fold.train])
            expected = model.predict(scaler.transform(patterns[fold.test]))
            np.testing.assert_array_equal(predicted[fold.test], expected)
            chosen.append(best)
    assert len(set(chosen)) > 1
    np.testing.assert_array_equal(found.strengths, chosen[: len(folds)])


def best_alpha(scaled, labels, inner, strengths):
    """Score the predictions of all inner folds together; of equals take the strongest."""
    scores = {}
    for alpha in strengths:
        model = RidgeClassifier(alpha=alpha)
        predicted = cross_val_predict(model, scaled, labels, cv=PredefinedSplit(inner))
        scores[alpha] = balanced_accuracy_score(labels, predicted)
    return max(alpha for alpha in strengths if scores[alpha] >= max(scores.values()) - 1e-9)


def test_units_that_are_constant_in_training_have_no_say():
    patterns, codes, folds = problem()
    plain = held_out(patterns, codes[None], folds, Estimator("ridge", n_classes=3))
    leaky = np.full(60, 3.0)
    leaky[folds[2].test] = codes[folds[2].test] * 1e6
    more = np.column_stack([patterns, leaky, np.full(60, 7.0)])
    found = held_out(more, codes[None], folds, Estimator("ridge", n_classes=3))
    rows = folds[2].test
    np.testing.assert_array_equal(found.predicted[0, rows], plain.predicted[0, rows])


@pytest.mark.parametrize("kind", ["ridge", "logistic", "svm", "centroid"])
def test_held_out_stimuli_never_reach_their_own_fit(kind):
    patterns, codes, folds = problem()
    changed, rows = codes.copy(), folds[1].test
    changed[rows] = (changed[rows] + 1) % 3
    first, second = (
        held_out(patterns, labels[None], folds, Estimator(kind, n_classes=3)).predicted[0]
        for labels in (codes, changed)
    )
    np.testing.assert_array_equal(first[rows], second[rows])
    assert (np.delete(first, rows) != np.delete(second, rows)).any()


def test_another_set_is_tested_as_if_it_were_a_fold():
    patterns, codes, folds = problem()
    fold = folds[0]
    apart = [Fold(np.arange(len(fold.train)), np.arange(len(fold.test)), fold.inner)]
    found = held_out(
        patterns[fold.train],
        codes[None, fold.train],
        apart,
        Estimator("ridge", n_classes=3),
        tested=patterns[fold.test],
    )
    whole = held_out(patterns, codes[None], folds, Estimator("ridge", n_classes=3))
    np.testing.assert_allclose(found.decisions, whole.decisions[fold.test], atol=1e-10)


@pytest.mark.parametrize("units", [10, 200])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["ridge", "logistic", "l1", "centroid"])
def test_the_direction_gives_the_decisions_of_a_fit_to_all(kind, classes, units):
    patterns, codes, _ = problem(units=units, classes=classes)
    rows = np.arange(60)
    fold = Fold(rows, rows, rows % 3)
    weights, offset, strength = direction(patterns, codes, fold, Estimator(kind, (0.5,), classes))
    found = held_out(patterns, codes[None], [fold], Estimator(kind, (0.5,), classes))
    scale = np.abs(found.decisions).max()
    np.testing.assert_allclose(
        patterns @ weights + offset, found.decisions, atol=1e-6 * scale, rtol=0
    )
    assert strength == 0.5


def test_patterns_that_are_not_finite_are_refused_by_row():
    patterns, codes, folds = problem()
    patterns[7, 1] = np.inf
    with pytest.raises(UndefinedError, match="1 of 60 patterns hold NaN") as error:
        held_out(patterns, codes[None], folds, Estimator("ridge", n_classes=3))
    assert error.value.where == (7,)


def test_the_majority_is_that_of_the_training_folds():
    codes = np.array([0, 0, 1, 1, 1, 0])
    halves = [np.arange(3), np.arange(3, 6)]
    folds = [Fold(halves[1], halves[0], halves[0]), Fold(halves[0], halves[1], halves[0])]
    # Outside fold 0 are classes 1, 1, 0; outside fold 1 are 0, 0, 1.
    assert majority_predictions(codes, folds, 6).tolist() == [1, 1, 1, 0, 0, 0]


def test_of_equal_majorities_the_first_class_is_taken():
    halves = [np.arange(2), np.arange(2, 4)]
    folds = [Fold(halves[1], halves[0], halves[0]), Fold(halves[0], halves[1], halves[0])]
    assert majority_predictions(np.array([1, 0, 1, 0]), folds, 4).tolist() == [0, 0, 0, 0]
