"""Short forms such as `model: owner/name@revision`, as the mappings that they stand for."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator

from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.grammar import KIND
from patchclamp.specs.spec import spec_model


def mapping_of(root: Any, path: Path, value: Any) -> dict[str, Any] | None:
    """Return a value as the mapping that the grammar takes it for at a path, if it is one.

    `root` is the spec as far as it is known: the kinds in it say which grammar holds at the path.

    >>> mapping_of({}, ("model",), "bundled:sequences@step0")
    {'id': 'bundled:sequences', 'revision': 'step0'}
    >>> mapping_of({}, ("name",), "text") is None
    True
    """
    for expand in _expansions(root, path):
        try:
            value = expand.func(value)  # type: ignore[call-arg]  # ours take the value alone
        except (TypeError, ValueError, KeyError, AttributeError):
            break  # not a value that the short form knows; the schema will say so
    return value if isinstance(value, dict) else None


def _expansions(root: Any, path: Path) -> list[BeforeValidator]:
    """Return what the grammar does to a value at a path before it looks at it, in that order."""
    place = grammar.follow(spec_model(), _location(root, path))
    if place.path != path:
        return []
    field = place.field.metadata if place.field else getattr(place.annotation, "__metadata__", ())
    return [item for item in reversed(field) if isinstance(item, BeforeValidator)]


def _location(root: Any, path: Path) -> tuple[str | int, ...]:
    """Return a path as pydantic writes it: after an entry that has a kind, its kind."""
    location: list[str | int] = []
    for part in path:
        location.append(part)
        root = root.get(part) if isinstance(root, dict) else None
        if part != path[-1] and isinstance(root, dict) and isinstance(root.get(KIND), str):
            location.append(root[KIND])
    return tuple(location)
