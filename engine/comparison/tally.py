"""What one pass over two arrays takes: sizes, moments, the largest differences, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchclamp.engine.comparison.blocks import Block, Pair

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Worst:
    """The element whose difference is the largest in units of its scale."""

    labels: Mapping[str, Any]
    a: Any
    b: Any
    deviations: float | None = None
    """The difference in standard deviations of A."""


def distances(a: Array, b: Array) -> tuple[Array, NDArray[np.bool_]]:
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
class Moments:
    """Means, variances and covariance of pairs of finite values, added block by block.

    Source: Chan, Golub & LeVeque 1983, The American Statistician 37, 242–247.
    """

    n: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(2))
    spread: Array = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, a: Array, b: Array) -> None:
        """Add pairs of values."""
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
class Tally:
    """What the first pass takes, for each slice that has a scale of its own."""

    largest_a: Array
    largest_b: Array
    furthest: Array
    at: list[tuple[int, ...] | None]
    values: list[tuple[float, float]]
    moments: Moments = field(default_factory=Moments)
    compared: int = 0
    only_a: int = 0
    only_b: int = 0
    first_missing: tuple[tuple[int, ...], float, float] | None = None

    @classmethod
    def over(cls, pair: Pair, axis: int | None) -> Tally:
        """Return what a pass over both arrays takes, for each slice along an axis or for all."""
        slices = 1 if axis is None else pair.shape[axis]
        zero = np.zeros(slices)
        tally = cls(zero, zero.copy(), zero.copy(), [None] * slices, [(np.nan, np.nan)] * slices)
        for block in pair.blocks():
            tally.add(block, axis)
        return tally

    @property
    def missing(self) -> int:
        """How many elements have a value on one side only."""
        return self.only_a + self.only_b

    def add(self, block: Block, axis: int | None) -> None:
        """Add a block."""
        a, b = block.a.astype(np.float64), block.b.astype(np.float64)
        apart, lacking = distances(a, b)
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
        """Return the worst element of a slice; where none is apart, the first missing one."""
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
