"""Condensed pairs, and weighted sums over them for many labellings, against loops over pairs."""

from itertools import combinations

import numpy as np
import pytest

from patchclamp.analyses import pairs


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(3, 55))


@pytest.fixture
def labellings():
    rng = np.random.default_rng(1)
    return np.array([rng.permutation([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]) for _ in range(20)])


def test_a_condensed_position_leads_back_to_its_rows():
    rows = [pairs.pair_rows(pair, 15) for pair in range(15)]
    assert rows == list(combinations(range(6), 2))
    assert [rows[pairs.row_start(row, 6)] for row in range(5)] == [(i, i + 1) for i in range(5)]


def test_a_number_of_values_that_no_matrix_has_is_refused():
    with pytest.raises(ValueError, match="5 values are no condensed matrix"):
        pairs.stimuli_of(5)


def loop(values, labellings, weigh):
    """Return sums over pairs, one after another."""
    places = list(combinations(range(11), 2))
    result = np.zeros((len(values), len(labellings)))
    for row, column in np.ndindex(result.shape):
        codes = labellings[column]
        for value, (i, j) in zip(values[row], places, strict=True):
            result[row, column] += value * weigh(codes[i], codes[j])
    return result


@pytest.mark.parametrize("block", [1, 60, 2**21])
def test_sums_are_those_of_a_loop_over_pairs(values, labellings, block, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", block)
    found = pairs.pair_sums(values, labellings, pairs.same)
    np.testing.assert_allclose(found, loop(values, labellings, lambda a, b: a == b), atol=1e-12)
    table = np.random.default_rng(2).normal(size=(3, 3))
    table += table.T
    found = pairs.pair_sums(values, labellings, pairs.looked_up(table))
    expected = loop(values, labellings, lambda a, b: table[a, b])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(pairs.pairs_of(table, labellings[0]) @ values[1], expected[1, 0])
