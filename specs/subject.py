"""What lints look at: the resolved entries of a spec, its model and its claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from patchclamp.specs.diagnostics import Path
from patchclamp.specs.model import ModelChoice, expand_model
from patchclamp.specs.references import Sections, entries, fill
from patchclamp.specs.spec import Expectation

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Subject:
    """The resolved entries of a spec, and what else of it is valid."""

    sections: Sections
    model: ModelChoice | None = None
    expect: Mapping[int, Expectation] = field(default_factory=dict)
    """Claims by their place in the list."""
    swept: frozenset[str] = frozenset()
    """The paths that a matrix sets."""
    asked: Mapping[Path, BaseModel] | None = None
    """The entries that are looked at; None means all."""

    @property
    def entries(self) -> Mapping[Path, BaseModel]:
        """The entries that are looked at, with their places."""
        return dict(entries(self.sections)) if self.asked is None else self.asked

    def of(self, kind: type[M]) -> Iterator[tuple[Path, M]]:
        """Yield the entries of one kind, with their paths."""
        for path, entry in self.entries.items():
            if isinstance(entry, kind):
                yield path, entry


def valid_subject(sections: Sections, value: Mapping[str, Any], swept: frozenset[str]) -> Subject:
    """Return what lints look at in a spec that is not valid: those of its parts that are."""
    claims = value.get("expect")
    given = {i: _valid(Expectation, c) for i, c in enumerate(claims if claims else ())}
    expect = {i: claim for i, claim in given.items() if claim is not None}
    model = _valid(ModelChoice, expand_model(value.get("model")))
    return Subject(fill(sections), model, expect, swept)


def _valid(model: type[M], value: Any) -> M | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None
