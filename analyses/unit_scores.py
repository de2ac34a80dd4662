"""Scores that units are chosen by, for many labellings of training stimuli at once.

Every function takes a block of units and the rows to train on, and gives (labelling, unit), the
larger the better; a score that does not look at labels has one row for all labellings. NaN is a
unit that cannot be scored: it is never chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.cell_means import permuted_between
from patchclamp.analyses.contrasts import Kind, contrasts
from patchclamp.analyses.rdm import IDENTICAL, fisher_z
from patchclamp.analyses.time_course import course_dissimilarities

Array = NDArray[np.float64]
Labellings = NDArray[np.int64]

LEAST_POSITIONS = 3
"""With two positions every correlation of time courses is 1 or -1."""


@dataclass(frozen=True)
class Block:
    """Some units: their time courses (stimulus, position, unit), any units of measurement."""

    courses: NDArray[np.floating]

    @cached_property
    def means(self) -> Array:
        """Mean over positions: (stimulus, unit)."""
        return np.asarray(np.asarray(self.courses, dtype=np.float64).mean(axis=1))

    @cached_property
    def similarities(self) -> Array:
        """Fisher z of each pair of stimuli by the time course of each unit: (unit, pair).

        NaN in all pairs of a stimulus whose course is constant, as where a feature is silent, and
        in a pair whose courses are multiples of each other, whose z is infinite.
        """
        courses = np.ascontiguousarray(np.moveaxis(self.courses, -1, 0))
        d = course_dissimilarities(courses, leave_out=True)
        d[(d < IDENTICAL) | (d > 2 - IDENTICAL)] = np.nan
        return fisher_z(dissimilarity=d, out=d)


Score = Callable[[Block, Labellings, NDArray[np.intp]], Array]
"""Scores of a block's units from labellings (labelling, stimulus), 1 in the target class and 0
outside, and the rows to train on."""


def by_difference(block: Block, labellings: Labellings, train: NDArray[np.intp]) -> Array:
    """Return |Welch's t| of the target class against the others, of means over positions."""
    return np.abs(permuted_between(block.means[train], labellings[:, train]))


def by_maximum(block: Block, labellings: Labellings, train: NDArray[np.intp]) -> Array:
    """Return the largest mean over positions that any training stimulus has; no label enters."""
    del labellings
    return np.asarray(block.means[train].max(axis=0))[None]


def by_discrimination(block: Block, labellings: Labellings, train: NDArray[np.intp]) -> Array:
    """Return mean similarity of time courses in the target class minus that with the others."""
    return _by_contrast(block, labellings, train, "discriminative_target")


def by_cohesion(block: Block, labellings: Labellings, train: NDArray[np.intp]) -> Array:
    """Return mean similarity of time courses in the target class minus that among the others."""
    return _by_contrast(block, labellings, train, "categorical")


def _by_contrast(
    block: Block, labellings: Labellings, train: NDArray[np.intp], kind: Kind
) -> Array:
    inside = np.zeros(labellings.shape[1], dtype=bool)
    inside[train] = True
    first, second = np.triu_indices(len(inside), 1)
    pairs = np.flatnonzero(inside[first] & inside[second])
    values = block.similarities[:, pairs]
    # A unit without some pair has no score: of the rest it would be another one.
    scored = ~np.isnan(values).any(axis=1)
    found = np.full((len(values), len(labellings)), np.nan)
    if scored.any():
        found[scored] = contrasts(values[scored], 1 - labellings[:, train], kind)
    return found.T


SCORES: Mapping[str, Score] = {
    "contrast": by_difference,
    "maximum": by_maximum,
    "discriminative": by_discrimination,
    "categorical": by_cohesion,
}
"""Kind of method -> its score; `l1` and `random` look at all units together."""
