"""What the cells of a matrix share, looked at once.

A cell is made by putting values at paths of the document (`merge.put`), so that an entry which it
does not change is the same object in every cell. Such an entry is validated once, its references
are filled in once, and it is checked again only where something that it refers to has changed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from patchclamp.specs.check import check_entries
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.references import (
    Sections,
    entries,
    fill_entry,
    outline,
    sections_of,
)
from patchclamp.specs.spec import SECTIONS, Spec, entry_model
from patchclamp.specs.walk import Walks

Fine = tuple[int, Path, int]
"""An entry that nothing is wrong with: the outline of its spec, its place, its identity."""


@dataclass
class Shared:
    """Validates, fills and checks the cells of one spec."""

    several: bool = False
    """Whether there is more than one cell."""
    walks: Walks = field(default_factory=Walks)
    valid: dict[tuple[str, int], tuple[Any, BaseModel]] = field(default_factory=dict)
    """What stands in an entry's place, by section and by what it is in memory -> it, the entry."""
    filled: dict[tuple[int, int], BaseModel] = field(default_factory=dict)
    """Entries with their references filled in, by outline and by what they are in memory."""
    fine: set[Fine] = field(default_factory=set)
    written: dict[int, str] = field(default_factory=dict)
    """What entries look like in a digest."""
    outlines: dict[Hashable, int] = field(default_factory=dict)

    def validate(self, value: Mapping[str, Any]) -> Spec | None:
        """Return a cell as a spec; None where something in it is not valid by itself."""
        given = dict(value)
        try:
            for section in SECTIONS:
                members = value.get(section)
                if isinstance(members, dict):
                    entries = {name: self._entry(section, raw) for name, raw in members.items()}
                    if None in entries.values():
                        return None
                    given[section] = entries
            return Spec.model_validate(given)
        except ValidationError:
            return None

    def resolve(self, spec: Spec) -> Sections | None:
        """Return a cell's entries, references filled in; None if something is wrong with them."""
        sections = sections_of(spec, self.walks)
        shape = self.outlines.setdefault(outline(sections), len(self.outlines))
        members = {
            section: {name: self._filled(shape, entry, sections) for name, entry in given.items()}
            for section, given in sections.entries.items()
        }
        filled = Sections(members, {}, self.walks)
        asked, found = dict(entries(filled)), set[Fine]()
        if self.several:
            found = {(shape, place, same) for place, same in filled.identities.items()}
            new = {place for _, place, _ in found - self.fine}
            asked = {place: entry for place, entry in asked.items() if place in new}
        if check_entries(filled, asked):
            return None
        self.fine |= found
        return filled

    def _filled(self, shape: int, entry: BaseModel, sections: Sections) -> BaseModel:
        key = (shape, id(entry))
        if key not in self.filled:
            self.filled[key] = fill_entry(entry, sections)
        return self.filled[key]

    def _entry(self, section: str, raw: Any) -> BaseModel | None:
        key = (section, id(raw))
        if key not in self.valid:
            model = entry_model(section, raw)
            if model is None:
                return None
            self.valid[key] = (raw, model.model_validate(raw))
        return self.valid[key][1]
