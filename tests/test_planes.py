"""Classical scaling gives back planes, and is that of scikit-learn's kernel PCA."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.decomposition import KernelPCA

from patchclamp.analyses.planes import classical_mds


def test_distances_in_a_plane_come_back() -> None:
    points = np.random.default_rng(0).standard_normal((2, 12, 2))
    places, share = classical_mds([cdist(one, one) for one in points])
    for found, one in zip(places, points, strict=True):
        np.testing.assert_allclose(cdist(found, found), cdist(one, one), atol=1e-9)
    np.testing.assert_allclose(share.sum(axis=-1), 1.0)


def test_more_dimensions_are_those_of_kernel_pca() -> None:
    points = np.random.default_rng(1).standard_normal((20, 6))
    distances = cdist(points, points, "cityblock") ** 0.5
    (places,), (share,) = classical_mds([distances])
    centring = np.eye(20) - 1 / 20
    kernel = -0.5 * centring @ distances**2 @ centring
    theirs = KernelPCA(2, kernel="precomputed").fit_transform(kernel)
    for component in (0, 1):
        ours = places[:, component]
        assert np.abs(ours).max() == ours.max()
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs[:, component]), atol=1e-8)
    assert share[0] > share[1] > 0
    assert share.sum() < 1


def test_stimuli_that_do_not_differ_are_in_one_place() -> None:
    places, share = classical_mds(np.zeros((1, 4, 4)))
    assert not places.any()
    assert not share.any()
