"""Labels: which elements of two arrays are the same thing, whatever order they are stored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

FLOAT_LABEL = 1e-6
"""Relative distance below which two numbers are one label: a dose of 0.1 survives float32."""


@dataclass(frozen=True)
class Match:
    """A dim of two arrays: where the labels that both have stand in each, in the first's order."""

    dim: str
    labels: NDArray[Any]
    at_a: NDArray[np.intp]
    at_b: NDArray[np.intp]
    only_a: tuple[Any, ...] = ()
    only_b: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """How many labels both have."""
        return len(self.labels)


class AmbiguousLabelsError(ValueError):
    """A label that stands twice in one dim, so that nothing says which is which."""


def match(dim: str, a: NDArray[Any], b: NDArray[Any]) -> Match:
    """Return where the labels of one dim stand in both arrays.

    Raises `AmbiguousLabelsError` where a label stands twice.
    """
    for side, labels in (("A", a), ("B", b)):
        values, counts = np.unique(labels, return_counts=True)
        if (counts > 1).any():
            twice = values[counts > 1][0]
            raise AmbiguousLabelsError(f"{dim} {twice} stands {counts.max()} times in {side}")
    if a.dtype.kind == b.dtype.kind and np.array_equal(a, b):
        everywhere = np.arange(len(a))
        return Match(dim, a, everywhere, everywhere)
    found = _nearby(a, b) if "f" in a.dtype.kind + b.dtype.kind else _identical(a, b)
    both = found >= 0
    left = np.ones(len(b), dtype=bool)
    left[found[both]] = False
    return Match(
        dim,
        a[both],
        np.flatnonzero(both),
        found[both],
        tuple(a[~both].tolist()),
        tuple(b[left].tolist()),
    )


def _identical(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.intp]:
    """Return where each label of `a` stands in `b`, -1 where it does not."""
    places = {label: place for place, label in enumerate(b.tolist())}
    return np.asarray([places.get(label, -1) for label in a.tolist()], dtype=np.intp)


def _nearby(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.intp]:
    """Return where the nearest number to each of `a` stands in `b`, -1 where none is near."""
    if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu" or not len(b):
        return np.full(len(a), -1, dtype=np.intp)
    order = np.argsort(b)
    ordered = b[order]
    after = np.clip(np.searchsorted(ordered, a), 1, max(len(b) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(b) - 1)
    nearer = np.abs(ordered[after] - a) < np.abs(ordered[before] - a)
    found = np.where(nearer, after, before)
    near = np.isclose(ordered[found], a, rtol=FLOAT_LABEL, atol=0)
    # Two labels of `a` that are near the same one of `b` would be told apart in `a` only.
    near &= np.bincount(found, minlength=len(b))[found] == 1
    return np.where(near, order[found], -1)


def labels_of(data: xr.DataArray, dim: str) -> NDArray[Any]:
    """Return the labels of a dim; one without a coordinate is labelled 0, 1, 2, …"""
    return np.asarray(data[dim].to_numpy())


def listed(labels: Sequence[Any], *, most: int = 6) -> str:
    """Return labels in short: runs of whole numbers as ranges, long lists counted.

    >>> listed([20, 21, 22, 23, 30])
    '20–23, 30'
    >>> listed(["a", "b", "c"], most=2)
    'a, b, … (3)'
    """
    parts: list[str] = []
    whole = [label for label in labels if isinstance(label, int) and not isinstance(label, bool)]
    if len(whole) == len(labels):
        for first, last in _runs(sorted(whole)):
            parts.append(str(first) if first == last else f"{first}–{last}")
    else:
        parts = [format_label(label) for label in labels]
    if len(parts) <= most:
        return ", ".join(parts)
    return ", ".join([*parts[:most], f"… ({len(labels)})"])


def format_label(label: Any) -> str:
    """Return a label as people read it."""
    return f"{label:g}" if isinstance(label, float) else str(label)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
