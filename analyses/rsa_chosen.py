"""RSA of the units that a selection chose, one result for each way of choosing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from patchclamp.analyses.chosen_by import side_by_side, ways_on
from patchclamp.analyses.patterns import FEATURES, PLACE, checked_capture
from patchclamp.analyses.rsa_design import columns_of
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_rsa import Rsa

INFERENCE = (
    *("permuted", "permutation", "n_permutations", "n_arrangements", "tail"),
    *("n_draws", "level", "interval"),
)
"""Attributes that say how p values and intervals were made."""


def each_choice(
    entry: Rsa,
    data: xr.Dataset,
    selection: xr.Dataset,
    analyse: Callable[[xr.Dataset], xr.Dataset],
) -> xr.Dataset:
    """Return the results for each way of choosing, along the dim `chosen_by`.

    `data`: a capture; `selection`: `chosen(chosen_by, [layer], [head], rank)`, labels of units,
    with the coordinates `capture` and `units_of` of each way; `analyse`: what is done with a
    capture of those units alone. Units chosen on other stimuli are found by their site. The
    attribute `n_stimuli_chosen_on` counts the stimuli that took part in the choice too, and make
    what it sought look better than it is. Where units were chosen on this stimulus set, by a label
    that is asked about, there are no p values and no intervals: of noise, the units that happen to
    tell the classes apart would pass the test, which does not know of the choice. A selection that
    chose none of this site's units, and one at other places, raise `AnalysisError`.
    """
    data = checked_capture(data, masked=True).data
    ways = ways_on(selection, data, (str(entry.features), str(entry.of)))
    chosen = selection["chosen"]
    results = {way: analyse(_only(data, chosen.sel(chosen_by=way, drop=True))) for way in ways}
    tested = "contrast" if entry.contrast is not None else "similarity"
    joined = side_by_side(results, selection, (tested, "null"))
    both = np.intersect1d(data["stimulus"].values, selection["stimulus"].values)
    joined = joined.assign_attrs(n_stimuli_chosen_on=len(both))
    same_set = selection.attrs.get("stimuli") == data.attrs.get("stimuli")
    column = selection.attrs.get("column")
    if not (same_set and len(both) and column in _asked(entry)):
        return joined
    why = f"none: units were chosen by {column!r} on {len(both)} of these stimuli"
    kept = joined.drop_vars([v for v in joined.variables if _inferred(str(v))], errors="ignore")
    kept.attrs = {k: v for k, v in joined.attrs.items() if k not in INFERENCE}
    return kept.drop_dims("permutation", errors="ignore").assign_attrs(inference=why)


def _asked(entry: Rsa) -> set[str]:
    """Return the labels that an RSA is about."""
    models = entry.against or {}
    asked = {column for model in models.values() for column in columns_of(model, models)}
    return asked | ({entry.contrast.column} if entry.contrast is not None else set())


def _inferred(name: str) -> bool:
    return name in ("p", "p_max", "p_fdr") or name.endswith(("_low", "_high"))


def _only(data: xr.Dataset, chosen: xr.DataArray) -> xr.Dataset:
    """Return a capture of the chosen units, which differ by layer and head, in order of rank."""
    (unit,) = (dim for dim in data["activation"].dims if dim in FEATURES)
    dims = [dim for dim in PLACE if dim in chosen.dims]
    _check_places(data, chosen, dims)
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


def _check_places(data: xr.Dataset, chosen: xr.DataArray, dims: list[str]) -> None:
    for dim in dims:
        if dim not in data.dims:
            raise AnalysisError(f"units were chosen at each {dim}, and this capture has no {dim}")
        known = chosen[dim].values.tolist()
        missing = [label for label in data[dim].values.tolist() if label not in known]
        if missing:
            raise AnalysisError(
                f"units were chosen at {dim} {', '.join(map(str, known))}, and this capture has "
                f"{dim} {missing[0]} too: capture the same, or choose there as well"
            )
