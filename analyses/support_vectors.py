"""Support vector machines by an interior point, for labels that have nothing to do with patterns.

Permuted labels are hard for the usual solver, which changes two multipliers at a time: with more
units than stimuli it takes millions of steps. The dual problem is small, one multiplier a_i for
each stimulus:

    minimise ½ aᵀQa - Σa  where  0 <= a <= C,  yᵀa = 0,  Q = (y yᵀ) ∘ gram.

1. Newton's steps towards a·z = (C - a)·w = mu, with z and w the multipliers of the two bounds and
   mu falling to 0 (Mehrotra's predictor and corrector): some twenty Cholesky factorisations,
   whatever the labels.
2. Stimuli at a bound are put on it, and the others solved for exactly.
3. The result counts only if it keeps the conditions of the optimum as closely as libsvm asks.

Mehrotra 1992, doi:10.1137/0802028; Fine & Scheinberg 2001; Fan, Chen & Lin 2005 for step 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

Array = NDArray[np.float64]

STEPS = 60
"""After so many it has failed; it takes 10 to 25."""

CENTRED = 1e-11
"""Mean product of multipliers and distances at which it ends, as a share of the mean multiplier."""

REPAIRS = 20
"""Times that stimuli which were put on a bound, or not, are looked at again."""

LOOSE = 1e-9
"""Slope, in decisions, with which a stimulus is let go from its bound."""

BACK = 0.99
"""Share of the way to the nearest bound that a step may go."""


@dataclass(frozen=True)
class Machine:
    """A read-out of rows: decision = gram @ `rows` + `intercept`, positive for True.

    `violation` says how far it is from the optimum: the largest difference of decisions that
    should not exceed one another, as libsvm's `tol`.
    """

    rows: Array
    intercept: float
    violation: float


def support_vectors(gram: Array, target: NDArray[np.bool_], strength: float) -> Machine:
    """Return the machine with hinge loss that tells True from False.

    `gram`: (stimulus, stimulus), inner products of patterns, any units; `target`: (stimulus,),
    both values; `strength`: C. The intercept is libsvm's: a mean over the stimuli between the
    bounds, or without any the middle of what is possible. The caller judges the `violation`.
    """
    scale = float(np.diagonal(gram).mean()) or 1.0
    y = np.where(target, 1.0, -1.0)
    q, bound = gram * (y[:, None] / scale * y), strength * scale
    best = Machine(np.zeros(len(y)), 0.0, np.inf)
    try:
        with np.errstate(all="ignore"):  # what has failed violates the conditions
            a, z, w = _interior(q, y, bound)
        near = np.where(bound - a < w, bound, np.where(a < z, 0.0, a))
        best = _machine(q, y, bound, near)
        exact = _machine(q, y, bound, np.clip(_on_bounds(q, y, bound, (a, z, w)), 0.0, bound))
        best = min(exact, best, key=lambda m: np.nan_to_num(m.violation, nan=np.inf))
    except LinAlgError:  # as where more stimuli are between the bounds than there are units
        pass
    return Machine(best.rows / scale, best.intercept, best.violation)


def _interior(q: Array, y: Array, bound: float) -> tuple[Array, Array, Array]:
    """Return multipliers a of stimuli, and z and w of their bounds, near the optimum."""
    n = len(y)
    a, offset = np.full(n, min(1.0, bound) / 2), 0.0
    z, w = np.ones(n), np.ones(n)
    for _ in range(STEPS):
        room = bound - a
        mu = float(a @ z + room @ w) / (2 * n)
        if mu < CENTRED * a.mean():
            break
        newton = _Newton.at(q, y, (a, room, z, w), offset)
        da, _, dz, dw = newton.step(-a * z, -room * w)
        length = min(newton.reach(da, dz, dw), 1.0)
        ahead = (a + length * da) @ (z + length * dz) + (room - length * da) @ (w + length * dw)
        centre = mu * (float(ahead) / (2 * n) / mu) ** 3
        da, change, dz, dw = newton.step(centre - a * z - da * dz, centre - room * w + da * dw)
        length = min(BACK * newton.reach(da, dz, dw), 1.0)
        a, offset = a + length * da, offset + length * change
        z, w = z + length * dz, w + length * dw
    return a, z, w


@dataclass(frozen=True)
class _Newton:
    """Newton's equations at multipliers a, z, w and `room`, which is C - a, factored once."""

    y: Array
    at_bounds: tuple[Array, Array, Array, Array]
    wrong: tuple[Array, float]
    factor: tuple[Array, bool]
    across: Array

    @classmethod
    def at(
        cls, q: Array, y: Array, at_bounds: tuple[Array, Array, Array, Array], offset: float
    ) -> _Newton:
        """Return the equations where the sum over y is weighed by `offset`."""
        a, room, z, w = at_bounds
        wrong = 1 - q @ a - y * offset + z - w, float(-y @ a)
        added = q.copy()
        np.einsum("ii->i", added)[...] += z / a + w / room
        factor = cho_factor(added.T, overwrite_a=True, check_finite=False)
        return cls(y, at_bounds, wrong, factor, cho_solve(factor, y, check_finite=False))

    def step(self, below: Array, above: Array) -> tuple[Array, float, Array, Array]:
        """Return changes of a, the offset, z and w: they add `below` to a z, `above` to room w."""
        a, room, z, w = self.at_bounds
        dual, primal = self.wrong
        right = dual + below / a - above / room
        toward = cho_solve(self.factor, right, check_finite=False)
        change = float((self.y @ toward - primal) / (self.y @ self.across))
        da = toward - self.across * change
        return da, change, (below - z * da) / a, (above + w * da) / room

    def reach(self, da: Array, dz: Array, dw: Array) -> float:
        """Return how many times these changes fit before one of the four is 0."""
        a, room, z, w = self.at_bounds
        return min(_reach(a, da), _reach(room, -da), _reach(z, dz), _reach(w, dw))


def _reach(values: Array, change: Array) -> float:
    """Return how many times a change fits before a value is 0."""
    falling = change < 0
    return float((-values[falling] / change[falling]).min(initial=np.inf))


def _on_bounds(q: Array, y: Array, bound: float, near: tuple[Array, Array, Array]) -> Array:
    """Return the optimum in which the stimuli that are near a bound are on it.

    Those that leave the bounds are put back on them, and those that want to leave are let go.
    """
    a, z, w = near
    low, high = a < z, bound - a < w
    found = np.clip(a, 0.0, bound)
    for _ in range(REPAIRS):
        free = ~(low | high)
        k = int(free.sum())
        found = np.where(high, bound, 0.0)
        if not k:
            break
        system = np.zeros((k + 1, k + 1))
        system[:k, :k] = q[np.ix_(free, free)]
        system[:k, k] = system[k, :k] = y[free]
        right = np.append(1 - q[free] @ found, -y @ found)
        solved = np.linalg.solve(system, right)
        found[free] = solved[:k]
        below, above = free & (found < 0), free & (found > bound)
        if below.any() or above.any():
            low, high = low | below, high | above
            continue
        slope = q @ found - 1 + y * solved[k]
        back = (low & (slope < -LOOSE)) | (high & (slope > LOOSE))
        if not back.any():
            break
        low, high = low & ~back, high & ~back
    return found


def _machine(q: Array, y: Array, bound: float, a: Array) -> Machine:
    """Return the machine of these multipliers, and how far it is from the optimum."""
    slope = -y * (q @ a - 1)  # -y ∇: what an intercept would have to be for each stimulus
    edge = 1e-12 * max(1.0, float(a.max()))
    low, high = a <= edge, a >= bound - edge
    rises = np.where(y > 0, ~high, ~low)
    falls = np.where(y > 0, ~low, ~high)
    top, least = slope[rises].max(initial=-np.inf), slope[falls].min(initial=np.inf)
    free = ~(low | high)
    intercept = slope[free].mean() if free.any() else (top + least) / 2
    balance = abs(float(y @ a)) / max(1.0, float(a.max()))
    return Machine(a * y, float(intercept), max(float(top - least), balance))
