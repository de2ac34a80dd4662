"""Conclusions: what a reader would say of a result that another result would not bear out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from patchclamp.engine.comparison.labels import format_label, listed
from patchclamp.engine.comparison.structure import Candidate
from patchclamp.engine.comparison.values import Values
from patchclamp.engine.results import StoredResult
from patchclamp.registry import ANALYSES

ALPHA = 0.05
"""The level at which readers call a p value significant, whatever they should do."""


@dataclass(frozen=True)
class Conclusion:
    """Something that is so in A and not in B."""

    about: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.about}: {self.a} in A, {self.b} in B"


def conclusions(
    a: StoredResult,
    b: StoredResult,
    compared: Mapping[str, tuple[Candidate, Values, float]],
    *,
    overlap: bool,
) -> tuple[Conclusion, ...]:
    """Return the conclusions that flipped: expectations, best places, and significance.

    `compared` holds each compared variable with its values and the difference that is none. With
    `overlap`, expectations are judged at the labels that both have.
    """
    found = list(_claims(a, b, compared if overlap else {}))
    for name, (candidate, values, allowed) in compared.items():
        if values.beyond == 0 or candidate.a.dtype.kind != "f":
            continue
        short = name.rpartition("/")[2]
        if short == "p" or short.startswith("p_"):
            found += _significance(name, candidate, allowed)
        elif short in _headline(a, name):
            found += _best_place(name, candidate, allowed)
    return tuple(found)


def _claims(
    a: StoredResult, b: StoredResult, at: Mapping[str, tuple[Candidate, Values, float]]
) -> Iterator[Conclusion]:
    """Yield the expectations of either spec that are met by one result only."""
    written = [*a.spec.get("expect", ()), *b.spec.get("expect", ())]
    if not written:
        return
    # Expectations are part of the grammar, which takes longer to import than most comparisons.
    from patchclamp.engine.expectations import judge
    from patchclamp.specs.spec import Expectation

    claims = [Expectation.model_validate(claim) for claim in written]
    seen = set()
    left, right = dict(a.analyses), dict(b.analyses)
    for name, (candidate, _, _) in at.items():
        analysis = name.split("/")[1]
        if name.startswith("analyses/"):
            left[analysis] = _at(left[analysis], candidate, "a")
            right[analysis] = _at(right[analysis], candidate, "b")
    for one, other in zip(judge(claims, left), judge(claims, right), strict=True):
        if one.met != other.met and one.text not in seen:
            seen.add(one.text)
            sides = [f"{'met' if x.met else 'not met'} ({x.found})" for x in (one, other)]
            yield Conclusion(f"expect {one.text}", *sides)


def _at(data: xr.Dataset, candidate: Candidate, side: Literal["a", "b"]) -> xr.Dataset:
    """Return a dataset at the labels of a variable's dims that both results have."""
    places = {
        dim: one.at_a if side == "a" else one.at_b
        for dim, one in candidate.matches.items()
        if data.sizes[dim] > one.size
    }
    return data.isel(places)


def _headline(a: StoredResult, name: str) -> Sequence[str]:
    """Return the variables that an analysis is known by."""
    group = a.groups.get("/" + name.rpartition("/")[0])
    kind = "" if group is None else str(group.attrs.get("kind"))
    return ANALYSES[kind].headline if kind in ANALYSES else ()


def _significance(name: str, candidate: Candidate, allowed: float) -> Iterator[Conclusion]:
    """Yield the places where p crosses the level, by more than noise, in either direction."""
    a, b = _both(candidate)
    moved = np.abs(a - b) > allowed
    for lost, found, sides in (
        (a < ALPHA, b >= ALPHA, ("below", "not below")),
        (a >= ALPHA, b < ALPHA, ("not below", "below")),
    ):
        flipped = (lost & found & moved).to_numpy()
        if flipped.any():
            about = f"{name} at {_places(a, flipped)}"
            yield Conclusion(about, f"{sides[0]} {ALPHA}", f"{sides[1]} {ALPHA}")


def _best_place(name: str, candidate: Candidate, allowed: float) -> Iterator[Conclusion]:
    """Yield that the largest value, by size, is elsewhere, unless noise could have moved it."""
    signed = _both(candidate)
    a, b = (abs(side) for side in signed)
    if a.size < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return
    best_a, best_b = (np.unravel_index(int(np.argmax(x.to_numpy())), x.shape) for x in (a, b))
    if best_a == best_b:
        return
    at_a, at_b = (x.to_numpy() for x in (a, b))
    if at_a[best_a] - at_a[best_b] > allowed and at_b[best_b] - at_b[best_a] > allowed:
        sides = (
            _place(side, best, side.to_numpy())
            for side, best in zip(signed, (best_a, best_b), strict=True)
        )
        yield Conclusion(f"largest {name}", *sides)


def _place(data: xr.DataArray, place: Sequence[Any], values: np.ndarray) -> str:
    labels = [
        f"{dim}={format_label(data.coords[dim].to_numpy()[int(i)].item())}"
        for dim, i in zip(data.dims, place, strict=True)
        if data.sizes[dim] > 1
    ]
    return f"at {', '.join(labels)} ({values[tuple(place)]:.4g})"


def _both(candidate: Candidate) -> tuple[xr.DataArray, xr.DataArray]:
    """Return both sides with the labels that both have, in one order."""
    a = candidate.a.isel({dim: one.at_a for dim, one in candidate.matches.items()})
    b = candidate.b.isel({dim: one.at_b for dim, one in candidate.matches.items()})
    b = b.transpose(*a.dims)
    return a.load(), a.copy(data=b.to_numpy())


def _places(data: xr.DataArray, at: np.ndarray) -> str:
    """Return the labels at which something holds, by dim."""
    parts = []
    for axis, dim in enumerate(data.dims):
        hit = at.any(axis=tuple(i for i in range(at.ndim) if i != axis))
        if data.sizes[dim] > 1:
            parts.append(f"{dim} {listed(data.coords[dim].to_numpy()[hit].tolist())}")
    return ", ".join(parts) or "its one place"
