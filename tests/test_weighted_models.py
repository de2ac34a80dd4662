"""Weighted model RDMs against a fit for each fold, and what they predict of noise."""

import numpy as np
import pytest
from scipy.optimize import nnls

from patchclamp.analyses import weighted_models
from patchclamp.analyses.model_rdms import category_table, difference_table
from patchclamp.analyses.pairs import pairs_of
from patchclamp.analyses.weighted_models import model_weights, weighted_similarity

N = 24
CODES = np.arange(N)
FOLD = CODES % 4


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    sorts = category_table([str(value) for value in rng.integers(0, 3, N)])
    return sorts, difference_table([str(value) for value in rng.normal(size=N)], "x")


@pytest.fixture
def rdms(tables):
    rng = np.random.default_rng(1)
    first, second = (pairs_of(table, CODES) for table in tables)
    noise = rng.normal(size=(3, len(first))) * 0.3
    return np.stack([0.5 * first + second, first, np.zeros(len(first))]) + noise + 2


def fold_by_fold(rdm, tables, codes):
    first, second = np.triu_indices(N, 1)
    models = np.stack([pairs_of(table, codes) for table in tables])
    scores = []
    for fold in range(4):
        train = (FOLD[first] != fold) & (FOLD[second] != fold)
        test = (FOLD[first] == fold) & (FOLD[second] == fold)
        centred = models[:, train] - models[:, train].mean(axis=1, keepdims=True)
        weights = nnls(centred.T, rdm[train] - rdm[train].mean())[0]
        predicted = weights @ models[:, test]
        flat = np.ptp(predicted) < 1e-12
        scores.append(0.0 if flat else np.corrcoef(predicted, rdm[test])[0, 1])
    return np.mean(scores)


@pytest.mark.parametrize("block", [1, 2**21])
def test_predictions_are_those_of_a_fit_for_each_fold(rdms, tables, block, monkeypatch):
    monkeypatch.setattr(weighted_models, "BLOCK", block)
    rng = np.random.default_rng(2)
    labellings = np.stack([CODES, rng.permutation(N), rng.permutation(N)])
    found = weighted_similarity(rdms, tables, labellings, FOLD)
    expected = [[fold_by_fold(rdm, tables, codes) for codes in labellings] for rdm in rdms]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (found[:2, 0] > 0.5).all()


def test_weights_say_what_was_mixed(rdms, tables):
    weights = model_weights(rdms, tables, CODES)
    np.testing.assert_allclose(weights[0], [0.5, 1], atol=0.1)
    np.testing.assert_allclose(weights[1], [1, 0], atol=0.1)


def test_models_that_are_one_weigh_as_one(rdms, tables):
    twice = model_weights(rdms, (tables[0], tables[0]), CODES)
    once = model_weights(rdms, tables[:1], CODES)
    np.testing.assert_allclose(twice.sum(axis=1), once[:, 0], atol=1e-9)


def test_a_model_of_the_wrong_sign_predicts_nothing(rdms, tables):
    found = weighted_similarity(-rdms[1:2], tables[:1], CODES[None], FOLD)
    assert found.item() == 0
