"""The models inside a value, and the marks on their fields: what an entry names.

The marks `Ref` and `Label` stand on the fields themselves (`fields`), so that a kind that is added
to the grammar, by a plugin too, is known without being told of here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.fields import Label, Ref

FILLED = ("of", "stimuli", "with", "clean")
"""Keys of references that may be left out where there is one candidate; any other reference that
is left out means none."""


_PLAIN = (str, int, float, type(None))
"""What holds no model."""

Asked = Callable[[type[BaseModel]], Any]
"""Says what of a model is looked for; nothing, or what is empty, where it is not."""


class Named(NamedTuple):
    """A place where an entry names another, or a label; `name` None is one left out."""

    path: Path
    mark: Ref | Label
    name: str | None

    @property
    def filled(self) -> bool:
        """Whether one that is left out means the only candidate."""
        return self.path[-1] in FILLED


@dataclass
class Walks:
    """What is inside entries, found once in each: every check asks again, in every cell.

    Entries are told apart by what they are in memory, and held here so that none takes the place
    of another.
    """

    marks: dict[int, tuple[BaseModel, dict[type, tuple[Named, ...]]]] = field(default_factory=dict)
    """An entry, and the marked fields in it by the sort of their mark, with their paths inside."""
    found: dict[tuple[int, Path, type], tuple[Named, ...]] = field(default_factory=dict)
    leads: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    numbers: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Numbers of entries with what they refer to (`Sections.identities`)."""

    def named(self, entry: BaseModel, path: Path, mark: type[Ref | Label]) -> tuple[Named, ...]:
        """Return every field of an entry and below it that bears a mark of one sort."""
        inside = self._marked_in(entry).get(mark, ())
        if not path or not inside:
            return inside
        key = (id(entry), path, mark)
        if key not in self.found:
            self.found[key] = tuple(
                Named((*path, *here), said, name) for here, said, name in inside
            )
        return self.found[key]

    def needed(self, entry: BaseModel) -> tuple[tuple[str, str], ...]:
        """Return the section and name of every entry that an entry names."""
        if id(entry) not in self.leads:
            self.leads[id(entry)] = tuple(
                (mark.section, name)
                for _, mark, name in self.named(entry, (), Ref)
                if isinstance(mark, Ref) and name is not None
            )
        return self.leads[id(entry)]

    def _marked_in(self, entry: BaseModel) -> dict[type, tuple[Named, ...]]:
        if id(entry) not in self.marks:
            by_sort: dict[type, tuple[Named, ...]] = {}
            for named in _named_in(entry, ()):
                sort = type(named.mark)
                by_sort[sort] = (*by_sort.get(sort, ()), named)
            self.marks[id(entry)] = entry, by_sort
        return self.marks[id(entry)][1]


def _named_in(entry: BaseModel, path: Path) -> Iterator[Named]:
    for inside, model in models_in(entry, path, marked):
        for key, (attribute, mark) in marked(type(model)).items():
            at, value = (*inside, key), getattr(model, attribute)
            if isinstance(value, tuple):
                yield from (Named((*at, i), mark, name) for i, name in enumerate(value))
            else:
                yield Named(at, mark, value)


def models_in(
    value: Any, path: Path, asked: Asked | None = None
) -> Iterator[tuple[Path, BaseModel]]:
    """Yield a model and every model inside it, with their paths.

    Models of which `asked` says nothing, and which hold none of which it does, may be left out.
    """
    members: Iterable[tuple[Any, Any]]
    if isinstance(value, BaseModel):
        yield path, value
        holders = _holders(type(value), asked)
        members = [(key, getattr(value, name)) for key, name in holders.items()]
    elif isinstance(value, tuple):
        members = enumerate(value)
    elif isinstance(value, Mapping):
        members = value.items()
    else:
        return
    for key, member in members:
        # Most members are plain, and asking whether they are models takes three times as long.
        if not isinstance(member, _PLAIN):
            yield from models_in(member, (*path, key), asked)


@cache
def _holders(model: type[BaseModel], asked: Asked | None) -> dict[str, str]:
    """Return the attribute of each key of a model whose value may hold models asked for."""
    return {
        info.alias or name: name
        for name, info in model.model_fields.items()
        if _holds(info.annotation, asked, (model,))
    }


def _holds(annotation: Any, asked: Asked | None, above: tuple[type[BaseModel], ...]) -> bool:
    """Return whether a model asked for may stand anywhere in an annotation; `Any` may be one."""
    model = grammar.as_model(annotation)
    if model in above:
        return False
    if model is not None:
        inside = (info.annotation for info in model.model_fields.values())
        found = asked is None or asked(model)
        return bool(found) or any(_holds(one, asked, (*above, model)) for one in inside)
    return annotation is Any or any(_holds(part, asked, above) for part in get_args(annotation))


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
