"""Joining: datasets of several runs or cells become one, along dims that say which is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.engine.store import sweep_dims
from patchclamp.registry.errors import StoreError

TOKENS = "token id"
"""Units of whole numbers for which -1 stands for no value."""

REMARKS = ("position_token",)
"""Coordinates that are left out where parts contradict each other on them."""

MEANINGS = ("units", "estimand")
"""Attributes that say which quantity a variable is; joined variables must agree on them."""


COUNTS = {
    "n_asked": "stimuli that the model was asked about",
    "n_kept": "stimuli that it kept",
}
"""Attributes that become variables where parts differ on one of them, by what they mean."""


@dataclass(frozen=True)
class Part:
    """A dataset with its place: dim -> label. A dim that the dataset has already needs no label."""

    place: Mapping[str, Any]
    data: xr.Dataset
    source: str


def join(parts: Sequence[Part], *, shared: bool = False) -> xr.Dataset:
    """Return one dataset of all parts, with a dim for each key of their places.

    Every variable gets these dims; with `shared` only those on which parts contradict each other.
    Other labels are united: where a part has none, such as the last layers of a deeper model,
    numbers are NaN (whole numbers become float64), text is empty. A coordinate over several dims,
    such as the tokens at each position, gets the new dims where it differs; one that describes
    single labels, such as a stimulus' category, must not differ. Raises `StoreError` where parts
    do not fit.
    """
    new = tuple(dict.fromkeys(str(dim) for part in parts for dim in part.place))
    parts = _counted(parts)
    expanded = [_placed(part, new) for part in parts]
    known = dict.fromkeys(dim for one in expanded for dim in one.dims)
    dims = {dim: _united(dim, expanded) for dim in known}
    names = dict.fromkeys(str(name) for one in expanded for name in one.data_vars)
    variables = {}
    for name in names:
        holding = [(p, e[name]) for p, e in zip(parts, expanded, strict=True) if name in e]
        variables[name] = _joined(name, holding, dims, new if shared else ())
    joined = xr.Dataset(variables, coords=dict(dims))
    joined = joined.assign_coords(_described(parts, expanded, dims, new))
    for dim in dims:
        joined[dim].attrs = _told([e[dim].attrs for e in expanded if dim in e.dims])
    return joined.assign_attrs(_common(one.attrs for one in expanded))


def _counted(parts: Sequence[Part]) -> Sequence[Part]:
    """Return parts whose counts are variables, if they are not the same in all of them."""
    if all(len({part.data.attrs.get(name) for part in parts}) == 1 for name in COUNTS):
        return parts

    def of(part: Part) -> Part:
        data = part.data
        made = {
            name: ((), data.attrs[name], {"units": "stimulus", "long_name": said})
            for name, said in COUNTS.items()
            if name in data.attrs
        }
        kept = {name: value for name, value in data.attrs.items() if name not in made}
        return replace(part, data=data.assign(made).drop_attrs(deep=False).assign_attrs(kept))

    return [of(part) for part in parts]


def _placed(part: Part, new: tuple[str, ...]) -> xr.Dataset:
    """Return a part whose variables, and coordinates over several dims, have the new dims."""
    tables = [str(name) for name, coord in part.data.coords.items() if coord.ndim > 1]
    data = part.data.reset_coords(tables)
    labels = {
        dim: data[dim].to_numpy() if dim in data.dims else np.asarray([part.place[dim]])
        for dim in new
    }
    wide = {
        name: variable.expand_dims({dim: labels[dim] for dim in new if dim not in variable.dims})
        for name, variable in data.data_vars.items()
    }
    return data.drop_vars(list(wide)).assign(wide).set_coords(tables)


def _united(dim: Any, parts: Sequence[xr.Dataset]) -> NDArray[Any]:
    """Return all labels of a dim: numbers in order, text in the order in which it is met."""
    arrays = [part[dim].to_numpy() for part in parts if dim in part.dims]
    kinds = {"text" if array.dtype.kind in "UO" else "number" for array in arrays}
    if len(kinds) > 1:
        raise StoreError(f"the labels of {dim} are text in one part and numbers in another")
    labels = list(dict.fromkeys(label for array in arrays for label in array.tolist()))
    if kinds == {"number"}:
        labels.sort()
    return np.asarray(labels)


def _joined(
    name: str,
    holding: Sequence[tuple[Part, xr.DataArray]],
    dims: Mapping[Any, NDArray[Any]],
    droppable: tuple[str, ...],
) -> xr.DataArray:
    """Return one variable of all parts that have it."""
    first = holding[0][1]
    for part, one in holding[1:]:
        for attr in MEANINGS:
            if one.attrs.get(attr) != first.attrs.get(attr):
                raise StoreError(
                    f"{name} is another quantity in {part.source}: {attr} "
                    f"{one.attrs.get(attr)!r}, in {holding[0][0].source} {first.attrs.get(attr)!r}"
                )
        if set(one.dims) != set(first.dims):
            raise StoreError(
                f"{name} has other dims in {part.source}: {', '.join(map(str, one.dims))}; in "
                f"{holding[0][0].source}: {', '.join(map(str, first.dims))}"
            )
    if droppable:
        try:
            return _without(droppable, name, holding, dims)
        except StoreError:
            pass  # they differ, and so the dims stay
    return _filled(name, holding, dims)


def _without(
    new: tuple[str, ...],
    name: str,
    holding: Sequence[tuple[Part, xr.DataArray]],
    dims: Mapping[Any, NDArray[Any]],
) -> xr.DataArray:
    """Return a variable without dims that make no difference; raises where they make one."""
    bare = []
    for part, one in holding:
        along = [dim for dim in new if dim in one.dims]
        for index in np.ndindex(*(one.sizes[dim] for dim in along)):
            bare.append((part, one.isel(dict(zip(along, index, strict=True)), drop=True)))
    return _united_values(name, bare, dims)


def _united_values(
    name: str, holding: Sequence[tuple[Part, xr.DataArray]], dims: Mapping[Any, NDArray[Any]]
) -> xr.DataArray:
    """Return the values that parts give to labels, which they must agree on."""
    found = _filled(name, holding[:1], dims)
    for part, one in holding[1:]:
        found = _agreed(name, found, _filled(name, [(part, one)], dims), (part, one, dims))
    return found


def _filled(
    name: str, holding: Sequence[tuple[Part, xr.DataArray]], dims: Mapping[Any, NDArray[Any]]
) -> xr.DataArray:
    """Return an array over all labels, filled from each part."""
    first = holding[0][1]
    shape = tuple(len(dims[dim]) for dim in first.dims)
    dtype = np.result_type(*(one.dtype for _, one in holding))
    taken = np.zeros(shape, dtype=bool)
    places = []
    for part, one in holding:
        at = np.ix_(*(_positions(one[dim].to_numpy(), dims[dim]) for dim in first.dims))
        if taken[at].any():
            where = {d: _few(one[d].to_numpy()) for d in sweep_dims(one.dims)}
            labels = ", ".join(f"{dim} {label}" for dim, label in where.items())
            raise StoreError(
                f"{name}: {part.source} has labels that another part has, too"
                + (f" ({labels}): each is taken from one result only" if labels else "")
            )
        taken[at] = True
        places.append((at, one.transpose(*first.dims).to_numpy()))
    if not taken.all() and dtype.kind in "iub" and first.attrs.get("units") != TOKENS:
        dtype = np.dtype(np.float64)
    filled = np.full(shape, _missing(dtype), dtype)
    for at, values in places:
        filled[at] = values
    return xr.DataArray(filled, dims=first.dims, attrs=first.attrs)


def _few(labels: NDArray[Any]) -> str:
    return ", ".join(map(str, labels[:3])) + (", …" if len(labels) > 3 else "")


def _missing(dtype: np.dtype[Any]) -> Any:
    """Return what stands for no value."""
    return {"U": "", "O": "", "f": np.nan}.get(dtype.kind, -1)


def _positions(labels: NDArray[Any], among: NDArray[Any]) -> NDArray[np.intp]:
    known = {label: place for place, label in enumerate(among.tolist())}
    return np.asarray([known[label] for label in labels.tolist()], dtype=np.intp)


def _described(
    parts: Sequence[Part],
    expanded: Sequence[xr.Dataset],
    dims: Mapping[Any, NDArray[Any]],
    new: tuple[str, ...],
) -> dict[str, xr.DataArray]:
    """Return the coordinates that describe labels, such as a stimulus' category."""
    found: dict[str, xr.DataArray] = {}
    for name in dict.fromkeys(str(n) for one in expanded for n in one.coords if n not in dims):
        holding = [
            (part, one.coords[name])
            for part, one in zip(parts, expanded, strict=True)
            if name in one.coords
        ]
        if holding[0][1].ndim > 1:
            found[name] = _joined(name, holding, dims, new)
            continue
        try:
            found[name] = _united_values(name, holding, dims)
        except StoreError:
            if name not in REMARKS:
                raise
    return found


def _agreed(
    name: str, before: xr.DataArray, after: xr.DataArray,
    of: tuple[Part, xr.DataArray, Mapping[Any, NDArray[Any]]],
) -> xr.DataArray:  # fmt: skip
    """Return two parts' descriptions of the same labels as one; they must not contradict."""
    part, coord, dims = of
    at = np.ix_(*(_positions(coord[dim].to_numpy(), dims[dim]) for dim in coord.dims))
    old, new = before.to_numpy(), after.to_numpy()
    empty = _missing(old.dtype)
    known = ~np.isnan(old[at]) if old.dtype.kind == "f" else old[at] != empty
    clash = known & (old[at] != new[at])
    if clash.any():
        raise StoreError(f"{name} of the same labels differs: {part.source} contradicts another")
    merged = np.asarray(old, dtype=np.result_type(old, new)).copy()
    merged[at] = np.where(known, merged[at], new[at])
    if merged.dtype.kind == "f" and coord.dtype.kind in "iub" and not np.isnan(merged).any():
        merged = merged.astype(coord.dtype)  # every label has its whole number now
    return xr.DataArray(merged, dims=before.dims, attrs=before.attrs)


def _told(attrs: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """Return what parts say of a dim; where they differ, as on what positions count from, all."""
    said: dict[str, dict[Any, None]] = {}
    for one in attrs:
        for name, value in one.items():
            said.setdefault(str(name), {})[value] = None
    return {
        name: next(iter(values)) if len(values) == 1 else f"varies: {', '.join(map(str, values))}"
        for name, values in said.items()
    }


def _common(attrs: Any) -> dict[str, Any]:
    """Return the attributes that all parts share."""
    first, *others = [dict(one) for one in attrs]
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }
