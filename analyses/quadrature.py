"""Quadrature: points and weights of an integral from 0 to 1."""

from __future__ import annotations

from typing import Literal

import numpy as np

Rule = Literal["gauss_legendre", "midpoint", "trapezoid", "left", "right"]


def points_of(rule: Rule, n: int) -> tuple[tuple[float, float], ...]:
    """Return the points of a rule, from 0 to 1, each with its weight; weights sum to 1.

    `n` points: those of Gauss and Legendre integrate polynomials of degree 2n - 1 exactly; `left`
    has 0 among its points, `right` 1, `trapezoid` both, `midpoint` neither.

    >>> points_of("left", 2), points_of("trapezoid", 3)
    (((0.0, 0.5), (0.5, 0.5)), ((0.0, 0.25), (0.5, 0.5), (1.0, 0.25)))
    """
    weights = np.full(n, 1 / n)
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(n)
        where, weights = (nodes + 1) / 2, weights / 2
    elif rule == "trapezoid":
        where, weights = np.linspace(0, 1, n), np.full(n, 1 / (n - 1))
        weights[[0, -1]] /= 2
    else:
        where = (np.arange(n) + {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]) / n
    return tuple(zip(where.tolist(), weights.tolist(), strict=True))
