"""Values: how far two arrays are apart, where, and by how much in units of their scale.

1. One pass over both arrays takes sizes, moments, the largest differences and what is missing.
2. If any difference is larger than the tolerance allows, a second pass counts and places those.

Both passes read blocks, so that memory is bounded whatever the files hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchclamp.engine.comparison.blocks import Block, Pair
from patchclamp.engine.comparison.tally import Array, Tally, Worst, distances
from patchclamp.engine.comparison.tolerance import Tolerance

SLACK = 1 + 1e-9
"""A difference of just the tolerance is none, though decimal numbers are not exact in binary."""


@dataclass(frozen=True)
class Values:
    """What comparing the values of two variables gave; None where it has no meaning.

    `compared` counts elements that have a value on either side, `beyond` those that differ by
    more than the tolerance or have a value on one side only. `relative` is the largest difference
    in units of the scale. `within` holds, of each dim that the differences do not fill, the labels
    they are at.
    """

    compared: int
    beyond: int
    allowed: int
    absolute: float | None = None
    relative: float | None = None
    scale: float | None = None
    correlation: float | None = None
    worst: Worst | None = None
    within: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    sign_changes: int = 0
    only_a: int = 0
    only_b: int = 0
    whole: bool = True
    """Whether values are labels or whole numbers: right or wrong, however far apart."""

    @property
    def different(self) -> bool:
        """Whether more elements differ than may."""
        return self.beyond > self.allowed


@dataclass(frozen=True)
class Scaling:
    """What a variable's differences are measured in: declared, or its own largest size.

    `along` names a dim each of whose labels has a scale of its own.
    """

    declared: float | None = None
    least: float = 0.0
    along: str | None = None

    def of(self, largest_a: Array, largest_b: Array) -> Array:
        """Return the scale of each slice.

        The smaller of both sides: a value that ran away on one side must not widen its own
        tolerance.
        """
        if self.declared is not None:
            return np.full_like(largest_a, self.declared)
        return np.maximum(np.minimum(largest_a, largest_b), self.least)


def compare_values(pair: Pair, tolerance: Tolerance, scaling: Scaling) -> Values:
    """Compare all that both variables have."""
    if pair.a.dtype.kind not in "fiub" or pair.b.dtype.kind not in "fiub":
        return _compare_labels(pair, tolerance)
    axis = pair.dims.index(scaling.along) if scaling.along in pair.dims else None
    tally = Tally.over(pair, axis)
    scales = scaling.of(tally.largest_a, tally.largest_b)
    whole = pair.a.dtype.kind in "iub" and pair.b.dtype.kind in "iub"
    # Whole numbers are right or wrong: a tolerance relative to a scale is the share of wrong ones.
    limits = SLACK * np.maximum(tolerance.absolute, 0 if whole else tolerance.relative * scales)
    place = tally.worst(scales)
    places = _Places(pair)
    if tally.missing or (tally.furthest > limits).any():
        for block in pair.blocks():
            places.take(block, _limits_at(limits, block, axis))
    apart = tally.furthest.max(initial=0.0)
    relative = np.divide(
        tally.furthest, scales, out=np.zeros_like(scales), where=tally.furthest > 0
    )
    return Values(
        compared=tally.compared,
        beyond=places.beyond,
        allowed=int(tolerance.share() * tally.compared) if whole else 0,
        absolute=float(apart),
        relative=float(relative.max(initial=0.0)),
        scale=float(scales.max(initial=0.0)),
        correlation=tally.moments.correlation(),
        worst=tally.describe(pair, place),
        within=places.within(),
        sign_changes=places.sign_changes,
        only_a=tally.only_a,
        only_b=tally.only_b,
        whole=whole,
    )


def _limits_at(limits: Array, block: Block, axis: int | None) -> Array:
    """Return the limits of a block's elements, in a shape that broadcasts over it."""
    if axis is None:
        return limits
    first, shape = block.start[axis], [1] * block.a.ndim
    shape[axis] = block.a.shape[axis]
    return limits[first : first + shape[axis]].reshape(shape)


def _compare_labels(pair: Pair, tolerance: Tolerance) -> Values:
    """Compare text, element by element."""
    """Compare text, or text with numbers, element by element."""
    places, worst = _Places(pair), None
    for block in pair.blocks():
        unequal = block.a.astype(object) != block.b.astype(object)
        if worst is None and unequal.any():
            place = np.unravel_index(int(np.argmax(unequal)), unequal.shape)
            start = tuple(int(i) + s for i, s in zip(place, block.start, strict=True))
            labels = pair.labels_at(start)
            worst = Worst(labels, _plain(block.a[place]), _plain(block.b[place]))
        places.note(block, unequal)
    return Values(
        compared=pair.size,
        beyond=places.beyond,
        allowed=int(tolerance.share() * pair.size),
        worst=worst,
        within=places.within(),
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@dataclass
class _Places:
    """Counts the elements that differ, and notes the labels at which they do."""

    pair: Pair
    beyond: int = 0
    sign_changes: int = 0
    hit: list[NDArray[np.bool_]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hit = [np.zeros(size, dtype=bool) for size in self.pair.shape]

    def take(self, block: Block, limits: Array) -> None:
        a, b = block.a.astype(np.float64), block.b.astype(np.float64)
        apart, lacking = distances(a, b)
        beyond = (apart > limits) | lacking
        self.note(block, beyond)
        self.sign_changes += int((beyond & (np.sign(a) * np.sign(b) < 0)).sum())

    def note(self, block: Block, beyond: NDArray[np.bool_]) -> None:
        count = int(beyond.sum())
        if not count:
            return
        self.beyond += count
        for axis, hit in enumerate(self.hit):
            others = tuple(i for i in range(beyond.ndim) if i != axis)
            first = block.start[axis]
            hit[first : first + beyond.shape[axis]] |= beyond.any(axis=others)

    def within(self) -> dict[str, tuple[Any, ...]]:
        if not self.beyond:
            return {}
        return {
            dim: tuple(self.pair.matches[dim].labels[hit].tolist())
            for dim, hit in zip(self.pair.dims, self.hit, strict=True)
            if not hit.all()
        }
