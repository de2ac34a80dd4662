"""Contrasts of cell means against SciPy, least squares, loops, and coverage of intervals."""

import numpy as np
import pytest
from scipy import stats

from patchclamp.analyses.cell_means import (
    between_items,
    permuted_between,
    permuted_within,
    within_items,
)

TWO = np.array([[1.0, -1.0]])
FOUR = np.array([[0.5, 0.5, -0.5, -0.5], [0.5, -0.5, 0.5, -0.5], [1.0, -1.0, -1.0, 1.0]])


def problem(sizes, units=7, seed=0):
    rng = np.random.default_rng(seed)
    cells = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = rng.normal(size=(len(cells), units)) * rng.uniform(0.5, 3, len(sizes))[cells, None]
    return values + 100 + rng.normal(size=(len(sizes), units))[cells], cells


def test_two_cells_give_welchs_t():
    values, cells = problem((9, 14))
    found = between_items(values, cells, TWO)
    expected = stats.ttest_ind(values[cells == 0], values[cells == 1], equal_var=False)
    np.testing.assert_allclose(found.t[0], expected.statistic)
    np.testing.assert_allclose(found.df[0], expected.df)
    np.testing.assert_allclose(found.p[0], expected.pvalue)
    difference = values[cells == 0].mean(axis=0) - values[cells == 1].mean(axis=0)
    np.testing.assert_allclose(found.psi[0], difference)


def test_small_p_values_keep_their_digits():
    values, cells = problem((40, 40))
    values[cells == 0] += 30
    found = between_items(values, cells, TWO)
    expected = stats.ttest_ind(values[cells == 0], values[cells == 1], equal_var=False)
    assert (expected.pvalue < 1e-20).any()
    np.testing.assert_allclose(found.p[0], expected.pvalue, rtol=1e-6)


def test_items_that_have_both_cells_give_the_paired_t():
    values = np.random.default_rng(0).normal(size=(12, 2, 5)) + 3
    found = within_items(values, TWO)
    expected = stats.ttest_rel(values[:, 0], values[:, 1])
    np.testing.assert_allclose(found.t[0], expected.statistic)
    np.testing.assert_allclose(found.p[0], expected.pvalue)
    assert (found.df == 11).all()


def test_a_balanced_design_gives_the_f_of_a_two_way_anova():
    values, cells = problem((10, 10, 10, 10))
    found = between_items(values, cells, FOUR)
    a, b = 1 - 2 * (cells // 2), 1 - 2 * (cells % 2)
    design = np.column_stack([np.ones(40), a, b, a * b])
    fit, *_ = np.linalg.lstsq(design, values, rcond=None)
    mse = np.square(values - design @ fit).sum(axis=0) / 36
    # With as many stimuli in each cell t² does not depend on whether variances are pooled.
    np.testing.assert_allclose(found.t**2, fit[1:] ** 2 * 40 / mse)
    np.testing.assert_allclose(found.psi, fit[1:] * np.array([2, 2, 4])[:, None])


def test_factors_within_items_are_contrasts_of_each_item():
    values = np.random.default_rng(1).normal(size=(11, 4, 3))
    found = within_items(values, FOUR)
    for row, weights in enumerate(FOUR):
        expected = stats.ttest_1samp(np.einsum("iju,j->iu", values, weights), 0)
        np.testing.assert_allclose(found.t[row], expected.statistic)
        np.testing.assert_allclose(found.p[row], expected.pvalue)


def test_equal_cells_give_cohens_d():
    values, cells = problem((15, 15))
    found = between_items(values, cells, TWO)
    first, second = values[cells == 0], values[cells == 1]
    pooled = np.sqrt((first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / 2)
    np.testing.assert_allclose(found.d[0], found.psi[0] / pooled)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("truth", [0.0, 0.8])
def test_the_interval_of_d_covers_what_is_true(within, truth):
    """20,000 units are as many repetitions; cells of unequal size and variance."""
    rng = np.random.default_rng(3)
    scale = np.array([1.0, 2.0])
    shift = truth * np.sqrt(np.mean(scale**2))
    if within:
        shared = rng.normal(size=(25, 1, 20_000))
        values = (shared + rng.normal(size=(25, 2, 20_000))) / np.sqrt(2) * scale[:, None]
        values[:, 0] += shift
        found = within_items(values, TWO)
    else:
        cells = np.repeat([0, 1], [20, 35])
        values = rng.normal(size=(55, 20_000)) * scale[cells, None]
        values[cells == 0] += shift
        found = between_items(values, cells, TWO)
    covered = (found.d_low <= truth) & (truth <= found.d_high)
    assert 0.93 < covered.mean() < 0.965
    assert 0.03 < ((found.p <= 0.05).mean() if truth == 0 else 0.05) < 0.07


def test_what_does_not_vary_has_no_t():
    values, cells = problem((5, 5))
    values[:, 2] = 7.0
    values[:, 3] = np.where(cells == 0, 0.1, 0.3)
    found = between_items(values, cells, TWO)
    for name in ("t", "df", "p", "d", "d_low", "d_high"):
        missing = np.isnan(getattr(found, name)[0])
        assert missing.tolist() == [False] * 2 + [True] * 2 + [False] * 3, name
    both = np.random.default_rng(0).normal(size=(6, 1, 2)) + np.array([[[0.0], [1.0]]])
    assert np.isnan(within_items(both, TWO).t).all()


def test_shifting_and_scaling_change_no_t():
    values, cells = problem((9, 9))
    found = between_items(values, cells, TWO)
    other = between_items(1e3 * values - 1e5, cells, TWO)
    np.testing.assert_allclose(other.t, found.t, rtol=1e-8)
    np.testing.assert_allclose(other.d, found.d, rtol=1e-8)


def test_permuted_labels_give_the_t_of_a_loop():
    values, cells = problem((9, 14))
    rng = np.random.default_rng(1)
    labellings = rng.permuted(np.tile(cells, (6, 1)), axis=1)
    found = permuted_between(values, labellings)
    for row, labels in zip(found, labellings, strict=True):
        np.testing.assert_allclose(row, between_items(values, labels, TWO).t[0], rtol=1e-8)


def test_labels_permuted_within_items_give_the_t_of_a_loop():
    rng = np.random.default_rng(2)
    values = [rng.normal(size=(n, 4)) + 50 for n in (2, 5, 3, 4)]
    labels = [np.arange(len(part)) % 2 for part in values]
    labellings = [rng.permuted(np.tile(one, (6, 1)), axis=1) for one in labels]
    found = permuted_within(values, labellings)
    for draw in range(6):
        cells = np.stack(
            [
                [part[one[draw] == c].mean(axis=0) for c in (0, 1)]
                for part, one in zip(values, labellings, strict=True)
            ]
        )
        np.testing.assert_allclose(found[draw], within_items(cells, TWO).t[0], rtol=1e-8)
