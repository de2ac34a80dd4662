"""Blocks: two arrays that lie in files, read piece by piece with their labels brought together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.engine.comparison.labels import Match

MEMORY = 32 << 20
"""Bytes of one array that are held at once; a comparison needs about ten times as much."""


@dataclass(frozen=True)
class Block:
    """A piece of both arrays, with the same labels in the same places.

    `start` is where it begins among the labels that both have, along each dim.
    """

    start: tuple[int, ...]
    a: NDArray[Any]
    b: NDArray[Any]


@dataclass(frozen=True)
class Pair:
    """Two variables and how their labels match; dims are in the order of the first."""

    a: xr.Variable
    b: xr.Variable
    matches: Mapping[str, Match]

    @property
    def dims(self) -> tuple[str, ...]:
        """The dims, in the order of the first variable."""
        return tuple(map(str, self.a.dims))

    @property
    def shape(self) -> tuple[int, ...]:
        """How many labels both have, along each dim."""
        return tuple(self.matches[dim].size for dim in self.dims)

    @property
    def size(self) -> int:
        """How many elements both have."""
        return int(np.prod(self.shape, dtype=np.int64))

    def blocks(self, memory: int = MEMORY) -> Iterator[Block]:
        """Yield all that both have, in pieces of at most so many bytes where chunks allow it."""
        if self.size == 0:
            return
        chunks = self.a.encoding.get("chunksizes") or (1,) * self.a.ndim
        steps = block_shape(self.shape, chunks, memory // max(self.a.dtype.itemsize, 8))
        starts = (range(0, size, step) for size, step in zip(self.shape, steps, strict=True))
        for start in product(*starts):
            yield self._read(start, steps)

    def _read(self, start: tuple[int, ...], steps: tuple[int, ...]) -> Block:
        here_a, here_b = {}, {}
        for dim, first, step in zip(self.dims, start, steps, strict=True):
            match = self.matches[dim]
            here_a[dim] = _compact(match.at_a[first : first + step])
            here_b[dim] = _compact(match.at_b[first : first + step])
        a = self.a.isel(here_a).to_numpy()
        b = self.b.isel(here_b).transpose(*self.dims).to_numpy()
        return Block(start, a, b)

    def labels_at(self, place: tuple[int, ...]) -> dict[str, Any]:
        """Return the labels of one element, by dim."""
        return {
            dim: self.matches[dim].labels[index].item()
            for dim, index in zip(self.dims, place, strict=True)
        }


def _compact(index: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return consecutive places as a slice, which a file reads in one go."""
    if len(index) and np.array_equal(index, np.arange(index[0], index[0] + len(index))):
        return slice(int(index[0]), int(index[0]) + len(index))
    return index


def block_shape(shape: tuple[int, ...], chunks: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return the shape of a block of at most `most` elements, in whole chunks where they fit.

    Early dims are cut first, as files store them.

    >>> block_shape((4096, 12, 128), (8, 1, 128), 100_000)
    (64, 12, 128)
    >>> block_shape((10, 1000), (1, 1), 300)
    (1, 300)
    """
    steps = list(shape)
    for axis, size in enumerate(shape):
        rest = int(np.prod(steps, dtype=np.int64)) // max(steps[axis], 1)
        if rest * size <= most:
            break
        chunk = min(chunks[axis], size)
        fits = max(most // max(rest, 1), 1)
        steps[axis] = max(fits // chunk * chunk, min(chunk, size))
    return tuple(steps)
