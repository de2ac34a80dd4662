"""Support vector machines against libsvm, and against what an optimum must be."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC

from patchclamp.analyses import readouts
from patchclamp.analyses.readouts import READOUTS, SVM_TOLERANCE
from patchclamp.analyses.splits import Part, make_split
from patchclamp.analyses.support_vectors import Machine, support_vectors


def patterns(n=60, units=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, units)) * np.linspace(3, 0.1, units) + rng.normal(size=(n, 1))
    return x - x.mean(axis=0)


def labels(x, kind):
    rng = np.random.default_rng(1)
    if kind == "separable":
        return x[:, :3].sum(axis=1) > 0
    return rng.permutation(len(x)) < (len(x) // 2 if kind == "permuted" else len(x) // 10)


def objective(gram, machine_rows, target, strength):
    """The primal: half the squared weights, and what decisions lack."""
    rows, intercept = machine_rows
    lacking = 1 - np.where(target, 1, -1) * (gram @ rows + intercept)
    return rows @ gram @ rows / 2 + strength * np.maximum(lacking, 0).sum()


@pytest.mark.parametrize("units", [3, 20, 200])
@pytest.mark.parametrize("kind", ["separable", "permuted", "few"])
@pytest.mark.parametrize("strength", [1e-5, 1e-3, 0.1])
def test_machines_are_those_of_libsvm(units, kind, strength):
    x = patterns(units=units)
    gram, target = x @ x.T, labels(x, kind)
    found = support_vectors(gram, target, strength)
    assert found.violation < 1e-8
    with warnings.catch_warnings():  # it may take millions of steps; near enough is 1e-5
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine = SVC(C=strength, kernel="precomputed", tol=1e-8, max_iter=100_000)
        theirs = machine.fit(gram, target).decision_function(gram)
    assert np.abs(gram @ found.rows + found.intercept - theirs).max() < 1e-5


@pytest.mark.parametrize("kind", ["separable", "permuted", "few"])
def test_nothing_that_libsvm_finds_is_better(kind):
    x = patterns()
    gram, target = x @ x.T, labels(x, kind)
    found = support_vectors(gram, target, 1.0)
    theirs = SVC(C=1.0, kernel="precomputed", tol=1e-6).fit(gram, target)
    rows = np.zeros(len(gram))
    rows[theirs.support_] = theirs.dual_coef_[0]
    ours = objective(gram, (found.rows, found.intercept), target, 1.0)
    assert ours <= objective(gram, (rows, theirs.intercept_[0]), target, 1.0) * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_measurement_do_not_matter(scale):
    x = patterns()
    target = labels(x, "permuted")
    found = support_vectors(x @ x.T, target, 0.01)
    other = support_vectors(x @ x.T * scale, target, 0.01 / scale)
    np.testing.assert_allclose(other.rows * scale, found.rows, atol=1e-8)
    assert other.intercept == pytest.approx(found.intercept, abs=1e-8)


def test_a_machine_that_is_not_at_the_optimum_says_so_and_libsvm_takes_over(monkeypatch):
    x = patterns()
    target = labels(x, "permuted")
    split = make_split(Part(x, np.arange(60)), Part(x, np.arange(60)), scale=False)
    fit = READOUTS["svm"].fit
    expected = fit(split, target[None].astype(np.int64), 2, 0.01).decisions(split.test)
    wrong = support_vectors(np.eye(60) + 0.5, target, 0.01)
    assert wrong.violation < SVM_TOLERANCE  # of its own gram
    asked = []

    def failing(gram, target, strength):
        asked.append(strength)
        return Machine(np.ones(len(gram)), 0.0, np.inf)

    monkeypatch.setattr(readouts, "support_vectors", failing)
    found = fit(split, target[None].astype(np.int64), 2, 0.01).decisions(split.test)
    assert asked == [0.01]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_stimuli_that_are_the_same_are_no_trouble():
    x = np.repeat(patterns(n=20), 3, axis=0)
    target = np.random.default_rng(0).permutation(60) < 30
    split = make_split(Part(x, np.arange(60)), Part(x, np.arange(60)), scale=False)
    found = READOUTS["svm"].fit(split, target[None].astype(np.int64), 2, 0.1)
    theirs = SVC(C=0.1, kernel="linear", tol=1e-8).fit(x, target)
    found = found.decisions(split.test)[0, :, 0]
    np.testing.assert_allclose(found, theirs.decision_function(x), atol=1e-5)


def test_what_cannot_be_solved_is_no_machine():
    assert not support_vectors(np.full((6, 6), np.nan), np.arange(6) < 3, 1.0).violation < np.inf
