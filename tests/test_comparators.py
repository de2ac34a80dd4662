"""Comparators against SciPy, identities that tie them together, and CKA from activations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from patchclamp.analyses.comparators import (
    COMPARATORS,
    control_basis,
    double_centred,
    ranks,
    score,
    standardised,
    tau_a,
)
from patchclamp.analyses.rdm import dissimilarities
from patchclamp.registry.errors import UndefinedError

NONE = np.empty((0, 66))


@pytest.fixture
def vectors():
    """Two RDMs of 12 stimuli that share something, with ties."""
    rng = np.random.default_rng(0)
    shared = rng.gamma(2.0, size=66)
    return (shared + rng.gamma(2.0, size=66)).round(1), (shared + rng.gamma(2.0, size=66)).round(1)


@pytest.fixture
def binary():
    labels = np.repeat([0, 1, 2], 4)
    return np.not_equal.outer(labels, labels)[np.triu_indices(12, 1)].astype(float)


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=60))
def test_ranks_are_those_of_scipy_with_and_without_ties(values):
    np.testing.assert_array_equal(ranks(values), rankdata(values))
    distinct = np.array(values) + np.linspace(0, 0.5, len(values))
    np.testing.assert_array_equal(ranks(distinct), rankdata(distinct))


def test_values_that_differ_by_rounding_are_tied():
    values = np.array([0.1 + 0.2, 0.3, 1.0])
    assert values[0] != values[1]
    np.testing.assert_array_equal(ranks(values), [1.5, 1.5, 3])


def test_correlations_are_those_of_scipy(vectors, binary):
    first, second = vectors
    for other in (second, binary):
        for compare, oracle in (("pearson", pearsonr), ("spearman", spearmanr)):
            found = score(compare, first, other, NONE)
            assert found == pytest.approx(oracle(first, other)[0], abs=1e-14)


def test_tau_a_counts_pairs_of_pairs(vectors, binary):
    first, second = vectors
    for other in (second, binary):
        signs = np.sign(np.subtract.outer(first, first)) * np.sign(np.subtract.outer(other, other))
        assert tau_a(first, other) == pytest.approx(np.triu(signs, 1).sum() / (66 * 65 / 2))
        assert score("kendall_tau_a", first, other, NONE) == tau_a(first, other)
    distinct = np.argsort(first) + 0.0
    assert tau_a(distinct, second.argsort()) == pytest.approx(
        kendalltau(distinct, second.argsort()).statistic
    )


def test_tau_a_of_tied_vectors_is_zero_and_not_undefined(vectors):
    assert tau_a(np.ones(66), vectors[0]) == 0.0


def test_rank_correlations_with_a_binary_model_are_one_number(vectors, binary):
    """rho a is 3/2 N/(N + 1) times tau a, and Spearman's rho is another multiple."""
    rdms = [vectors[0], vectors[1], binary[::-1] + vectors[0]]
    tau, rho, spearman = (
        np.array([score(compare, rdm, binary, NONE) for rdm in rdms])
        for compare in ("kendall_tau_a", "rho_a", "spearman")
    )
    np.testing.assert_allclose(rho / tau, 1.5 * 66 / 67)
    ratios = spearman / rho  # of RDMs with few ties only about the same
    np.testing.assert_allclose(ratios, ratios[0], rtol=2e-3)
    form = COMPARATORS["kendall_tau_a"]
    np.testing.assert_allclose([form.data(r) @ form.model(binary) for r in rdms], tau, atol=1e-13)


def cka(x, y):
    """Linear CKA of activations (Kornblith et al. 2019), by its formula."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross = np.linalg.norm(x.T @ y) ** 2
    return cross / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def unbiased_hsic(k, m):
    """HSIC_1 of Song et al. 2012, by its formula."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    middle = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_cka_is_that_of_the_activations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 7)), rng.normal(size=(12, 30))
    y[:, :7] += x
    rdms = [dissimilarities(values, metric="squared_euclidean") for values in (x, y)]
    assert score("cka", *rdms, NONE) == pytest.approx(cka(x, y), abs=1e-13)
    assert score("whitened_cosine", *rdms, NONE) == score("cka", *rdms, NONE)
    kernels = x @ x.T, y @ y.T
    hsic = unbiased_hsic(*kernels) / np.sqrt(
        unbiased_hsic(kernels[0], kernels[0]) * unbiased_hsic(kernels[1], kernels[1])
    )
    assert score("cka_debiased", *rdms, NONE) == pytest.approx(hsic, abs=1e-13)


def test_cka_of_noise_goes_to_one_where_units_outnumber_stimuli_and_debiased_stays_at_zero():
    rng = np.random.default_rng(0)
    rdms = [
        dissimilarities(rng.normal(size=(12, 3000)), metric="squared_euclidean") for _ in range(2)
    ]
    assert score("cka", *rdms, NONE) > 0.98
    assert abs(score("cka_debiased", *rdms, NONE)) < 0.5


def test_cka_does_not_see_a_rotation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 9))
    y = 3 * x @ np.linalg.qr(rng.normal(size=(9, 9)))[0] + 5
    rdms = [dissimilarities(values, metric="squared_euclidean") for values in (x, y)]
    for compare in ("cka", "cka_debiased", "whitened_correlation", "pearson", "spearman"):
        assert score(compare, *rdms, NONE) == pytest.approx(1, abs=1e-12)


def test_double_centring_gives_the_kernel_of_a_squared_euclidean_rdm():
    x = np.random.default_rng(0).normal(size=(12, 9))
    x -= x.mean(axis=0)
    rdm = dissimilarities(x, metric="squared_euclidean") * 9
    np.testing.assert_allclose(-0.5 * double_centred(rdm), x @ x.T, atol=1e-12)


def test_whitening_weighs_by_the_covariance_that_shared_stimuli_make(vectors, binary):
    """d'V⁻¹m, with V the covariance of squared distances of n independent patterns."""
    first, second = np.triu_indices(12, 1)
    pair = np.arange(66)
    contrast = np.zeros((66, 12))
    contrast[pair, first], contrast[pair, second] = 1, -1
    inverse = np.linalg.inv((contrast @ contrast.T) ** 2)
    d, m = vectors[0], binary
    expected = d @ inverse @ m / np.sqrt(d @ inverse @ d * (m @ inverse @ m))
    assert score("whitened_cosine", d, m, NONE) == pytest.approx(expected, abs=1e-12)
    d, m = d - d.mean(), m - m.mean()
    expected = d @ inverse @ m / np.sqrt(d @ inverse @ d * (m @ inverse @ m))
    found = score("whitened_correlation", vectors[0], binary, NONE)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("compare", "prepare"), [("pearson", np.asarray), ("spearman", rankdata)])
def test_a_partial_correlation_is_that_of_residuals(vectors, binary, compare, prepare):
    rng = np.random.default_rng(1)
    controls = np.stack([vectors[1] + rng.normal(size=66), rng.normal(size=66)])
    design = np.column_stack([np.ones(66), *map(prepare, controls)])

    def left(vector):
        vector = prepare(vector)
        return vector - design @ np.linalg.lstsq(design, vector)[0]

    expected = pearsonr(left(vectors[0]), left(binary))[0]
    assert score(compare, vectors[0], binary, controls) == pytest.approx(expected, abs=1e-12)


def test_controls_that_leave_nothing_are_refused(vectors):
    first, second = vectors
    with pytest.raises(UndefinedError, match="make up each other"):
        control_basis("pearson", np.stack([first, 2 * first + 1]))
    with pytest.raises(UndefinedError, match="leave nothing of the RDM"):
        score("pearson", first, second, first[None] * 3)
    with pytest.raises(UndefinedError, match="made up of those under 'partial'"):
        score("pearson", first, second, second[None] * 3)


def test_pairs_without_a_value_are_left_out_of_all_or_of_none(vectors):
    first, second = vectors
    gaps = first.copy()
    gaps[[3, 60]] = np.nan
    kept = np.setdiff1d(np.arange(66), [3, 60])
    for compare, form in COMPARATORS.items():
        if form.every_pair:
            with pytest.raises(UndefinedError, match="needs the dissimilarity of every pair"):
                score(compare, gaps, second, NONE)
        else:
            expected = score(compare, first[kept], second[kept], NONE[:, kept])
            assert score(compare, gaps, second, NONE) == expected


@pytest.mark.parametrize("compare", sorted(set(COMPARATORS) - {"kendall_tau_a", "rho_a"}))
def test_a_constant_vector_compares_with_nothing(compare):
    constant = np.array([0.1] * 66) + 1e-16 * np.arange(66)
    if compare in ("cosine", "whitened_cosine", "cka"):
        constant = np.zeros(66)
    with pytest.raises(UndefinedError, match=r"66 values that are all (equal|zero)"):
        score(compare, constant, np.arange(66.0), NONE)


def test_a_vector_that_is_infinite_is_refused(vectors):
    bad = vectors[0].copy()
    bad[2] = np.inf
    with pytest.raises(UndefinedError, match="1 of 66 values are NaN or infinite"):
        score("spearman", bad, vectors[1], NONE)


def test_a_debiased_cka_needs_four_stimuli():
    with pytest.raises(UndefinedError, match="at least 4 stimuli; there are 3"):
        score("cka_debiased", np.arange(3.0), np.arange(3.0), np.empty((0, 3)))


def test_standardised_vectors_have_mean_zero_and_length_one(vectors):
    vector = standardised(vectors[0])
    assert vector.sum() == pytest.approx(0, abs=1e-12)
    assert vector @ vector == pytest.approx(1)
