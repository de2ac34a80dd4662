"""Assembly: the shards of a capture become one netCDF4 file, checked before it has its name.

One thread, one plain file: chunks of some stimuli of one layer, so that "one layer, all
stimuli" and "one stimulus, all layers" both read few of them. What is half precision or an
attention map is shuffled and deflated, which makes it smaller than its raw bits; float32
activations hardly shrink (1.16 times for 20 CPU-seconds a gigabyte) and are stored as they are.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.engine.captures import CapturePlan, Variable
from patchclamp.engine.shards import Shards
from patchclamp.engine.store import sync
from patchclamp.registry.errors import StoreError
from patchclamp.specs.quantities import said

_CHUNK = 4 << 20
"""Most bytes in a chunk; from 0.4 to 4 MB reading and writing are fastest."""
_LEAST = 512 << 10
"""Bytes up to which a chunk takes in more stimuli than `_STIMULI`."""
_CACHE = 1 << 20
"""Bytes of chunks that the library keeps; they are written and read whole, each once."""
_BLOCK = 4 << 20
"""Bytes gathered at once."""
_STIMULI = 8
"""Stimuli in a chunk, unless they are small."""
_RAGGED = 16
"""Positions in a chunk where texts differ in length: chunks that are all padding are not written,
and read as NaN. Of texts of 4 to 64 tokens, 19 on average, that saves half of the file."""
_RAGGED_BLOCK = 8 << 20
"""Bytes gathered at once of several layers, where what is padding is left out: each part of it is
little, unless it is of all layers."""
_RAGGED_LEAST = 64 << 10
"""Bytes up to which such a chunk takes in more stimuli: few, or some text is long in each."""


def assemble(
    capture: CapturePlan, shards: Shards, path: Path, *, keys: int, precision: str
) -> None:
    """Write a capture's variables to a netCDF4 file, which appears complete or not at all.

    `keys` is how many keys a map has, `precision` what the model computes in. Raises
    `StoreError` where it cannot be written or does not read back as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    compress = capture.is_map or (precision != "float32" and not capture.reduce)
    try:
        with netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
            for variable in capture.variables():
                blocks = _blocks(capture, variable, shards, keys)
                made = _write(file, variable, blocks, compress=compress)
                made.setncatts(capture.attributes(variable, precision))
        with netCDF4.Dataset(temporary, "r") as file:
            file.set_auto_maskandscale(False)
            for variable in capture.variables():
                _check(file[variable.name], _blocks(capture, variable, shards, keys), path)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error}; {said(shutil.disk_usage(path.parent).free)} are "
            "free there. What was measured is safe in its shards: free some space if that is what "
            "it lacks, and run the same command again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


class Block(NamedTuple):
    """Which entries of a variable, their values, and the shapes of the variable and its chunks."""

    place: tuple[slice, ...]
    values: NDArray[Any]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]


def _blocks(capture: CapturePlan, variable: Variable, shards: Shards, keys: int) -> Iterator[Block]:
    """Yield a variable block by block of stimuli, padded, in the order of the stimuli.

    A block's values are overwritten by the next one's. Chunks that would be all padding are in
    no block.
    """
    if variable.partial:
        name = variable.name.removesuffix("_count")
        main = next(other for other in capture.variables() if other.name == name)
        parts = merged(capture, main, shards, keys)
        whole: NDArray[Any] = parts[name != variable.name]
        chunk = _chunks(variable.dims, whole.shape, whole.dtype.itemsize)
        yield Block((slice(0, len(whole)),), whole, whole.shape, chunk)
        return
    rows, names = capture.chosen.rows, capture.stored(variable)
    layered = "layer" in variable.dims
    _, (sample,) = next(shards.block(names[:1], rows[:1]))
    width = capture.chosen.index.shape[1]
    padded = {"position": width, "query": width, "key": keys}
    inner = [dim for dim in variable.dims[1:] if dim != "layer"]
    shape = tuple(padded.get(dim, size) for dim, size in zip(inner, sample.shape[1:], strict=True))
    full = (len(rows), len(names), *shape) if layered else (len(rows), *shape)
    dtype, none = (np.int32, -1) if variable.whole else (np.float32, np.nan)
    ragged = "position" in inner and not variable.whole and not capture.chosen.mask.all()
    chunk = _chunks(variable.dims, full, 4, ragged=ragged)
    together, most = (len(names), _RAGGED_BLOCK) if ragged else (1, _BLOCK)
    one = 4 * math.prod(shape)
    step = max(chunk[0], most // (one * together) // chunk[0] * chunk[0])
    together = min(together, max(1, most // (one * step)))
    buffer = np.empty((min(step, len(rows)), together, *shape), dtype)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        for first in range(0, len(names), together):
            of = names[first : first + together]
            values = buffer[: len(some), : len(of)]
            shards.fill(values, of, some, none)
            stimuli, layers = slice(start, start + len(some)), slice(first, first + len(of))
            block = Block((stimuli, layers), values, full, chunk)
            if not layered:
                block = Block((stimuli,), values[:, 0], full, chunk)
            if ragged:
                there = capture.chosen.mask[start : start + step]
                yield from _without_padding(block, there, variable.dims.index("position"))
            else:
                yield block


def _without_padding(block: Block, there: NDArray[np.bool_], axis: int) -> Iterator[Block]:
    """Yield the parts of a block whose chunks hold a token; `there` is (stimulus, position).

    `axis` is that of positions in the variable. Stimuli that follow one another and reach as far
    are one part.
    """
    rows, long = block.chunk[0], block.chunk[axis]
    starts = np.arange(0, len(there), rows)
    any_there = np.logical_or.reduceat(np.logical_or.reduceat(there, starts, axis=0),
                                       np.arange(0, there.shape[1], long), axis=1)  # fmt: skip
    first = block.place[0]
    before = [slice(None)] * (axis - len(block.place))
    inside = [slice(None)] * (axis - 1)
    for column in range(any_there.shape[1]):
        at = slice(column * long, (column + 1) * long)
        edges = np.flatnonzero(np.diff(any_there[:, column], prepend=False, append=False))
        for begin, end in edges.reshape(-1, 2) * rows:
            stimuli = slice(first.start + int(begin), min(first.start + int(end), first.stop))
            yield Block(
                (stimuli, *block.place[1:], *before, at),
                block.values[(slice(begin, end), *inside, at)],
                block.shape,
                block.chunk,
            )


def merged(
    capture: CapturePlan, variable: Variable, shards: Shards, keys: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Put the parts that batches gave of a variable together, and count what is in it.

    Returns (class, ...) and (class, position), of a map (class, query, key). A mean is the sum over
    all batches divided by the number of stimuli that have a token there, so that it does not depend
    on how they were packed; NaN where none has.
    """
    name = f"{variable.name}_count"
    counts = next(other.dims for other in capture.variables() if other.name == name)
    width = capture.chosen.index.shape[1]
    most = {"position": width, "query": width, "key": keys}
    maximum = variable.name.startswith("max")
    total, count = None, None
    for _, tensors in shards.tensors():
        layers = [tensors[stored] for stored in capture.stored(variable)]
        part = (torch.stack(layers, 1) if "layer" in variable.dims else layers[0]).double().numpy()
        part = _widened(part, variable.dims, most, -np.inf if maximum else 0.0)
        counted = _widened(tensors[name].numpy(), counts, most, 0)
        if total is None or count is None:
            total, count = part, counted
        else:
            total = np.maximum(total, part) if maximum else total + part
            count = count + counted
    assert total is not None, "a capture of no stimulus is refused"
    assert count is not None, "it comes with the total"
    sizes = zip(variable.dims, total.shape, strict=True)
    there = count.reshape([size if dim in counts else 1 for dim, size in sizes])
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(there > 0, total, np.nan) if maximum else total / there
    return np.asarray(found), count.astype(np.int32)


def _widened(
    part: NDArray[Any], dims: tuple[str, ...], most: Mapping[str, int], fill: float
) -> NDArray[Any]:
    """Return a part as wide as the longest stimulus is long."""
    missing = [(0, most.get(dim, size) - size) for dim, size in zip(dims, part.shape, strict=True)]
    return np.pad(part, missing, constant_values=fill)


def _write(
    file: netCDF4.Dataset, variable: Variable, blocks: Iterator[Block], *, compress: bool
) -> Any:
    """Write a variable block by block, and return it."""
    made = None
    for place, values, shape, chunk in blocks:
        if made is None:
            for dim, size in zip(variable.dims, shape, strict=True):
                if dim not in file.dimensions:
                    file.createDimension(dim, size)
            made = file.createVariable(
                variable.name,
                values.dtype,
                variable.dims,
                zlib=compress,
                complevel=1,
                shuffle=compress,
                fletcher32=True,
                chunksizes=chunk,
                fill_value=np.nan if values.dtype.kind == "f" else None,
            )
            made.set_auto_maskandscale(False)
            made.set_var_chunk_cache(_CACHE)
        made[place] = values
    assert made is not None, "a capture of no stimulus is refused"
    return made


_CUT = ("head", "kv_head", "query", "position")
"""Dims along which a chunk that is too large is cut, after the stimuli."""


def _chunks(
    dims: tuple[str, ...], shape: tuple[int, ...], size: int, *, ragged: bool = False
) -> tuple[int, ...]:
    """Return the shape of a chunk: some stimuli of one layer, cut further where that is large.

    `ragged` says that some stimuli have no token at some positions.

    >>> _chunks(("stimulus", "layer", "position", "unit"), (1000, 12, 1, 768), 4)
    (170, 1, 1, 768)
    >>> _chunks(("stimulus", "layer", "position", "unit"), (1000, 12, 64, 768), 4, ragged=True)
    (1, 1, 16, 768)
    """
    chunk = [1 if dim == "layer" else max(1, n) for dim, n in zip(dims, shape, strict=True)]
    few, least = _STIMULI, _LEAST
    if ragged:
        at = dims.index("position")
        chunk[at] = min(chunk[at], _RAGGED)
        few, least = 1, _RAGGED_LEAST
    one = size * math.prod(chunk[1:])
    chunk[0] = min(shape[0], max(few, least // one))
    for axis in (0, *(i for i, dim in enumerate(dims) if dim in _CUT)):
        while chunk[axis] > 1 and size * math.prod(chunk) > _CHUNK:
            chunk[axis] = (chunk[axis] + 1) // 2
    return tuple(chunk)


def _check(written: Any, blocks: Iterator[Block], path: Path) -> None:
    """Read every block back; a full disk can be swallowed on the way."""
    written.set_var_chunk_cache(_CACHE)
    for place, values, _, _ in blocks:
        bits = f"i{values.dtype.itemsize}"  # bit by bit: NaN is NaN, and -0 is not 0
        if not np.array_equal(written[place].view(bits), values.view(bits)):
            raise StoreError(f"{written.name} did not survive being written to {path}")
