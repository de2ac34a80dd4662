"""The bootstrap over stimuli against pairs written out as often as they were drawn."""

import numpy as np
import pytest

from patchclamp.analyses.comparators import score
from patchclamp.analyses.contrasts import contrasts, pair_sets
from patchclamp.analyses.pair_bootstrap import (
    BOOTSTRAPPED,
    contrast_draws,
    drawn_counts,
    interval,
    similarity_draws,
)
from patchclamp.registry.errors import AnalysisError, UndefinedError

N = 10
FIRST, SECOND = np.triu_indices(N, 1)


@pytest.fixture
def rdms():
    return np.random.default_rng(0).gamma(2.0, size=(3, len(FIRST))).round(1)


@pytest.fixture
def counts():
    return drawn_counts(np.arange(N), 40, np.random.default_rng(1))


def written_out(values, count):
    return np.repeat(values, count[FIRST] * count[SECOND])


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("model", ["binary", "graded"])
@pytest.mark.parametrize("compare", BOOTSTRAPPED)
def test_comparisons_are_those_of_pairs_written_out(rdms, counts, compare, model, gaps):
    rng = np.random.default_rng(2)
    values = (rng.random(45) > 0.5) * 1.0 if model == "binary" else rng.random(45).round(1)
    if gaps:
        rdms[1, [3, 20]] = np.nan
    found = similarity_draws(rdms, values, counts, compare)
    for row, rdm in enumerate(rdms):
        for draw, count in enumerate(counts):
            pairs = written_out(rdm, count)
            try:
                none = np.empty((0, len(pairs)))
                expected = score(compare, pairs, written_out(values, count), none)
            except UndefinedError:
                expected = np.nan
            np.testing.assert_allclose(found[row, draw], expected, atol=1e-12)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("kind", ["discriminative", "discriminative_target", "categorical"])
def test_contrasts_are_those_of_pairs_written_out(rdms, counts, kind, gaps):
    codes = np.repeat([0, 1], 5)
    if gaps:
        rdms[1, [3, 20]] = np.nan
    sets = pair_sets(codes, kind)
    found = contrast_draws(rdms, sets, counts)
    for row, rdm in enumerate(rdms):
        for draw, count in enumerate(counts):
            parts = [written_out(np.where(part, rdm, np.nan), count) for part in sets]
            means = [part[~np.isnan(part)] for part in parts]
            expected = np.nan
            if all(part.size for part in means):
                expected = means[0].mean() - means[1].mean()
            np.testing.assert_allclose(found[row, draw], expected, atol=1e-12)
    once = contrast_draws(rdms, sets, np.ones((1, N), dtype=np.int64))
    np.testing.assert_allclose(once, contrasts(rdms, codes[None], kind), atol=1e-13)


def test_groups_are_drawn_whole():
    groups = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    counts = drawn_counts(groups, 50, np.random.default_rng(0))
    for number in range(4):
        assert (counts[:, groups == number][:, 0] == counts[:, groups == number].T).all()
    assert (counts[:, [0, 2, 5, 6]].sum(axis=1) == 4).all()


def test_two_groups_are_too_few():
    with pytest.raises(AnalysisError, match="at least 3 of them; there are 2"):
        drawn_counts(np.array([0, 0, 1]), 10, np.random.default_rng(0))


def test_draws_without_a_value_are_left_out_up_to_a_share():
    draws = np.arange(100.0)[None].repeat(2, axis=0)
    draws[0, :4] = np.nan
    low, high = interval(draws, 0.5)
    np.testing.assert_allclose(low, [27.75, 24.75])
    draws[0, :6] = np.nan
    with pytest.raises(AnalysisError, match="6% of the bootstrap's draws leave no pair"):
        interval(draws, 0.5)
    draws[0] = np.nan
    low, high = interval(draws, 0.5)
    assert np.isnan(low[0])
    assert np.isfinite(high[1])


def coverage(kind):
    """Return how often the interval of a contrast of noise, whose truth is 0, holds it."""
    rng = np.random.default_rng(0)
    sets = pair_sets(np.repeat([0, 1], 15), kind)
    counts = drawn_counts(np.arange(30), 300, rng)
    first, second = np.triu_indices(30, 1)
    strength = rng.normal(size=(400, 30))
    values = strength[:, first] + strength[:, second] + rng.normal(size=(400, 435))
    low, high = interval(contrast_draws(values, sets, counts), 0.95)
    return ((low <= 0) & (high >= 0)).mean()


def test_the_interval_covers_what_differs_between_stimuli():
    assert 0.9 < coverage("categorical") < 0.98


def test_the_interval_is_too_wide_where_only_pairs_differ():
    """Strengths cancel in it, and noise of pairs is drawn for both of their stimuli."""
    assert coverage("discriminative") > 0.98
