"""The order in which units enter an L1 path, for many labellings of the same patterns.

Lasso by least angle regression: with all weights at 0 and then growing, the units in use always
have equal correlation with what is left of the target, and the next one enters where its
correlation reaches theirs; a unit whose weight comes back to 0 leaves. Every step of all
labellings together is one matrix product with the patterns.

Efron, Hastie, Johnstone & Tibshirani 2004, doi:10.1214/009053604000000067, with the modification
of its section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BATCH = 1 << 23
"""Numbers in the correlations of units with labellings that are held at once: 64 MB."""

TIED = 1e-9
"""Steps that differ by this share of the largest correlation are the same: rounding."""

TOO_MANY = 20
"""Steps for each unit wanted after which a path is given up: units come and go without end."""


@dataclass(frozen=True)
class Entered:
    """Units that are in use when as many are as were asked for, in the order of their entry.

    `units` (labelling, k); `penalty` (labelling, k): the penalty at which each entered, for the
    loss |y - x w|² / (2 n); `tied` (labelling,): another unit would have entered with the last.
    """

    units: NDArray[np.intp]
    penalty: Array
    tied: NDArray[np.bool_]


def first_units(patterns: Array, targets: Array, k: int) -> Entered:
    """Return the first `k` units of the L1 path of every labelling.

    `patterns`: (stimulus, unit), standardised, a constant unit 0; `targets`: (labelling,
    stimulus), centred. A unit that is a multiple of those in use does not enter. Where fewer
    than k units ever enter, the rest of `units` is -1.

    >>> x = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> found = first_units(x, np.array([[2.0, 1.0, -1.0, -2.0]]), 2)
    >>> found.units.tolist(), found.penalty.tolist()
    ([[0, 1]], [[1.5, 0.5]])
    """
    step = max(1, BATCH // max(1, patterns.shape[1]))
    parts = [
        _first_units(patterns, targets[start : start + step], k)
        for start in range(0, len(targets), step)
    ]
    return Entered(
        np.concatenate([part.units for part in parts]),
        np.concatenate([part.penalty for part in parts]),
        np.concatenate([part.tied for part in parts]),
    )


@dataclass
class _Path:
    """One labelling's path: correlations of all units with what is left, and units in use."""

    correlation: Array
    used: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    entered: list[float] = field(default_factory=list)
    barred: int | None = None
    tied: bool = False
    ended: bool = False

    def begin(self, k: int) -> None:
        """Take the unit with the largest correlation into use."""
        size = np.abs(self.correlation)
        largest = float(size.max(initial=0))
        if largest <= TIED:
            self.ended = True
            return
        close = np.flatnonzero(size >= largest * (1 - TIED))
        self._enter(int(close[0]), largest)  # of equals the first, however they are rounded
        self.tied = k == 1 and len(close) > 1

    def rate(self, patterns: Array) -> Array:
        """Return by how much weights change for each unit of a step."""
        part = patterns[:, self.used]
        signs = np.sign(self.correlation[self.used])
        return np.asarray(np.linalg.solve(part.T @ part, signs))

    def advance(self, rate: Array, fall: Array, k: int) -> None:
        """Go on to where a unit enters or leaves; `fall` is by how much correlations fall."""
        largest = float(np.abs(self.correlation[self.used]).max())
        steps = self._steps(fall, largest)
        close = np.flatnonzero(steps <= steps.min() + TIED * largest)
        enters = int(close[0])
        zeros = [-w / r if w * r < 0 else np.inf for w, r in zip(self.weights, rate, strict=True)]
        leaves = int(np.argmin(zeros))
        step = min(float(steps[enters]), zeros[leaves], largest)
        self.correlation -= step * fall
        self.weights = [w + step * r for w, r in zip(self.weights, rate, strict=True)]
        self.barred = None
        if step >= largest:
            self.ended = True
        elif zeros[leaves] < steps[enters]:
            self.barred = self.used[leaves]  # rounding would bring it back at once
            for part in (self.used, self.weights, self.entered):
                del part[leaves]
        else:
            self._enter(enters, largest - step)
            self.tied = len(self.used) == k and len(close) > 1

    def _steps(self, fall: Array, largest: float) -> Array:
        """Return after how long a step each unit's correlation reaches that of those in use."""
        found = np.full(len(fall), np.inf)
        for sign in (1, -1):
            slope = 1 - sign * fall
            gap = largest - sign * self.correlation
            # What falls as those in use do is a multiple of them, and never gets there.
            meets = (slope > TIED) & (gap >= 0)
            np.minimum(found, gap / np.where(meets, slope, 1.0), out=found, where=meets)
        found[self.used] = np.inf
        if self.barred is not None:
            found[self.barred] = np.inf
        return found

    def _enter(self, unit: int, correlation: float) -> None:
        self.used.append(unit)
        self.weights.append(0.0)
        self.entered.append(correlation)


def _first_units(patterns: Array, targets: Array, k: int) -> Entered:
    paths = [_Path(correlation) for correlation in targets @ patterns]
    for path in paths:
        path.begin(k)
    for _ in range(TOO_MANY * k):
        going = [path for path in paths if not path.ended and len(path.used) < k]
        if not going:
            break
        rates = [path.rate(patterns) for path in going]
        moves = [patterns[:, p.used] @ rate for p, rate in zip(going, rates, strict=True)]
        falls = np.stack(moves) @ patterns
        for path, rate, fall in zip(going, rates, falls, strict=True):
            path.advance(rate, fall, k)
    units = np.full((len(paths), k), -1, dtype=np.intp)
    penalty = np.full((len(paths), k), np.nan)
    for row, path in enumerate(paths):
        units[row, : len(path.used)] = path.used
        penalty[row, : len(path.used)] = np.array(path.entered) / len(patterns)
    return Entered(units, penalty, np.array([path.tied for path in paths]))
