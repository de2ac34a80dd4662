"""What lies beside a result: captures that are too large to be copied into it.

A capture's group then holds its labels alone, and its attribute `data` says where its numbers are,
relative to the result: in a file that shares its content with the record in the cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import xarray as xr

from patchclamp.engine.store import Groups, open_data, sync
from patchclamp.registry.errors import StoreError

LARGE = 64 << 20
"""Bytes from which on a capture stays in a file of its own."""
DATA = "data"
"""The attribute of a capture's group that names that file."""


def put_beside(
    groups: Mapping[str, xr.Dataset], files: Mapping[str, Path], *, result: Path, folder: str
) -> Groups:
    """Return the groups of a result, with files in a folder beside it for large captures.

    `files` are the records of groups. Raises `StoreError` where a file cannot be put there.
    """
    kept: dict[str, Callable[[], xr.Dataset]] = {g: partial(groups.__getitem__, g) for g in groups}
    for group, file in files.items():
        if _is_large(groups[group]):
            relative = f"{folder}/{group.rpartition('/')[2]}.nc"
            _share(file, result.parent / relative)
            kept[group] = partial(_labels, groups, group, relative)
    return Groups(kept)


def _is_large(data: xr.Dataset) -> bool:
    return data.nbytes >= LARGE and "stimulus" in data.dims


def _labels(groups: Mapping[str, xr.Dataset], group: str, relative: str) -> xr.Dataset:
    """Return a group without its numbers, which lie in a file beside the result."""
    data = groups[group]
    return data.drop_vars(list(data.data_vars)).assign_attrs({DATA: relative})


def _share(file: Path, place: Path) -> None:
    """Give a file a second name, or copy it where a file system has none for it."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and place.samefile(file):
            return
        temporary.unlink(missing_ok=True)
        try:
            os.link(file, temporary)
        except OSError:
            shutil.copyfile(file, temporary)
            sync(temporary)
        temporary.replace(place)
        sync(place.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StoreError(
            f"cannot write {str(place)!r}: {reason}; the capture is safe in {str(file)!r}"
        ) from error


def with_data(labels: xr.Dataset, result: Path) -> xr.Dataset:
    """Return a capture whose labels are in a result with its numbers, which are not read yet.

    Labels alone where the file is not there, as in a result that was copied without it.
    """
    file = result.parent / str(labels.attrs[DATA])
    if not file.exists():
        return labels
    try:
        data = open_data(file)
    except (OSError, RuntimeError) as error:
        raise StoreError(f"cannot read {str(file)!r}, which a result refers to: {error}") from error
    return data.assign_coords(labels.coords).assign_attrs(labels.attrs)
