"""The store: datasets are checked against the schema and written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
import xarray as xr

from patchclamp.registry.errors import StoreError
from patchclamp.specs.quantities import said

ENGINE: Literal["netcdf4"] = "netcdf4"
"""Always named: xarray's choice of engine depends on what else is installed."""

DIMS = (
    "stimulus",
    "layer",
    "head",
    "kv_head",
    "position",
    "query",
    "key",
    "unit",
    "neuron",
    "channel",
    "token",
    "feature",
    "rank",
    "class",
    "fold",
    "permutation",
    "condition",
    "sender",
    "receiver",
    "moved",
    "node",
    "circuit",
    "set",
    "draw",
    "step",
    "kept",
    "dose",
    "option",
    "variant",
    "bin",
    "model_rdm",
    "model_layer",
    "other",
    "component",
    "control",
    "chosen_by",
    "versus",
    "effect",
    "model",
    "revision",
    "seed",
)
"""Every dim that a result may have; docs/schema.md says what each means."""

SWEEPS = ("model", "revision", "seed")
"""Dims along which one result holds several runs; a matrix may add others, named by their keys."""

_KINDS = "fiubUSO"
"""Kinds of data that netCDF holds; float16 is refused because readers crash on it."""


_CACHE = 8 << 20
"""Bytes of chunks of a variable that the library keeps, two of the largest, so that one which two
reads share is read once; its own default, 64 MiB for every variable, is a capture whole."""
_PART = 4 << 20
"""Bytes of a variable that are written and compared at once."""


def sweep_dims(dims: Iterable[Hashable]) -> tuple[str, ...]:
    """Return the dims, of some, along which one result holds several runs.

    >>> sweep_dims(["layer", "seed", "dtype"])
    ('seed', 'dtype')
    """
    named = dict.fromkeys(str(dim) for dim in dims)
    return tuple(dim for dim in named if dim in SWEEPS or dim not in DIMS)


def check_schema(group: str, data: xr.Dataset, axes: Collection[str] = ()) -> None:
    """Raise `StoreError` unless a dataset keeps the schema of docs/schema.md.

    `axes` are dims that a matrix adds.
    """
    for dim in data.dims:
        if dim not in DIMS and dim not in axes:
            raise StoreError(f"{group}: dim {dim!r} is not in the schema ({', '.join(DIMS)})")
        if dim not in data.coords:
            raise StoreError(f"{group}: dim {dim!r} has no coordinate")
    for name, variable in data.variables.items():
        if variable.dtype.kind not in _KINDS or variable.dtype == np.float16:
            raise StoreError(f"{group}/{name}: netCDF cannot hold {variable.dtype}")
        if name in data.data_vars:
            for attr in ("units", "long_name"):
                if attr not in variable.attrs:
                    raise StoreError(f"{group}/{name}: a result needs the attribute {attr!r}")
        _check_attrs(f"{group}/{name}", variable.attrs)
    _check_attrs(group, data.attrs)


def _check_attrs(where: str, attrs: Mapping[object, object]) -> None:
    for name, value in attrs.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
            raise StoreError(f"{where}: netCDF cannot hold attribute {name!r} = {value!r}")


def write_tree(
    groups: Mapping[str, xr.Dataset],
    path: Path,
    attrs: Mapping[str, str | int | float],
    axes: Collection[str] = (),
) -> None:
    """Write datasets as the groups of one netCDF4 file, which appears complete or not at all.

    The file is written under a temporary name, read back and compared, synced, and renamed.
    """
    for group, data in groups.items():
        check_schema(group, data, axes)
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=dict(attrs)), **groups})
    large = {group: _large(data) for group, data in groups.items()}
    small = {group: data.drop_vars(large[group]) for group, data in groups.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # A group opened alone has no parent, so it must carry its own coordinates.
        bare = xr.DataTree.from_dict({"/": xr.Dataset(attrs=dict(attrs)), **small})
        bare.to_netcdf(temporary, engine=ENGINE, write_inherited_coords=True)
        for group, names in large.items():
            _write_parts(groups[group][names], temporary, group)
        _check_written(tree, temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except (OSError, RuntimeError) as error:
        there = path.parent
        free = f"; {said(shutil.disk_usage(there).free)} are free there" if there.is_dir() else ""
        raise StoreError(
            f"cannot write {path}: {error}{free}. Nothing there was changed: free some space if "
            "that is what it lacks, and run the same command again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _large(data: xr.Dataset) -> list[str]:
    """Return the names of numeric variables that are not to be in memory whole."""
    return [
        str(name)
        for name, variable in data.data_vars.items()
        if variable.ndim and variable.dtype.kind in "fiu" and variable.nbytes > _PART
    ]


def _write_parts(data: xr.Dataset, path: Path, group: str) -> None:
    """Add variables to a file that has their coordinates, part by part along their first dim."""
    if not data.data_vars:
        return
    with netCDF4.Dataset(path, "a") as file:
        for name, variable in data.data_vars.items():
            fill = np.nan if variable.dtype.kind == "f" else None
            made = file[group].createVariable(
                str(name), variable.dtype, variable.dims, fill_value=fill
            )
            made.set_auto_maskandscale(False)
            made.setncatts(variable.attrs)
            for part in _parts(variable.variable):
                made[part] = variable.variable[part].values


def _parts(variable: xr.Variable) -> Iterator[slice]:
    """Yield stretches of the first dim of a variable."""
    step = max(1, _PART * variable.shape[0] // max(1, variable.nbytes))
    for at in range(0, variable.shape[0], step):
        yield slice(at, at + step)


def _check_written(tree: xr.DataTree, path: Path) -> None:
    """Read every variable back and compare it; a full disk can be swallowed on the way."""
    with xr.open_datatree(path, engine=ENGINE, create_default_indexes=False) as written:
        for node in tree.subtree:
            for name, variable in node.to_dataset(inherit=False).variables.items():
                back = written[node.path].variables[str(name)]
                if back.sizes != variable.sizes or not _equal(variable, back):
                    raise StoreError(f"{node.path}/{name} did not survive being written to {path}")


def _equal(a: xr.Variable, b: xr.Variable) -> bool:
    """Compare variables, part by part along their first dim: a capture is not read whole again."""
    if not a.ndim:
        return _same(a.values, b.values)
    return all(_same(a[part].values, b[part].values) for part in _parts(a))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == b.dtype and a.dtype.kind == "f" and a.flags.c_contiguous and b.flags.c_contiguous:
        bits = f"i{a.dtype.itemsize}"  # without the flags and copies that telling NaN takes
        if a.dtype.itemsize <= 8 and np.array_equal(a.view(bits), b.view(bits)):
            return True
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def open_data(path: Path) -> xr.Dataset:
    """Open a file of a capture, of which nothing is read before it is asked for."""
    usual = netCDF4.get_chunk_cache()
    netCDF4.set_chunk_cache(_CACHE)
    try:
        return xr.open_dataset(path, engine=ENGINE, cache=False, decode_times=False)
    finally:
        netCDF4.set_chunk_cache(*usual)


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
