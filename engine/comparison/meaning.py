"""Meaning: whether a per-stimulus variable differs between runs by more than stimuli differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.paired import (
    McNemar,
    mcnemar,
    mean_difference_interval,
    sign_flip_test,
)
from patchclamp.engine.comparison.blocks import Pair
from patchclamp.engine.comparison.structure import Candidate
from patchclamp.registry.errors import AnalysisError

DRAWS = 2000
"""Bootstrap draws and random exchanges; p resolves to 0.0005."""

LEVEL, EQUIVALENCE_LEVEL = 0.95, 0.90
"""Coverage of the interval that is shown, and of the one that must lie within a margin: the 90 %
interval makes two one-sided tests at 5 % (Schuirmann 1987, J Pharmacokin Biopharm 15, 657–680)."""

MOST = 4_000_000
"""Elements of the largest variable that is tested; a test holds all of it."""


@dataclass(frozen=True)
class Meaning:
    """The paired difference, B minus A, where it is the largest for its spread over stimuli.

    `p` is that of this cell alone, `p_max` is corrected over all `cells`. `equivalent` is whether
    the 90 % intervals of all cells lie within `margin`; None where none was given.
    """

    stimuli: int
    groups: int | None
    cells: int
    labels: Mapping[str, Any]
    mean_a: float
    mean_b: float
    low: float
    high: float
    p: float
    p_max: float
    mcnemar: McNemar | None = None
    margin: float | None = None
    widest: tuple[float, float] | None = None
    """The 90 % interval that reaches furthest from 0."""

    @property
    def equivalent(self) -> bool | None:
        """Whether the difference lies within the margin, beyond reasonable doubt."""
        if self.margin is None or self.widest is None:
            return None
        return max(abs(bound) for bound in self.widest) <= self.margin


def paired(candidate: Candidate, margin: float | None = None) -> Meaning:
    """Test a per-stimulus variable for a difference between the runs, stimulus by stimulus.

    Stimuli without a value in any cell, on either side, are left out. Raises `AnalysisError`
    where too few are left, or the variable is too large to be held.
    """
    pair = Pair(candidate.a.variable, candidate.b.variable, candidate.matches)
    if pair.size > MOST:
        raise AnalysisError(f"{pair.size} values are more than the {MOST} that a test may hold")
    a, b = _cells(pair)
    complete = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    if complete.sum() < 2:
        raise AnalysisError(f"{int(complete.sum())} stimuli have a value in both runs")
    groups = _groups(candidate)
    if groups is not None:
        groups = groups[complete]
    a, b = a[:, complete], b[:, complete]
    return _tested(pair, (a, b), groups, margin)


def _tested(
    pair: Pair, sides: tuple[NDArray[Any], NDArray[Any]], groups: NDArray[Any] | None,
    margin: float | None,
) -> Meaning:  # fmt: skip
    a, b = sides
    difference = b - a
    # The seed is fixed: comparing again gives the same numbers.
    p, p_max = sign_flip_test(difference, groups, DRAWS, np.random.default_rng(0))
    low, high = mean_difference_interval(
        difference, groups, DRAWS, np.random.default_rng(0), level=LEVEL
    )
    cell = int(np.lexsort((-np.abs(difference.mean(axis=1)), p))[0])
    right = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    return Meaning(
        stimuli=a.shape[1],
        groups=None if groups is None else len(np.unique(groups)),
        cells=len(a),
        labels=_cell_labels(pair, cell),
        mean_a=float(a[cell].mean()),
        mean_b=float(b[cell].mean()),
        low=float(low[cell]),
        high=float(high[cell]),
        p=float(p[cell]),
        p_max=float(p_max[cell]),
        mcnemar=mcnemar(a[cell], b[cell]) if right else None,
        margin=margin,
        widest=None if margin is None else _widest(difference, groups),
    )


def _widest(difference: NDArray[Any], groups: NDArray[Any] | None) -> tuple[float, float]:
    """Return the 90 % interval, of all cells', that reaches furthest from 0."""
    low, high = mean_difference_interval(
        difference, groups, DRAWS, np.random.default_rng(0), level=EQUIVALENCE_LEVEL
    )
    furthest = int(np.argmax(np.maximum(np.abs(low), np.abs(high))))
    return float(low[furthest]), float(high[furthest])


def _cells(pair: Pair) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both sides as (cell, stimulus), cells in the order of the other dims."""
    a, b = np.empty(pair.shape), np.empty(pair.shape)
    for block in pair.blocks():
        at = tuple(slice(s, s + n) for s, n in zip(block.start, block.a.shape, strict=True))
        a[at], b[at] = block.a, block.b
    axis = pair.dims.index("stimulus")
    rows = pair.shape[axis]
    return (
        np.moveaxis(a, axis, -1).reshape(-1, rows),
        np.moveaxis(b, axis, -1).reshape(-1, rows),
    )


def _cell_labels(pair: Pair, cell: int) -> dict[str, Any]:
    """Return the labels of a cell, by dim."""
    dims = [dim for dim in pair.dims if dim != "stimulus"]
    place = np.unravel_index(cell, [pair.matches[dim].size for dim in dims]) if dims else ()
    return {
        dim: pair.matches[dim].labels[int(index)].item()
        for dim, index in zip(dims, place, strict=True)
    }


def _groups(candidate: Candidate) -> NDArray[Any] | None:
    """Return the group of each stimulus that both have, as A states it."""
    group = candidate.a.coords.get("group")
    if group is None or group.dims != ("stimulus",):
        return None
    return np.asarray(group.to_numpy())[candidate.matches["stimulus"].at_a]
