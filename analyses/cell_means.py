"""Kernels for contrasts of cell means, unit by unit: Welch t, effect sizes, and permuted labels.

A design has cells: two classes, or the four combinations of two factors. Its items are what is
independent: stimuli, or groups of them. Either every item is of one cell (*between*), or every
item has all of them (*within*), as groups do that hold each class. A contrast is a weighted sum of
the cells' means, psi = sum_j c_j m_j.

* Between: se² = sum_j c_j² s_j² / n_j with df of Welch & Satterthwaite; for two cells Welch's t.
* Within: psi of each item, and a one-sample t over items; for two cells the paired t.

Standardised, d = psi / s with s² the mean of the cells' variances, so that cells may differ in
variance; between two cells of equal size it is Cohen's d. With C the covariance of cells (between:
diagonal), v_d = d² sum_jk (C_jk² / df_j) / (2 g² s⁴) + sum_jk (c_j c_k C_jk / df_j) / s² over g
cells, and the interval is d ± 1.96 sqrt(v_d), good from about ten items a cell on.

Welch 1947, doi:10.1093/biomet/34.1-2.28; Bonett 2008, doi:10.1037/1082-989X.13.2.99.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

Array = NDArray[np.float64]

CONSTANT = 1e-12
"""A standard error that is this share of the largest mean is rounding: nothing varies there."""

LEVEL = 0.95
"""Coverage of the interval of d."""


@dataclass(frozen=True)
class Effects:
    """What is known of each contrast and unit, all (contrast, unit); NaN where nothing varies.

    `psi` in the units of the values; `t`, its degrees of freedom `df` and two-sided `p`; the
    standardised effect `d` with its interval.
    """

    psi: Array
    t: Array
    df: Array
    p: Array
    d: Array
    d_low: Array
    d_high: Array


def between_items(values: Array, cells: NDArray[np.int64], weights: Array) -> Effects:
    """Return contrasts of the means of items that are each of one cell.

    `values`: (item, unit), any units; `cells`: (item,), numbers from 0, two items of each at
    least; `weights`: (contrast, cell).

    >>> found = between_items(np.array([[1.0], [3.0], [5.0], [9.0]]), np.array([0, 0, 1, 1]),
    ...                       np.array([[1.0, -1.0]]))
    >>> found.psi.item(), round(found.t.item(), 3), round(found.df.item(), 3)
    (-5.0, -2.236, 1.471)
    """
    n_cells = weights.shape[1]
    size = np.bincount(cells, minlength=n_cells)
    assert size.min() >= 2, "the design was checked"
    mean = np.stack([values[cells == j].mean(axis=0) for j in range(n_cells)])
    variance = np.stack([values[cells == j].var(axis=0, ddof=1) for j in range(n_cells)])
    share = weights[..., None] ** 2 * (variance / size[:, None])
    error = share.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = error**2 / (share**2 / (size - 1)[:, None]).sum(axis=1)
    spread = (variance**2 / (size - 1)[:, None]).sum(axis=0)
    noise = (weights[..., None] ** 2 * (variance / (size - 1)[:, None])).sum(axis=1)
    return _effects(weights @ mean, (error, df), (variance.mean(axis=0), spread, noise), mean)


def within_items(values: Array, weights: Array) -> Effects:
    """Return contrasts of the means of items that have all cells.

    `values`: (item, cell, unit), any units, two items at least; `weights`: (contrast, cell).

    >>> x = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])[..., None]
    >>> found = within_items(x, np.array([[1.0, -1.0]]))
    >>> found.psi.item(), round(found.t.item(), 3), found.df.item()
    (-2.0, -3.464, 2.0)
    """
    n = len(values)
    assert n >= 2, "the design was checked"
    mean = values.mean(axis=0)
    centred = values - mean
    covariance = np.einsum("iju,iku->jku", centred, centred) / (n - 1)
    variance = np.einsum("jju->ju", covariance)
    # Of each item's own psi, where what items share cancels, and not of the covariances.
    error = np.einsum("ej,iju->eiu", weights, values).var(axis=1, ddof=1) / n
    spread = (covariance**2).sum(axis=(0, 1)) / (n - 1)
    df = np.full_like(error, n - 1)
    scale = (variance.mean(axis=0), spread, error * n / (n - 1))
    return _effects(weights @ mean, (error, df), scale, mean)


def _effects(
    psi: Array, error: tuple[Array, Array], scale: tuple[Array, Array, Array], mean: Array
) -> Effects:
    """Return effects from psi, its squared error and df, and what standardises it."""
    square, df = error
    variance, spread, noise = scale
    nothing = np.sqrt(square) <= CONSTANT * np.abs(mean).max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(nothing, np.nan, psi / np.sqrt(square))
        d = np.where(nothing, np.nan, psi / np.sqrt(variance))
        cells = len(mean)
        width = d**2 * spread / (2 * cells**2 * variance**2) + noise / variance
        half = -ndtri((1 - LEVEL) / 2) * np.sqrt(width)
    df = np.where(nothing, np.nan, df)
    return Effects(psi, t, df, 2 * stdtr(df, -np.abs(t)), d, d - half, d + half)


def permuted_between(values: Array, labellings: NDArray[np.int64]) -> Array:
    """Return Welch's t of cell 0 against cell 1 for many labellings: (labelling, unit).

    `values`: (item, unit); `labellings`: (labelling, item) of 0 and 1, as many of each in all. Two
    matrix products serve all of them. NaN where nothing varies.
    """
    values = values - values.mean(axis=0)  # no change to t, and squares that keep their digits
    squares = values**2
    parts, largest = [], np.abs(values).max(axis=0)
    for cell in (0, 1):
        member = (labellings == cell).astype(np.float64)
        n = member.sum(axis=1, keepdims=True)
        mean = member @ values / n
        variance = np.maximum(member @ squares - n * mean**2, 0) / (n - 1)
        parts.append((mean, variance / n))
    (first, error), (second, other) = parts
    return _t(first - second, error + other, largest)


def permuted_within(values: Sequence[Array], labellings: Sequence[NDArray[np.int64]]) -> Array:
    """Return the paired t of cell 0 against cell 1 for many labellings: (labelling, unit).

    For each item `values` has (stimulus, unit) and `labellings` (labelling, stimulus) of 0 and 1,
    as many of each in all; an item's difference is that of its two means.
    """
    total: Array = np.zeros((len(labellings[0]), values[0].shape[1]))
    square, largest = total.copy(), np.zeros(values[0].shape[1])
    for part, labels in zip(values, labellings, strict=True):
        part = part - part.mean(axis=0)
        sign = np.where(labels == 0, 1 / (labels == 0).sum(axis=1, keepdims=True), 0.0)
        sign -= np.where(labels == 1, 1 / (labels == 1).sum(axis=1, keepdims=True), 0.0)
        difference = sign @ part
        total += difference
        square += difference**2
        largest = np.maximum(largest, np.abs(part).max(axis=0))
    n = len(values)
    mean = total / n
    return _t(mean, np.maximum(square - n * mean**2, 0) / (n - 1) / n, largest)


def _t(difference: Array, error: Array, largest: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        t = difference / np.sqrt(error)
    return np.where(np.sqrt(error) <= CONSTANT * largest, np.nan, t)
