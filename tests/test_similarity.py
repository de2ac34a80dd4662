"""Null distributions of every comparator against a comparison made for each labelling."""

import numpy as np
import pytest

from patchclamp.analyses.comparators import COMPARATORS, score
from patchclamp.analyses.pairs import pairs_of
from patchclamp.analyses.permutation import permuted_labels
from patchclamp.analyses.similarity import Comparison
from patchclamp.registry.errors import UndefinedError

N = 16
PAIRS = N * (N - 1) // 2
CODES = np.repeat(np.arange(4), 4)
TABLES = {
    "category": 1 - np.eye(4),
    "ordinal": np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0))),
    "any": np.multiply.outer([1.0, 3.0, 2.0, 7.0], [1.0, 3.0, 2.0, 7.0]) % 5,
}


@pytest.fixture
def rdms():
    return np.random.default_rng(0).gamma(2.0, size=(3, PAIRS)).round(2)


def labellings(how):
    rng = np.random.default_rng(1)
    if how == "exchanged":
        return np.concatenate([CODES[None], permuted_labels(CODES, None, 15, rng)])
    drawn = rng.integers(0, 4, size=(16, N))  # as groups of unequal size give
    drawn[0] = CODES
    return drawn


def one_by_one(compare, rdms, table, drawn, controls):
    models = [pairs_of(table, codes) for codes in drawn]
    return np.array([[score(compare, rdm, model, controls) for model in models] for rdm in rdms])


def scores(comparison, rdms, table, drawn):
    values = np.stack([comparison.transformed(rdm) for rdm in rdms])
    return comparison.scores(rdms, values, table, drawn)


@pytest.mark.parametrize("how", ["exchanged", "unequal"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("compare", COMPARATORS)
def test_all_labellings_at_once_are_as_one_after_another(rdms, compare, table, how):
    drawn, model = labellings(how), TABLES[table]
    for n_controls in (0, 2) if COMPARATORS[compare].partial else (0,):
        controls = np.random.default_rng(2).gamma(2.0, size=(n_controls, PAIRS))
        found = scores(Comparison(compare, controls), rdms, model, drawn)
        expected = one_by_one(compare, rdms, model, drawn, controls)
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("compare", ["pearson", "spearman", "cosine", "rho_a", "kendall_tau_a"])
def test_pairs_that_are_left_out_are_left_out_under_every_labelling(rdms, compare):
    rdms[1, [2, 30]] = np.nan
    table = np.random.default_rng(3).random((N, N))
    table = np.triu(table, 1) + np.triu(table, 1).T
    table[2, 9] = table[9, 2] = np.nan
    drawn = np.array([np.random.default_rng(s).permutation(N) for s in range(6)])
    none = np.empty((0, PAIRS))
    found = scores(Comparison(compare, none), rdms, table, drawn)
    np.testing.assert_allclose(found, one_by_one(compare, rdms, table, drawn, none), atol=1e-13)
    assert not np.allclose(found[:, 1:], found[:, :1])


def test_an_rdm_that_gaps_leave_too_little_of_has_no_value_and_a_whole_one_is_an_error(rdms):
    comparison = Comparison("spearman", np.empty((0, PAIRS)))
    rdms[0, 1:] = np.nan
    found = scores(comparison, rdms, TABLES["category"], labellings("exchanged"))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()
    rdms[0] = 1.5
    with pytest.raises(UndefinedError, match="120 values that are all equal"):
        scores(comparison, rdms, TABLES["category"], labellings("exchanged"))


def test_a_labelling_that_makes_the_model_constant_is_named(rdms):
    drawn = labellings("unequal")
    drawn[4] = 2
    comparison = Comparison("pearson", np.empty((0, PAIRS)))
    with pytest.raises(UndefinedError, match="labelling 4 of 16 makes the model RDM constant"):
        scores(comparison, rdms, TABLES["category"], drawn)
