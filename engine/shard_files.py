"""Shard files: tensors in the safetensors format, written without a copy and read in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.registry.errors import StoreError

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
}

_TORCH = {name: dtype for dtype, name in _DTYPES.items()}


def serialised(tensors: Mapping[str, torch.Tensor]) -> list[bytes | memoryview]:
    """Return tensors in the safetensors format, in parts: the data themselves are not copied.

    The format is eight bytes that count those of a JSON header, the header, and the data; the
    library's own writer copies the data twice, which costs as much as all else that is done to
    them here.
    """
    header: dict[str, object] = {}
    parts: list[memoryview] = []
    end = 0
    for name, tensor in tensors.items():
        flat = tensor.detach().contiguous().view(-1)
        begin, end = end, end + flat.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        if flat.nbytes:
            parts.append(flat.view(torch.uint8).numpy().data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *parts]


@dataclass(frozen=True)
class Shard:
    """A shard that is open: where each tensor is, by name. Nothing of it is mapped into memory,
    so that a process with little of it can read one."""

    stream: BufferedReader
    places: Mapping[str, Any]
    start: int

    def read(self, name: str, entries: NDArray[np.int64] | None = None) -> torch.Tensor:
        """Return a tensor, or some entries of its first dim in the order that is given."""
        (count, *inner), dtype = self.shape(name), self.dtype(name)
        entries = np.arange(count) if entries is None else entries
        found = torch.empty((len(entries), *inner), dtype=dtype)
        if found.nbytes:
            size = found.nbytes // len(entries)
            room = found.view(-1).view(torch.uint8).numpy().data
            for begin, end in _stretches(entries):
                self._read_into(room[begin * size : end * size], name, int(entries[begin]))
        return found

    def fill(
        self,
        values: NDArray[Any],
        places: NDArray[np.int64],
        name: str,
        entries: NDArray[np.int64],
        none: float,
    ) -> None:
        """Put entries of a tensor in their places among `values`, and `none` where they end.

        What is contiguous there too, and of the same precision, is read without a copy between.
        """
        (_, *inner), dtype = self.shape(name), torch.from_numpy(values[:0]).dtype
        if self.dtype(name) != dtype or tuple(inner[1:]) != values.shape[2:]:
            values[places] = none
            within: Any = (places, *(slice(0, size) for size in inner))
            values[within] = self.read(name, entries).to(dtype).numpy()
            return
        whole = tuple(inner) == values.shape[1:]
        alone = pairwise(range(len(places) + 1))
        at_once = whole and values.flags.c_contiguous
        for begin, end in _stretches(places, entries) if at_once else alone:
            at = int(places[begin])
            room = values[at : at + end - begin] if whole else values[at, : inner[0]]
            if room.nbytes:
                self._read_into(room.data.cast("B"), name, int(entries[begin]))
        if not whole:
            values[places, inner[0] :] = none

    def _read_into(self, room: memoryview, name: str, entry: int) -> None:
        """Fill a room of bytes with what stands of a tensor from an entry of its first dim on."""
        place = self.places[name]
        begin, end = place["data_offsets"]
        self.stream.seek(self.start + begin + entry * ((end - begin) // place["shape"][0]))
        if self.stream.readinto(room) != len(room):
            raise StoreError(f"the shard {self.stream.name!r} was cut short while it was read")

    def shape(self, name: str) -> list[int]:
        """Return the shape of a tensor."""
        found: list[int] = self.places[name]["shape"]
        return found

    def dtype(self, name: str) -> torch.dtype:
        """Return the precision of a tensor."""
        return _TORCH[self.places[name]["dtype"]]


def _stretches(*numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield from where to where all of some sequences count up by one.

    >>> list(_stretches(np.array([4, 5, 6, 2]), np.array([0, 1, 3, 4])))
    [(0, 2), (2, 3), (3, 4)]
    """
    breaks = np.logical_or.reduce([np.diff(some) != 1 for some in numbers])
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(numbers[0])]
    return pairwise(edges)


@contextmanager
def open_shard(file: Path) -> Iterator[Shard]:
    """Open a shard in the safetensors format; see `serialised`."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        yield Shard(stream, json.loads(stream.read(size)), 8 + size)
