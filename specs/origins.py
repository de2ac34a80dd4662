"""Where each value of a resolved spec comes from: a file, an override, the matrix, or a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from patchclamp.specs.cells import Cell
from patchclamp.specs.compose import OVERRIDE
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.digest import resolved
from patchclamp.specs.document import Document
from patchclamp.specs.short_forms import mapping_of

_ABSENT = object()


@dataclass(frozen=True)
class Origin:
    """The place that gives a value; `source` is empty for a default."""

    kind: Literal["file", "set", "matrix", "default"]
    source: str = ""
    line: int = 0

    def __str__(self) -> str:
        """Return `file:line`, the override, or `default`.

        >>> str(Origin("matrix", "sweep.yaml", 12)), str(Origin("default"))
        ('sweep.yaml:12 (matrix)', 'default')
        """
        if self.kind in ("set", "default"):
            return self.source or "default"
        place = f"{self.source}:{self.line}"
        return f"{place} (matrix)" if self.kind == "matrix" else place


def origins(cell: Cell) -> dict[Path, Origin]:
    """Return where every value of a cell's resolved spec comes from, by path.

    Lists are one value. A reference that was left out, and so means the only candidate, is a
    default, as is what a short form leaves open.
    """
    document = cell.document
    return {path: _origin(document, path) for path in _leaves(resolved(cell.spec), ())}


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, Mapping) and value:
        for key, member in value.items():
            yield from _leaves(member, (*path, key))
    else:
        yield path


def _origin(document: Document, path: Path) -> Origin:
    for end in range(len(path), 0, -1):
        above = document.get(path[:end], _ABSENT)
        if above is _ABSENT:
            continue
        if end == len(path) or _short_form_says(document, path[:end], path[end:]):
            return _at(document, path[:end])
        break
    return Origin("default")


def _short_form_says(document: Document, path: Path, rest: Path) -> bool:
    """Return whether a value that is no mapping in the file stands for one with what follows."""
    value = document.get(path)
    if isinstance(value, dict):
        return False
    mapping: Any = mapping_of(document.value, path, value)
    if mapping is None:
        return value is not None
    for part in rest:
        if not isinstance(mapping, dict):
            return True
        if part not in mapping:
            return False
        mapping = mapping[part]
    return True


def _at(document: Document, path: Path) -> Origin:
    span = document.span(path)
    source = span.source or document.source
    if any(path[:i] in document.swept for i in range(1, len(path) + 1)):
        return Origin("matrix", source, span.line)
    return Origin("set" if source.startswith(OVERRIDE) else "file", source, span.line)
