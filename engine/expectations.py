"""Expectations: whether a result meets the claims that its spec makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from patchclamp.engine.store import sweep_dims
from patchclamp.registry.errors import nearest
from patchclamp.specs.spec import Expectation

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class Claim:
    """A claim, whether it holds, and what was found.

    `holds` is None where it cannot be judged: there is no such variable, label or interval. Such a
    claim is not met.
    """

    text: str
    holds: bool | None
    found: str

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return bool(self.holds)

    def __str__(self) -> str:
        says = {True: "holds", False: "fails", None: "cannot be judged"}[self.holds]
        return f"{says}: {self.text} — {self.found}"


class UnjudgedError(ValueError):
    """Why a claim cannot be judged."""


def judge(claims: Sequence[Expectation], analyses: Mapping[str, xr.Dataset]) -> tuple[Claim, ...]:
    """Judge every claim on the results of the analyses, given by name."""
    return tuple(_judged(claim, analyses) for claim in claims)


def _judged(claim: Expectation, analyses: Mapping[str, xr.Dataset]) -> Claim:
    text = describe(claim)
    try:
        values = [_values(claim, analyses, suffix) for suffix in _variables(claim)]
    except UnjudgedError as error:
        return Claim(text, None, str(error))
    met = np.logical_and.reduce([_meets(claim, value.to_numpy()) for value in values])
    if len(values) == 2:  # an interval: its bounds, each judged by itself
        low, high = (value.to_numpy() for value in values)
        met = _meets_interval(claim, low, high)
    return Claim(text, bool(met.all()), _found(values, np.asarray(met)))


def describe(claim: Expectation) -> str:
    """Return a claim in words.

    >>> describe(Expectation(var="decode/accuracy", sel={"layer": "last"}, ge=0.9))
    'decode/accuracy at layer=last ≥ 0.9'
    """
    where = ", ".join(f"{dim}={label}" for dim, label in claim.sel.items())
    bounds = [f"{sign} {bound:g}" for name, sign in _SIGNS.items()
              if (bound := getattr(claim, name)) is not None]  # fmt: skip
    if claim.near is not None:
        bounds.append(f"within {claim.atol:g} of {claim.near:g}")
    whole = "whole interval " if claim.interval else ""
    return f"{claim.var}{f' at {where}' if where else ''} {whole}{' and '.join(bounds)}"


def _variables(claim: Expectation) -> tuple[str, ...]:
    return ("_low", "_high") if claim.interval else ("",)


def _values(claim: Expectation, analyses: Mapping[str, xr.Dataset], suffix: str) -> xr.DataArray:
    """Return the values that a claim is about."""
    analysis, _, name = claim.var.partition("/")
    if analysis not in analyses:
        raise UnjudgedError(f"the result has no analysis {analysis!r}{_close(analysis, analyses)}")
    data, wanted = analyses[analysis], f"{name}{suffix}"
    if wanted not in data:
        known = [str(variable) for variable in data.data_vars]
        if suffix and name in data:
            raise UnjudgedError(f"{claim.var} has no interval: there is no {wanted!r}")
        raise UnjudgedError(f"{analysis} has no variable {wanted!r}{_close(wanted, known)}")
    values = data[wanted]
    if values.dtype.kind not in "fiub":
        raise UnjudgedError(f"{claim.var} is text")
    for dim, label in claim.sel.items():
        values = picked(values, str(dim), label)
    if not values.size:
        raise UnjudgedError("nothing is at these labels")
    return values


def _close(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    close = nearest(name, known)
    listed = ", ".join(known)
    return f" (it has {listed or 'none'})" + (f"; did you mean {close!r}?" if close else "")


def picked(values: xr.DataArray, dim: str, label: object) -> xr.DataArray:
    """Return the values at a label of a dim, or at a label that several of its places share.

    `last` is the largest label. Raises `UnjudgedError` where there is none.
    """
    if dim not in values.coords or values.coords[dim].ndim != 1:
        raise UnjudgedError(
            f"{values.name} has no dim or label {dim!r}{_close(dim, _labelled(values))}"
        )
    along = str(values.coords[dim].dims[0])
    if label == "last":
        return _last(values, dim)
    labels = values.coords[dim].to_numpy()
    at = np.flatnonzero(np.asarray([known == label for known in labels.tolist()]))
    if not at.size:
        known = ", ".join(map(str, dict.fromkeys(labels.tolist()[:20])))
        raise UnjudgedError(f"there is no {dim} {label!r} (known: {known})")
    return values.isel({along: at})


def _labelled(values: xr.DataArray) -> list[str]:
    return [str(name) for name, coord in values.coords.items() if coord.ndim == 1]


def _last(values: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the values at the largest label; of each model its own largest.

    Where models of different depth stand side by side, the layers that a model lacks have no
    values at all; only those are passed over.
    """
    ordered = values.sortby(dim)
    swept = [name for name in sweep_dims(values.dims) if name != dim]
    inner = [name for name in values.dims if name not in (*swept, dim)]
    if not swept:
        return ordered.isel({dim: [-1]})
    there = ordered.notnull().any(inner) if inner else ordered.notnull()
    count = ordered.sizes[dim]
    steps = xr.DataArray(np.arange(count), dims=dim)
    last = steps.where(there, -1).max(dim)
    # A model without any value keeps its last layer, whose missing value then fails the claim.
    return ordered.isel({dim: last.where(last >= 0, count - 1).astype(int)})


def _meets(claim: Expectation, values: np.ndarray) -> np.ndarray:
    """Return where values meet a claim; a missing value meets none."""
    met = ~np.isnan(values.astype(np.float64))
    if claim.near is not None and claim.atol is not None:
        met &= np.abs(values - claim.near) <= claim.atol
    for name, compare in (
        ("ge", np.greater_equal), ("gt", np.greater), ("le", np.less_equal), ("lt", np.less)
    ):  # fmt: skip
        bound = getattr(claim, name)
        if bound is not None:
            met &= compare(values, bound)
    return np.asarray(met)


def _meets_interval(claim: Expectation, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return where a whole interval meets a claim: both of its ends do."""
    return np.asarray(_meets(claim, low) & _meets(claim, high))


def _found(values: Sequence[xr.DataArray], met: np.ndarray) -> str:
    """Return what was found: the value, or the worst place of several."""
    first = values[0]
    count, failing = met.size, int((~met).sum())
    at = int(np.flatnonzero(~met.ravel())[0]) if failing else 0
    place = np.unravel_index(at, first.shape) if first.ndim else ()
    shown = [float(value.to_numpy()[place]) for value in values]
    text = f"{shown[0]:.4g}" if len(shown) == 1 else f"[{shown[0]:.4g}, {shown[1]:.4g}]"
    labels = [
        f"{dim}={first.coords[dim].to_numpy()[index]}"
        for dim, index in zip(first.dims, place, strict=True)
        if dim in first.coords
    ]
    where = f" at {', '.join(labels)}" if labels else ""
    if count == 1:
        return f"{text}{where}"
    return f"{text}{where} ({failing} of {count} places fail)" if failing else (
        f"at all {count} places, such as {text}{where}"
    )  # fmt: skip
