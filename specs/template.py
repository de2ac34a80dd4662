"""Templates over columns: `"{prompt}"`, with plain column names and nothing else in the braces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from patchclamp.registry.errors import UnknownNameError

_COLUMN = re.compile(r"[^\W\d]\w*(?:[ -]\w+)*")
_PIECE = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")


class TemplateError(ValueError):
    """A template that cannot be read, or a row that cannot fill it."""


def columns_of(template: str) -> tuple[str, ...]:
    """Return the columns that a template names, each once, in order.

    >>> columns_of("{name} saw {{{item}}} and {name}")
    ('name', 'item')
    """
    return tuple(dict.fromkeys(piece for piece, is_column in _pieces(template) if is_column))


def render(template: str, row: Mapping[str, object]) -> str:
    """Return a template filled from a row; true and false are written as in YAML.

    >>> render("{name} saw {{{item}}}", {"name": "Anna", "item": 3})
    'Anna saw {3}'
    """
    return "".join(
        _written(piece, row) if is_column else piece for piece, is_column in _pieces(template)
    )


def _pieces(template: str) -> Iterator[tuple[str, bool]]:
    """Yield literal text (with doubled braces made single) and column names."""
    for piece in _PIECE.findall(template):
        if piece in ("{{", "}}"):
            yield piece[0], False
        elif piece in ("{", "}"):
            raise TemplateError(
                f"a single {piece!r} in {template!r}; write {piece * 2!r} for a brace"
            )
        elif piece[0] == "{":
            column = piece[1:-1]
            if _COLUMN.fullmatch(column) is None:
                raise TemplateError(
                    f"{piece!r} is not a column in braces: a name starts with a letter and has no "
                    "dots, brackets, '!' or ':'"
                )
            yield column, True
        else:
            yield piece, False


def _written(column: str, row: Mapping[str, object]) -> str:
    if column not in row:
        raise UnknownNameError("column", column, row)
    value = row[column]
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise TemplateError(f"column {column!r} holds {value!r}, which has no text")
    return str(value)
