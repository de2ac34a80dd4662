"""Reading a capture place by place, never more of it at once than memory allows.

A capture may be larger than memory and lie in a file, in chunks of one stimulus and layer. So a
layer is read whole where it fits, then a head of it, then a position of that; and where the
patterns of one place are still too many, blocks of their units are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.patterns import FEATURES, NAMED, PLACE, Capture
from patchclamp.registry.errors import AnalysisError, UndefinedError

Result = TypeVar("Result")

SHARE = 4
"""A block may be so small a part of memory: it is held as it is read, in order, as float64, and
standardised."""


@dataclass(frozen=True)
class Place:
    """The patterns of one layer, head and position, as far as a capture has them.

    `at` says where, `index` counts it; patterns are (row, unit) in the order of `rows`, and read
    when they are asked for.
    """

    at: Mapping[str, int]
    index: tuple[int, ...]
    values: xr.DataArray
    order: NDArray[np.intp]

    @property
    def words(self) -> str:
        """Where it is, as a message says it."""
        return ", ".join(f"{dim} {label}" for dim, label in self.at.items()) or "the only place"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of units."""
        *rows, units = self.values.shape
        return int(np.prod(rows)), units

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.floating]:
        """Return the given units of all rows."""
        rows, units = key
        assert rows == slice(None), "rows are taken whole"
        values = self.values[..., units].to_numpy()[self.order]
        return values.reshape(-1, values.shape[-1])


def places(capture: Capture, *, rows: tuple[str, ...], memory: int) -> Iterator[Place]:
    """Yield every place of a capture, last dim fastest, holding `memory` bytes at most.

    `rows`: the dims whose entries are rows of the patterns, `stimulus` first; the others, but
    for the units, make the places. Rows are stimuli by id, and within one its layers or
    positions.
    """
    activation = capture.data["activation"]
    dims = [dim for dim in place_dims(capture, rows) if dim in activation.dims]
    yield from _walk(activation, dims, (capture, rows, memory))


def place_dims(capture: Capture, rows: tuple[str, ...] = ("stimulus",)) -> tuple[str, ...]:
    """Return the dims of a capture's places, in the order in which results have them."""
    return tuple(dim for dim in PLACE if dim in capture.dims and dim not in rows)


def _walk(
    array: xr.DataArray,
    dims: list[str],
    how: tuple[Capture, tuple[str, ...], int],
    at: tuple[tuple[str, int, int], ...] = (),
) -> Iterator[Place]:
    capture, rows, memory = how
    if array.nbytes <= memory // SHARE:
        array = array.compute()
    if not dims:
        (units,) = (dim for dim in FEATURES if dim in array.dims)
        labels = {dim: label for dim, _, label in at}
        index = tuple(number for _, number, _ in at)
        yield Place(labels, index, array.transpose(*rows, units), capture.order)
        return
    dim, *rest = dims
    for number in range(array.sizes[dim]):
        label = array[dim].values[number].item()
        yield from _walk(array.isel({dim: number}), rest, how, (*at, (dim, number, label)))


def at_place(place: object, ids: list[str], kernel: Callable[[], Result]) -> Result:
    """Return what a kernel gives; an error is raised again with the place and its stimuli.

    `ids` name the rows. What is no `Place` has no words.
    """
    at = f"at {place.words}: " if isinstance(place, Place) else ""
    try:
        return kernel()
    except UndefinedError as error:
        message = f"{at}{error}{named(ids, error.where)}"
        raise UndefinedError(message, error.where) from error
    except AnalysisError as error:
        raise AnalysisError(f"{at}{error}") from error


def named(ids: list[str], rows: tuple[int, ...]) -> str:
    """Return rows by the stimuli they belong to, the first of them by id.

    >>> named(["s0", "s1"], (1,))
    ": stimuli 's1'"
    """
    found = list(dict.fromkeys(ids[row] for row in rows))
    more = len(found) - NAMED
    words = ", ".join(repr(name) for name in found[:NAMED])
    return (f": stimuli {words}" + (f" and {more} more" if more > 0 else "")) if found else ""


def check_memory(place: Place, others: int, memory: int) -> None:
    """Raise `AnalysisError` if a read-out of a place needs more than memory allows.

    `others`: rows that are tested beside those of the place. Inner products of rows are held
    where there are more units than rows, else the patterns themselves.
    """
    rows, units = place.shape
    needed = 8 * SHARE * (rows + others) * min(rows, units)
    if needed > memory:
        raise AnalysisError(
            f"at {place.words}: reading out {rows + others} rows of {units} units needs "
            f"{size(needed)}, and run.budget.memory allows {size(memory)}: allow more, or take "
            "fewer stimuli"
        )


def size(count: int) -> str:
    """Return a number of bytes as a message says it.

    >>> size(3 << 29), size(100)
    ('1.5GiB', '100B')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(max(count.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{count / (1 << 10 * power):.3g}{units[power]}"
