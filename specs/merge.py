"""Two documents into one: what an extending spec says goes over what its base says.

* Mappings merge by key; of everything else, lists included, the extending spec's value stands.
* A mapping whose `kind` differs from the base's replaces it: fields belong to their kind.
* Where one side writes the short form of a mapping, it is read as that mapping.
* Null over a value takes the value away, so that the default holds; null over nothing stays.

Every value keeps its place in the text that it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from patchclamp.specs.diagnostics import Path, Span
from patchclamp.specs.document import Document
from patchclamp.specs.grammar import KIND
from patchclamp.specs.paths import Part, PathError
from patchclamp.specs.short_forms import mapping_of

T = TypeVar("T")


def merge(base: Document, over: Document) -> Document:
    """Return a document that extends a base; it has the source and the text of `over`."""
    merger = _Merger(base.value)
    value = merger.mappings((), base.value, over.value)
    gone = merger.replaced
    raw = {p: text for p, text in over.raw.items() if p not in merger.reset}
    return over._replace(
        value=value,
        keys={**_outside(gone, base.keys), **over.keys},
        values={**_outside(gone, base.values), **over.values},
        raw={**_outside(gone, base.raw), **raw},
        sources={**over.sources, **base.sources},
    )


def _outside(gone: set[Path], places: Mapping[Path, T]) -> dict[Path, T]:
    """Return what is not below any of the paths that are gone."""
    if not gone:
        return dict(places)
    return {
        path: place
        for path, place in places.items()
        if not any(path[:i] in gone for i in range(1, len(path) + 1))
    }


@dataclass
class _Merger:
    """Merges plain data and notes which paths of the base do not stand any more."""

    root: Mapping[str, Any]
    replaced: set[Path] = field(default_factory=set)
    reset: set[Path] = field(default_factory=set)

    def mappings(
        self, path: Path, base: Mapping[str, Any], over: Mapping[str, Any]
    ) -> dict[str, Any]:
        merged = dict(base)
        for key, value in over.items():
            here = (*path, key)
            if key not in base:
                merged[key] = value
            elif value is None:
                del merged[key]
                self.replaced.add(here)
                self.reset.add(here)
            else:
                merged[key] = self.values(here, base[key], value)
        return merged

    def values(self, path: Path, base: Any, over: Any) -> Any:
        if isinstance(over, dict) and isinstance(base, dict | str):
            below, above = self.expanded(path, base), self.expanded(path, over)
            kinds = {side[KIND] for side in (below, above) if isinstance(side.get(KIND), str)}
            if (below or isinstance(base, dict)) and len(kinds) < 2:
                return self.mappings(path, below if isinstance(base, str) else base, over)
        self.replaced.add(path)
        return over

    def expanded(self, path: Path, value: Any) -> Mapping[str, Any]:
        found = mapping_of(self.root, path, value)
        return found if found is not None else value if isinstance(value, dict) else {}


def follow(document: Document, parts: tuple[Part, ...]) -> tuple[Document, Path]:
    """Return the path that parts mean in a document, with short forms on the way written out.

    The path may lead to what is not there yet. Raises `PathError` where it goes through a value
    that has no parts, or to an index that a list lacks.
    """
    path: Path = ()
    for i, part in enumerate(parts):
        value: Any = document.get(path)
        if isinstance(value, str) and (mapping := mapping_of(document.value, path, value)):
            document = document._replace(value=put(document.value, path, mapping))
            value = mapping
        if isinstance(value, tuple):
            if part.number is None or part.number >= len(value):
                items = f"{len(value)} item{'' if len(value) == 1 else 's'}"
                message = f"{_name(parts[:i])!r} is a list of {items}; it has no [{part.text}]"
                raise PathError(message, i)
            path = (*path, part.number)
        elif value is None or isinstance(value, dict):
            path = (*path, part.text)
        else:
            raise PathError(f"{_name(parts[:i])!r} is a single value; it has no {part.text!r}", i)
    return document, path


def _name(parts: tuple[Part, ...]) -> str:
    return ".".join(part.text for part in parts)


def put(value: Any, path: Path, new: Any) -> Any:
    """Return plain data with a value put at a path; what does not lie on the path is shared.

    Null takes a value away, as it does in `merge`.
    """
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, tuple):
        assert isinstance(head, int)
        return (*value[:head], put(value[head], rest, new), *value[head + 1 :])
    changed = dict(value or {})
    if new is None and not rest and head in changed:
        del changed[head]
    else:
        changed[head] = put(changed.get(head), rest, new)
    return changed


def graft(
    document: Document, path: Path, given: Document, *, at: Path = (), keys: tuple[Span, ...]
) -> Document:
    """Return a document with the value that another has `at` a path put at a path of its own.

    `keys` are the places that say each part of the path: what is not there yet stands there.
    """
    moved = {(*path, *p[len(at) :]): p for p in given.values if p[: len(at)] == at}
    new = {p: given.keys[old] for p, old in moved.items() if p != path and old in given.keys}
    created = {path[: i + 1]: span for i, span in enumerate(keys)}
    fresh = {p: s for p, s in created.items() if p == path or p not in document.keys}
    gone = {path}
    spans = {p: given.values[old] for p, old in moved.items()}
    raw = {p: given.raw[old] for p, old in moved.items() if old in given.raw}
    if given.get(at) is None and document.get(path) is not None:
        raw = {}
    return document._replace(
        value=put(document.value, path, given.get(at)),
        keys={**_outside(gone, document.keys), **fresh, **new},
        values={**_outside(gone, document.values), **fresh, **spans},
        raw={**_outside(gone, document.raw), **raw},
        sources={**document.sources, **given.sources},
    )
