"""Scores that units are chosen by, for many labellings of training stimuli at once.

Every function takes a block of units and the rows of each training part, and gives (labelling,
unit) for each, the larger the better; a score that does not look at labels has one row for all
labellings. NaN is a unit that cannot be scored: it is never chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.cell_means import permuted_between
from patchclamp.analyses.contrasts import Kind, cell_contrast, cell_sets, contrasts
from patchclamp.analyses.course_sums import course_similarities, course_sums

Array = NDArray[np.float64]
Labellings = NDArray[np.int64]
Rows = NDArray[np.intp]
"""Numbers of stimuli."""

LEAST_POSITIONS = 3
"""With two positions every correlation of time courses is 1 or -1."""


@dataclass(frozen=True)
class Block:
    """Some units: their time courses (stimulus, position, unit), any units of measurement.

    `kinds`: the contrasts that are asked of them; what these share is computed once.
    """

    courses: NDArray[np.floating]
    kinds: tuple[Kind, ...] = ("discriminative_target", "categorical")

    @cached_property
    def means(self) -> Array:
        """Mean over positions: (stimulus, unit)."""
        return np.asarray(np.asarray(self.courses, dtype=np.float64).mean(axis=1))

    @cached_property
    def similarities(self) -> Array:
        """Fisher z of each pair of stimuli by the time course of each unit: (unit, pair)."""
        return course_similarities(np.moveaxis(self.courses, -1, 0))

    def sums(self, number: NDArray[np.int64], classes: NDArray[np.int64]) -> Array:
        """Return what `kinds` need of sums of Fisher z over cells: (unit, cell, cell).

        `number`: the cell of each stimulus, `classes`: that of each cell.
        """
        key = number.tobytes() + classes.tobytes()
        if key not in self._sums:
            wanted = np.any([np.add(*cell_sets(classes, kind)) for kind in self.kinds], axis=0)
            courses = np.moveaxis(self.courses, -1, 0)
            self._sums[key] = course_sums(courses, number, wanted=wanted)
        return self._sums[key]

    @cached_property
    def _sums(self) -> dict[bytes, Array]:
        return {}


Score = Callable[[Block, Labellings, Sequence[Rows]], list[Array]]
"""Scores of a block's units in every training part, from labellings (labelling, stimulus), 1 in
the target class and 0 outside, and the rows of each part."""


def by_difference(block: Block, labellings: Labellings, parts: Sequence[Rows]) -> list[Array]:
    """Return |Welch's t| of the target class against the others, of means over positions."""
    return [np.abs(permuted_between(block.means[p], labellings[:, p])) for p in parts]


def by_maximum(block: Block, labellings: Labellings, parts: Sequence[Rows]) -> list[Array]:
    """Return the largest mean over positions that any training stimulus has; no label enters."""
    del labellings
    return [np.asarray(block.means[part].max(axis=0))[None] for part in parts]


def by_discrimination(block: Block, labellings: Labellings, parts: Sequence[Rows]) -> list[Array]:
    """Return mean similarity of time courses in the target class minus that with the others."""
    return _by_contrast(block, labellings, parts, "discriminative_target")


def by_cohesion(block: Block, labellings: Labellings, parts: Sequence[Rows]) -> list[Array]:
    """Return mean similarity of time courses in the target class minus that among the others."""
    return _by_contrast(block, labellings, parts, "categorical")


def _by_contrast(
    block: Block, labellings: Labellings, parts: Sequence[Rows], kind: Kind
) -> list[Array]:
    """Return a contrast of each unit; NaN where any pair of a part has no similarity.

    Of the pairs that are left it would be another score. One labelling needs no z of its own for
    each pair, but sums over cells, stimuli of one class that are in the same parts.
    """
    classes = 1 - labellings
    if len(labellings) > 1:
        return [_of_pairs(block.similarities, classes, part, kind) for part in parts]
    inside = np.stack([np.isin(np.arange(classes.shape[1]), part) for part in parts])
    cells, number = np.unique(np.concatenate([classes, inside]), axis=1, return_inverse=True)
    sums, of = block.sums(number, cells[0]), (np.bincount(number), cells[0])
    return [cell_contrast(sums, of, kind, taken > 0)[None] for taken in cells[1:]]


def _of_pairs(z: Array, classes: Labellings, part: Rows, kind: Kind) -> Array:
    inside = np.zeros(classes.shape[1], dtype=bool)
    inside[part] = True
    first, second = np.triu_indices(len(inside), 1)
    values = z[:, np.flatnonzero(inside[first] & inside[second])]
    scored = ~np.isnan(values).any(axis=1)
    found = np.full((len(values), len(classes)), np.nan)
    if scored.any():
        found[scored] = contrasts(values[scored], classes[:, part], kind)
    return found.T


SCORES: Mapping[str, Score] = {
    "contrast": by_difference,
    "maximum": by_maximum,
    "discriminative": by_discrimination,
    "categorical": by_cohesion,
}
"""Kind of method -> its score; `l1` and `random` look at all units together."""
