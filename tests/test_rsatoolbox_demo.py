"""Measured brains: RDMs and ceilings of rsatoolbox's demo data, as rsatoolbox has them.

The data (92 images, four people, two sessions of each; Kriegeskorte et al. 2008, Neuron 60:1126)
stand in the repository of rsatoolbox and in no package of it. Where PATCHCLAMP_RSATOOLBOX_DEMO
names a copy of its `demos/92imageData`, these tests run.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from patchclamp.analyses.comparators import score
from patchclamp.analyses.noise_ceilings import noise_ceiling
from patchclamp.analyses.rdm import dissimilarities

FOLDER = os.environ.get("PATCHCLAMP_RSATOOLBOX_DEMO")
if FOLDER is None:
    pytest.skip("the demo data of rsatoolbox are not here", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports what others deprecate
    pytest.importorskip("rsatoolbox", reason="rsatoolbox is of the extra 'test'")
    from rsatoolbox.data import Dataset
    from rsatoolbox.inference import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs, calc_rdm, compare

pytestmark = pytest.mark.filterwarnings("ignore")

PAIRS = np.triu_indices(92, 1)
NONE = np.empty((0, len(PAIRS[0])))
COMPARED = {
    "spearman": "spearman",
    "pearson": "corr",
    "kendall_tau_a": "tau-a",
    "rho_a": "rho-a",
    "cosine": "cosine",
}


def rdms(file: str, key: str) -> np.ndarray:
    """Return the RDMs of a file: (RDM, pair)."""
    entries = loadmat(Path(FOLDER) / file, squeeze_me=True, struct_as_record=True)[key].ravel()
    return np.array([np.asarray(entry["RDM"], float)[PAIRS] for entry in entries])


@pytest.mark.parametrize(
    ("metric", "method"), [("correlation", "correlation"), ("squared_euclidean", "euclidean")]
)
def test_patterns_have_the_same_rdms(metric: str, method: str) -> None:
    held = loadmat(Path(FOLDER) / "simTruePatterns.mat")
    for name in ("simTruePatterns", "simTruePatterns2"):
        expected = calc_rdm(Dataset(held[name]), method=method).dissimilarities[0]
        np.testing.assert_allclose(dissimilarities(held[name], metric=metric), expected, rtol=1e-9)


@pytest.mark.parametrize("compare_by", COMPARED)
def test_brains_and_models_compare_the_same(compare_by: str) -> None:
    brains, models = rdms("92_brainRDMs.mat", "RDMs"), rdms("92_modelRDMs.mat", "Models")
    expected = compare(RDMs(brains), RDMs(models), method=COMPARED[compare_by])
    found = [[score(compare_by, brain, model, NONE) for model in models] for brain in brains]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.ptp(expected) > 0.2


@pytest.mark.parametrize("compare_by", ["cosine", "pearson", "spearman"])
def test_people_have_the_same_noise_ceiling(compare_by: str) -> None:
    brains = rdms("92_brainRDMs.mat", "RDMs")
    expected = boot_noise_ceiling(RDMs(brains), method=COMPARED[compare_by])
    np.testing.assert_allclose(noise_ceiling(brains, compare_by), expected, atol=1e-9)
