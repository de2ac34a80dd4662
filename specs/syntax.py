"""What an expression is made of: the tokens of its text, and the frozen nodes of its tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from patchclamp.specs.operations import QUOTED, OperationError, held, shortened


class ExpressionError(ValueError):
    """An expression that cannot be read or has no value; `offset` counts characters from 0."""

    def __init__(self, message: str, offset: int, text: str) -> None:
        self.message, self.offset, self.text = message, offset, text
        # Of a long expression the piece around the mistake is shown.
        shown = shortened(text[max(0, offset - QUOTED // 2) :] if len(text) > QUOTED else text)
        super().__init__(f"{message} (column {offset + 1} of {shown!r})")


@dataclass(frozen=True)
class Node:
    """A piece of an expression, from `start` up to `end` in its text."""

    start: int
    end: int


@dataclass(frozen=True)
class Literal(Node):
    """Text in quotes, a number, true or false."""

    value: str | int | float | bool


@dataclass(frozen=True)
class Name(Node):
    """What a row calls by this name."""

    name: str


@dataclass(frozen=True)
class Index(Node):
    """`index(name)`."""

    name: str


@dataclass(frozen=True)
class ListOf(Node):
    """`[a, b]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Item(Node):
    """`list[0]`, or `list[0][1]` with two indexes."""

    sequence: Node
    indexes: tuple[Node, ...]


@dataclass(frozen=True)
class Call(Node):
    """`function(a, b)`."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Negative(Node):
    """`-a`."""

    operand: Node


@dataclass(frozen=True)
class Not(Node):
    """`not a`."""

    operand: Node


@dataclass(frozen=True)
class Chain(Node):
    """`a + b - c` from the left, or `a < b <= c` where every step holds."""

    first: Node
    rest: tuple[tuple[str, int, Node], ...]
    """Each sign, its offset, and what follows it."""


class Arithmetic(Chain):
    """A chain of `+ -` or of `* / // %`."""


class Comparison(Chain):
    """A chain of `== != < <= > >=`."""


@dataclass(frozen=True)
class Range(Node):
    """`low..high`, both included; stands after `in` only."""

    low: Node
    high: Node


@dataclass(frozen=True)
class Within(Node):
    """`item in container`, or `not in` where negated; `at` is the offset of the word."""

    item: Node
    container: Node
    negated: bool
    at: int


@dataclass(frozen=True)
class Logic(Node):
    """Operands of `and` or of `or`."""

    word: str
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Token:
    """A name, literal or sign of an expression, or its end."""

    sort: str
    value: str | int | float
    start: int
    end: int


_TOKEN = re.compile(
    r"""
      (?P<number>[0-9]++(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+(?!\w))
    | (?P<text>'[^'\\]*'|"[^"\\]*")
    | (?P<name>[^\W\d]\w*)
    | `(?P<quoted>[^`]+)`
    | (?P<wrong>\*\*|&&?|\|\|?|<>|<<|>>|=(?!=)|!(?!=)|:=?|\.(?!\.)|[0-9][\w.]*|['"`])
    | (?P<sign>\.\.|//|==|!=|<=|>=|[-+*/%<>()\[\],])
    """,
    re.VERBOSE,
)

_INSTEAD = {
    "**": "there are no powers",
    "&": "write 'and'",
    "&&": "write 'and'",
    "|": "write 'or'",
    "||": "write 'or'",
    "!": "write 'not'",
    "<>": "write '!='",
    "=": "write '==' to compare",
    ":": "there are no slices and no formats",
    ".": "a name has no parts, and a number has digits on both sides of its point",
    "'": "text in quotes ends with the same quote and has no backslash",
    '"': "text in quotes ends with the same quote and has no backslash",
    "`": "a name in backquotes ends with a backquote",
}
"""What is meant by something that other languages have."""

_WORDS = {"and", "or", "not", "in"}
_TRUTHS = {"true": True, "false": False}
_MISSPELT = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false"}


def scan(text: str) -> Iterator[Token]:
    """Yield the tokens of an expression, and a last one that stands for its end."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _TOKEN.match(text, at)
        if found is None or found["wrong"]:
            raise _foreign(text, at, found["wrong"] if found else text[at])
        sort, value = str(found.lastgroup), found[str(found.lastgroup)]
        yield _token(text, sort, value, at, found.end())
        at = found.end()
    yield Token("end", "", len(text), len(text))


def _token(text: str, sort: str, value: str, start: int, end: int) -> Token:
    if sort == "text":
        return Token("literal", value[1:-1], start, end)
    if sort == "quoted":
        return Token("name", value, start, end)
    if sort == "name" and value in _MISSPELT:
        raise ExpressionError(f"write {_MISSPELT[value]!r}, not {value!r}", start, text)
    if sort == "name" and value in _WORDS:
        return Token("sign", value, start, end)
    if sort == "name" and value in _TRUTHS:
        return Token("literal", _TRUTHS[value], start, end)
    if sort == "number":
        try:
            number = int(value) if value.isdigit() else float(value)
            return Token("literal", held(number), start, end)  # type: ignore[arg-type]
        except OperationError as error:
            raise ExpressionError(str(error), start, text) from error
    return Token(sort, value, start, end)


def _foreign(text: str, at: int, piece: str) -> ExpressionError:
    if piece[0].isdigit():
        message = f"{shortened(piece)!r} is neither a number nor a name"
    else:
        advice = _INSTEAD.get(piece, "it means nothing in an expression")
        message = f"{piece!r} cannot stand here: {advice}"
    return ExpressionError(message, at, text)
