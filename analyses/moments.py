"""What a metric takes from each pattern, its offset and length, without loss of digits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONSTANT = 16 * np.finfo(np.float64).eps
"""Deviation per unit, as a share of a pattern's largest value, that centring leaves by rounding."""

PLAIN = 1e-280, 1e280
"""Between these a sum of squares has neither lost digits to underflow nor overflown."""

OWN = 0.1
"""A norm follows from sums, Σx² - n·mean², where that is at least this share of Σx²."""


@dataclass(frozen=True)
class Form:
    """What a metric takes from each pattern, and what a squared distance is multiplied by.

    `undefined` says which patterns it does not exist for.
    """

    centred: bool
    scaled: bool
    factor: float
    undefined: str = ""


def moments(
    values: NDArray[np.float64], form: Form
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return patterns with their offset and length: (stimulus, unit), (stimulus,), (stimulus,).

    The length is 0 for a pattern without a direction, NaN for one that is not finite. A pattern
    of extreme size comes back scaled by a power of two, where its length divides that out again.
    """
    units = values.shape[1]
    squares = np.vecdot(values, values)
    mean = values @ np.full(units, 1 / units) if form.centred else np.zeros(len(values))
    variance = squares - units * mean**2
    plain = (squares > PLAIN[0]) & (squares < PLAIN[1]) & (variance >= OWN * squares)
    length = np.sqrt(variance) if form.scaled else np.ones(len(values))
    if plain.all():
        return values, mean, length
    odd = np.flatnonzero(~plain)
    length[odd] = np.where(np.isfinite(values[odd]).all(axis=1), 1.0, np.nan)
    odd = odd[np.isfinite(length[odd])]
    if odd.size and form.scaled:
        values = values.copy()
        # A power of two scales without rounding, and keeps squares clear of over- and underflow.
        _, exponent = np.frexp(np.abs(values[odd]).max(axis=1, keepdims=True))
        values[odd] = np.ldexp(values[odd], -exponent)
        if form.centred:
            values[odd] -= values[odd].mean(axis=1, keepdims=True)
        mean[odd], norm = 0.0, np.linalg.norm(values[odd], axis=1)
        constant = norm <= (CONSTANT * math.sqrt(units) if form.centred else 0.0)
        length[odd] = np.where(constant, 0.0, norm)
    return values, mean, length
