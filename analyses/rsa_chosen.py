"""RSA of the units that a selection chose, one result for each way of choosing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from patchclamp.analyses.patterns import FEATURES, PLACE, checked_capture
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_rsa import Rsa


def each_choice(
    entry: Rsa,
    data: xr.Dataset,
    selection: xr.Dataset,
    analyse: Callable[[xr.Dataset], xr.Dataset],
) -> xr.Dataset:
    """Return the results for each way of choosing, along the dim `chosen_by`.

    `data`: a capture; `selection`: `chosen(chosen_by, [layer], [head], rank)`, labels of units,
    with the coordinate `capture` of each way; `analyse`: what is done with a capture of those
    units alone. A selection that chose none of this capture's units raises `AnalysisError`.
    """
    ways = selection["chosen_by"].values[selection["capture"].values == entry.of].tolist()
    if not ways:
        others = ", ".join(sorted(set(selection["capture"].values.tolist())))
        raise AnalysisError(
            f"{entry.features!r} chose units of {others}, and none of {entry.of!r}: give this "
            "analysis the same capture"
        )
    chosen = selection["chosen"]
    results = [analyse(_only(data, chosen.sel(chosen_by=way, drop=True))) for way in ways]
    joined = xr.concat(results, dim="chosen_by", join="exact", combine_attrs="override")
    return joined.assign_coords(chosen_by=ways)


def _only(data: xr.Dataset, chosen: xr.DataArray) -> xr.Dataset:
    """Return a capture of the chosen units, which differ by layer and head, in order of rank."""
    data = checked_capture(data, masked=True).data
    (unit,) = (dim for dim in data["activation"].dims if dim in FEATURES)
    dims = [dim for dim in PLACE if dim in chosen.dims]
    shape = tuple(data.sizes[dim] for dim in dims)
    labels = data[unit].values if unit in data.coords else np.arange(data.sizes[unit])
    parts = np.empty(shape, dtype=object)
    activation = data["activation"].transpose(*dims, ..., unit)
    for index in np.ndindex(*shape):
        at = dict(zip(dims, index, strict=True))
        place = {dim: data[dim].values[number] for dim, number in at.items()}
        columns = [int(np.flatnonzero(labels == u)[0]) for u in chosen.sel(place).values.tolist()]
        order = np.argsort(columns)
        read = activation.isel({**at, unit: np.asarray(columns)[order]})
        parts[index] = read.to_numpy()[..., np.argsort(order)]
    first = parts.ravel()[0]
    values = np.stack(list(parts.ravel())).reshape(*shape, *first.shape)
    whole = xr.DataArray(values, dims=activation.dims)
    return (
        data.drop_dims(unit).assign(activation=whole).assign_coords({unit: chosen["rank"].values})
    )
