"""Folds: groups stay whole, sizes are balanced, labels are not looked at."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.analyses.folds import group_folds, stratified_folds
from patchclamp.registry.errors import AnalysisError


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=5, max_size=30),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_groups_stay_whole_and_folds_are_balanced(sizes, n_folds, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    folds = group_folds(groups, n_folds, np.random.default_rng(seed))
    assert all(len(set(folds[groups == g])) == 1 for g in range(len(sizes)))
    filled = np.bincount(folds, minlength=n_folds)
    assert filled.min() >= 1
    assert filled.max() - filled.min() <= max(sizes)


def test_equal_groups_give_equal_folds():
    folds = group_folds(np.repeat(np.arange(20), 3), 5, np.random.default_rng(0))
    assert np.bincount(folds).tolist() == [12] * 5


def test_the_order_of_stimuli_does_not_matter():
    groups = np.array(["b", "a", "d", "a", "c", "b", "e"])
    order = np.random.default_rng(1).permutation(7)
    folds = group_folds(groups, 3, np.random.default_rng(0))
    again = group_folds(groups[order], 3, np.random.default_rng(0))
    np.testing.assert_array_equal(again, folds[order])


def test_another_seed_deals_other_folds():
    groups = np.arange(40)
    first, second = (group_folds(groups, 4, np.random.default_rng(seed)) for seed in (0, 1))
    assert (first != second).any()


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(AnalysisError, match=r"5 folds need.*there are 3 \(of 30 stimuli\)"):
        group_folds(np.repeat([0, 1, 2], 10), 5, np.random.default_rng(0))


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 2), min_size=5, max_size=30),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_stratified_folds_hold_equally_many_groups_of_each_class(labels, n_folds, seed):
    groups = np.repeat(np.arange(len(labels)), np.arange(len(labels)) % 3 + 1)
    codes = np.array(labels)[groups]
    folds = stratified_folds(codes, groups, n_folds, np.random.default_rng(seed))
    assert all(len(set(folds[groups == g])) == 1 for g in range(len(labels)))
    for code in set(labels):
        held = [len(set(groups[(folds == f) & (codes == code)])) for f in range(n_folds)]
        assert max(held) - min(held) <= 1


def test_exchanging_labels_inside_a_fold_leaves_a_partition_as_likely():
    """What makes a test exact that permutes inside folds which were drawn by labels."""
    groups, codes = np.arange(6), np.array([0, 0, 0, 0, 1, 1])
    drawn = [
        tuple(stratified_folds(codes, groups, 2, np.random.default_rng(seed)))
        for seed in range(4000)
    ]
    partitions, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(partitions) == 6 * 2  # 4 choose 2 ways for the one class, 2 for the other
    expected = 4000 / 12
    assert ((counts - expected) ** 2 / expected).sum() < 31  # chi-square, 11 df: p = 0.001


def test_what_cannot_be_stratified_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(AnalysisError, match="group '7' holds several classes, so that folds of"):
        stratified_folds(np.array([0, 1, 1, 0]), [7, 7, 8, 9], 2, rng)
    with pytest.raises(AnalysisError, match="5 folds need at least 5 groups; there are 3"):
        stratified_folds(np.array([0, 1, 1, 0]), [7, 8, 8, 9], 5, rng)
