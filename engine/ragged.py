"""Rows of whole numbers of different lengths, held together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload


class Ragged(Sequence[tuple[int, ...]]):
    """Rows of whole numbers that fit into four bytes, read as tuples.

    A tuple for each row would take 50 bytes and 8 for each number, held for as long as a plan is.

    >>> rows = Ragged([(3, 4, 5), (9,)])
    >>> rows[0], rows[-1], rows[:1], len(rows)
    ((3, 4, 5), (9,), ((3, 4, 5),), 2)
    """

    def __init__(self, rows: Iterable[Iterable[int]] = ()) -> None:
        self._values, self._ends = array("i"), array("q", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Iterable[int]) -> None:
        """Add a row."""
        self._values.extend(row)
        self._ends.append(len(self._values))

    def holds(self, value: int) -> bool:
        """Return whether a number stands in some row."""
        return value in self._values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ragged):
            return NotImplemented
        return self._values == other._values and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[tuple[int, ...], ...]: ...
    def __getitem__(self, at: int | slice) -> tuple[int, ...] | tuple[tuple[int, ...], ...]:
        if isinstance(at, slice):
            return tuple(self[row] for row in range(*at.indices(len(self))))
        row = at + len(self) if at < 0 else at
        if not 0 <= row < len(self):
            raise IndexError(f"there are {len(self)} rows, and no {at}")
        return tuple(self._values[self._ends[row] : self._ends[row + 1]])

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        for begin, end in pairwise(self._ends):
            yield tuple(self._values[begin:end])
