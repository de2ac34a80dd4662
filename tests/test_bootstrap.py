"""The group bootstrap against a loop over draws, its closed-form error, and its coverage."""

import numpy as np
import pytest

from patchclamp.analyses.bootstrap import (
    calibration_interval,
    group_bootstrap,
    group_weights,
)
from patchclamp.analyses.scores import calibrated_errors, calibration_errors, log_chances
from patchclamp.registry.errors import AnalysisError

GROUPS = np.array([4, 4, 1, 1, 1, 7, 9, 9])


def test_draws_are_those_of_a_loop():
    values = np.random.default_rng(0).normal(size=8)
    result = group_bootstrap(values, GROUPS, 30, np.random.default_rng(5))
    counts = np.random.default_rng(5).multinomial(4, [0.25] * 4, size=30)
    for draw, count in zip(result, counts, strict=True):
        drawn = np.repeat([1, 4, 7, 9], count)
        pooled = np.concatenate([values[group == GROUPS] for group in drawn])
        assert draw == pytest.approx(pooled.mean())


def test_leading_axes_share_the_draws():
    values = np.random.default_rng(0).normal(size=(2, 3, 8))
    result = group_bootstrap(values, GROUPS, 30, np.random.default_rng(5))
    alone = group_bootstrap(values[1, 2], GROUPS, 30, np.random.default_rng(5))
    assert result.shape == (2, 3, 30)
    np.testing.assert_allclose(result[1, 2], alone)


def test_the_spread_is_the_standard_error_of_independent_stimuli():
    values = np.random.default_rng(0).normal(size=400)
    draws = group_bootstrap(values, None, 4000, np.random.default_rng(1))
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.05)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.005)


def test_copies_in_a_group_add_no_evidence():
    values = np.random.default_rng(0).normal(size=50)
    copied, groups = np.repeat(values, 8), np.repeat(np.arange(50), 8)
    alone = group_bootstrap(values, None, 2000, np.random.default_rng(1))
    grouped = group_bootstrap(copied, groups, 2000, np.random.default_rng(1))
    ignored = group_bootstrap(copied, None, 2000, np.random.default_rng(1))
    np.testing.assert_allclose(grouped, alone)
    assert ignored.std() < 0.5 * alone.std()


def test_equal_values_have_no_spread():
    draws = group_bootstrap(np.ones(8), GROUPS, 100, np.random.default_rng(0))
    np.testing.assert_allclose(draws, 1)


def test_one_group_is_refused():
    with pytest.raises(AnalysisError, match=r"at least 2 of them; there is 1 \(of 5 stimuli\)"):
        group_bootstrap(np.arange(5.0), ["a"] * 5, 10, np.random.default_rng(0))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(AnalysisError, match="1 of 3 values to bootstrap are NaN or infinite"):
        group_bootstrap([1.0, np.nan, 2.0], None, 10, np.random.default_rng(0))


def test_draws_of_whole_groups_keep_every_class():
    groups = np.repeat(np.arange(6), 3)
    codes = np.array([0] * 12 + [1] * 6)
    weights = group_weights(groups, codes, 500, np.random.default_rng(0))
    assert weights.shape == (500, 18)
    for group in range(6):
        assert np.ptp(weights[:, groups == group], axis=1).max() == 0
    assert (weights[:, codes == 0].sum(axis=1) > 0).all()
    assert (weights[:, codes == 1].sum(axis=1) > 0).all()
    assert (weights[:, ::3].sum(axis=1) == 6).all()


def test_a_class_of_one_group_has_no_interval():
    with pytest.raises(AnalysisError, match="class number 1 has 1 group; an interval needs 2"):
        group_weights([0, 0, 1, 2], np.array([0, 0, 0, 1]), 10, np.random.default_rng(0))


def bins_of(shares, slope, bins=10):
    """Return the true calibration error of read-outs that say `shares` of log-odds z."""
    odds = np.log(shares / (1 - shares))
    right = 1 / (1 + np.exp(-slope * odds))
    confidence, accuracy = np.maximum(shares, 1 - shares), np.where(shares > 0.5, right, 1 - right)
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [(accuracy - confidence)[number == b].sum() for b in range(bins)]
    return np.abs(gaps).sum() / len(shares)


@pytest.mark.parametrize(("slope", "least", "percentiles"), [(1.0, 0.93, 0.01), (0.4, 0.84, 0.9)])
def test_the_interval_of_a_calibration_error_holds_the_true_one(slope, least, percentiles):
    rng = np.random.default_rng(0)
    truth = bins_of(1 / (1 + np.exp(-1.5 * rng.normal(size=400_000))), slope)
    held = plain = 0
    for _ in range(200):
        odds = 1.5 * rng.normal(size=80)
        codes = (rng.random(80) < 1 / (1 + np.exp(-slope * odds))).astype(int)
        shares = np.exp(log_chances(odds[:, None]))
        weights = np.concatenate([np.ones((1, 80)), rng.multinomial(80, np.full(80, 1 / 80), 400)])
        draws = calibration_errors(shares, codes, weights)
        low, high = calibration_interval(draws, calibrated_errors(shares, rng.random((400, 80))))
        held += low <= truth <= high
        low, high = np.quantile(draws[1:], [0.025, 0.975])
        plain += low <= truth <= high
    assert held / 200 >= least
    assert plain / 200 <= percentiles
