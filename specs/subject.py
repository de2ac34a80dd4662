"""What lints look at: the resolved entries of a spec, its model and its claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from patchclamp.specs.diagnostics import Path
from patchclamp.specs.model import ModelChoice, expand_model
from patchclamp.specs.references import Sections, entries, fill
from patchclamp.specs.spec import Expectation

M = TypeVar("M", bound=BaseModel)


class Subject(NamedTuple):
    """The resolved entries of a spec, and what else of it is valid."""

    sections: Sections
    entries: Mapping[Path, BaseModel]
    """The entries that are looked at, with their places."""
    model: ModelChoice | None = None
    expect: Mapping[int, Expectation] = MappingProxyType({})
    """Claims by their place in the list."""
    swept: frozenset[str] = frozenset()
    """The paths that a matrix sets."""

    def of(self, kind: type[M]) -> Iterator[tuple[Path, M]]:
        """Yield the entries of one kind, with their paths."""
        for path, entry in self.entries.items():
            if isinstance(entry, kind):
                yield path, entry

    def of_kind(self, kind: str) -> Iterator[tuple[Path, Any]]:
        """Yield the entries that say that they are of a kind, so that its model need not exist."""
        for path, entry in self.entries.items():
            if vars(entry).get("kind") == kind:
                yield path, entry


def valid_subject(sections: Sections, value: Mapping[str, Any], swept: frozenset[str]) -> Subject:
    """Return what lints look at in a spec that is not valid: those of its parts that are."""
    claims = value.get("expect")
    listed = claims if isinstance(claims, tuple) else ()
    given = {i: _valid(Expectation, c) for i, c in enumerate(listed)}
    expect = {i: claim for i, claim in given.items() if claim is not None}
    model = _valid(ModelChoice, expand_model(value.get("model")))
    filled = fill(sections)
    return Subject(filled, dict(entries(filled)), model, expect, swept)


def _valid(model: type[M], value: Any) -> M | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None
