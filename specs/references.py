"""What entries say of one another: which other entries they name, and which may be left out."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from patchclamp.registry.errors import nearest
from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.fields import Label, Ref
from patchclamp.specs.spec import SECTIONS, Spec, spec_model
from patchclamp.specs.stimuli import Corrupt, Source, is_source
from patchclamp.specs.walk import FILLED, Named, Walks, marked

Entries = Mapping[str, Mapping[str, BaseModel]]

_WHAT = {
    ("stimuli", "rows"): "stimulus set that is not corrupt",
    ("stimuli", "answered"): "stimulus set with an 'answer'",
    ("captures", "any"): "capture",
    ("interventions", "any"): "intervention",
    ("analyses", "any"): "analysis",
}
"""What a reference may mean, in words."""


@dataclass(frozen=True)
class Sections:
    """The named entries of a spec, by section; `broken` ones exist and are not valid."""

    entries: Entries
    broken: Mapping[str, frozenset[str]]
    walks: Walks = field(default_factory=Walks, compare=False, repr=False)
    still: Mapping[Path, int] = field(default_factory=dict, compare=False, repr=False)
    """Identities that are known: those of entries that are the same in all cells."""

    def named(self, entry: BaseModel, path: Path, mark: type[Ref | Label]) -> tuple[Named, ...]:
        """Return every field of an entry and below it that names an entry, or a label."""
        return self.walks.named(entry, path, mark)

    @cached_property
    def identities(self) -> dict[Path, int]:
        """A number for each entry, by its place, that stands for it and all that it refers to.

        Where two of these are the same, so is all that references lead to.
        """
        known = dict(self.still)
        for place, entry in entries(self):
            if place not in known:
                _identify(self, place, entry, known)
        return known

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
        return (name, entry) if name is not None and is_source(entry) else None


def entries(sections: Sections) -> Iterator[tuple[Path, BaseModel]]:
    """Yield every valid entry with its path."""
    for section, members in sections.entries.items():
        for name, entry in members.items():
            yield (section, name), entry


def sections_of(spec: Spec) -> Sections:
    """Return the named entries of a valid spec."""
    return Sections({name: getattr(spec, name) for name in SECTIONS}, {})


def analyses_in_order(spec: Spec) -> tuple[str, ...]:
    """Return the analyses so that each comes after those whose results it needs.

    It may need them by way of a capture or an intervention that it names. Circles are refused
    when a spec is checked (P314).
    """
    from graphlib import TopologicalSorter  # checking a spec orders nothing

    sections = sections_of(spec)

    def needs(place: Path, entry: BaseModel) -> Iterator[str]:
        for reference in sections.named(entry, place, Ref):
            mark, name = reference.mark, reference.name
            named = sections.get(mark.section, name) if isinstance(mark, Ref) else None
            if named is None or name is None or not isinstance(mark, Ref):
                continue
            if mark.section == "analyses":
                yield name
            else:
                yield from needs((mark.section, name), named)

    graph = {name: set(needs(("analyses", name), of)) for name, of in spec.analyses.items()}
    return tuple(TopologicalSorter(graph).static_order())


def valid_sections(value: Mapping[str, Any]) -> Sections:
    """Return what is valid of a spec that is not, entry by entry."""
    entries: dict[str, dict[str, BaseModel]] = {}
    broken: dict[str, frozenset[str]] = {}
    for section, adapter in _adapters(spec_model()).items():
        given = value.get(section)
        entries[section] = {}
        for name, entry in given.items() if isinstance(given, dict) else ():
            try:
                entries[section][name] = adapter.validate_python(entry)
            except ValidationError:
                continue
        # The entries of a section whose key is misspelt are there, and none of them is missed.
        named = given if section in value else _misspelt(value, section)
        broken[section] = frozenset(named if isinstance(named, dict) else ()) - {*entries[section]}
    return Sections(entries, broken)


def _misspelt(value: Mapping[str, Any], section: str) -> Any:
    """Return what stands under an unknown key that is the nearest to a section's."""
    known = grammar.fields(spec_model())
    unknown = (key for key in value if key not in known)
    return next((value[key] for key in unknown if nearest(key, known) == section), None)


@cache
def _adapters(model: type[BaseModel]) -> dict[str, TypeAdapter[BaseModel]]:
    """Return what validates an entry of each section; making them takes longer than using them."""
    return {section: TypeAdapter(annotation) for section, annotation in _types(model).items()}


@cache
def _types(model: type[BaseModel]) -> dict[str, Any]:
    fields = grammar.fields(model)
    return {name: grammar.member_of(fields[name].annotation) for name in SECTIONS}


def fill(sections: Sections) -> Sections:
    """Return the entries with every reference that has one candidate spelled out."""
    filled = {
        section: {name: fill_entry(entry, sections) for name, entry in entries.items()}
        for section, entries in sections.entries.items()
    }
    return Sections(filled, sections.broken, sections.walks)


def outline(members: Mapping[str, BaseModel]) -> Hashable:
    """Return all that a check may ask of a section's entries without being led to them by a
    reference: their names and kinds, and which stimulus sets have answers."""
    return tuple(
        (name, type(entry), is_source(entry) and entry.answer is not None)
        for name, entry in members.items()
    )


def _identify(sections: Sections, place: Path, entry: BaseModel, known: dict[Path, int]) -> int:
    if place in known:
        return known[place]
    known[place] = -1  # where a circle ends
    parts = [id(entry)]
    for section, name in sections.walks.needed(entry):
        other = sections.get(section, name)
        if other is not None:
            parts.append(_identify(sections, (section, name), other, known))
    numbers = sections.walks.numbers
    known[place] = numbers.setdefault(tuple(parts), len(numbers))
    return known[place]


def fill_entry(entry: BaseModel, sections: Sections) -> BaseModel:
    """Return an entry with every reference that has one candidate spelled out."""
    update = {}
    for key, (attribute, mark) in marked(type(entry)).items():
        if not isinstance(mark, Ref) or key not in FILLED or getattr(entry, attribute) is not None:
            continue
        found = candidates(mark, sections)
        if len(found) == 1 and not sections.broken.get(mark.section):
            update[attribute] = found[0]
    return entry.model_copy(update=update) if update else entry


def candidates(mark: Ref, sections: Sections) -> tuple[str, ...]:
    """Return the names that a reference may mean where it is left out."""
    entries = sections.entries.get(mark.section, {})
    return tuple(name for name, entry in entries.items() if _fits(mark, entry))


def _fits(mark: Ref, entry: BaseModel) -> bool:
    if mark.candidate == "rows":
        return is_source(entry)
    if mark.candidate == "answered":
        return is_source(entry) and entry.answer is not None
    return mark.kind is None or vars(entry).get("kind") == mark.kind


def what(mark: Ref) -> str:
    """Return in words what a reference may mean."""
    return _WHAT[mark.section, mark.candidate]
