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
from patchclamp.engine.comparison.tolerance import Tolerance

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Worst:
    """The element whose difference is the largest in units of its scale."""

    labels: Mapping[str, Any]
    a: Any
    b: Any
    deviations: float | None = None
    """The difference in standard deviations of A."""


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
    tally = _Tally.over(pair, axis)
    scales = scaling.of(tally.largest_a, tally.largest_b)
    whole = pair.a.dtype.kind in "iub" and pair.b.dtype.kind in "iub"
    # Whole numbers are right or wrong: a tolerance relative to a scale is the share of wrong ones.
    limits = np.maximum(tolerance.absolute, 0 if whole else tolerance.relative * scales)
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
        apart, lacking = _apart(a, b)
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


def _apart(a: Array, b: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return the distance of each pair, and where only one side has a value.

    Equal infinities are no distance apart; where a value is missing the distance is 0.
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(b - a)
    if not np.isnan(apart.sum()):
        return apart, np.zeros(apart.shape, dtype=bool)
    lacking = np.isnan(a) != np.isnan(b)
    return np.where((a == b) | np.isnan(a) | np.isnan(b), 0.0, apart), lacking


@dataclass
class _Moments:
    """Means, variances and covariance of pairs of finite values, added block by block.

    Source: Chan, Golub & LeVeque 1983, The American Statistician 37, 242–247.
    """

    n: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(2))
    spread: Array = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, a: Array, b: Array) -> None:
        n = a.size
        if not n:
            return
        mean = np.array([a.mean(), b.mean()])
        left, right = a.ravel() - mean[0], b.ravel() - mean[1]
        cross = left @ right
        spread = np.array([[left @ left, cross], [cross, right @ right]])
        step, total = mean - self.mean, self.n + n
        self.spread = self.spread + spread + np.outer(step, step) * (self.n * n / total)
        self.mean = self.mean + step * (n / total)
        self.n = total

    def deviation(self) -> float:
        """Return the standard deviation of A (ddof 0)."""
        return float(np.sqrt(self.spread[0, 0] / self.n)) if self.n else 0.0

    def correlation(self) -> float | None:
        """Return Pearson's r; None where a side is constant or there are fewer than 3 pairs."""
        both = self.spread[0, 0] * self.spread[1, 1]
        if self.n < 3 or both <= 0:
            return None
        return float(np.clip(self.spread[0, 1] / np.sqrt(both), -1, 1))


@dataclass
class _Tally:
    """What the first pass takes, for each slice that has a scale of its own."""

    largest_a: Array
    largest_b: Array
    furthest: Array
    at: list[tuple[int, ...] | None]
    values: list[tuple[float, float]]
    moments: _Moments = field(default_factory=_Moments)
    compared: int = 0
    only_a: int = 0
    only_b: int = 0
    first_missing: tuple[tuple[int, ...], float, float] | None = None

    @classmethod
    def over(cls, pair: Pair, axis: int | None) -> _Tally:
        slices = 1 if axis is None else pair.shape[axis]
        zero = np.zeros(slices)
        tally = cls(
            zero, zero.copy(), zero.copy(), [None] * slices, [(np.nan, np.nan)] * slices
        )
        for block in pair.blocks():
            tally.add(block, axis)
        return tally

    @property
    def missing(self) -> int:
        return self.only_a + self.only_b

    def add(self, block: Block, axis: int | None) -> None:
        a, b = block.a.astype(np.float64), block.b.astype(np.float64)
        apart, lacking = _apart(a, b)
        self._add_missing(block, a, b, lacking)
        finite = np.isfinite(a) & np.isfinite(b)
        whole = bool(finite.all())
        self.moments.add(a if whole else a[finite], b if whole else b[finite])
        first = 0 if axis is None else block.start[axis]
        for number in range(1 if axis is None else a.shape[axis]):
            part: tuple[Any, ...] = (...,)
            if axis is not None:
                part = (slice(None),) * axis + (slice(number, number + 1),)
            start = tuple(s + (number if i == axis else 0) for i, s in enumerate(block.start))
            self._add_slice(first + number, (a[part], b[part], apart[part]), start)

    def _add_slice(
        self, number: int, part: tuple[Array, Array, Array], start: tuple[int, ...]
    ) -> None:
        a, b, apart = part
        self.largest_a[number] = max(self.largest_a[number], _largest(a))
        self.largest_b[number] = max(self.largest_b[number], _largest(b))
        furthest = float(apart.max(initial=0.0))
        if furthest > self.furthest[number]:
            place = np.unravel_index(int(np.argmax(apart)), apart.shape)
            self.furthest[number] = furthest
            self.at[number] = tuple(int(i) + s for i, s in zip(place, start, strict=True))
            self.values[number] = (float(a[place]), float(b[place]))

    def _add_missing(self, block: Block, a: Array, b: Array, lacking: NDArray[np.bool_]) -> None:
        self.compared += a.size - int((np.isnan(a) & np.isnan(b)).sum())
        if not lacking.any():
            return
        self.only_a += int((lacking & np.isnan(b)).sum())
        self.only_b += int((lacking & np.isnan(a)).sum())
        if self.first_missing is None:
            place = np.unravel_index(int(np.argmax(lacking)), lacking.shape)
            start = tuple(int(i) + s for i, s in zip(place, block.start, strict=True))
            self.first_missing = (start, float(a[place]), float(b[place]))

    def worst(self, scales: Array) -> int | None:
        """Return the slice that holds the worst element; None where nothing is apart."""
        if not self.furthest.any():
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return int(np.nanargmax(self.furthest / scales))

    def describe(self, pair: Pair, number: int | None) -> Worst | None:
        if number is None:
            if self.first_missing is None:
                return None
            place, a, b = self.first_missing
            return Worst(pair.labels_at(place), a, b)
        found = self.at[number]
        assert found is not None, "a slice that is apart has a place"
        a, b = self.values[number]
        spread = self.moments.deviation()
        return Worst(pair.labels_at(found), a, b, abs(b - a) / spread if spread else None)


def _largest(values: Array) -> float:
    """Return the largest size of the finite values."""
    largest = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
    if np.isfinite(largest):
        return largest
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max(initial=0.0))
