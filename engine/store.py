"""The store: datasets are checked against the schema and written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore

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

_KINDS = "fiubUO"
"""Kinds of data that netCDF holds; float16 is refused because readers crash on it."""


_CACHE = 8 << 20
"""Bytes of chunks of a variable that the library keeps, two of the largest, so that one which two
reads share is read once; its own default, 64 MiB for every variable, is a capture whole."""
_PART = 1 << 20
"""Bytes of a variable that are written and compared at once."""
_TEXT = 256
"""Bytes that a text is taken to have."""


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


class Groups(Mapping[str, xr.Dataset]):
    """Datasets by group, each made when it is asked for and not kept.

    So the labels, texts and tokens of one group are in memory at a time, however many there are.
    """

    def __init__(self, makers: Mapping[str, Callable[[], xr.Dataset]]) -> None:
        self._makers = dict(makers)

    def __getitem__(self, group: str) -> xr.Dataset:
        return self._makers[group]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def write_tree(
    groups: Mapping[str, xr.Dataset],
    path: Path,
    attrs: Mapping[str, str | int | float],
    axes: Collection[str] = (),
) -> None:
    """Write datasets as the groups of one netCDF4 file, which appears complete or not at all.

    The file is written under a temporary name, read back and compared, synced, and renamed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
            file.setncatts(attrs)
            for group, data in groups.items():
                check_schema(group, data, axes)
                _write(data, file.createGroup(group))
        with netCDF4.Dataset(temporary, "r") as file:
            for group, data in groups.items():
                _check_written(data, file[group], path)
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


def _write(data: xr.Dataset, group: netCDF4.Group) -> None:
    """Write a dataset; variables that are not to be in memory whole are added part by part."""
    large = _large(data)
    store = NetCDF4DataStore(group)  # type: ignore[no-untyped-call]
    data.drop_vars(large).dump_to_store(store)
    for name in large:
        _write_parts(name, data[name].variable, group)


def _large(data: xr.Dataset) -> list[str]:
    return [
        str(name)
        for name, variable in data.data_vars.items()
        if variable.ndim and variable.dtype.kind in "fiuOU" and _bytes(variable.variable) > _PART
    ]


def _bytes(variable: xr.Variable) -> int:
    """Return how many bytes a variable takes, about so many where it holds texts."""
    item = variable.dtype.itemsize if variable.dtype.kind in "fiubc" else _TEXT
    return variable.size * item


def _write_parts(name: str, variable: xr.Variable, group: netCDF4.Group) -> None:
    """Add a variable, part by part along its first dim, to a group that has its coordinates."""
    fill = np.nan if variable.dtype.kind == "f" else None
    kind = str if variable.dtype.kind in "OU" else variable.dtype
    made = group.createVariable(name, kind, tuple(map(str, variable.dims)), fill_value=fill)
    made.set_auto_maskandscale(False)
    made.setncatts(variable.attrs)
    for part in _parts(variable):
        made[part] = variable[part].values


def _parts(variable: xr.Variable) -> Iterator[slice]:
    """Yield stretches of the first dim of a variable."""
    step = max(1, _PART * variable.shape[0] // max(1, _bytes(variable)))
    for at in range(0, variable.shape[0], step):
        yield slice(at, at + step)


def _check_written(data: xr.Dataset, group: netCDF4.Group, path: Path) -> None:
    """Read every variable back and compare it; a full disk can be swallowed on the way."""
    for name, variable in data.variables.items():
        back = group[str(name)]
        back.set_auto_maskandscale(False)
        there = back.dimensions == variable.dims and back.shape == variable.shape
        if not there or not _equal(variable, back):
            raise StoreError(f"{group.path}/{name} did not survive being written to {path}")


def _equal(a: xr.Variable, b: Any) -> bool:
    """Compare variables, part by part along their first dim: a capture is not read whole again."""
    parts = _parts(a) if a.ndim else (...,)
    return all(_same(a[part].values, np.asarray(b[part])) for part in parts)


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
