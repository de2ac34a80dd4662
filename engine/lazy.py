"""Variables whose values are made when they are asked for, of the rows that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

Rows = NDArray[np.int64]
"""Numbers of rows, (row,)."""


class _Made(BackendArray):
    """An array of which `make` returns some rows, whole."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, make: Callable[[Rows], Any]):
        self.shape, self.dtype, self._make = shape, np.dtype(dtype), make

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        outer = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, outer, self._get)

    def _get(self, key: tuple[Any, ...]) -> Any:
        rows = np.arange(self.shape[0])[key[0]]
        found = self._make(np.atleast_1d(rows))
        return found[(slice(None) if rows.ndim else 0, *key[1:])]


def lazy_variable(
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    make: Callable[[Rows], NDArray[Any]],
    attrs: dict[str, str] | None = None,
) -> xr.Variable:
    """Return a variable whose rows, the entries of its first dim, `make` returns by number.

    A part of it is made anew each time; the whole, once it has been asked for, is kept.
    """
    lazy = indexing.LazilyIndexedArray(_Made(shape, dtype, make))
    kept = indexing.MemoryCachedArray(lazy)  # type: ignore[no-untyped-call]
    return xr.Variable(dims, kept, attrs)
