"""Expressions in `where:`, `keep_if:` and the braces of templates: small, and safe to evaluate.

An expression has names, text in quotes, numbers, `true` and `false`, lists, `+ - * / // %`,
comparisons, `in` a list, a text or a range such as `1..3`, `and or not`, items such as `seq[i + 1]`
and a few functions (`operations.FUNCTIONS`, and `index`). A name with spaces stands in backquotes.
It has no attributes, no powers, no loops and nothing of Python's; `parser` bounds length and depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

from patchclamp.registry.errors import hint
from patchclamp.specs import operations, parser
from patchclamp.specs.operations import FUNCTIONS, OperationError, Value, shortened
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
    Within,
)

__all__ = ["Expression", "ExpressionError", "parse"]


@dataclass(frozen=True)
class Expression:
    """An expression that has been read: what it asks for, and its value for a row."""

    text: str
    names: tuple[str, ...]
    """The names that it asks for, each once, in order."""
    indexed: tuple[str, ...]
    """The names among them that stand in `index(name)`."""
    _root: Node = field(repr=False)

    def evaluate(
        self, values: Mapping[str, object], *, indexes: Mapping[str, int] | None = None
    ) -> object:
        """Return the value for a row; `indexes` says where in its vocabulary an item stands.

        >>> parse("words(seq[i + 1])").evaluate({"seq": ("one", "twenty_two"), "i": 0})
        'twenty two'
        """
        return _Evaluation(self.text, values, indexes or {}).value(self._root)

    def evaluate_bool(
        self, values: Mapping[str, object], *, indexes: Mapping[str, int] | None = None
    ) -> bool:
        """Return the value for a row, which must be true or false.

        >>> parse("length in 5..7 and category != 'none'").evaluate_bool(
        ...     {"length": 6, "category": "months"})
        True
        """
        evaluation = _Evaluation(self.text, values, indexes or {})
        return evaluation.truth(self._root)


@lru_cache(maxsize=512)
def parse(text: str) -> Expression:
    """Return a text as an expression, or raise `ExpressionError` where it cannot be read.

    >>> parse("length > 2 and not (category in ['months', 'days'])").names
    ('length', 'category')
    """
    parsed = parser.read(text)
    return Expression(text, parsed.names, parsed.indexed, parsed.root)


@dataclass(frozen=True)
class _Evaluation:
    """One walk over a tree; every error is located in the text."""

    text: str
    values: Mapping[str, object]
    indexes: Mapping[str, int]

    def value(self, node: Node) -> Value:
        match node:
            case Literal(value=value):
                return value
            case Name() | Index():
                return self._named(node)
            case ListOf(items=items):
                return tuple(self.value(item) for item in items)
            case Item(sequence=sequence, indexes=indexes):
                chosen = self.value(sequence)
                for index in indexes:
                    operands = ((sequence, chosen), (index, self.value(index)))
                    chosen = self._apply(index.start, operations.item_of, *operands)
                return chosen
            case Call(function=function, arguments=arguments):
                return self._call(node.start, FUNCTIONS[function].apply, *arguments)
            case Negative(operand=operand):
                return self._call(node.start, operations.negative, operand)
            case Arithmetic():
                return self._arithmetic(node)
        return self._question(node)

    def truth(self, node: Node) -> bool:
        return bool(self._call(node.start, operations.truth, node))

    def _question(self, node: Node) -> bool:
        """Return the value of a node that is true or false."""
        match node:
            case Not(operand=operand):
                return not self.truth(operand)
            case Logic(word=word, operands=operands):
                return (all if word == "and" else any)(self.truth(one) for one in operands)
            case Within():
                return self._within(node)
        assert isinstance(node, Comparison)
        return self._comparison(node)

    def _named(self, node: Name | Index) -> Value:
        name = node.name
        if name not in self.values:
            message = f"unknown name {shortened(name)!r}{hint(name, map(str, self.values))}"
            raise ExpressionError(message, node.start, self.text)
        if isinstance(node, Name):
            try:
                return operations.held(self.values[name])
            except OperationError as error:
                raise ExpressionError(f"{name!r}: {error}", node.start, self.text) from error
        if name not in self.indexes:
            drawn = f"drawn: {', '.join(self.indexes)}" if self.indexes else "none is drawn here"
            message = f"index(x) takes an item drawn from a vocabulary; {name!r} is none ({drawn})"
            raise ExpressionError(message, node.start, self.text)
        return self.indexes[name]

    def _arithmetic(self, node: Arithmetic) -> Value:
        result, so_far = self.value(node.first), node.first
        for sign, offset, operand in node.rest:
            operands = ((so_far, result), (operand, self.value(operand)))
            result = self._apply(offset, partial(operations.arithmetic, sign), *operands)
            so_far = Node(node.start, operand.end)
        return result

    def _comparison(self, node: Comparison) -> bool:
        left = (node.first, self.value(node.first))
        for sign, offset, operand in node.rest:
            right = (operand, self.value(operand))
            if not self._apply(offset, partial(operations.compare, sign), left, right):
                return False
            left = right
        return True

    def _within(self, node: Within) -> bool:
        if isinstance(node.container, Range):
            ends = (node.container.low, node.container.high)
            found = self._call(node.at, operations.within, *ends, node.item)
        else:
            found = self._call(node.at, operations.contains, node.container, node.item)
        return bool(found) != node.negated

    def _call(self, offset: int, function: Callable[..., Value], *arguments: Node) -> Value:
        return self._apply(offset, function, *((one, self.value(one)) for one in arguments))

    def _apply(
        self, offset: int, function: Callable[..., Value], *operands: tuple[Node, Value]
    ) -> Value:
        """Return a function of values; an error says where, and what `number(x)` would mend."""
        try:
            return function(*(value for _, value in operands))
        except OperationError as error:
            message = str(error)
            spelled = [node for node, value in operands if operations.reads_as_number(value)]
            if error.number and spelled:
                source = self.text[spelled[0].start : spelled[0].end]
                message += f"; write number({shortened(source)})"
            raise ExpressionError(message, offset, self.text) from error
