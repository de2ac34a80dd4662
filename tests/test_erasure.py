"""LEACE against its theorem: nothing left in training, the least change, and a control."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from patchclamp.analyses.erasure import erase, silent
from patchclamp.analyses.readouts import READOUTS
from patchclamp.analyses.splits import Part, make_split


def problem(units, classes=3, stimuli=90, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(stimuli) % classes)
    x = rng.normal(size=(stimuli, units)) @ rng.normal(size=(units, units)) / np.sqrt(units)
    x += 1.5 * rng.normal(size=(classes, units))[codes]
    split = make_split(Part(x, np.arange(60)), Part(x, np.arange(60, stimuli)), scale=False)
    return x, codes, split


def centred(codes, classes):
    z = np.eye(classes)[codes]
    return z - z.mean(axis=0)


@pytest.mark.parametrize("units", [12, 200])
@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_of_the_label_is_left_in_training(units, classes):
    _, codes, split = problem(units, classes)
    erased, taken = erase(split, codes[:60], classes)
    before = (split.train @ split.axes[0]).T @ centred(codes[:60], classes)
    after = erased.train.T @ centred(codes[:60], classes)
    assert np.abs(after).max() < 1e-9 * np.abs(before).max()
    assert 0 < taken < 1
    model = LogisticRegression(C=1e3, tol=1e-9, max_iter=10_000).fit(erased.train, codes[:60])
    assert np.abs(model.coef_).max() < 1e-4  # nothing to gain from any weight
    np.testing.assert_allclose(erased.train.mean(axis=0), 0, atol=1e-9)


def test_it_is_the_oblique_projection_of_the_closed_form():
    x, codes, split = problem(12)
    erased, _ = erase(split, codes[:60], 3)
    x = x - x[:60].mean(axis=0)
    covariance, cross = x[:60].T @ x[:60], x[:60].T @ centred(codes[:60], 3)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(values) @ vectors.T
    project = whiten @ cross @ np.linalg.pinv(whiten @ cross, rcond=1e-9)
    expected = x - x @ (whiten @ project @ np.linalg.inv(whiten))
    found = np.concatenate([erased.train, erased.test])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-8)


def test_it_changes_less_than_projecting_the_mean_difference_out():
    x, codes, split = problem(12, classes=2)
    _, taken = erase(split, codes[:60], 2)
    x = x[:60] - x[:60].mean(axis=0)
    mean = x[codes[:60] == 1].mean(axis=0) - x[codes[:60] == 0].mean(axis=0)
    mean /= np.linalg.norm(mean)
    assert taken < np.square(x @ mean).sum() / np.square(x).sum()


def test_erasing_twice_changes_nothing_more():
    _, codes, split = problem(12)
    once, _ = erase(split, codes[:60], 3)
    twice, taken = erase(once, codes[:60], 3)
    assert taken == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(twice.gram(), once.gram(), atol=1e-9)


@pytest.mark.parametrize("kind", ["ridge", "logistic", "centroid"])
@pytest.mark.parametrize("units", [12, 200])
def test_rounding_does_not_bring_the_label_back(kind, units):
    """The sign of what rounding leaves points to the label: read out, it would be all there."""
    _, codes, split = problem(units, classes=2)
    readout, inside = READOUTS[kind], codes[None, :60]
    before = readout.fit(split, inside, 2, 1.0)
    assert ((before.decisions(split.test)[0, :, 0] > 0) == codes[60:]).mean() > 0.8
    rest, _ = erase(split, codes[:60], 2)
    left = silent(rest, readout.fit(rest, inside, 2, 1.0), split, before)
    assert (left.weights == 0).all()
