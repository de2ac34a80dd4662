"""Which fields of the grammar name another entry, and what stands in where one is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from patchclamp.specs import grammar
from patchclamp.specs.analyses import Ablation, Probe, Rsa
from patchclamp.specs.captures import Capture
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.interventions import Mean
from patchclamp.specs.spec import Spec
from patchclamp.specs.stimuli import Corrupt, Source, is_source

Entries = Mapping[str, Mapping[str, BaseModel]]


def _any(entry: BaseModel) -> bool:
    return True


def has_answer(entry: BaseModel) -> bool:
    """Return whether a stimulus set has rows of its own and an answer to each."""
    return is_source(entry) and getattr(entry, "answer", None) is not None


@dataclass(frozen=True)
class Reference:
    """A field that names an entry of a section.

    Left out, it means the one entry that is a candidate; `what` says which entries are.
    """

    section: str
    candidate: Callable[[BaseModel], bool]
    what: str


_SET = Reference("stimuli", is_source, "stimulus set that is not corrupt")
_CAPTURE = Reference("captures", _any, "capture")

REFERENCES: Mapping[tuple[type[BaseModel], str], Reference] = {
    (Corrupt, "of"): _SET,
    (Capture, "of"): _SET,
    (Mean, "mean_over"): _SET,
    (Rsa, "of"): _CAPTURE,
    (Probe, "of"): _CAPTURE,
    (Ablation, "stimuli"): Reference("stimuli", has_answer, "stimulus set with an 'answer'"),
    (Ablation, "with"): Reference("interventions", _any, "intervention"),
}
"""Model and key -> what the key refers to; a test holds that no field of names is missing."""


@dataclass(frozen=True)
class Sections:
    """The named entries of a spec, by section; `broken` ones exist and are not valid."""

    entries: Entries
    broken: Mapping[str, frozenset[str]]

    def names(self, section: str) -> tuple[str, ...]:
        """Return every name in a section, broken entries too."""
        return (*self.entries.get(section, {}), *sorted(self.broken.get(section, ())))

    def get(self, section: str, name: str | None) -> BaseModel | None:
        """Return a valid entry, or None."""
        return self.entries.get(section, {}).get(name) if name is not None else None

    def source(self, name: str | None) -> tuple[str, Source] | None:
        """Return the set that has a set's rows, itself or what it corrupts, with its name."""
        entry = self.get("stimuli", name)
        if isinstance(entry, Corrupt):
            name = entry.of
            entry = self.get("stimuli", name)
        return (name, entry) if name is not None and is_source(entry) else None  # type: ignore[return-value]


def sections_of(spec: Spec) -> Sections:
    """Return the named entries of a valid spec."""
    return Sections({name: dict(getattr(spec, name)) for name in _section_types()}, {})


def valid_sections(value: Mapping[str, Any]) -> Sections:
    """Return what is valid of a spec that is not, entry by entry."""
    entries: dict[str, dict[str, BaseModel]] = {}
    broken: dict[str, frozenset[str]] = {}
    for section, annotation in _section_types().items():
        given = value.get(section)
        adapter: TypeAdapter[BaseModel] = TypeAdapter(annotation)
        valid = {}
        for name, entry in given.items() if isinstance(given, dict) else ():
            try:
                valid[name] = adapter.validate_python(entry)
            except ValidationError:
                continue
        entries[section] = valid
        broken[section] = (
            frozenset(given or ()) - frozenset(valid) if isinstance(given, dict) else frozenset()
        )
    return Sections(entries, broken)


def _section_types() -> dict[str, Any]:
    """Return the sections of a spec and the type of an entry in each."""
    return {
        name: grammar.member_of(field.annotation)
        for name, field in grammar.fields(Spec).items()
        if grammar.member_of(field.annotation) is not None
    }


def references(entry: BaseModel, path: Path) -> Iterator[tuple[Path, Reference, str | None]]:
    """Yield every reference in an entry and below it: its path, its rule, the name given."""
    for here, model in models_in(entry, path):
        for key, field in _named(type(model)).items():
            reference = REFERENCES.get((type(model), key))
            if reference is not None:
                yield (*here, key), reference, getattr(model, field)


def models_in(value: Any, path: Path) -> Iterator[tuple[Path, BaseModel]]:
    """Yield a model and every model inside it, with their paths."""
    if isinstance(value, BaseModel):
        yield path, value
        for key, name in _named(type(value)).items():
            yield from models_in(getattr(value, name), (*path, key))
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from models_in(member, (*path, key))


def _named(model: type[BaseModel]) -> dict[str, str]:
    """Return the attribute of each key of a model."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def fill(sections: Sections) -> Sections:
    """Return the entries with every reference that has one candidate spelled out."""
    filled = {
        section: {name: _fill_entry(entry, name, sections) for name, entry in entries.items()}
        for section, entries in sections.entries.items()
    }
    return Sections(filled, sections.broken)


def _fill_entry(entry: BaseModel, name: str, sections: Sections) -> BaseModel:
    attributes = _named(type(entry))
    update = {}
    for key, attribute in attributes.items():
        reference = REFERENCES.get((type(entry), key))
        if reference is None or getattr(entry, attribute) is not None:
            continue
        found = candidates(reference, sections)
        if len(found) == 1 and not sections.broken.get(reference.section):
            update[attribute] = found[0]
    return entry.model_copy(update=update) if update else entry


def candidates(reference: Reference, sections: Sections) -> tuple[str, ...]:
    """Return the names that a reference may mean where it is left out."""
    entries = sections.entries.get(reference.section, {})
    return tuple(name for name, entry in entries.items() if reference.candidate(entry))
