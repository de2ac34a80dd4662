"""What the cells of a matrix share, looked at once.

A cell is made by putting values at paths of the document (`merge.put`), so that an entry which it
does not change is the same object in every cell, and so is a section in which it changes none.
Such an entry is validated once, its references are filled in once, and it is checked again only
where something that it refers to has changed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from patchclamp.specs.check import check_entries
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.references import Sections, entries, fill_entry, outline
from patchclamp.specs.spec import SECTIONS, Spec, entry_model
from patchclamp.specs.walk import Walks

Members = dict[str, BaseModel]

Shape = tuple[int, ...]
"""What entries of a spec may ask of others without naming them: the outline of each section."""


class Section(NamedTuple):
    """A section as it stands, held so that nothing else takes its place in memory."""

    given: Any
    members: Members
    outline: int


class Checked(NamedTuple):
    """What holds in all cells of one shape, once the first of them is checked."""

    moving: tuple[Path, ...]
    """Entries that cells set something in, and those that these are needed by."""
    still: Mapping[Path, int]
    """The identities of all others."""
    fine: set[tuple[Path, int]]
    """Moving entries that nothing is wrong with: their place, their identity."""


@dataclass
class Shared:
    """Validates, fills and checks the cells of one spec; what is kept is told apart by what it is
    in memory."""

    sets: frozenset[Path] = frozenset()
    """Where cells set something: in an entry, by its place, or in all of a section."""
    walks: Walks = field(default_factory=Walks)
    valid: dict[tuple[str, int], tuple[Any, BaseModel]] = field(default_factory=dict)
    """What stands in an entry's place, by section -> it, the entry."""
    sections: dict[tuple[str, int], Section] = field(default_factory=dict)
    outlines: dict[Hashable, int] = field(default_factory=dict)
    filled: dict[tuple[Shape, int], BaseModel] = field(default_factory=dict)
    """Entries with references filled in, by shape."""
    members: dict[tuple[Shape, int], Members] = field(default_factory=dict)
    """The entries of a section with references filled in, by shape."""
    checked: dict[Shape, Checked] = field(default_factory=dict)
    specs: dict[Hashable, tuple[Any, Spec | None]] = field(default_factory=dict)
    """Specs by what stands beside the sections, and by the names in these -> that, the spec."""
    written: dict[int, str] = field(default_factory=dict)
    """What entries look like in a digest."""

    def cell(self, value: Mapping[str, Any]) -> tuple[Spec, Sections] | None:
        """Return a cell as a spec, and its entries, references filled in; None where something in
        it is wrong by itself or between entries."""
        sections = self._resolve(value)
        spec = self._spec(value, sections) if sections else None
        return (spec, sections) if spec and sections else None

    def _resolve(self, value: Mapping[str, Any]) -> Sections | None:
        found = {name: self._section(name, value[name]) for name in SECTIONS if name in value}
        if None in found.values():
            return None
        given = {name: section for name, section in found.items() if section}
        shape = tuple(section.outline for section in given.values())
        plain = Sections({name: of.members for name, of in given.items()}, {}, self.walks)
        members = {name: self._members(shape, of, plain) for name, of in plain.entries.items()}
        checked = self.checked.get(shape)
        sections = Sections(members, {}, self.walks, checked.still if checked else {})
        if checked is None:
            return self._first(shape, sections)
        same = sections.identities
        moving = {place: members[str(place[0])][str(place[1])] for place in checked.moving}
        new = {p: entry for p, entry in moving.items() if (p, same[p]) not in checked.fine}
        if new and check_entries(sections, new):
            return None
        checked.fine.update((place, same[place]) for place in new)
        return sections

    def _first(self, shape: Shape, sections: Sections) -> Sections | None:
        """Check all entries of the first cell of a shape; what is right is not looked at again."""
        everything = dict(entries(sections))
        if check_entries(sections, everything):
            return None
        if self.sets:
            moving = {p for p in everything if p in self.sets or p[:1] in self.sets}
            while more := {
                place
                for place, entry in everything.items()
                if place not in moving and not moving.isdisjoint(self.walks.needed(entry))
            }:
                moving |= more
            same = sections.identities
            still = {place: same[place] for place in everything if place not in moving}
            fine = {(place, same[place]) for place in moving}
            self.checked[shape] = Checked(tuple(p for p in everything if p in moving), still, fine)
        return sections

    def _spec(self, value: Mapping[str, Any], sections: Sections) -> Spec | None:
        beside = {key: given for key, given in value.items() if key not in SECTIONS}
        names = tuple(map(tuple, sections.entries.values()))
        key = (tuple(beside), tuple(map(id, beside.values())), names)
        if key not in self.specs:
            try:
                spec = Spec.model_validate({**value, **sections.entries})
            except ValidationError:
                spec = None
            self.specs[key] = (beside, spec)
        spec = self.specs[key][1]
        return spec.model_copy(update=dict(sections.entries)) if spec else None

    def _section(self, name: str, given: Any) -> Section | None:
        """Return the valid entries of a section; None where one is not valid by itself."""
        key = (name, id(given))
        if key not in self.sections:
            members = {}
            for entry, raw in given.items() if isinstance(given, dict) else [("", None)]:
                found = self._entry(name, raw)
                if found is None:
                    return None
                members[entry] = found
            number = self.outlines.setdefault((name, outline(members)), len(self.outlines))
            self.sections[key] = Section(given, members, number)
        return self.sections[key]

    def _entry(self, section: str, raw: Any) -> BaseModel | None:
        key = (section, id(raw))
        if key not in self.valid:
            model = entry_model(section, raw)
            if model is None:
                return None
            try:
                self.valid[key] = (raw, model.model_validate(raw))
            except ValidationError:
                return None
        return self.valid[key][1]

    def _members(self, shape: Shape, members: Mapping[str, BaseModel], of: Sections) -> Members:
        key = (shape, id(members))
        if key not in self.members:
            self.members[key] = {name: self._fill(shape, e, of) for name, e in members.items()}
        return self.members[key]

    def _fill(self, shape: Shape, entry: BaseModel, sections: Sections) -> BaseModel:
        key = (shape, id(entry))
        if key not in self.filled:
            self.filled[key] = fill_entry(entry, sections)
        return self.filled[key]
