"""What a published study of feature selection computed, to be shown beside the right formula.

It asked how alike the time courses of one class are, by z = arctanh(1 - r) of each pair, clipped
to |r| <= 0.999. That z falls as r grows, and does not exist for r < 0, where pairs were dropped
without a word (half of them in noise); two sets of pairs were compared by Student's t as if
pairs were independent samples; a unit that any stimulus left constant got t = 0. Texts that
were shorter than the window were filled with zeros, so that length alone made courses alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.contrasts import Kind, set_sums

CLIP = 0.999
"""Largest |r| of the study."""


def study_t(
    rdms: NDArray[np.float64], labellings: NDArray[np.int64], kind: Kind
) -> NDArray[np.float64]:
    """Return the study's t of every unit under each labelling: (unit, labelling).

    `rdms`: (unit, pair), 1 - r of time courses, NaN where one is constant; `labellings` as in
    `contrasts`, of two classes. t is Student's, of equal variances, for z within class 0 against
    z across classes (`discriminative_target`) or within class 1 (`categorical`); it is 0 for a
    unit with an undefined pair, and where a set has fewer than 2 pairs or no variance.
    """
    constant = np.asarray(np.isnan(rdms).any(axis=1))
    clipped = np.clip(np.where(np.isnan(rdms), 1.0, rdms), 1 - CLIP, 1 + CLIP)
    exists = clipped < 1
    z = np.arctanh(np.where(exists, clipped, 0.0))
    counts, sums, squares = (
        set_sums(part, labellings, kind) for part in (exists.astype(np.float64), z, z**2)
    )
    n, other = counts
    enough = (n > 1.5) & (other > 1.5)
    n, other = np.where(enough, n, 2.0), np.where(enough, other, 2.0)
    spread = squares[0] - sums[0] ** 2 / n + squares[1] - sums[1] ** 2 / other
    variance = spread / (n + other - 2) * (1 / n + 1 / other)
    good = np.asarray(enough & (variance > 0)) & ~constant[:, None]
    t = (sums[0] / n - sums[1] / other) / np.sqrt(np.where(good, variance, 1.0))
    return np.where(good, t, 0.0)


def dropped_pairs(rdms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of pairs whose z does not exist, r being negative or zero: (unit,).

    >>> dropped_pairs(np.array([[0.5, 1.5]])).tolist()
    [0.5]
    """
    with np.errstate(invalid="ignore"):
        return np.asarray((~(rdms < 1)).mean(axis=1))


def study_score(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return t less its mean over all units, in units of its standard deviation there.

    >>> study_score(np.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    deviation = t.std()
    return (t - t.mean()) / deviation if deviation > 0 else np.zeros(t.shape)
