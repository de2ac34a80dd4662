"""Noise precision and the distances it weighs, against explicit matrices, and without bias."""

import tracemalloc

import numpy as np
import pytest

from patchclamp.analyses.precision import crossnobis, mahalanobis, shrunk_precision
from patchclamp.analyses.rdm import dissimilarities
from patchclamp.registry.errors import UndefinedError


@pytest.fixture
def residuals():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 12)) @ rng.normal(size=(12, 40)) + rng.normal(size=(30, 40))
    values *= np.linspace(1, 5, 40)
    return values - values.mean(axis=0)


@pytest.fixture
def folds():
    return np.random.default_rng(1).normal(size=(4, 9, 40))


def shrunk_by_matrices(residuals, dof):
    """Return the covariance shrunk to its diagonal, as Schäfer & Strimmer 2005 write it.

    λ = Σ var(r_ij) / Σ r_ij² over i ≠ j.
    """
    m = len(residuals)
    covariance = residuals.T @ residuals / dof
    z = residuals / np.sqrt(np.diag(covariance))
    products = z[:, :, None] * z[:, None, :]
    mean = products.sum(axis=0) / (m - 1)
    variance = m / dof**2 * ((products**2).sum(axis=0) / (m - 1) - mean**2)
    off = ~np.eye(len(covariance), dtype=bool)
    share = np.clip(variance[off].sum() / (mean[off] ** 2).sum(), 0, 1)
    return np.where(off, (1 - share) * covariance, covariance), share


@pytest.mark.parametrize("dof", [29, 20])
def test_the_precision_is_the_inverse_of_the_shrunk_covariance(residuals, dof):
    covariance, share = shrunk_by_matrices(residuals, dof)
    assert 0.01 < share < 0.99
    found = shrunk_precision(residuals, dof, "shrinkage").products(np.eye(40))
    np.testing.assert_allclose(found, np.linalg.inv(covariance), rtol=1e-10, atol=1e-13)


def test_diagonal_and_no_noise_are_their_matrices(residuals):
    diagonal = shrunk_precision(residuals, 29, "diagonal").products(np.eye(40))
    np.testing.assert_allclose(diagonal, np.diag(29 / (residuals**2).sum(axis=0)), rtol=1e-12)
    none = shrunk_precision(residuals, 29, "none").products(np.eye(40))
    np.testing.assert_array_equal(none, np.eye(40))


def test_mahalanobis_is_the_weighed_distance_per_unit(residuals, folds):
    precision = shrunk_precision(residuals, 29, "shrinkage")
    inverse = np.linalg.inv(shrunk_by_matrices(residuals, 29)[0])
    first, second = np.triu_indices(9, 1)
    difference = folds[0][first] - folds[0][second]
    expected = np.einsum("pu,uv,pv->p", difference, inverse, difference) / 40
    np.testing.assert_allclose(mahalanobis(folds[0], precision), expected, rtol=1e-10)
    plain = mahalanobis(folds[0], shrunk_precision(residuals, 29, "none"))
    np.testing.assert_allclose(plain, dissimilarities(folds[0], metric="squared_euclidean"))


def test_crossnobis_is_the_mean_over_pairs_of_folds(residuals, folds):
    inverse = np.linalg.inv(shrunk_by_matrices(residuals, 29)[0])
    first, second = np.triu_indices(9, 1)
    difference = folds[:, first] - folds[:, second]
    products = [
        np.einsum("pu,uv,pv->p", difference[a], inverse, difference[b])
        for a in range(4)
        for b in range(4)
        if a != b
    ]
    found = crossnobis(folds, shrunk_precision(residuals, 29, "shrinkage"))
    np.testing.assert_allclose(found, np.mean(products, axis=0) / 40, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        crossnobis(folds[::-1], shrunk_precision(residuals, 29, "shrinkage")), found, atol=1e-13
    )


def worlds(residuals_of, *, repeats, n=8, k=4, units=60, count=150):
    """Return the mean crossnobis of noise in units of its spread, in each of some worlds."""
    rng = np.random.default_rng(0)
    means = []
    for _ in range(count):
        cells = rng.normal(size=(k, n, repeats, units))
        folds = cells.mean(axis=2)
        left, dof = residuals_of(cells, folds)
        values = crossnobis(folds, shrunk_precision(left.reshape(-1, units), dof, "shrinkage"))
        means.append(values.mean() / values.std())
    return np.array(means)


def test_noise_has_no_distance_where_it_is_estimated_from_repeats():
    found = worlds(lambda cells, folds: (cells - folds[:, :, None], 4 * 8 * 1), repeats=2)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))


def test_noise_looks_like_a_distance_where_it_is_estimated_from_the_folds_themselves():
    """Why repeats within a fold are asked for."""

    def between_folds(cells, folds):
        return folds - folds.mean(axis=0), 3 * 8

    found = worlds(between_folds, repeats=1)
    assert found.mean() > 6 * found.std() / np.sqrt(len(found))


def test_what_says_nothing_of_noise_is_refused(residuals, folds):
    with pytest.raises(UndefinedError, match="30 residuals with 0 degrees of freedom say nothing"):
        shrunk_precision(residuals, 0, "shrinkage")
    residuals[:, 3] = 0
    with pytest.raises(UndefinedError, match="1 of 40 units have no noise at all"):
        shrunk_precision(residuals, 29, "diagonal")
    with pytest.raises(UndefinedError, match="at least 2 folds; there is 1"):
        crossnobis(folds[:1], shrunk_precision(residuals, 29, "none"))


def test_no_matrix_of_units_by_units_is_ever_made():
    """20,000 units would need 3.2 GB for one."""
    rng = np.random.default_rng(0)
    residuals, folds = rng.normal(size=(40, 20_000)), rng.normal(size=(2, 12, 20_000))
    tracemalloc.start()
    found = crossnobis(folds, shrunk_precision(residuals, 39, "shrinkage"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (66,)
    assert peak < 100e6
