"""Directions: what an analysis finds in the residual stream, as a vector that can be added."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.interventions import Vector

VECTORS = ("direction", "difference", "mean_difference", "vector")
"""Variables of results that are a direction in the residual stream."""


def direction(result: xr.Dataset, vector: Vector, layer: int) -> NDArray[np.float64]:
    """Return the direction that an analysis found at a layer, (unit,), pointing where it is said.

    A probe of two classes points to its second, a contrast to its first; `toward` names another.
    With `normalise` its length is one. Raises `AnalysisError` where there is none, or several.
    """
    names = [name for name in VECTORS if name in result]
    if not names:
        raise AnalysisError(
            f"analyses.{vector.of} has no direction to add; its result has "
            f"{', '.join(map(str, result.data_vars))}, and a direction is one of "
            f"{', '.join(VECTORS)} over units"
        )
    found = _pointed(result[names[0]], result, vector)
    if "layer" in found.dims:
        if layer not in found["layer"].to_numpy():
            raise AnalysisError(f"analyses.{vector.of} has no direction at layer {layer}")
        found = found.sel(layer=layer)
    found = found.squeeze(drop=True)
    if found.dims != ("unit",):
        raise AnalysisError(
            f"analyses.{vector.of}: a direction has one value for each unit; "
            f"{names[0]} at a layer still has the dims {found.dims}"
        )
    values = found.to_numpy().astype(np.float64)
    return values if vector.normalise == "none" else values / np.linalg.norm(values)


def _pointed(found: xr.DataArray, result: xr.Dataset, vector: Vector) -> xr.DataArray:
    """Return a direction toward the class that is said."""
    toward = vector.toward
    if "class" in found.dims:
        classes = [str(name) for name in found["class"].to_numpy()]
        if toward is None:
            raise AnalysisError(
                f"analyses.{vector.of} has a direction for each of {', '.join(classes)}: say "
                "'toward' which of them"
            )
        return found.sel({"class": _known(toward, classes, vector)})
    if toward is None:
        return found
    # A probe says where its direction points, a contrast what it takes the difference of.
    ahead = str(result.attrs.get("toward", result.attrs.get("first", "")))
    classes = [ahead, str(result.attrs.get("away_from", result.attrs.get("second", "")))]
    return found if _known(toward, classes, vector) == ahead else -found


def _known(toward: str, classes: list[str], vector: Vector) -> str:
    if toward not in classes:
        raise AnalysisError(
            f"analyses.{vector.of} has no class {toward!r} to point to; it has {', '.join(classes)}"
        )
    return toward
