"""Noise ceilings against their definition, closed forms, and draws written out."""

import numpy as np
import pytest

from patchclamp.analyses.comparators import score
from patchclamp.analyses.noise_ceilings import ceiling_draws, noise_ceiling
from patchclamp.analyses.pair_bootstrap import drawn_counts
from patchclamp.registry.errors import AnalysisError

COMPARE = ("spearman", "pearson", "cosine", "rho_a", "kendall_tau_a", "whitened_cosine")


@pytest.fixture
def rdms():
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, size=45) + rng.gamma(1.0, size=(5, 45))


@pytest.mark.parametrize("compare", COMPARE)
def test_identical_repetitions_bound_nothing(rdms, compare):
    same = np.repeat(rdms[:1], 4, axis=0)
    low, high = noise_ceiling(same, compare)
    assert low == pytest.approx(1)
    assert high == pytest.approx(1)


@pytest.mark.parametrize("compare", COMPARE)
def test_the_upper_bound_is_above_the_lower_and_above_any_model(rdms, compare):
    low, high = noise_ceiling(rdms, compare)
    assert 0 < low < high < 1
    rng = np.random.default_rng(1)
    none = np.empty((0, 45))
    for scale in (0.1, 1.0, 10.0):
        model = rdms.mean(axis=0) + scale * rng.normal(size=45) * rdms.std()
        reached = np.mean([score(compare, rdm, model, none) for rdm in rdms])
        assert reached < high + 1e-3  # of averaged ranks the bound is close, not exact


def test_pearson_ceilings_are_those_of_standardised_means(rdms):
    z = (rdms - rdms.mean(axis=1, keepdims=True)) / rdms.std(axis=1, keepdims=True)
    low, high = noise_ceiling(rdms, "pearson")
    one_out = [np.corrcoef(z[i], np.delete(z, i, axis=0).mean(axis=0))[0, 1] for i in range(5)]
    assert low == pytest.approx(np.mean(one_out))
    assert high == pytest.approx(np.mean([np.corrcoef(row, z.mean(axis=0))[0, 1] for row in z]))


@pytest.mark.parametrize("compare", ["pearson", "cosine"])
def test_draws_are_those_of_pairs_written_out(rdms, compare):
    models = np.random.default_rng(1).random((2, 45))
    counts = drawn_counts(np.arange(10), 20, np.random.default_rng(2))
    compared, low, high = ceiling_draws(rdms, models, counts, compare)
    first, second = np.triu_indices(10, 1)
    for draw, count in enumerate(counts):
        times = count[first] * count[second]
        written = np.repeat(rdms, times, axis=1)
        expected = noise_ceiling(written, compare)
        np.testing.assert_allclose((low[draw], high[draw]), expected, atol=1e-12)
        for number, model in enumerate(models):
            none = np.empty((0, times.sum()))
            scores = [score(compare, row, np.repeat(model, times), none) for row in written]
            assert compared[draw, number] == pytest.approx(np.mean(scores), abs=1e-12)


def test_one_repetition_has_no_ceiling(rdms):
    with pytest.raises(AnalysisError, match="how far repetitions agree, and there is 1"):
        noise_ceiling(rdms[:1], "spearman")
