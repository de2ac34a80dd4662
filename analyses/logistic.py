"""Logistic regression that has converged, for any number of labellings of the same patterns.

The patterns are the same for all labellings, so that what one fit does with a vector, all fits
together do with a matrix. In coordinates along the principal axes of the training part the
Hessian is nearly diagonal, which is all the preconditioning that is needed:

1. minimise by nonlinear conjugate gradients (Polak & Ribière, restarted where negative),
   preconditioned by the diagonal of the mean Hessian, all labellings side by side;
2. step exactly along each direction: a Newton step in one dimension, corrected once, which
   needs no further product with the patterns;
3. multiply in float32 first, and where the gradient, computed anew in float64, shows that a fit
   has not converged, go on in float64.

Bounds of the Hessian: Böhning 1992, doi:10.1007/BF00048682. Conjugate gradients: Nocedal & Wright
2006, Numerical Optimization, section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.splits import Array, Split
from patchclamp.registry.errors import AnalysisError

TOLERANCE = 1e-6
"""Norm of the gradient of the mean loss at which a fit has converged. scikit-learn stops at 1e-4
unless told otherwise, which leaves decisions off by 30 % of their size where units > stimuli."""

FINE = 1e-9
"""The same for the first labelling, whose decisions are scored and whose weights are given: it
takes some iterations more. A fit that rounding keeps from getting there has converged before."""

PATIENCE = 200
"""Iterations more that it may take."""

MAX_ITERATIONS = 5_000
"""Iterations after which a fit is refused; well-posed ones take under 200."""

REFRESH = (3, 8, 20, 40, 80, 160)
"""Iterations before which the preconditioner is made anew, from the Hessian as it is then."""

BATCH = 1 << 16
"""Numbers that the fits done side by side may have: few enough for the processor's cache."""

WIDE = 128
"""Columns that a product has in any case: one of fewer takes as long as twice as many."""


def fit_logistic(
    split: Split, targets: Array, strength: float, *, fine: bool = True
) -> tuple[Array, Array]:
    """Return weights (column, labelling, class) and intercepts of regularised maximum likelihood.

    `targets`: (training stimulus, labelling, class), 1 in the class of a stimulus and 0 in the
    others; with two classes the second alone, and the first has decision 0. Minimises
    sum of -log p + |w|² / (2 C) with C = `strength`; intercepts are not penalised. A fit has
    converged where the norm of the gradient of the mean loss is `TOLERANCE`, with `fine` the first
    labelling's `FINE`; one that does not get to the former raises `AnalysisError`.
    """
    axes, variances = split.axes
    design = np.column_stack([split.train @ axes, np.ones(len(targets))])
    curvature = np.append(variances, len(targets))
    penalty = np.append(np.full(len(variances), 1 / strength), 0.0)
    turned = np.moveaxis(targets, 1, -1)  # (stimulus, class, labelling)
    step = max(-(-WIDE // turned.shape[1]), BATCH // max(1, turned[..., 0].size))
    found = [
        _fit(design, turned[..., start : start + step], curvature, penalty)
        for start in range(0, turned.shape[-1], step)
    ]
    if fine:
        first = _Loss(design, penalty[:, None, None], turned[..., :1])
        found[0][..., :1] = _minimise(first, found[0][..., :1], curvature, FINE, most=PATIENCE)
    weights = np.moveaxis(np.concatenate(found, axis=-1), -1, 1)
    return np.tensordot(axes, weights[:-1], axes=1), weights[-1]


def _fit(design: Array, targets: Array, curvature: Array, penalty: Array) -> Array:
    """Return (coordinate, class, fit): in float32 as far as that goes, then in float64."""
    weights = np.zeros((design.shape[1], *targets.shape[1:]))
    late = np.arange(targets.shape[-1])
    for precision, tolerance in ((np.float32, 0.8 * TOLERANCE), (np.float64, TOLERANCE)):
        loss = _Loss(design.astype(precision), penalty[:, None, None], targets[..., late])
        weights[..., late] = _minimise(loss, weights[..., late], curvature, tolerance)
        exact = _Loss(design, penalty[:, None, None], targets)
        gradient = exact.gradient(weights, exact.chances(exact.decisions(weights)))
        late = np.flatnonzero(_norm(gradient) > TOLERANCE * len(design))
        if not late.size:
            return weights
    raise AnalysisError(
        f"{late.size} of {weights.shape[-1]} logistic regressions with C = {1 / penalty[0]:g} did "
        f"not converge on {len(design)} stimuli within {MAX_ITERATIONS} iterations: use a smaller C"
    )


@dataclass(frozen=True)
class _Loss:
    """Summed loss and penalty of fits side by side; arrays of fits end in (class, fit).

    `design` (stimulus, coordinate) sets the precision of products; all else is float64.
    """

    design: NDArray[np.floating]
    penalty: Array
    targets: Array

    def of(self, fits: NDArray[np.bool_]) -> _Loss:
        """Return the loss of some of the fits."""
        return _Loss(self.design, self.penalty, self.targets[..., fits])

    def decisions(self, weights: Array) -> Array:
        """Return (stimulus, class, fit)."""
        return _product(self.design, weights)

    def chances(self, decisions: Array) -> Array:
        """Return the probability of each class: (stimulus, class, fit)."""
        if decisions.shape[1] == 1:
            found = np.multiply(decisions, 0.5)  # in place from here: the exp is the least of it
            np.tanh(found, out=found)
            found += 1
            found *= 0.5
            return found
        values = np.exp(decisions - decisions.max(axis=1, keepdims=True))
        return np.asarray(values / values.sum(axis=1, keepdims=True))

    def gradient(self, weights: Array, chances: Array) -> Array:
        """Return the gradient by each weight: (coordinate, class, fit)."""
        return _product(self.design.T, chances - self.targets) + self.penalty * weights

    def step(self, point: tuple[Array, Array, Array], direction: Array, along: Array) -> Array:
        """Return how far each fit goes to its minimum along a direction: (fit,).

        `point`: weights, decisions and chances; `along`: the direction's decisions. One step of
        Newton, and one more from there: closer than the next gradient can tell.
        """
        weights, decisions, chances = point
        linear = _dot(self.penalty * weights, direction)
        square = _dot(self.penalty * direction, direction)
        step = np.zeros(decisions.shape[-1])
        for again in (True, False):
            rise = _dot(chances - self.targets, along) + linear + step * square
            weighed = chances * along
            mean = weighed.sum(axis=1, keepdims=True) if weighed.shape[1] > 1 else weighed
            bend = _dot(weighed, along) - _dot(mean, mean) + square
            step = step - rise / bend
            if again:
                chances = self.chances(decisions + step * along)
        return step


def _minimise(
    loss: _Loss, weights: Array, curvature: Array, tolerance: float, *, most: int | None = None
) -> Array:
    """Return the weights of every fit at its minimum, or where the iterations are over.

    `curvature`: (coordinate,), the squared lengths of the design's columns.
    """
    found, column = weights.copy(), np.arange(weights.shape[-1])
    curvature, limit = curvature[:, None, None], tolerance * len(loss.design)
    decisions = loss.decisions(weights)
    chances = loss.chances(decisions)
    gradient = loss.gradient(weights, chances)
    inverse = np.broadcast_to(1 / (curvature / 4 + loss.penalty), gradient.shape)
    direction, before, length = np.zeros_like(gradient), gradient, np.ones(len(column))
    for iteration in range(MAX_ITERATIONS if most is None else most):
        left = _norm(gradient) > limit
        if not left.all():
            found[..., column[~left]] = weights[..., ~left]
            loss, column, length = loss.of(left), column[left], length[left]
            weights, decisions, chances = (a[..., left] for a in (weights, decisions, chances))
            gradient, before = gradient[..., left], before[..., left]
            direction, inverse = direction[..., left], inverse[..., left]
        if not column.size:
            return found
        if iteration in REFRESH:
            inverse = 1 / (curvature * (chances * (1 - chances)).mean(axis=0) + loss.penalty)
        scaled = inverse * gradient
        now = _dot(gradient, scaled)
        kept = np.maximum((now - _dot(before, scaled)) / length, 0)
        direction = kept * (iteration not in REFRESH) * direction - scaled
        along = loss.decisions(direction)
        step = loss.step((weights, decisions, chances), direction, along)
        weights, decisions = weights + step * direction, decisions + step * along
        chances, before, length = loss.chances(decisions), gradient, now
        gradient = loss.gradient(weights, chances)
    found[..., column] = weights
    return found


def _product(matrix: NDArray[np.floating], values: Array) -> Array:
    """Return a matrix product over the first axis, in the precision of the matrix, as float64."""
    flat = values.reshape(len(values), -1).astype(matrix.dtype, copy=False)
    return (matrix @ flat).astype(np.float64, copy=False).reshape(-1, *values.shape[1:])


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.einsum("xcf,xcf->f", a, b))


def _norm(gradient: Array) -> Array:
    return np.sqrt(_dot(gradient, gradient))
