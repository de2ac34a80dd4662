"""Distances weighed by the precision of noise, without forming any matrix of units by units.

The noise covariance of d units is estimated from few residuals R (residual, unit), so its shrunk
inverse is a diagonal plus what those residuals span: after dividing each unit by its standard
deviation, Σ = a I + b RᵀR, and by Woodbury's identity

    x Σ⁻¹ yᵀ = (x·y - b (R x)ᵀ (a I + b R Rᵀ)⁻¹ (R y)) / a.

The residuals must be independent of the patterns. Those of a stimulus' own folds around their
mean are not: a precision made of them weighs the differences between folds down and what folds
have in common up, which puts noise alone half a standard deviation above 0 (10 stimuli, 4 folds,
100 units), four with 1,000 units. Repeats inside each fold are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from patchclamp.registry.errors import UndefinedError

Noise = Literal["shrinkage", "diagonal", "none"]


@dataclass(frozen=True)
class Precision:
    """Shrunk noise precision: x Σ⁻¹ yᵀ for patterns divided by `scale`.

    `residuals`: (residual, unit), divided by `scale` too, spans what the diagonal does not say;
    `diagonal` and `weight` are a and b above.
    """

    scale: NDArray[np.float64]
    residuals: NDArray[np.float64]
    diagonal: float
    weight: float

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        """The triangle L with L Lᵀ = a I + b R Rᵀ: (residual, residual)."""
        inner = self.weight * (self.residuals @ self.residuals.T)
        inner[np.diag_indices_from(inner)] += self.diagonal
        return np.asarray(np.linalg.cholesky(inner))

    def products(self, patterns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x Σ⁻¹ yᵀ of all pairs: (stimulus, unit) to (stimulus, stimulus)."""
        x = patterns / self.scale
        plain = x @ x.T
        if len(self.residuals):
            spanned = solve_triangular(self.factor, self.residuals @ x.T, lower=True)
            plain -= self.weight * (spanned.T @ spanned)
        return np.asarray(plain / self.diagonal)


def shrunk_precision(residuals: NDArray[np.float64], dof: int, noise: Noise) -> Precision:
    """Return the precision of noise from its residuals, shrunk to a diagonal.

    `residuals`: (residual, unit), already without the means of what was repeated; `dof`: their
    number less that of the means. `shrinkage`: Σ = (1 - λ) S + λ diag(S) with S = RᵀR / dof and
    the λ that minimises the expected squared error of the correlations between units, from sums
    over residuals only (Schäfer & Strimmer 2005, doi:10.2202/1544-6115.1175). `diagonal`: λ = 1,
    each unit divided by its own noise. `none`: the identity. A unit whose residuals are all zero
    has no precision: `UndefinedError`.
    """
    m, units = residuals.shape
    if noise == "none":
        return Precision(np.ones(units), np.empty((0, units)), 1.0, 0.0)
    if dof < 1:
        raise UndefinedError(f"{m} residuals with {dof} degrees of freedom say nothing of noise")
    scale = np.sqrt((residuals**2).sum(axis=0) / dof)
    still = int((scale == 0).sum())
    if still:
        raise UndefinedError(
            f"{still} of {units} units have no noise at all, so their precision is infinite: "
            "leave them out, or set rdm.noise to 'none'"
        )
    unit = residuals / scale
    share = 1.0 if noise == "diagonal" else _shrinkage(unit, dof)
    if share == 1.0:
        return Precision(scale, np.empty((0, units)), 1.0, 0.0)
    return Precision(scale, unit, share, (1 - share) / dof)


def _shrinkage(unit: NDArray[np.float64], dof: int) -> float:
    """Return λ = Σ var(r_ij) / Σ r_ij² over i ≠ j, from products of residuals with residuals.

    With z the residuals in units of their standard deviation, Σ_ij r_ij² is the squared norm of
    z zᵀ, and Σ_ij Σ_k z_ki² z_kj² that of the residuals' squared lengths.
    """
    m, units = unit.shape
    squares = np.vecdot(unit, unit)
    own = dof / (m - 1)
    correlations = np.linalg.norm(unit @ unit.T) ** 2 / (m - 1) ** 2 - units * own**2
    fourth = np.vecdot(unit**2, unit**2).sum()
    spread = (squares @ squares - fourth) / (m - 1) - correlations
    if correlations <= 0:
        return 1.0
    return float(np.clip(m / dof**2 * spread / correlations, 0.0, 1.0))


def mahalanobis(patterns: NDArray[np.float64], precision: Precision) -> NDArray[np.float64]:
    """Return (x_i - x_j) Σ⁻¹ (x_i - x_j)ᵀ of each pair, divided by the number of units.

    `patterns`: (stimulus, unit); result: (pair,), dimensionless, at least 0. It is a squared
    distance, and noise in the patterns makes it larger: 0 is no baseline.
    """
    centred = patterns - patterns.mean(axis=0)
    return np.asarray(_distances(precision.products(centred)) / patterns.shape[1])


def crossnobis(folds: NDArray[np.float64], precision: Precision) -> NDArray[np.float64]:
    """Return the crossvalidated Mahalanobis distance of each pair, divided by the number of units.

    `folds`: (fold, stimulus, unit), patterns of the same stimuli measured independently; result:
    (pair,), dimensionless. The mean over pairs of different folds of
    (x_i - x_j)_k Σ⁻¹ (x_i - x_j)_l: noise that is independent between folds has mean 0 in it, so
    0 is a baseline and values below it are expected there. All pairs of folds follow from two
    products, of the sum of folds and of each fold. Fewer than 2 folds raise `UndefinedError`.
    Walther et al. 2016, doi:10.1016/j.neuroimage.2015.12.012.
    """
    k, _, units = folds.shape
    if k < 2:
        raise UndefinedError(f"crossnobis needs at least 2 folds; there is {k}")
    centred = folds - folds.mean(axis=1, keepdims=True)
    total = centred.sum(axis=0)
    every = precision.products(total)
    for fold in centred:
        every -= precision.products(fold)
    return np.asarray(_distances(every) / (k * (k - 1) * units))


def _distances(products: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = np.triu_indices(len(products), 1)
    own = np.diagonal(products)
    return np.asarray(own[first] + own[second] - 2 * products[first, second])
