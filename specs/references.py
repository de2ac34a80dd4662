"""What entries say of one another: which fields name another entry or a label, and what they say.

The marks `Ref` and `Label` stand on the fields themselves (`fields`), so that a kind that is added
to the grammar, by a plugin too, is checked without being told of here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from patchclamp.registry.errors import nearest
from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.fields import Label, Ref
from patchclamp.specs.spec import Spec, spec_model
from patchclamp.specs.stimuli import Corrupt, Source, is_source

Entries = Mapping[str, Mapping[str, BaseModel]]

SECTIONS = ("stimuli", "captures", "interventions", "analyses")
"""The sections of a spec that hold entries by name."""

FILLED = ("of", "stimuli", "with", "clean")
"""Keys of references that may be left out where there is one candidate; any other reference that
is left out means none."""

_WHAT = {
    ("stimuli", "rows"): "stimulus set that is not corrupt",
    ("stimuli", "answered"): "stimulus set with an 'answer'",
    ("captures", "any"): "capture",
    ("interventions", "any"): "intervention",
    ("analyses", "any"): "analysis",
}
"""What a reference may mean, in words."""


Mark = tuple[Path, Ref | Label, str | None]
"""Path inside an entry, what stands there, and the name given."""


@dataclass(frozen=True)
class Sections:
    """The named entries of a spec, by section; `broken` ones exist and are not valid."""

    entries: Entries
    broken: Mapping[str, frozenset[str]]
    _marks: dict[int, tuple[Mark, ...]] = field(default_factory=dict, compare=False, repr=False)
    _named: dict[tuple[int, type, Path], tuple[Named, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    # Kept by the id of an entry, which is safe because the entries are held here: every check
    # asks again, and finding the marks is most of the work.

    def named(self, entry: BaseModel, path: Path, mark: type[Ref | Label]) -> tuple[Named, ...]:
        """Return every field of an entry and below it that names an entry, or a label."""
        key = (id(entry), mark, path)
        if key not in self._named:
            if id(entry) not in self._marks:
                self._marks[id(entry)] = tuple(_named_in(entry))
            self._named[key] = tuple(
                Named((*path, *inside), said, name)
                for inside, said, name in self._marks[id(entry)]
                if isinstance(said, mark)
            )
        return self._named[key]

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


@dataclass(frozen=True)
class Named:
    """A place where an entry names another, or a label; `name` None is one left out."""

    path: Path
    mark: Ref | Label
    name: str | None

    @property
    def filled(self) -> bool:
        """Whether one that is left out means the only candidate."""
        return self.path[-1] in FILLED


def entries(sections: Sections) -> Iterator[tuple[Path, BaseModel]]:
    """Yield every valid entry with its path."""
    for section, members in sections.entries.items():
        for name, entry in members.items():
            yield (section, name), entry


def sections_of(spec: Spec) -> Sections:
    """Return the named entries of a valid spec."""
    return Sections({name: dict(getattr(spec, name)) for name in _section_types()}, {})


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


def _section_types() -> dict[str, Any]:
    """Return the sections of a spec and the type of an entry in each."""
    return _types(spec_model())


@cache
def _types(model: type[BaseModel]) -> dict[str, Any]:
    fields = grammar.fields(model)
    return {name: grammar.member_of(fields[name].annotation) for name in SECTIONS}


def _named_in(entry: BaseModel) -> Iterator[Mark]:
    """Yield every marked field of an entry and below it: path inside the entry, mark, name."""
    for here, model in models_in(entry, ()):
        for key, (attribute, found) in marked(type(model)).items():
            yield from _values((*here, key), found, getattr(model, attribute))


def _values(path: Path, mark: Ref | Label, value: Any) -> Iterator[Mark]:
    if isinstance(value, tuple):
        yield from (((*path, i), mark, name) for i, name in enumerate(value))
    else:
        yield path, mark, value


@cache
def marked(model: type[BaseModel]) -> dict[str, tuple[str, Ref | Label]]:
    """Return the marked keys of a model: the attribute of each and its mark."""
    found = {}
    for name, info in model.model_fields.items():
        marks = [*info.metadata, *_metadata(info.annotation)]
        mark = next((m for m in marks if isinstance(m, Ref | Label)), None)
        if mark is not None:
            found[info.alias or name] = (name, mark)
    return found


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yield what `Annotated` says anywhere in an annotation, except inside models."""
    if get_origin(annotation) is Annotated:
        yield from get_args(annotation)[1:]
        yield from _metadata(get_args(annotation)[0])
    else:
        for argument in get_args(annotation):
            yield from _metadata(argument)


def models_in(value: Any, path: Path) -> Iterator[tuple[Path, BaseModel]]:
    """Yield a model and every model inside it, with their paths."""
    if isinstance(value, BaseModel):
        yield path, value
        for key, name in _holders(type(value)).items():
            yield from models_in(getattr(value, name), (*path, key))
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from models_in(member, (*path, key))
    elif isinstance(value, tuple):
        for index, member in enumerate(value):
            yield from models_in(member, (*path, index))


@cache
def _holders(model: type[BaseModel]) -> dict[str, str]:
    """Return the attribute of each key of a model whose value may hold models."""
    return {
        info.alias or name: name
        for name, info in model.model_fields.items()
        if _holds_models(info.annotation)
    }


def _holds_models(annotation: Any) -> bool:
    """Return whether a model stands anywhere in an annotation; `Any` may be one."""
    if annotation is Any or grammar.as_model(annotation) is not None:
        return True
    return any(_holds_models(argument) for argument in get_args(annotation))


def fill(sections: Sections) -> Sections:
    """Return the entries with every reference that has one candidate spelled out."""
    filled = {
        section: {name: _fill_entry(entry, sections) for name, entry in entries.items()}
        for section, entries in sections.entries.items()
    }
    return Sections(filled, sections.broken)


def _fill_entry(entry: BaseModel, sections: Sections) -> BaseModel:
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
        return is_source(entry) and getattr(entry, "answer", None) is not None
    return mark.kind is None or getattr(entry, "kind", None) == mark.kind


def what(mark: Ref) -> str:
    """Return in words what a reference may mean."""
    return _WHAT[mark.section, mark.candidate]
