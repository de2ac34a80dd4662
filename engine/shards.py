"""Shards: what each batch gave, written while the model runs; the only store of the hot path.

A batch is done when its file has its final name, so that a kill loses the batch in flight and
nothing else. The name holds a checksum of the content: a shard that does not fit it is thrown away
and its rows are measured again. It tells damage, which is no forgery, so that CRC-32 is enough: the
best digest takes three times as long, as much as all else that writing a batch does.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.engine.shard_files import Shard, open_shard, serialised
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
