"""Contrasts of many labellings against loops over pairs, and identities."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import pearsonr

from patchclamp.analyses import contrasts as module
from patchclamp.analyses.contrasts import contrasts, pair_sets
from patchclamp.registry.errors import UndefinedError

KINDS = ("discriminative", "discriminative_target", "categorical")


@pytest.fixture
def values():
    return np.random.default_rng(0).gamma(2.0, size=(2, 55))


@pytest.fixture
def labellings():
    rng = np.random.default_rng(1)
    return np.array([rng.permutation([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]) for _ in range(20)])


def loop(values, labels, kind):
    """Return the difference of means, pair by pair."""
    first, second = [], []
    for value, (i, j) in zip(values, combinations(range(len(labels)), 2), strict=True):
        a, b = labels[i], labels[j]
        if kind == "discriminative":
            (first if a == b else second).append(value)
        elif a == b == 0:
            first.append(value)
        elif (kind == "categorical" and a == b == 1) or (
            kind == "discriminative_target" and a != b
        ):
            second.append(value)
    return np.nanmean(first) - np.nanmean(second)


@pytest.fixture(params=["few labellings", "many"])
def however_many(request, monkeypatch):
    if request.param == "many":
        monkeypatch.setattr(module, "FEW", 0)


@pytest.mark.usefixtures("however_many")
@pytest.mark.parametrize("kind", KINDS)
def test_contrasts_are_those_of_a_loop_over_pairs(values, labellings, kind):
    labellings = labellings if kind == "discriminative" else (labellings > 0).astype(np.int64)
    found = contrasts(values, labellings, kind)
    expected = [[loop(row, labels, kind) for labels in labellings] for row in values]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    first, second = pair_sets(labellings[3], kind)
    np.testing.assert_allclose(
        values[1][first].mean() - values[1][second].mean(), found[1, 3], atol=1e-13
    )


@pytest.mark.usefixtures("however_many")
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_without_a_value_are_left_out(values, labellings, kind):
    labellings = labellings if kind == "discriminative" else (labellings > 0).astype(np.int64)
    values[1, [4, 17, 50]] = np.nan
    found = contrasts(values, labellings, kind)
    expected = [[loop(row, labels, kind) for labels in labellings] for row in values]
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_an_rdm_that_lacks_a_set_of_pairs_under_some_labelling_has_no_contrast(values, labellings):
    two = (labellings > 0).astype(np.int64)
    first, _ = pair_sets(two[5], "categorical")
    values[0, first] = np.nan
    found = contrasts(values, two, "categorical")
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_pearson_with_a_category_is_the_mean_difference_over_the_spread(values, labellings):
    """r = (mean across - mean within) sqrt(p_within p_across) / sd, of all pairs."""
    difference = -contrasts(values, labellings, "discriminative")
    share = (labellings[0][:, None] == labellings[0])[np.triu_indices(11, 1)].mean()
    for row, rdm in enumerate(values):
        for column, labels in enumerate(labellings):
            model = [float(a != b) for a, b in combinations(labels, 2)]
            r = difference[row, column] * np.sqrt(share * (1 - share)) / rdm.std()
            assert r == pytest.approx(pearsonr(rdm, model)[0], abs=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_of_all_values_leaves_contrasts(values, labellings, kind):
    labellings = labellings if kind == "discriminative" else (labellings > 0).astype(np.int64)
    before, after = (contrasts(v, labellings, kind) for v in (values, values + 7))
    np.testing.assert_allclose(after, before, atol=1e-12)


@pytest.mark.usefixtures("however_many")
@pytest.mark.parametrize("kind", KINDS)
def test_classes_that_are_far_apart_cost_what_is_observed_no_digits(values, labellings, kind):
    labels = np.repeat([0, 1], [5, 6])
    two = np.concatenate([labels[None], (labellings > 0).astype(np.int64)])
    i, j = np.triu_indices(11, 1)
    far = np.where(labels[i] != labels[j], 1e12, 1.0) * values
    found = contrasts(far, two, kind)
    expected = [[loop(row, codes, kind) for codes in two] for row in far]
    np.testing.assert_allclose(found[:, 0], np.array(expected)[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_labelling_that_empties_a_class_is_refused():
    labellings = np.array([[0, 0, 1, 1], [0, 1, 1, 1]])
    text = "1 of 2 labellings leave no pair of stimuli within the first class"
    with pytest.raises(UndefinedError, match=text):
        contrasts(np.arange(6.0)[None], labellings, "categorical")
    with pytest.raises(UndefinedError, match=r"within the target class.*groups of equal size"):
        contrasts(np.arange(6.0)[None], labellings, "discriminative_target")


def test_one_class_leaves_nothing_across():
    labels = np.zeros((1, 4), dtype=np.int64)
    with pytest.raises(UndefinedError, match="no pair of stimuli across the classes"):
        contrasts(np.arange(6.0)[None], labels, "discriminative")
