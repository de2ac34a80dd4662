"""Every estimator against scikit-learn, with more units than stimuli and with fewer."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from patchclamp.analyses import logistic, readouts
from patchclamp.analyses.readouts import READOUTS
from patchclamp.analyses.scores import predicted_classes
from patchclamp.analyses.splits import Part, make_split
from patchclamp.registry.errors import AnalysisError

STRICT = {"tol": 1e-11, "max_iter": 100_000}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(limits=1):
        yield


def problem(units, classes, stimuli=60, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(stimuli) % classes)
    x = rng.normal(size=(stimuli, units)) * rng.uniform(0.1, 30, units) + 50
    x += 2 / np.sqrt(units) * rng.normal(size=(classes, units))[codes] * x.std(axis=0)
    labellings = np.stack([codes, rng.permutation(codes), rng.permutation(codes)])
    return x, labellings


def decisions(kind, x, labellings, strength, classes, n=45):
    readout = READOUTS[kind]
    train, test = Part(x, np.arange(n)), Part(x, np.arange(n, len(x)))
    split = make_split(train, test, scale=readout.scale, units=readout.units)
    linear = readout.fit(split, labellings[:, :n], classes, strength)
    return linear.decisions(split.test)


def oracle(model, x, labels, n=45):
    found = make_pipeline(StandardScaler(), model).fit(x[:n], labels[:n]).decision_function(x[n:])
    return found.reshape(len(x) - n, -1)


SHAPES = pytest.mark.parametrize(("units", "classes"), [(8, 2), (8, 3), (200, 2), (200, 3)])


@SHAPES
@pytest.mark.parametrize("alpha", [0.1, 1.0, 300.0])
def test_ridge_is_that_of_scikit_learn(units, classes, alpha):
    x, labellings = problem(units, classes)
    found = decisions("ridge", x, labellings, alpha, classes)
    for row, labels in zip(found, labellings, strict=True):
        expected = oracle(RidgeClassifier(alpha=alpha, solver="cholesky"), x, labels)
        np.testing.assert_allclose(row, expected, atol=1e-10)


@SHAPES
@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
def test_logistic_regression_is_that_of_scikit_learn_when_it_has_converged(
    units, classes, strength
):
    x, labellings = problem(units, classes)
    found = decisions("logistic", x, labellings, strength, classes)
    for number, (row, labels) in enumerate(zip(found, labellings, strict=True)):
        expected = oracle(LogisticRegression(C=strength, **STRICT), x, labels)
        if classes > 2:  # softmax does not see what all classes share
            expected -= expected.mean(axis=1, keepdims=True)
            row = row - row.mean(axis=1, keepdims=True)
        close = 1e-5 if number == 0 else 2e-3  # what is scored and given, and its null
        np.testing.assert_allclose(row, expected, atol=close * np.abs(expected).mean())


@SHAPES
def test_support_vector_machines_are_those_of_scikit_learn(units, classes):
    x, labellings = problem(units, classes)
    found = decisions("svm", x, labellings, 0.01, classes)
    for row, labels in zip(found, labellings, strict=True):
        model = OneVsRestClassifier(SVC(C=0.01, kernel="linear", tol=1e-6))
        np.testing.assert_allclose(row, oracle(model, x, labels), atol=1e-4)


@SHAPES
def test_the_nearest_centroid_is_that_of_scikit_learn(units, classes):
    x, labellings = problem(units, classes)
    found = predicted_classes(decisions("centroid", x, labellings, 1.0, classes))
    for row, labels in zip(found, labellings, strict=True):
        model = make_pipeline(StandardScaler(), NearestCentroid()).fit(x[:45], labels[:45])
        np.testing.assert_array_equal(row, model.predict(x[45:]))


@pytest.mark.parametrize("units", [8, 200])
def test_the_difference_of_means_is_taken_in_the_units_of_the_activations(units):
    x, labellings = problem(units, 2)
    found = decisions("difference", x, labellings, 1.0, 2)[..., 0]
    for row, labels in zip(found, labellings, strict=True):
        first, second = (x[:45][labels[:45] == c].mean(axis=0) for c in (0, 1))
        expected = (x[45:] - (first + second) / 2) @ (second - first)
        np.testing.assert_allclose(row, expected, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_l1_is_that_of_a_solver_that_leaves_the_intercept_free(classes):
    x, labellings = problem(20, classes)
    found = decisions("l1", x, labellings[:1], 0.3, classes)[0]
    model = LogisticRegression(C=0.3, l1_ratio=1, solver="saga", tol=1e-8, max_iter=100_000)
    expected = oracle(OneVsRestClassifier(model) if classes > 2 else model, x, labellings[0])
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize("kind", sorted(READOUTS))
def test_duplicated_stimuli_and_a_unit_twice_are_no_trouble(kind):
    x, labellings = problem(200, 2)
    x[1], x[2] = x[0], x[0]
    x[:, 1] = x[:, 0]
    assert np.isfinite(decisions(kind, x, labellings[:1], 1.0, 2)).all()


@pytest.mark.parametrize("kind", sorted(set(READOUTS) - {"difference"}))
@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_that_a_labelling_lacks_in_training_is_never_predicted(kind, classes):
    x, labellings = problem(20, classes)
    lacking = np.where(np.arange(60) < 45, np.minimum(labellings, classes - 2), classes - 1)
    found = predicted_classes(decisions(kind, x, lacking, 1.0, classes))
    assert found.max() == classes - 2
    absent = np.where(np.arange(60) < 45, np.maximum(labellings, 1), 0)
    assert predicted_classes(decisions(kind, x, absent, 1.0, classes)).min() == 1


def test_what_shrinks_more_says_so():
    x, labellings = problem(200, 2)
    for kind, readout in READOUTS.items():
        if not readout.stronger:
            continue
        weak, strong = (
            np.abs(decisions(kind, x, labellings[:1], 1e-3 * 10**p, 2)).std()
            for p in (0, 2 * readout.stronger)
        )
        assert strong < weak, kind


def test_default_tolerance_is_far_from_the_minimum_where_ours_is_not():
    """Why not scikit-learn as it comes: it stops early, and says nothing."""
    rng = np.random.default_rng(3)
    x = (
        rng.normal(size=(120, 1000))
        @ np.diag(np.arange(1, 1001) ** -0.5)
        @ rng.normal(size=(1000, 1000))
    )
    labels = rng.permutation(np.arange(120) % 2)[None]
    strict = oracle(LogisticRegression(C=1.0, **STRICT), x, labels[0], n=100)[:, 0]
    early = oracle(LogisticRegression(C=1.0), x.astype(np.float32), labels[0], n=100)[:, 0]
    ours = decisions("logistic", x, labels, 1.0, 2, n=100)[0, :, 0]
    scale = np.abs(strict).mean()
    assert np.abs(ours - strict).max() < 1e-5 * scale
    assert np.abs(early - strict).max() > 1e-2 * scale


def test_every_fit_has_the_gradient_that_was_promised():
    x, labellings = problem(200, 3)
    split = make_split(Part(x, np.arange(45)), Part(x, np.arange(45, 60)))
    inside = labellings[:, :45]
    linear = READOUTS["logistic"].fit(split, inside, 3, 1.0)
    logits = linear.decisions(split.train)
    chances = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    slope = (chances - np.eye(3)[inside]) / 45
    root = np.linalg.cholesky(split.train + 1e-9 * np.eye(45))
    w = np.einsum("ij,ilc->jlc", root, linear.weights)
    gradient = np.einsum("ij,lic->jlc", root, slope) + w / 45
    assert np.sqrt(np.square(gradient).sum(axis=(0, 2))).max() <= 1.1 * logistic.TOLERANCE
    assert np.abs(slope.sum(axis=1)).max() <= logistic.TOLERANCE


def test_a_fit_that_does_not_converge_is_refused(monkeypatch):
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    x, labellings = problem(20, 2)
    text = "3 of 3 logistic regressions with C = 100 did not converge on 45 stimuli within 2"
    with pytest.raises(AnalysisError, match=text):
        decisions("logistic", x, labellings, 100.0, 2)


def test_an_l1_fit_that_does_not_converge_is_refused(monkeypatch):
    monkeypatch.setattr(readouts, "L1_ITERATIONS", 1)
    x, labellings = problem(20, 2)
    with pytest.raises(AnalysisError, match="C = 100 did not converge on 45 stimuli within 1"):
        decisions("l1", x, labellings, 100.0, 2)
