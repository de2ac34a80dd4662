"""Bootstrap over stimuli of what is computed from pairs of them.

Drawing stimuli with replacement gives the pair (i, j) the weight c_i c_j, the number of times
that each was drawn; a stimulus and its own copy are no pair. So all draws are one matrix product
of weights with the pairs' moments.

The interval says how a number depends on which stimuli were taken. Noise that belongs to single
pairs, and to neither of their stimuli, is drawn for both and counts three times in its variance,
so that an interval is too wide where such noise dominates, and never too narrow for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.comparators import TIE
from patchclamp.analyses.pairs import BLOCK, pair_sums
from patchclamp.registry.errors import AnalysisError

UNDEFINED = 0.05
"""More draws than this without a value, and the rest would be a choice of them."""

BOOTSTRAPPED = ("spearman", "pearson", "cosine", "rho_a")
"""Comparators that can be bootstrapped."""


def drawn_counts(groups: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each stimulus is drawn, whole groups at a time: (draw, stimulus).

    `groups`: (stimulus,), group numbers, each stimulus its own where they are independent. Fewer
    than 3 groups raise `AnalysisError`.

    >>> drawn_counts(np.array([0, 0, 1, 2]), 2, np.random.default_rng(0)).tolist()
    [[1, 1, 1, 1], [0, 0, 0, 3]]
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 3:
        raise AnalysisError(
            f"a bootstrap over groups of stimuli needs at least 3 of them; there are {len(names)}"
        )
    share = np.full(len(names), 1 / len(names))
    return np.asarray(rng.multinomial(len(names), share, size=n)[:, group])


def counted(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int32]:
    """Weigh a pair by how often its stimuli were drawn together."""
    return np.asarray(first * second)


def contrast_draws(
    values: NDArray[np.float64],
    sets: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the difference of the means over two sets of pairs in each draw.

    `values`: (rdm, pair), NaN for pairs left out; `sets`: (pair,) each; `counts`: (draw,
    stimulus); result: (rdm, draw), NaN where a draw leaves a set empty.
    """
    given = ~np.isnan(values)
    filled = np.where(given, values, 0.0)
    means = []
    for chosen in sets:
        sums = pair_sums(filled * chosen, counts, counted)
        n_pairs = pair_sums((given & chosen).astype(np.float64), counts, counted)
        means.append(np.divide(sums, n_pairs, out=np.full(sums.shape, np.nan), where=n_pairs > 0.5))
    return np.asarray(means[0] - means[1])


def similarity_draws(
    rdms: NDArray[np.float64], model: NDArray[np.float64], counts: NDArray[np.int64], compare: str
) -> NDArray[np.float64]:
    """Return the comparison of each RDM with a model RDM in each draw.

    `rdms`: (rdm, pair); `model`: (pair,); NaN for pairs left out; `counts`: (draw, stimulus);
    result: (rdm, draw), NaN where it does not exist. It equals `score` of the pairs written out
    as often as they were drawn: ranks are those within the draw, copies of a pair being tied.
    """
    if compare in ("spearman", "rho_a"):
        return np.stack([_ranked(rdm, model, counts, compare) for rdm in rdms])
    given = ~(np.isnan(rdms) | np.isnan(model))
    data, other = np.where(given, rdms, 0.0), np.where(given, model, 0.0)
    # Moments do not depend on where zero is, but their digits do.
    if compare == "pearson":
        data = np.where(given, data - data.mean(axis=1, keepdims=True), 0.0)
        other = np.where(given, other - other.mean(), 0.0)
    rows = [given.astype(np.float64), data, other, data**2, other**2, data * other]
    n, d, m, dd, mm, dm = (pair_sums(row, counts, counted) for row in rows)
    if compare == "pearson":
        n = np.maximum(n, 1.0)
        dd, mm, dm = dd - d**2 / n, mm - m**2 / n, dm - d * m / n
    exists = (dd > TIE * np.abs(dd).max()) & (mm > TIE * np.abs(mm).max())
    size = np.sqrt(np.where(exists, dd * mm, 1.0))
    return np.where(exists, dm / size, np.nan)


def _ranked(
    rdm: NDArray[np.float64], model: NDArray[np.float64], counts: NDArray[np.int64], compare: str
) -> NDArray[np.float64]:
    given = ~(np.isnan(rdm) | np.isnan(model))
    first, second = (index[given] for index in np.triu_indices(counts.shape[1], 1))
    sides = [_Sorted(rdm[given]), _Sorted(model[given])]
    result = np.empty(len(counts))
    step = max(1, BLOCK // max(1, len(first)))
    for start in range(0, len(counts), step):
        some = counts[start : start + step]
        weights = (some[:, first] * some[:, second]).astype(np.float64)
        total = weights.sum(axis=1)
        data, other = (side.ranks(weights) - (total[:, None] + 1) / 2 for side in sides)
        shared = np.einsum("dp,dp,dp->d", weights, data, other)
        if compare == "rho_a":
            size = (total**3 - total) / 12
        else:
            squares = [np.einsum("dp,dp,dp->d", weights, side, side) for side in (data, other)]
            size = np.sqrt(squares[0] * squares[1])
        good = size > 0.5
        result[start : start + step] = np.where(good, shared / np.where(good, size, 1.0), np.nan)
    return result


class _Sorted:
    """Values sorted once, so that their ranks under any weights are running sums."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.order = np.argsort(values)
        gaps = np.diff(values[self.order]) > TIE * np.abs(values).max(initial=0.0)
        self.starts = np.concatenate([[0], np.flatnonzero(gaps) + 1])
        run = np.empty(len(values), dtype=np.intp)
        run[self.order] = np.concatenate([[0], np.cumsum(gaps)])
        self.run = run

    def ranks(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return average ranks of values that occur `weights` times: (draw, pair)."""
        tied = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        middle = np.cumsum(tied, axis=1) - (tied - 1) / 2
        return middle[:, self.run]


def interval(draws: NDArray[np.float64], level: float) -> tuple[NDArray[np.float64], ...]:
    """Return the percentile interval over draws: (..., draw) to two arrays (...).

    Draws without a value take no part; more than 5 % of them raise `AnalysisError`, but for
    places that have no value at all.

    >>> low, high = interval(np.arange(101.0)[None], 0.5)
    >>> low.tolist(), high.tolist()
    ([25.0], [75.0])
    """
    missing = np.isnan(draws).mean(axis=-1)
    worst = missing[missing < 1].max(initial=0.0)
    if worst > UNDEFINED:
        raise AnalysisError(
            f"{worst:.0%} of the bootstrap's draws leave no pair to compare, because some classes "
            "have few groups of stimuli: leave 'bootstrap' out, or give more groups"
        )
    tail = (1 - level) / 2
    quantiles = np.full((2, *draws.shape[:-1]), np.nan)
    some = missing < 1
    quantiles[:, some] = np.nanquantile(draws[some], [tail, 1 - tail], axis=-1)
    return quantiles[0], quantiles[1]
