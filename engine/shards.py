"""Shards: what each batch gave, written while the model runs; the only store of the hot path.

A batch is done when its file has its final name, so that a kill loses the batch in flight and
nothing else. The name holds a digest of the content: a shard that does not fit it is thrown away
and its rows are measured again.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import StoreError
from patchclamp.specs.quantities import write_size

SUFFIX = ".safetensors"
ROWS = "rows"
"""The tensor that says which rows a shard holds."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_shard(folder: Path, rows: Sequence[int], tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write what a batch gave, with its row numbers, so that it is there whole or not at all."""
    held = {name: tensor.contiguous() for name, tensor in tensors.items()}
    data = save({ROWS: torch.tensor(rows, dtype=torch.int64), **held})
    digest = hashlib.sha256(data).hexdigest()[:32]
    path = folder / f"{min(rows):08d}-{digest}{SUFFIX}"
    try:
        write_whole(path, data)
    except StoreError as error:
        if getattr(error.__cause__, "errno", None) not in _FULL:
            raise
        safe = len(list(folder.glob(f"*{SUFFIX}")))
        raise StoreError(
            f"the disk is full: a batch of {write_size(len(data))} could not be written to "
            f"{str(folder)!r}; {safe} finished batches are safe. Free some space and run the same "
            "command again: it goes on where it stopped"
        ) from error
    return path


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
            with safe_open(file, framework="pt") as shard:
                names = [name for name in shard.keys() if name != ROWS]  # noqa: SIM118 - no dict
                yield rows, {name: shard.get_tensor(name) for name in names}

    def block(self, name: str, rows: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield one tensor's entry of each of some rows, by its place among them."""
        wanted = {row: place for place, row in enumerate(rows)}
        for file, held in zip(self.files, self.rows, strict=True):
            here = [(i, wanted[row]) for i, row in enumerate(held.tolist()) if row in wanted]
            if not here:
                continue
            with safe_open(file, framework="pt") as shard:
                part = shard.get_slice(name)
                for i, place in here:
                    yield place, part[i : i + 1][0]


def open_shards(folder: Path) -> Shards:
    """Return the intact shards of a folder; leftovers and damaged ones are removed.

    Rows that stand in several shards are taken from the first.
    """
    files, rows = [], []
    seen: set[int] = set()
    for file in sorted(folder.glob("*")):
        if file.suffix != SUFFIX or not _intact(file):
            file.unlink(missing_ok=True)
            continue
        with safe_open(file, framework="np") as shard:
            held = shard.get_tensor(ROWS)
        if seen.isdisjoint(held.tolist()):
            seen.update(held.tolist())
            files.append(file)
            rows.append(held)
        else:
            file.unlink()
    return Shards(tuple(files), tuple(rows))


def _intact(file: Path) -> bool:
    """Return whether a shard's content is what its name says."""
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
        if digest != file.name.removesuffix(SUFFIX).partition("-")[2]:
            return False
        with safe_open(file, framework="np") as shard:
            return ROWS in shard.keys()  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError):
        return False
