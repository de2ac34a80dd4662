"""RDMs, comparators, noise, crossnobis, ceilings and bootstraps as rsatoolbox has them."""

import warnings

import numpy as np
import pytest

from patchclamp.analyses.comparators import score
from patchclamp.analyses.noise_ceilings import ceiling_draws, noise_ceiling
from patchclamp.analyses.precision import crossnobis, mahalanobis, shrunk_precision
from patchclamp.analyses.rdm import dissimilarities

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports what others deprecate
    pytest.importorskip("rsatoolbox", reason="rsatoolbox is of the extra 'test'")
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import prec_from_residuals
    from rsatoolbox.inference import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs, calc_rdm, compare

pytestmark = pytest.mark.filterwarnings("ignore")

COMPARED = {
    "spearman": "spearman",
    "pearson": "corr",
    "kendall_tau_a": "tau-a",
    "rho_a": "rho-a",
    "cosine": "cosine",
    "whitened_cosine": "cosine_cov",
    "whitened_correlation": "corr_cov",
    "cka": "cosine_cov",
}
NONE = np.empty((0, 91))


@pytest.fixture
def patterns():
    """Noise on a massive unit and an offset, as activations of language models have."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(14, 50)) * np.linspace(3, 0.1, 50)
    values[:, 3] += 300
    return values


@pytest.mark.parametrize(
    ("metric", "method"), [("correlation", "correlation"), ("squared_euclidean", "euclidean")]
)
def test_rdms(patterns, metric, method):
    expected = calc_rdm(Dataset(patterns), method=method).dissimilarities[0]
    np.testing.assert_allclose(dissimilarities(patterns, metric=metric), expected, rtol=1e-9)


@pytest.mark.parametrize("compare_by", COMPARED)
def test_comparators(patterns, compare_by):
    first = dissimilarities(patterns, metric="squared_euclidean")
    labels = np.repeat([0, 1], 7)
    category = np.not_equal.outer(labels, labels)[np.triu_indices(14, 1)].astype(float)
    others = [category, np.random.default_rng(1).gamma(2.0, size=91) + first / first.mean()]
    for other in others:
        expected = compare(RDMs(first[None]), RDMs(other[None]), method=COMPARED[compare_by])
        assert score(compare_by, first, other, NONE) == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("noise", "method"), [("shrinkage", "shrinkage_diag"), ("diagonal", "diag")]
)
def test_noise_mahalanobis_and_crossnobis(noise, method):
    rng = np.random.default_rng(0)
    folds = rng.normal(size=(3, 14, 50))
    residuals = rng.normal(size=(40, 50)) @ (np.eye(50) + 0.1)
    residuals -= residuals.mean(axis=0)
    theirs = prec_from_residuals(residuals.copy(), dof=39, method=method)
    ours = shrunk_precision(residuals, 39, noise)
    np.testing.assert_allclose(ours.products(np.eye(50)), theirs, atol=1e-10)
    single = calc_rdm(Dataset(folds[0]), method="mahalanobis", noise=theirs)
    np.testing.assert_allclose(mahalanobis(folds[0], ours), single.dissimilarities[0], rtol=1e-9)
    labels = {"item": np.tile(np.arange(14), 3), "fold": np.repeat(np.arange(3), 14)}
    crossed = calc_rdm(
        Dataset(folds.reshape(-1, 50), obs_descriptors=labels),
        method="crossnobis",
        descriptor="item",
        cv_descriptor="fold",
        noise=theirs,
    )
    np.testing.assert_allclose(crossnobis(folds, ours), crossed.dissimilarities[0], atol=1e-11)


@pytest.mark.parametrize("compare_by", COMPARED)
def test_noise_ceilings(compare_by):
    rng = np.random.default_rng(0)
    rdms = rng.gamma(2.0, size=91) + rng.gamma(1.0, size=(6, 91))
    expected = boot_noise_ceiling(RDMs(rdms), method=COMPARED[compare_by])
    np.testing.assert_allclose(noise_ceiling(rdms, compare_by), expected, atol=1e-12)


@pytest.mark.parametrize("compare_by", ["pearson", "cosine"])
def test_a_bootstrap_of_stimuli_with_its_ceilings(compare_by):
    rng = np.random.default_rng(0)
    rdms = rng.gamma(2.0, size=91) + rng.gamma(1.0, size=(6, 91))
    models = rng.random((2, 91))
    drawn = rng.integers(0, 14, size=(15, 14))
    counts = np.stack([np.bincount(draw, minlength=14) for draw in drawn])
    compared, low, high = ceiling_draws(rdms, models, counts, compare_by)
    method = COMPARED[compare_by]
    for row, draw in enumerate(drawn):
        sample = RDMs(rdms).subsample_pattern("index", draw)
        np.testing.assert_allclose((low[row], high[row]), boot_noise_ceiling(sample, method=method))
        for number, model in enumerate(models):
            predicted = RDMs(model[None]).subsample_pattern("index", draw)
            expected = np.mean(compare(predicted, sample, method))
            assert compared[row, number] == pytest.approx(expected, abs=1e-12)
