"""The RDMs of another capture, as model RDMs for this one: second-order RSA."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.patterns import Capture, checked_capture
from patchclamp.analyses.rsa_items import Items, items_of
from patchclamp.analyses.rsa_rdms import rdms
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.rdms import CaptureModel, Rdm

At = Mapping[str, int | str]
Where = dict[frozenset[tuple[str, int | str]], tuple[int, int | None]]


def other_rdms(
    model: CaptureModel, data: xr.Dataset, items: Items, how: Rdm, memory: int
) -> tuple[NDArray[np.float64], list[int | str], Where]:
    """Return another capture's RDMs, its layers, and which of them each place meets.

    RDMs: (layer, place, pair), between the same items in the same order; `AnalysisError` if the
    other capture has other stimuli, or lacks a layer, head or position that is asked for.
    """
    other = checked_capture(_needed(model, data))
    theirs = items_of(other, how.average_by)
    _need_same(model.of, items, theirs)
    found = [(at, rdm) for chunk in rdms(theirs, how, memory=memory)
             for at, rdm in zip(chunk.at, chunk.values, strict=True)]  # fmt: skip
    layers = list(dict.fromkeys(at.get("layer", 0) for at, _ in found))
    places = list(dict.fromkeys(_besides(at) for at, _ in found))
    values = np.empty((len(layers), len(places), len(found[0][1])))
    for at, rdm in found:
        values[layers.index(at.get("layer", 0)), places.index(_besides(at))] = rdm
    where: Where = {}
    for at in _places(items.capture):
        layer = _layer(model, at, layers)
        where[frozenset(at.items())] = (_meets(model.of, at, places), layer)
    return values, layers, where


def _needed(model: CaptureModel, data: xr.Dataset) -> xr.Dataset:
    """Return the layers of a capture that are compared with, before any is read."""
    if isinstance(model.layer, int) and "layer" in data.dims:
        known = data["layer"].values.tolist()
        if model.layer not in known:
            raise AnalysisError(
                f"the capture {model.of!r} has no layer {model.layer} (its layers: "
                f"{', '.join(map(str, known))})"
            )
        return data.sel(layer=[model.layer])
    if model.layer == "last" and "layer" in data.dims:
        return data.sel(layer=[data["layer"].values.max()])
    return data


def _need_same(name: str, items: Items, theirs: Items) -> None:
    if items.names == theirs.names:
        return
    odd = sorted(set(items.names) ^ set(theirs.names))
    raise AnalysisError(
        f"the capture {name!r} has other stimuli, so that its RDM has other rows: "
        f"{', '.join(map(repr, odd[:3]))}{'' if len(odd) <= 3 else ', …'} are in one of them only"
    )


def _places(capture: Capture) -> list[dict[str, int | str]]:
    labels = [capture.data[dim].values.tolist() for dim in capture.dims]
    return [dict(zip(capture.dims, at, strict=True)) for at in product(*labels)]


def _besides(at: At) -> tuple[tuple[str, int | str], ...]:
    return tuple((dim, label) for dim, label in at.items() if dim != "layer")


def _layer(model: CaptureModel, at: At, layers: list[int | str]) -> int | None:
    if model.layer == "all":
        return None
    if model.layer != "same":
        return 0
    if at.get("layer", 0) not in layers:
        raise AnalysisError(
            f"the capture {model.of!r} has no layer {at.get('layer')} to compare layer "
            f"{at.get('layer')} with (its layers: {', '.join(map(str, layers))}): set 'layer' to "
            "a number, 'last' or 'all'"
        )
    return layers.index(at.get("layer", 0))


def _meets(name: str, at: At, places: list[tuple[tuple[str, int | str], ...]]) -> int:
    """Return the place with equal labels; the only label of a dim meets every other."""
    single = {dim for dim, _ in places[0] if len({dict(place)[dim] for place in places}) == 1}
    for number, place in enumerate(places):
        if all(dim in single or at.get(dim) == label for dim, label in place):
            return number
    wanted = ", ".join(f"{dim} {label}" for dim, label in at.items() if dim != "layer")
    raise AnalysisError(
        f"the capture {name!r} has several places and none at {wanted or 'the only place'}: "
        "capture the same heads and positions, or one"
    )
