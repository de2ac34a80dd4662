"""The table type: one visible table per sort of thing, name to entry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

from patchclamp.registry.errors import UnknownNameError


class Entry(Protocol):
    """What every table row has: its name and one sentence for people."""

    @property
    def name(self) -> str:
        """The name that specs use."""

    @property
    def summary(self) -> str:
        """One sentence that `patchclamp list` prints."""


E = TypeVar("E", bound=Entry)


class Table(Mapping[str, E], Generic[E]):
    """A mapping of names to entries of one sort, which nothing but a plugin makes grow.

    An unknown name raises `UnknownNameError`, which lists what is known and the nearest;
    a duplicate raises `ValueError`.
    """

    def __init__(self, sort: str, entries: Iterable[E]) -> None:
        self.sort = sort
        self._entries: dict[str, E] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: E) -> None:
        """Add an entry; `plugins` alone calls this once a table is built."""
        if entry.name in self._entries:
            raise ValueError(f"duplicate {self.sort} {entry.name!r}")
        self._entries[entry.name] = entry

    def __getitem__(self, name: str) -> E:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(self.sort, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load(reference: str | None) -> Any:
    """Import what a `"module:attribute"` reference names, on first use.

    None stands for what is not implemented yet, which is refused before it comes here.

    >>> load("math:tau") > 6
    True
    """
    assert reference is not None, "what is not implemented is refused before"
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)
