"""LEACE: the least change of patterns after which no linear read-out finds a label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.readouts import Linear
from patchclamp.analyses.splits import Split

RANK = 1e-9
"""A direction that holds a smaller share of the label's length is rounding."""

NOTHING = 1e-6
"""Decisions on erased patterns that vary by this share of what they varied before are rounding.
They must be set to 0: their sign would point to what was erased."""


def erase(split: Split, codes: NDArray[np.int64], n_classes: int) -> tuple[Split, float]:
    """Return a split without the label's linear trace, and the share of variance that it took.

    `codes`: (training stimulus,). The columns of the result are principal axes of the training
    part. With patterns x centred there, covariance S, and cross-covariance C with the one-hot
    label, x becomes x - S^½ P S^-½ x, where P projects on S^-½ C: no smaller change leaves the
    covariance with the label at 0. In training it is 0 exactly, so that no linear read-out with
    a convex loss does better than a constant. Directions without variance in training are lost.

    Source: Belrose et al. 2023, arXiv:2306.03819, theorem 4.3.
    """
    axes, variances = split.axes
    lengths = np.sqrt(variances)
    train, test = split.train @ axes / lengths, split.test @ axes / lengths
    label = (codes[:, None] == np.arange(n_classes)).astype(np.float64)
    label -= label.mean(axis=0)
    basis, sizes, _ = np.linalg.svd(train.T @ label, full_matrices=False)
    basis = basis[:, sizes > RANK * np.linalg.norm(label)]
    erased = Split(
        (train - (train @ basis) @ basis.T) * lengths,
        (test - (test @ basis) @ basis.T) * lengths,
        dual=False,
    )
    return erased, 1 - float(np.square(erased.train).sum() / variances.sum())


def silent(erased: Split, found: Linear, split: Split, before: Linear) -> Linear:
    """Return a read-out of erased patterns with weights of 0 where they are only rounding."""
    left = np.tensordot(erased.train, found.weights, axes=1).std(axis=0)
    had = np.tensordot(split.train, before.weights, axes=1).std(axis=0)
    return Linear(np.where(left > NOTHING * had, found.weights, 0.0), found.intercepts)
