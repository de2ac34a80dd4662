"""Text of an expression to its tree: recursive descent, one method for each level of precedence.

From the loosest: `or`, `and`, `not`, comparisons and `in`, `+ -`, `* / // %`, unary `-`, indexing,
values. Python's own parser does not serve: a column may be called `class` or `from`, `1..3` is a
range, offsets count characters, and neither limits nor messages may change with Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from patchclamp.registry.errors import hint
from patchclamp.specs.operations import FUNCTIONS, shortened
from patchclamp.specs.syntax import (
    Arithmetic,
    Call,
    Comparison,
    ExpressionError,
    Index,
    Item,
    ListOf,
    Literal,
    Logic,
    Name,
    Negative,
    Node,
    Not,
    Range,
    Token,
    Within,
    scan,
)

LONGEST = 1000
"""Characters of the longest expression."""

DEPTH = 20
"""Brackets, calls and signs that may stand within one another; the descent recurses with them."""

INDEX = "index"
"""The function that asks where in its vocabulary an item stands; it takes a name, not a value."""

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Parsed:
    """The tree of an expression, and the names that it asks for, in order."""

    root: Node
    names: tuple[str, ...]
    indexed: tuple[str, ...]
    """The names among them that stand in `index(name)`."""


def read(text: str) -> Parsed:
    """Return the tree of an expression, or raise where it cannot be read.

    >>> read("seq[i] == words(subject)").names
    ('seq', 'i', 'subject')
    """
    if len(text) > LONGEST:
        message = f"an expression has at most {LONGEST} characters; this one has {len(text)}"
        raise ExpressionError(message, LONGEST, text)
    return _Parser(text).read()


class _Parser:
    """The state of one descent: where it is, how deep, and the names met so far."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens = text, tuple(scan(text))
        self.at, self.depth = 0, 0
        self.names: dict[str, None] = {}
        self.indexed: dict[str, None] = {}

    def read(self) -> Parsed:
        root = self._either()
        token = self._now
        if token.value == "..":
            raise self._error("a range such as 1..3 stands after 'in' and nowhere else")
        if token.value in ("in", "not", *_COMPARISONS):
            raise self._error(f"{token.value!r} cannot follow a comparison; join two with 'and'")
        if token.sort != "end":
            raise self._error(f"expected an operator or the end, got {self._said(token)}")
        return Parsed(root, tuple(self.names), tuple(self.indexed))

    @property
    def _now(self) -> Token:
        return self.tokens[self.at]

    def _error(self, message: str, token: Token | None = None) -> ExpressionError:
        return ExpressionError(message, (token or self._now).start, self.text)

    def _said(self, token: Token) -> str:
        return "the end" if token.sort == "end" else repr(shortened(self._source(token)))

    def _source(self, token: Token) -> str:
        return self.text[token.start : token.end]

    def _take(self, *signs: str) -> Token | None:
        """Step over one of these signs, if it stands here."""
        token = self._now
        if token.sort != "sign" or token.value not in signs:
            return None
        self.at += 1
        return token

    def _need(self, *signs: str) -> Token:
        token = self._take(*signs)
        if token is None:
            expected = " or ".join(map(repr, signs))
            raise self._error(f"expected {expected}, got {self._said(self._now)}")
        return token

    @contextmanager
    def _deeper(self, token: Token) -> Iterator[None]:
        self.depth += 1
        if self.depth > DEPTH:
            raise self._error(f"more than {DEPTH} brackets or signs within one another", token)
        yield
        self.depth -= 1

    def _either(self) -> Node:
        return self._joined("or", self._both)

    def _both(self) -> Node:
        return self._joined("and", self._negation)

    def _joined(self, word: str, operand: Callable[[], Node]) -> Node:
        operands = [operand()]
        while self._take(word):
            operands.append(operand())
        if len(operands) == 1:
            return operands[0]
        return Logic(operands[0].start, operands[-1].end, word, tuple(operands))

    def _negation(self) -> Node:
        token = self._take("not")
        if token is None:
            return self._comparison()
        with self._deeper(token):
            operand = self._negation()
        return Not(token.start, operand.end, operand)

    def _comparison(self) -> Node:
        first = self._sum()
        rest = []
        while sign := self._take(*_COMPARISONS):
            rest.append((str(sign.value), sign.start, self._sum()))
        if rest:
            return Comparison(first.start, rest[-1][2].end, first, tuple(rest))
        return self._membership(first)

    def _membership(self, item: Node) -> Node:
        word = self._take("not")
        if word is not None:
            self._need("in")
        start = word or self._take("in")
        if start is None:
            return item
        container = self._sum()
        if self._take(".."):
            high = self._sum()
            container = Range(container.start, high.end, container, high)
        return Within(item.start, container.end, item, container, word is not None, start.start)

    def _sum(self) -> Node:
        return self._arithmetic(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._arithmetic(("*", "/", "//", "%"), self._signed)

    def _arithmetic(self, signs: tuple[str, ...], operand: Callable[[], Node]) -> Node:
        first, rest = operand(), []
        while sign := self._take(*signs):
            rest.append((str(sign.value), sign.start, operand()))
        return Arithmetic(first.start, rest[-1][2].end, first, tuple(rest)) if rest else first

    def _signed(self) -> Node:
        token = self._take("-")
        if token is None:
            return self._chosen()
        with self._deeper(token):
            operand = self._signed()
        return Negative(token.start, operand.end, operand)

    def _chosen(self) -> Node:
        """A value, and the items chosen from it."""
        sequence, indexes, end = self._value(), [], 0
        while token := self._take("["):
            with self._deeper(token):
                indexes.append(self._either())
            end = self._need("]").end
        return Item(sequence.start, end, sequence, tuple(indexes)) if indexes else sequence

    def _value(self) -> Node:
        token = self._now
        if bracket := self._take("(", "["):
            return self._bracketed(bracket)
        if token.sort not in ("literal", "name"):
            raise self._error(f"expected a value, got {self._said(token)}")
        self.at += 1
        if token.sort == "literal":
            return Literal(token.start, token.end, token.value)
        if self._now.value == "(" and self._now.sort == "sign":
            return self._call(token)
        self.names[str(token.value)] = None
        return Name(token.start, token.end, str(token.value))

    def _bracketed(self, bracket: Token) -> Node:
        if bracket.value == "[":
            items, end = self._members(bracket, "]")
            return ListOf(bracket.start, end, items)
        with self._deeper(bracket):
            inner = self._either()
        self._need(")")
        return inner

    def _members(self, bracket: Token, closing: str) -> tuple[tuple[Node, ...], int]:
        """What stands between brackets, separated by commas, and where it ends."""
        if empty := self._take(closing):
            return (), empty.end
        with self._deeper(bracket):
            members = [self._either()]
            while (after := self._need(",", closing)).value == ",":
                members.append(self._either())
        return tuple(members), after.end

    def _call(self, token: Token) -> Node:
        name, bracket = str(token.value), self._need("(")
        known = sorted([*FUNCTIONS, INDEX])
        if name not in known:
            message = f"unknown function {shortened(name)!r}{hint(name, known)}"
            raise self._error(message, token)
        arguments, end = self._members(bracket, ")")
        if name == INDEX:
            if len(arguments) != 1 or not isinstance(arguments[0], Name):
                raise self._error("index(x) takes the name of an item that is drawn", token)
            self.indexed[arguments[0].name] = None
            return Index(token.start, end, arguments[0].name)
        function = FUNCTIONS[name]
        if not function.least <= len(arguments) <= function.most:
            message = f"expected {function.usage}, got {len(arguments)} values"
            raise self._error(message, token)
        return Call(token.start, end, name, arguments)
