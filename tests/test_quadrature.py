"""Quadrature rules by closed forms of the integral of 3 x^2, and by what they are exact for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from patchclamp.analyses.quadrature import points_of


def integral(rule: Any, n: int, f: Any) -> float:
    return sum(weight * f(x) for x, weight in points_of(rule, n))


@pytest.mark.parametrize("n", [2, 5, 30])
def test_rules_have_the_closed_forms_of_integrated_gradients_of_a_cube(n: int) -> None:
    expected = {
        "left": (n - 1) * (2 * n - 1) / (2 * n**2),
        "right": (n + 1) * (2 * n + 1) / (2 * n**2),
        "midpoint": 1 - 1 / (4 * n**2),
        "trapezoid": 1 + 1 / (2 * (n - 1) ** 2),
        "gauss_legendre": 1.0,
    }
    for rule, value in expected.items():
        assert integral(rule, n, lambda x: 3 * x**2) == pytest.approx(value, abs=1e-12), rule
        assert sum(weight for _, weight in points_of(rule, n)) == pytest.approx(1.0)


def test_gauss_legendre_is_exact_up_to_its_degree_and_no_further() -> None:
    for degree in range(9):
        error = integral("gauss_legendre", 4, lambda x, d=degree: x**d) - 1 / (degree + 1)
        assert (abs(error) < 1e-12) == (degree <= 7)


def test_rules_agree_with_scipy_on_a_smooth_function() -> None:
    def f(x: float) -> float:
        return float(np.exp(-x) * np.cos(3 * x))

    exact, _ = quad(f, 0, 1)
    errors = {
        rule: abs(integral(rule, 8, f) - exact)
        for rule in ("left", "right", "trapezoid", "midpoint", "gauss_legendre")
    }
    assert errors["gauss_legendre"] < 1e-12
    assert errors["midpoint"] < errors["trapezoid"] < min(errors["left"], errors["right"])
