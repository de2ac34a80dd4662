"""Kernels for two measurements of the same stimuli: their difference, its interval, its tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from patchclamp.analyses.bootstrap import group_bootstrap
from patchclamp.registry.errors import AnalysisError

EXACT_GROUPS = 12
"""Up to so many groups all 2^groups assignments of signs are gone through."""


def sign_flip_test(
    differences: ArrayLike, groups: ArrayLike | None, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two-sided p values that differences of paired measurements are centred at 0.

    `differences`: (cell, stimulus), B minus A, any units; `groups`: (stimulus,) or None where
    each stimulus is independent; both results: (cell,), the second corrected over cells by the
    maximum statistic. The statistic is |sum_g d_g| / sqrt(sum_g d_g²), with d_g the sum of
    differences in group g; it is compared with those in which whole groups exchange A and B:
    all 2^G of them where G is at most 12, where p is their share, else `n` random ones and
    p = (k + 1) / (n + 1). Cells share the assignments. A cell without any difference has p = 1.
    Assumes that A and B are exchangeable in each group if they do not differ. Fewer than 2 groups
    raise `AnalysisError`, values that are not finite too.
    Source: Winkler et al. 2014, NeuroImage 92, 381–397 (whole-block sign-flipping).

    >>> p, _ = sign_flip_test([[1.0, 2.0, 3.0, 4.0]], None, 100, np.random.default_rng(0))
    >>> p.tolist()
    [0.125]
    """
    totals = _group_totals(np.asarray(differences, dtype=np.float64), groups)
    size = np.sqrt((totals**2).sum(axis=1))
    count = totals.shape[1]
    exact = count <= EXACT_GROUPS
    if exact:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = rng.choice([-1.0, 1.0], size=(n, count))
    scaled = np.divide(totals, size[:, None], out=np.zeros_like(totals), where=size[:, None] > 0)
    null = np.abs(scaled @ signs.T)
    observed = np.abs(scaled.sum(axis=1))
    # Sums in another order differ in their last bits: what is equal by symmetry must count.
    reached = null >= observed[:, None] - 1e-9
    reached_max = null.max(axis=0) >= observed[:, None] - 1e-9
    more = 0 if exact else 1
    draws = signs.shape[0]
    return (
        (reached.sum(axis=1) + more) / (draws + more),
        (reached_max.sum(axis=1) + more) / (draws + more),
    )


def _group_totals(
    differences: NDArray[np.float64], groups: ArrayLike | None
) -> NDArray[np.float64]:
    """Return the sum of differences in each group: (cell, group)."""
    wrong = int((~np.isfinite(differences)).sum())
    if wrong:
        raise AnalysisError(f"{wrong} of {differences.size} differences are NaN or infinite")
    labels = np.arange(differences.shape[1]) if groups is None else np.asarray(groups)
    names, group = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise AnalysisError(f"a paired test needs at least 2 groups; there is {len(names)}")
    member = (group[:, None] == np.arange(len(names))).astype(np.float64)
    return np.asarray(differences @ member)


@dataclass(frozen=True)
class McNemar:
    """How many stimuli were right in one run only, and the exact p that both are as likely."""

    lost: int
    gained: int
    p: float


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """Return McNemar's exact test that A and B are right equally often.

    `a`, `b`: (stimulus,), 1 where right, else 0. With l stimuli right in A only and g in B only,
    p = min(1, 2 P(X <= min(l, g))) for X binomial with l + g trials of 1/2; 1 where both are
    0. Two-sided; assumes independent stimuli, so that with groups the sign-flip test is the one
    to read.
    Source: McNemar 1947, Psychometrika 12, 153–157; exact form.

    >>> mcnemar([1, 1, 1, 0], [0, 0, 1, 0])
    McNemar(lost=2, gained=0, p=0.5)
    """
    right_a, right_b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    lost, gained = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if lost + gained == 0:
        return McNemar(0, 0, 1.0)
    p = 2 * float(bdtr(float(min(lost, gained)), lost + gained, 0.5))
    return McNemar(lost, gained, min(1.0, p))


def mean_difference_interval(
    differences: ArrayLike,
    groups: ArrayLike | None,
    n: int,
    rng: np.random.Generator,
    *,
    level: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of the mean difference by bootstrap over groups: (cell,) each.

    `differences`: (cell, stimulus), B minus A, any units; percentile interval of `level`; see
    `group_bootstrap` for its assumptions and errors.
    """
    draws = group_bootstrap(differences, groups, n, rng)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return np.asarray(low), np.asarray(high)
