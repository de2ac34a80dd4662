"""Templates over columns: `"{prompt}"`, or in the braces an expression such as `{seq[i + 1]}`.

What reads as a column's plain name is one, hyphens and spaces included: `{a-b}` is the column
`a-b`, and `{a - b}` a difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from patchclamp.registry.errors import UnknownNameError

if TYPE_CHECKING:
    from patchclamp.specs.expression import Expression

_COLUMN = re.compile(r"[^\W\d]\w*(?:[ -]\w+)*")
_PIECE = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")


class TemplateError(ValueError):
    """A template that cannot be read, or a row that cannot fill it; `offset` is where."""

    def __init__(self, message: str, offset: int = 0) -> None:
        self.offset = offset
        super().__init__(message)


class _Hole(NamedTuple):
    """A pair of braces: a plain column name, or an expression over columns."""

    piece: str
    offset: int
    expression: Expression | None

    @property
    def columns(self) -> tuple[str, ...]:
        return self.expression.names if self.expression else (self.piece[1:-1],)


def columns_of(template: str) -> tuple[str, ...]:
    """Return the columns that a template names, each once, in order.

    >>> columns_of("{name} saw {{{seq[i + 1]}}} and {name}")
    ('name', 'seq', 'i')
    """
    holes = (piece for piece in _pieces(template) if isinstance(piece, _Hole))
    return tuple(dict.fromkeys(column for hole in holes for column in hole.columns))


def render(
    template: str, row: Mapping[str, object], *, indexes: Mapping[str, int] | None = None
) -> str:
    """Return a template filled from a row; true and false are written as in YAML.

    `indexes` says where in its vocabulary an item stands, for `index(name)`.

    >>> render("{name} saw {{{item}}}", {"name": "Anna", "item": 3})
    'Anna saw {3}'
    """
    return "".join(text for _, text in filled(template, row, indexes=indexes))


def filled(
    template: str, row: Mapping[str, object], *, indexes: Mapping[str, int] | None = None
) -> Iterator[tuple[str | None, str]]:
    """Yield the pieces of a filled template, each with the column that it is, if it is one.

    >>> list(filled("{name} saw {n + 1}", {"name": "Anna", "n": 3}))
    [('name', 'Anna'), (None, ' saw '), (None, '4')]
    """
    for piece in _pieces(template):
        if isinstance(piece, str):
            yield None, piece
        else:
            column = piece.columns[0] if piece.expression is None else None
            yield column, _written(piece, row, indexes)


# A set has few templates and many rows; each template is read once.
@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[str | _Hole, ...]:
    """Return literal text (with doubled braces made single) and holes."""
    return tuple(_read(template, found[0], found.start()) for found in _PIECE.finditer(template))


def _read(template: str, piece: str, offset: int) -> str | _Hole:
    if piece in ("{{", "}}"):
        return piece[0]
    if piece in ("{", "}"):
        message = f"a single {piece!r} in {template!r}; write {piece * 2!r} for a brace"
        raise TemplateError(message, offset)
    if piece[0] != "{":
        return piece
    if _COLUMN.fullmatch(piece[1:-1]):
        return _Hole(piece, offset, None)
    # Most templates name columns alone, and are read sooner without the grammar of expressions.
    from patchclamp.specs.expression import ExpressionError, parse

    try:
        expression = parse(piece[1:-1])
    except ExpressionError as error:
        message = (
            f"{piece!r} is neither a column in braces, such as {{prompt}}, nor an expression, "
            f"such as {{seq[i + 1]}}: {error.message}"
        )
        raise TemplateError(message, offset + 1 + error.offset) from error
    if not expression.names:
        raise TemplateError(f"{piece!r} names no column; write it without braces", offset)
    return _Hole(piece, offset, expression)


def _written(hole: _Hole, row: Mapping[str, object], indexes: Mapping[str, int] | None) -> str:
    for column in hole.columns:
        if column not in row:
            raise UnknownNameError("column", column, row)
    if hole.expression is None:
        (column,) = hole.columns
        value, what = row[column], f"column {column!r} holds"
    else:
        from patchclamp.specs.expression import ExpressionError

        try:
            value = hole.expression.evaluate(row, indexes=indexes)
        except ExpressionError as error:
            message = f"{hole.piece!r} has no value: {error.message}"
            raise TemplateError(message, hole.offset + 1 + error.offset) from error
        what = f"{hole.piece!r} gives"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        raise TemplateError(f"{what} a list; choose an item, such as {{seq[0]}}", hole.offset)
    if not isinstance(value, str | int | float):
        raise TemplateError(f"{what} {value!r}, which has no text", hole.offset)
    return str(value)
