"""The models of the grammar in words: types, limits, defaults, and what each field says of itself.

The line below a field is its description. Python forgets it, so it is read from the source, and
only here: pydantic would do so for every model at every start.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from patchclamp.specs import grammar
from patchclamp.specs.fields import PATTERNS
from patchclamp.specs.scalars import read_plain

WIDTH = 88
"""Columns of text on a terminal."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true | false"}


@cache
def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions of a model's fields, by attribute.

    >>> from patchclamp.specs.spec import Batch
    >>> field_docs(Batch)["tokens"]
    'Tokens in a batch, padding included; a longer stimulus is a batch of its own.'
    """
    found: dict[str, str] = {}
    for ancestor in reversed(model.__mro__):
        if not issubclass(ancestor, BaseModel) or ancestor is BaseModel:
            continue
        try:
            text = inspect.getsource(ancestor)
        except (OSError, TypeError):
            continue  # made at run time from a class that has its source
        (source,) = ast.parse(textwrap.dedent(text)).body
        assert isinstance(source, ast.ClassDef)
        for field, below in zip(source.body, source.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = _text_of(below)
                if said is not None:
                    found[field.target.id] = said
    return found


def _text_of(statement: ast.stmt) -> str | None:
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return None
    text = statement.value.value
    return " ".join(text.split()) if isinstance(text, str) else None


def model_doc(model: type[BaseModel]) -> str:
    """Return what a model says of itself, as paragraphs."""
    return inspect.cleandoc(model.__doc__ or "")


def describe_fields(model: type[BaseModel], prefix: str = "", *, depth: int = 2) -> Iterator[str]:
    """Yield a line for each key of a model and the description below it; models within follow."""
    docs = field_docs(model)
    attributes = {info.alias or name: name for name, info in model.model_fields.items()}
    for key, field in grammar.fields(model).items():
        yield describe_field(f"{prefix}{key}", field, docs.get(attributes[key], ""))
        inner = grammar.as_model(grammar.bare(field.annotation))
        if inner is not None and depth > 0:
            yield from describe_fields(inner, f"{prefix}{key}.", depth=depth - 1)


def describe_field(name: str, field: FieldInfo, doc: str) -> str:
    """Return a field's name, type and default on one line, and its description below."""
    head = f"  {name}: {type_of(field)} ({default_of(field)})"
    lines = textwrap.wrap(head, WIDTH, subsequent_indent="      ", break_long_words=False)
    lines += textwrap.wrap(
        doc, WIDTH, initial_indent="      ", subsequent_indent="      ", break_long_words=False
    )
    return "\n".join(lines)


def type_of(field: FieldInfo) -> str:
    """Return in words what a field takes: its short forms where it has them, else its type."""
    declared = (getattr(item, "json_schema_input_type", None) for item in field.metadata)
    short = next((d for d in declared if isinstance(d, type) or get_args(d)), None)
    name = _name_text(field.metadata)
    if name is not None and short is None:
        return name
    words = type_text(field.annotation if short is None else short)
    return ", ".join([words, *_limits(field.metadata)])


def _name_text(metadata: Iterable[Any]) -> str | None:
    """Return what a name of the user's is the name of; None for what is no such name."""
    inner = [part for item in metadata for part in getattr(item, "metadata", [item])]
    if not any(getattr(item, "pattern", None) in PATTERNS for item in inner):
        return None
    sections = (getattr(item, "section", None) for item in inner)
    section = next((section for section in sections if section), None)
    return f"a name in {section}" if section else "a name"


def default_of(field: FieldInfo) -> str:
    """Return what a field is where it is left out."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or default is PydanticUndefined:
        return "may be left out"
    return f"default {flow(default)}"


def type_text(annotation: Any) -> str:
    """Return an annotation in words.

    >>> from typing import Literal
    >>> type_text(tuple[int, ...] | Literal["all", "last"])
    'list of whole numbers, or all | last'
    """
    branches = [branch for branch in get_args(annotation) if branch is not NoneType]
    if NoneType in get_args(annotation) and len(branches) == 1:
        return type_text(branches[0])
    if get_origin(annotation) is Annotated:
        name = _name_text(get_args(annotation)[1:])
        if name is not None:
            return name
    annotation = grammar.bare(annotation)
    if grammar.tagged(annotation):
        return f"mapping with kind: {' | '.join(grammar.tagged(annotation))}"
    if grammar.as_model(annotation) is not None:
        return "mapping"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return f"mapping of names to: {type_text(arguments[1])}"
    if origin in (tuple, list):
        return _list_text(arguments)
    if arguments and grammar.choices(annotation) != arguments:  # a union
        parts = [type_text(branch) for branch in arguments if branch is not NoneType]
        return ", or ".join(dict.fromkeys(parts))
    if grammar.choices(annotation):
        return " | ".join(map(flow, arguments))
    return _WORDS.get(annotation, "any value")


def _list_text(arguments: tuple[Any, ...]) -> str:
    if arguments[-1:] == (Ellipsis,) or len(arguments) == 1:
        inner = type_text(arguments[0])
        return f"list of {inner}s" if inner.endswith("number") else f"list of: {inner}"
    return f"list of exactly {len(arguments)}: {', '.join(map(type_text, arguments))}"


def _limits(metadata: Iterable[Any]) -> Iterator[str]:
    said = {
        "ge": "at least {}",
        "gt": "more than {}",
        "le": "at most {}",
        "lt": "less than {}",
        "min_length": "at least {} long",
        "max_length": "at most {} long",
    }
    for item in metadata:
        for bound, words in said.items():
            value = getattr(item, bound, None)
            if value is not None:
                yield words.format(value)


def flow(value: Any) -> str:
    """Return plain data or a model as one line of YAML.

    >>> flow({"path": "a.csv", "revision": "12e4567", "folds": (0, 1)})
    '{path: a.csv, revision: "12e4567", folds: [0, 1]}'
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and read_plain(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
