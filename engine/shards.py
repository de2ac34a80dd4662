"""Shards: what each batch gave, written while the model runs; the only store of the hot path.

A batch is done when its file has its final name, so that a kill loses the batch in flight and
nothing else. The name holds a checksum of the content: a shard that does not fit it is thrown away
and its rows are measured again. It tells damage, which is no forgery, so that CRC-32 is enough: the
best digest takes three times as long, as much as all else that writing a batch does.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import StoreError
from patchclamp.specs.quantities import said

SUFFIX = ".safetensors"
ROWS = "rows"
"""The tensor that says which rows a shard holds."""

_PART = 1 << 20
"""Bytes of a shard that are looked through at once."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says when a file cannot grow."""

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
}

_TORCH = {name: dtype for dtype, name in _DTYPES.items()}

State = tuple[str, int, int, int]
"""A file as it was seen: name, size, time of change and inode."""


def write_shard(
    folder: Path,
    rows: Sequence[int],
    tensors: Mapping[str, torch.Tensor],
    intact: set[State] | None = None,
) -> Path:
    """Write what a batch gave, with its row numbers, so that it is there whole or not at all.

    `intact`, the files that need not be looked through, is added to.
    """
    data = serialised({ROWS: torch.tensor(rows, dtype=torch.int64), **tensors})
    path = folder / f"{min(rows):08d}-{checksum(data)}{SUFFIX}"
    try:
        write_whole(path, *data)
    except StoreError as error:
        if getattr(error.__cause__, "errno", None) not in FULL:
            raise
        safe = len(list(folder.glob(f"*{SUFFIX}")))
        size = sum(memoryview(part).nbytes for part in data)
        free = shutil.disk_usage(folder).free
        raise StoreError(
            f"the disk is full: a batch of {said(size)} could not be written to "
            f"{str(folder)!r}, where {said(free)} are free; {safe} finished batches are "
            "safe. Free some space and run the same command again: it goes on where it stopped"
        ) from error
    if intact is not None:
        intact.add(_state(path))
    return path


def _state(file: Path) -> State:
    seen = file.stat()
    return (str(file), seen.st_size, seen.st_mtime_ns, seen.st_ino)


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


@dataclass(frozen=True)
class Shards:
    """The intact shards of a folder, and where each row stands in them."""

    files: tuple[Path, ...]
    rows: tuple[NDArray[np.int64], ...]

    @property
    def done(self) -> frozenset[int]:
        """Numbers of the rows that are there."""
        return frozenset(int(row) for rows in self.rows for row in rows)

    def tensors(self) -> Iterator[tuple[NDArray[np.int64], dict[str, torch.Tensor]]]:
        """Yield each shard's rows and tensors, one shard in memory at a time."""
        for file, rows in zip(self.files, self.rows, strict=True):
            with open_shard(file) as shard:
                names = [name for name in shard.places if name != ROWS]
                yield rows, {name: shard.read(name) for name in names}

    def block(
        self, names: Sequence[str], rows: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.int64], list[torch.Tensor]]]:
        """Yield, shard by shard, places among some rows and the tensors' entries of those.

        Only these entries are read. Raises `StoreError` where a row is not there.
        """
        for places, shard, entries in self._holding(rows):
            yield places, [shard.read(name, entries) for name in names]

    def fill(
        self, values: NDArray[Any], names: Sequence[str], rows: Sequence[int], none: float
    ) -> None:
        """Put some rows of tensors into `values` (row, tensor, ...), and `none` where they end.

        It is as wide as the widest, or wider.
        """
        for places, shard, entries in self._holding(rows):
            for number, name in enumerate(names):
                shard.fill(values[:, number], places, name, entries, none)

    def _holding(
        self, rows: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.int64], Shard, NDArray[np.int64]]]:
        """Yield each shard that holds some of the rows: their places among them, and in it.

        Raises `StoreError` where a row is in none.
        """
        where = self._where
        lacking = [row for row in rows if row >= where.shape[1] or where[0, row] < 0]
        if lacking:
            raise StoreError(
                f"{len(lacking)} of {len(rows)} rows are in no shard any more, row {lacking[0]} "
                "first: something else removes files in the cache. Run the same command again"
            )
        file, entry = where[:, list(rows)]
        order = np.argsort(file, kind="stable")
        cuts = np.flatnonzero(np.diff(file[order])) + 1
        for places in np.split(order, cuts):
            with open_shard(self.files[file[places[0]]]) as shard:
                yield places, shard, entry[places]

    @cached_property
    def _where(self) -> NDArray[np.int64]:
        """File and entry of each row: (2, row)."""
        last = max((int(rows.max()) for rows in self.rows), default=-1)
        where = np.full((2, last + 1), -1)
        for number, rows in enumerate(self.rows):
            where[0, rows], where[1, rows] = number, np.arange(len(rows))
        return where


def open_shards(folder: Path, intact: set[State] | None = None) -> Shards:
    """Return the intact shards of a folder; leftovers, and damaged ones, count as not there.

    A damaged shard's rows are measured again, and give a shard of the same name or another.
    `intact` are files that have been looked through already, and it is added to. Rows that stand
    in several shards are taken from the first.
    """
    intact = set() if intact is None else intact
    found = [(file, _rows(file, intact)) for file in sorted(folder.glob(f"*{SUFFIX}"))]
    there = [(file, rows) for file, rows in found if rows is not None]
    seen = np.zeros(max((int(rows.max()) for _, rows in there), default=-1) + 1, dtype=bool)
    files, kept = [], []
    for file, rows in there:
        if not seen[rows].any():
            seen[rows] = True
            files.append(file)
            kept.append(rows)
    return Shards(tuple(files), tuple(kept))


def _rows(file: Path, intact: set[State]) -> NDArray[np.int64] | None:
    """Return the rows of a shard; None unless its content is what its name says."""
    try:
        state = _state(file)
        if state not in intact:
            if _checksum_of_file(file) != file.name.removesuffix(SUFFIX).partition("-")[2]:
                return None
            intact.add(state)
        with open_shard(file) as shard:
            held: NDArray[np.int64] = shard.read(ROWS).numpy()
            return held
    except (OSError, ValueError, KeyError):
        return None


def checksum(parts: Iterable[bytes | memoryview]) -> str:
    """Return the CRC-32 of what the parts hold together, as eight hexadecimal digits.

    >>> checksum([b"1234", b"56789"])
    'cbf43926'
    """
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return f"{value:08x}"


def _checksum_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return checksum(iter(lambda: stream.read(_PART), b""))


def digest_of_file(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
