"""Rows of different lengths, held together: whole numbers, and texts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Row = TypeVar("Row")

_AT_ONCE = 4096
"""Rows whose numbers are looked up at once."""

_WIDER = {"B": "H", "H": "I", "I": "Q"}
"""Sorts of arrays, of whole numbers of one byte, two, four and eight, by the next smaller."""


def extended(values: array[int], more: Iterable[int]) -> array[int]:
    """Return an array with more whole numbers, none below 0: itself, or a copy that can hold them.

    >>> extended(array("B", [7]), [300])
    array('H', [7, 300])
    """
    more, before = tuple(more), len(values)
    try:
        values.extend(more)
    except OverflowError:
        del values[before:]
        if values.typecode not in _WIDER:
            raise
        return extended(array(_WIDER[values.typecode], values), more)
    return values


class _Packed(Sequence[Row]):
    """Rows one after the other, each made when it is asked for."""

    _ends: array[int]

    def _between(self, begin: int, end: int) -> Row:
        """Return the row that is held there."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, at: int | slice) -> Row | tuple[Row, ...]:
        if isinstance(at, slice):
            return tuple(self[row] for row in range(*at.indices(len(self))))
        row = at + len(self) if at < 0 else at
        if not 0 <= row < len(self):
            raise IndexError(f"there are {len(self)} rows, and no {at}")
        return self._between(self._ends[row], self._ends[row + 1])

    def __iter__(self) -> Iterator[Row]:
        for begin, end in pairwise(self._ends):
            yield self._between(begin, end)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


class Ragged(_Packed[tuple[int, ...]]):
    """Rows of whole numbers, none below 0, read as tuples.

    A tuple for each row would take 50 bytes and 8 for each number, held for as long as a plan is.

    >>> rows = Ragged([(3, 4, 5), (9,)])
    >>> rows[0], rows[-1], rows[:1], len(rows)
    ((3, 4, 5), (9,), ((3, 4, 5),), 2)
    """

    def __init__(self, rows: Iterable[Iterable[int]] = ()) -> None:
        self._values, self._ends = array("B"), array("B", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Iterable[int]) -> None:
        """Add a row."""
        self._values = extended(self._values, row)
        self._ends = extended(self._ends, (len(self._values),))

    def holds(self, value: int) -> bool:
        """Return whether a number stands in some row."""
        return value in self._values

    def lengths(self) -> NDArray[np.int64]:
        """Return how many numbers each row has."""
        ends = np.array(self._ends, dtype=np.int64)
        return ends[1:] - ends[:-1]

    def padded(self, rows: Sequence[int] | NDArray[np.int64], width: int) -> NDArray[np.int32]:
        """Return the first numbers of some rows (row, place), -1 behind the last of a row."""
        places = np.arange(width, dtype=np.int32)
        lengths = self.lengths()[np.asarray(rows)]
        return self.at(rows, np.where(places < lengths[:, None], places, -1))

    def at(
        self, rows: Sequence[int] | NDArray[np.int64], places: NDArray[Any]
    ) -> NDArray[np.int32]:
        """Return the numbers at some places (row, place) of some rows; -1 where a place is -1.

        >>> Ragged([(3, 4, 5), (9,)]).at([1, 0], np.array([[0, -1], [0, 2]])).tolist()
        [[9, -1], [3, 5]]
        """
        values, begins = np.asarray(self._values), np.asarray(self._ends)[np.asarray(rows)]
        found = np.full(places.shape, -1, dtype=np.int32)
        for at in range(0, len(found), _AT_ONCE):
            some = slice(at, at + _AT_ONCE)
            there = places[some] >= 0
            held = begins[some, None].astype(np.int64) + places[some]
            found[some][there] = values[held[there]]
        return found

    def _between(self, begin: int, end: int) -> tuple[int, ...]:
        return tuple(self._values[begin:end])


class Texts(_Packed[str]):
    """Texts, read as strings; a string for each would take 50 bytes beside its characters.

    >>> texts = Texts(["a", "été"])
    >>> texts[1], texts[:1], texts == ("a", "été")
    ('été', ('a',), True)
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._values, self._ends = bytearray(), array("B", [0])
        for text in texts:
            self._values += text.encode("utf-8", "surrogatepass")
            self._ends = extended(self._ends, (len(self._values),))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the texts as numpy holds them by itself, each as long as the longest."""
        longest = max(1, *map(len, self)) if self else 1
        return np.fromiter(self, dtype=dtype or f"U{longest}", count=len(self))

    def _between(self, begin: int, end: int) -> str:
        return self._values[begin:end].decode("utf-8", "surrogatepass")
