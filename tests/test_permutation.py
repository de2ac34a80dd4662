"""Label permutation: enumeration of small designs, what is kept, and p values."""

import math
from decimal import Decimal
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.analyses.permutation import (
    arrangements,
    description,
    p_max,
    p_value,
    permuted_labels,
    scheme,
)
from patchclamp.registry.errors import AnalysisError

FREE = (np.array([0, 0, 0, 1, 1, 1, 1]), None)
WHOLE = (np.repeat([0, 1, 1, 0, 0, 1, 1], 2), np.repeat(np.arange(7), 2))
WITHIN = (np.array([0, 1, 2] * 3), np.repeat([5, 2, 9], 3))
MIXED = (np.array([0, 1, 1, 0, 0, 0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2]))


def partition(labels):
    """Return labels with classes renamed in order of appearance: what a statistic can see."""
    seen = {}
    return tuple(seen.setdefault(label, len(seen)) for label in labels)


def orders(labels):
    return set(permutations(labels.tolist()))


def enumerated(codes, groups):
    """Return all distinct partitions that the design allows, by brute force."""
    if groups is None:
        return {partition(order) for order in orders(codes)}
    _, first, index = np.unique(groups, return_index=True, return_inverse=True)
    if scheme(codes, groups) == "whole groups":
        return {partition(np.array(order)[index].tolist()) for order in orders(codes[first])}
    members = [np.flatnonzero(index == number) for number in range(len(first))]
    ways = set()
    for choice in product(*(orders(codes[rows]) for rows in members)):
        way = codes.copy()
        for rows, order in zip(members, choice, strict=True):
            way[rows] = order
        ways.add(partition(way.tolist()))
    return ways


@pytest.mark.parametrize(
    ("design", "how"),
    [(FREE, "free"), (WHOLE, "whole groups"), (WITHIN, "within groups"), (MIXED, "within groups")],
)
def test_the_scheme_follows_the_design(design, how):
    assert scheme(*design) == how


@pytest.mark.parametrize("design", [FREE, WHOLE, WITHIN, MIXED])
def test_arrangements_are_counted_as_enumeration_counts_them(design):
    assert arrangements(*design) == len(enumerated(*design))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=6))
def test_arrangements_of_any_small_design(rows):
    codes, groups = np.array(rows).T
    assert arrangements(codes, groups) == len(enumerated(codes, groups))
    assert arrangements(codes, None) == len(enumerated(codes, None))


@pytest.mark.parametrize("design", [FREE, WHOLE, WITHIN])
def test_every_arrangement_is_drawn_equally_often(design):
    drawn = permuted_labels(*design, 20_000, np.random.default_rng(0))
    ways, counts = np.unique([partition(row) for row in drawn.tolist()], axis=0, return_counts=True)
    expected = 20_000 / arrangements(*design)
    assert {tuple(way) for way in ways.tolist()} == enumerated(*design)
    # Chi-square over its degrees of freedom: 1 on average, 1.8 is beyond 5 sd for 34.
    assert ((counts - expected) ** 2 / expected).mean() < 1.8


def test_whole_groups_keep_one_label():
    codes, groups = WHOLE
    for labels in permuted_labels(codes, groups, 50, np.random.default_rng(0)):
        assert all(len(set(labels[groups == g])) == 1 for g in range(7))
        assert sorted(labels[::2]) == sorted(codes[::2])


@pytest.mark.parametrize("design", [WITHIN, MIXED])
def test_labels_stay_in_their_group(design):
    codes, groups = design
    if design is MIXED:
        codes, groups = np.tile(codes, 2), np.concatenate([groups, groups + 3])
    drawn = permuted_labels(codes, groups, 50, np.random.default_rng(0))
    for group in np.unique(groups):
        expected = np.sort(codes[groups == group])
        assert (np.sort(drawn[:, groups == group], axis=1) == expected).all()
    assert (drawn != codes).any()


def test_a_constant_group_in_a_mixed_design_keeps_its_label():
    codes, groups = np.tile(MIXED[0], 2), np.concatenate([MIXED[1], MIXED[1] + 3])
    drawn = permuted_labels(codes, groups, 50, np.random.default_rng(0))
    assert (drawn[:, groups == 1] == 0).all()


def test_equal_seeds_give_equal_permutations():
    first, second = (permuted_labels(*FREE, 5, np.random.default_rng(8)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_design_with_too_few_arrangements_is_refused():
    text = (
        r"allows 10 distinct arrangements of the labels \(free; 6 stimuli, 2 classes\), "
        r"so p cannot reach 0\.05: at least 20"
    )
    with pytest.raises(AnalysisError, match=text):
        permuted_labels(np.array([0, 0, 0, 1, 1, 1]), None, 99, np.random.default_rng(0))


def test_few_groups_are_refused_however_many_stimuli_they_hold():
    codes, groups = np.repeat([0, 1], 50), np.repeat(np.arange(4), 25)
    text = r"allows 3 distinct .*\(whole groups; 100 stimuli in 4 groups, 2 classes\)"
    with pytest.raises(AnalysisError, match=text):
        permuted_labels(codes, groups, 99, np.random.default_rng(0))


def test_a_constant_label_has_one_arrangement():
    with pytest.raises(AnalysisError, match="allows 1 distinct arrangement of"):
        permuted_labels(np.zeros(30, dtype=int), None, 99, np.random.default_rng(0))


def test_huge_numbers_of_arrangements_are_told_as_text():
    codes = np.tile(np.arange(5), 400)
    ways = math.factorial(2000) // math.factorial(400) ** 5 // math.factorial(5)
    assert description(codes, None, 99)["n_arrangements"] == f"{Decimal(ways):.1e}"
    assert description(*FREE, 99)["n_arrangements"] == 35


def test_p_counts_the_observed_arrangement():
    null = np.arange(99.0)
    assert p_value(1000.0, null) == pytest.approx(0.01)
    assert p_value(-1000.0, null) == 1
    assert p_value(98.0, null) == pytest.approx(0.02)


def test_ties_by_rounding_count_against_the_effect():
    assert p_value(0.3, np.full(19, 0.1 + 0.2 - 1e-15)) == 1
    assert p_value(0.3, np.full(19, 0.299)) == pytest.approx(0.05)


def test_p_approaches_that_of_full_enumeration():
    values = np.array([0.3, 1.9, 1.2, 2.0, 2.2, 3.1, 2.7])
    codes = FREE[0]

    def statistic(labels):
        return values[np.asarray(labels) == 1].mean() - values[np.asarray(labels) == 0].mean()

    every = orders(codes)
    exact = np.mean([statistic(order) >= statistic(codes) - 1e-9 for order in every])
    drawn = permuted_labels(codes, None, 20_000, np.random.default_rng(0))
    sampled = p_value(statistic(codes), [statistic(labels) for labels in drawn])
    assert 0.02 < exact < 0.2
    assert sampled == pytest.approx(exact, abs=0.006)  # 3 standard errors


def test_p_max_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    observed, null = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 99))
    largest = [null[..., permutation].max() for permutation in range(99)]
    expected = [(1 + sum(m >= o for m in largest)) / 100 for o in observed.ravel()]
    np.testing.assert_allclose(p_max(observed, null).ravel(), expected)
    assert (p_max(observed, null) >= p_value(observed, null)).all()


def test_p_max_of_one_place_is_p():
    rng = np.random.default_rng(0)
    observed, null = rng.normal(size=(1,)), rng.normal(size=(1, 99))
    assert p_max(observed, null) == p_value(observed, null)


def test_p_max_holds_the_error_of_the_family_and_p_does_not():
    rng = np.random.default_rng(0)
    worlds = rng.normal(size=(300, 20, 100))
    any_corrected = np.mean([(p_max(w[:, 0], w[:, 1:]) <= 0.05).any() for w in worlds])
    any_plain = np.mean([(p_value(w[:, 0], w[:, 1:]) <= 0.05).any() for w in worlds])
    assert any_corrected < 0.09  # 0.05 and 3 standard errors
    assert any_plain > 0.5
