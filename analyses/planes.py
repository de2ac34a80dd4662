"""Planes: stimuli placed so that their distances are those of an RDM, as far as two numbers can."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

COMPONENTS = 2


def classical_mds(rdms: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coordinates (rdm, stimulus, component), and the share of each (rdm, component).

    `rdms`: (rdm, stimulus, stimulus), dissimilarities with 0 on the diagonal, in any units; the
    coordinates are in the same. With J the centring matrix, B = -J D² J / 2 = V L V'; coordinates
    are V sqrt(L) of the two largest eigenvalues, negative ones counting as 0, and a share is that
    of the sum of positive ones. Of each component the coordinate that is largest by size is
    positive; where two eigenvalues are equal, their plane can be turned freely.
    Source: Torgerson 1952, Psychometrika 17, 401–419.

    >>> places, share = classical_mds([[[0.0, 3.0], [3.0, 0.0]]])
    >>> (places[0].round(3) + 0.0).tolist(), share[0].tolist()
    ([[1.5, 0.0], [-1.5, 0.0]], [1.0, 0.0])
    """
    squared = np.asarray(rdms, dtype=np.float64) ** 2
    rows = squared.mean(axis=-1, keepdims=True)
    centred = squared - rows - rows.swapaxes(-1, -2) + squared.mean(axis=(-1, -2), keepdims=True)
    values, vectors = np.linalg.eigh(-0.5 * centred)
    values, vectors = np.maximum(values[..., ::-1], 0.0), vectors[..., ::-1]
    total = values.sum(axis=-1, keepdims=True)
    share = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    places = vectors[..., :COMPONENTS] * np.sqrt(values[..., None, :COMPONENTS])
    largest = np.take_along_axis(places, np.abs(places).argmax(axis=-2)[..., None, :], axis=-2)
    return places * np.where(largest < 0, -1.0, 1.0), share[..., :COMPONENTS]
