"""Pair statistics of many labellings against loops over pairs, SciPy, and identities."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, pearsonr, spearmanr

from patchclamp.analyses import contrasts
from patchclamp.analyses.rdm import ranks
from patchclamp.registry.errors import UndefinedError


@pytest.fixture
def values():
    return np.random.default_rng(0).gamma(2.0, size=11 * 10 // 2)


@pytest.fixture
def labellings():
    rng = np.random.default_rng(1)
    return np.array([rng.permutation([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]) for _ in range(20)])


def loop(values, labels):
    """Return the values within each class, and across classes, pair by pair."""
    within, across = {c: [] for c in set(labels)}, []
    for value, (i, j) in zip(values, combinations(range(len(labels)), 2), strict=True):
        (within[labels[i]] if labels[i] == labels[j] else across).append(value)
    return within, across


def model_rdm(labels):
    return np.array([float(a != b) for a, b in combinations(labels, 2)])


def test_sums_are_those_of_a_loop_over_pairs(values, labellings):
    sums = contrasts.pair_sums(values, labellings, 3)
    assert sums.total == pytest.approx(values.sum())
    assert sums.n_pairs == 55
    for row, labels in enumerate(labellings.tolist()):
        within, _ = loop(values, labels)
        np.testing.assert_allclose(sums.within[row], [sum(within[c]) for c in range(3)])
        np.testing.assert_array_equal(sums.pairs[row], [len(within[c]) for c in range(3)])


def test_blocks_of_labellings_change_nothing(values, labellings, monkeypatch):
    whole = contrasts.pair_sums(values, labellings, 3).within
    monkeypatch.setattr(contrasts, "BLOCK", 3 * 11 * 3)
    np.testing.assert_allclose(contrasts.pair_sums(values, labellings, 3).within, whole)


def test_category_correlation_is_pearson_with_the_model_rdm(values, labellings):
    result = contrasts.category_correlation(values, labellings, 3)
    expected = [pearsonr(values, model_rdm(labels))[0] for labels in labellings]
    np.testing.assert_allclose(result, expected, atol=1e-13)


def test_category_correlation_of_ranks_is_spearman(values, labellings):
    tied = values.round(1)
    result = contrasts.category_correlation(ranks(tied), labellings, 3)
    expected = [spearmanr(tied, model_rdm(labels))[0] for labels in labellings]
    np.testing.assert_allclose(result, expected, atol=1e-13)


def test_pearson_with_a_category_is_the_mean_difference_over_the_spread(values, labellings):
    """r = (mean across - mean within) sqrt(p_within p_across) / sd, of all pairs."""
    r = contrasts.category_correlation(values, labellings, 3)
    difference = -contrasts.discriminative(contrasts.pair_sums(values, labellings, 3))
    share = (labellings[0][:, None] == labellings[0])[np.triu_indices(11, 1)].mean()
    np.testing.assert_allclose(r, difference * np.sqrt(share * (1 - share)) / values.std())


def test_spearman_with_a_category_is_a_mann_whitney_u(values, labellings):
    rho = contrasts.category_correlation(ranks(values), labellings, 3)
    for row, labels in enumerate(labellings.tolist()):
        within, across = loop(values, labels)
        a, w = len(across), sum(map(len, within.values()))
        u = mannwhitneyu(across, np.concatenate(list(within.values()))).statistic
        expected = (u - a * w / 2) * np.sqrt(12 / (a * w * ((a + w) ** 2 - 1)))
        assert rho[row] == pytest.approx(expected, abs=1e-13)


def test_contrasts_are_those_of_a_loop_over_pairs(values, labellings):
    result = contrasts.discriminative(contrasts.pair_sums(values, labellings, 3))
    for row, labels in enumerate(labellings.tolist()):
        within, across = loop(values, labels)
        pooled = np.concatenate(list(within.values()))
        assert result[row] == pytest.approx(pooled.mean() - np.mean(across))


def test_two_class_contrasts_are_those_of_a_loop_over_pairs(values, labellings):
    labellings = (labellings > 0).astype(np.int64)
    sums = contrasts.pair_sums(values, labellings, 2)
    target, categorical = contrasts.discriminative_target(sums), contrasts.categorical(sums)
    for row, labels in enumerate(labellings.tolist()):
        within, across = loop(values, labels)
        assert target[row] == pytest.approx(np.mean(within[0]) - np.mean(across))
        assert categorical[row] == pytest.approx(np.mean(within[0]) - np.mean(within[1]))


def test_a_shift_of_all_values_leaves_contrasts(values, labellings):
    before = contrasts.discriminative(contrasts.pair_sums(values, labellings, 3))
    after = contrasts.discriminative(contrasts.pair_sums(values + 7, labellings, 3))
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_a_labelling_that_empties_a_class_is_refused():
    labellings = np.array([[0, 0, 1, 1], [0, 1, 1, 1]])
    sums = contrasts.pair_sums(np.arange(6.0), labellings, 2)
    text = "1 of 2 labellings leave no pair of stimuli within the first class"
    with pytest.raises(UndefinedError, match=text):
        contrasts.categorical(sums)
    with pytest.raises(UndefinedError, match=r"within the target class.*groups of equal size"):
        contrasts.discriminative_target(sums)


def test_one_class_leaves_nothing_across():
    labels = np.zeros((1, 4), dtype=np.int64)
    with pytest.raises(UndefinedError, match="no pair of stimuli across the classes"):
        contrasts.category_correlation(np.arange(6.0), labels, 1)
    with pytest.raises(UndefinedError, match="no pair of stimuli across the classes"):
        contrasts.discriminative(contrasts.pair_sums(np.arange(6.0), labels, 1))


def test_a_constant_rdm_is_refused():
    with pytest.raises(UndefinedError, match="6 values that are all equal"):
        contrasts.category_correlation(np.full(6, 1.2), np.array([[0, 0, 1, 1]]), 2)
