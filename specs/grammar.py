"""The grammar as its models tell it: which keys stand where, and where an error's place lies.

Pydantic locates an error by a path through its own schema, in which the branches of unions have
names that no spec holds. `follow` walks that path along the models and keeps what a file holds.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from patchclamp.specs.diagnostics import Path

KIND = "kind"
"""The key that chooses the model of an entry."""


class Place(NamedTuple):
    """Where a path leads: the document's own path, and what may stand there."""

    path: Path
    annotation: Any
    model: type[BaseModel] | None = None
    """The innermost model on the way, which holds the last key."""
    field: FieldInfo | None = None
    """The field, where the path ends at one."""
    length: int | None = None
    """The length of the list that the path ends at or in, where it is fixed."""


def follow(root: type[BaseModel], location: tuple[str | int, ...]) -> Place:
    """Return the place of a pydantic error location."""
    place = Place((), root)
    for element in location:
        place = _step(place, element)
    return place


def _step(place: Place, element: str | int) -> Place:
    annotation = bare(place.annotation)
    if (model := as_model(annotation)) is not None:
        found = fields(model).get(str(element))
        annotation = found.annotation if found else Any
        length = fixed_length(annotation)
        return Place((*place.path, element), annotation, model, found, length)
    if element in tagged(annotation):
        return place._replace(annotation=tagged(annotation)[str(element)], field=None)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return Place((*place.path, element), arguments[1], place.model)
    if origin is tuple and isinstance(element, int):
        length = fixed_length(annotation)
        inner = arguments[0] if length is None else arguments[min(element, length - 1)]
        return Place((*place.path, element), inner, place.model, length=length)
    return place  # a branch of a union, or a key's own check: not in the document


def bare(annotation: Any) -> Any:
    """Return an annotation without metadata and without `None` as an alternative."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if _is_union(annotation):
        branches = [branch for branch in get_args(annotation) if branch is not type(None)]
        if len(branches) == 1:
            return bare(branches[0])
    return annotation


def fixed_length(annotation: Any) -> int | None:
    """Return the length of a list that has a fixed one, or None."""
    arguments = get_args(bare(annotation))
    fixed = get_origin(bare(annotation)) is tuple and arguments[-1] is not Ellipsis
    return len(arguments) if fixed else None


def as_model(annotation: Any) -> type[BaseModel] | None:
    """Return an annotation that is a model, or None."""
    return (
        annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    )


def tagged(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the models of a union by their kind; empty if it is not such a union."""
    annotation = bare(annotation)
    if not _is_union(annotation):
        return {}
    found = {}
    for branch in get_args(annotation):
        model = as_model(bare(branch))
        kind = kind_of(model) if model else None
        if model and kind:
            found[kind] = model
    return found


def kind_of(model: type[BaseModel]) -> str | None:
    """Return the kind that a model stands for, or None if it is not chosen by one."""
    field = model.model_fields.get(KIND)
    values = choices(field.annotation) if field else ()
    return str(values[0]) if len(values) == 1 else None


def choices(annotation: Any) -> tuple[Any, ...]:
    """Return the values that an annotation spells out, alone or among its alternatives."""
    annotation = bare(annotation)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if _is_union(annotation):
        return tuple(value for branch in get_args(annotation) for value in choices(branch))
    return ()


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by the keys that a spec uses, `kind` first."""
    found = {field.alias or name: field for name, field in model.model_fields.items()}
    return {**({KIND: found[KIND]} if KIND in found else {}), **found}


def keys_of(annotation: Any) -> tuple[str, ...]:
    """Return the keys that a model, or any model of a union, knows; none for other annotations."""
    model = as_model(bare(annotation))
    models = [model] if model else list(tagged(annotation).values())
    return tuple(dict.fromkeys(key for m in models for key in fields(m)))


@cache
def homes(root: type[BaseModel], key: str) -> tuple[Path, ...]:
    """Return the paths below which a key is known, nearest the root first; `*` is any name."""
    return tuple(
        dict.fromkeys(path for path, model in models_by_path(root) if key in fields(model))
    )


@cache
def models_by_path(root: type[BaseModel]) -> tuple[tuple[Path, type[BaseModel]], ...]:
    """Return every model of a grammar with its path, nearest the root first."""
    found: list[tuple[Path, type[BaseModel]]] = []
    level: list[tuple[Path, Any]] = [((), root)]
    while level:
        here = [(path, model) for path, a in level for path, model in _models(path, a)]
        found += here
        level = [((*path, key), f.annotation) for path, m in here for key, f in fields(m).items()]
    return tuple(found)


def _models(path: Path, annotation: Any) -> Iterator[tuple[Path, type[BaseModel]]]:
    annotation = bare(annotation)
    if (model := as_model(annotation)) is not None:
        yield path, model
    elif get_origin(annotation) is dict:
        yield from _models((*path, "*"), get_args(annotation)[1])
    else:
        for model in tagged(annotation).values():
            yield path, model


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def member_of(annotation: Any) -> Any:
    """Return the type of the members of a mapping by name; None for anything else."""
    annotation = bare(annotation)
    return get_args(annotation)[1] if get_origin(annotation) is dict else None
