"""What may be done with the values of an expression: a closed set, each checked before it is done.

Values are text, whole numbers of 64 bits, finite numbers, true and false, and lists of these.
Nothing is converted on the way: text is never taken for a number, nor true for 1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from patchclamp.specs.scalars import NumberError, read_plain

Value = str | int | float | bool | tuple["Value", ...]
"""What a name may stand for and an expression may give."""

LARGEST = 2**63 - 1
"""The largest whole number; a file holds no larger one."""

QUOTED = 40
"""Longest piece of a value or an expression that a message repeats."""


class OperationError(ValueError):
    """Values that an operation does not take; `number` is true where `number(x)` would help."""

    def __init__(self, message: str, *, number: bool = False) -> None:
        self.number = number
        super().__init__(message)


def shortened(text: str) -> str:
    """Return a text as a message repeats it, cut where it is long."""
    return text if len(text) <= QUOTED else text[:QUOTED] + "..."


def described(value: object) -> str:
    """Return a value as a message says it.

    >>> described("3"), described(3), described((1, 2))
    ("the text '3'", 'the number 3', 'a list of 2')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {shortened(value)!r}"
    if isinstance(value, tuple | list):
        return f"a list of {len(value)}"
    return f"the number {value}" if isinstance(value, int | float) else repr(value)


def held(value: object) -> Value:
    """Return a value that an expression may hold, or refuse it."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if not -LARGEST - 1 <= value <= LARGEST:
            raise OperationError("a whole number of more than 64 bits cannot be held")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OperationError(f"{value} is not a finite number")
        return value
    if isinstance(value, tuple | list):
        return tuple(held(item) for item in value)
    given = shortened(repr(value))
    raise OperationError(f"{given} is neither text, a number, true, false nor a list of these")


def is_number(value: Value) -> bool:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def reads_as_number(value: Value) -> bool:
    """Return whether a value is text that spells a number, as in a CSV file.

    >>> reads_as_number("142"), reads_as_number("two"), reads_as_number(142)
    (True, False, False)
    """
    try:
        return isinstance(value, str) and is_number(held(read_plain(value)))
    except (NumberError, OperationError):
        return False


_ARITHMETIC: dict[str, Callable[..., Value]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


def arithmetic(sign: str, left: Value, right: Value) -> Value:
    """Return `left sign right`; `//` and `%` round down, and `+` also joins two texts."""
    joins = sign == "+" and isinstance(left, str) and isinstance(right, str)
    if not joins and not (is_number(left) and is_number(right)):
        wanted = "two numbers or two texts" if sign == "+" else "two numbers"
        raise OperationError(
            f"{sign!r} takes {wanted}; got {described(left)} and {described(right)}", number=True
        )
    try:
        return held(_ARITHMETIC[sign](left, right))
    except ZeroDivisionError:
        raise OperationError(f"{left} is divided by zero") from None


def negative(value: Value) -> Value:
    """Return a number with its sign turned."""
    return held(-_number("'-'", value))


_ORDER: dict[str, Callable[..., bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(sign: str, left: Value, right: Value) -> bool:
    """Return `left sign right`; values of different sorts are never compared.

    Text has the order of its characters; two texts that both spell numbers have none, because
    "10" would stand before "9".
    """
    if sign in ("==", "!="):
        return _equal(left, right) == (sign == "==")
    if reads_as_number(left) and reads_as_number(right):
        raise OperationError(
            f"{sign!r} would put {described(left)} and {described(right)} in the order of their "
            "characters, not as numbers",
            number=True,
        )
    both_text = isinstance(left, str) and isinstance(right, str)
    if not both_text and not (is_number(left) and is_number(right)):
        raise _not_comparable(left, right)
    return _ORDER[sign](left, right)


def _equal(left: Value, right: Value) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    if _sort(left) != _sort(right):
        raise _not_comparable(left, right)
    return left == right


def _sort(value: Value) -> str:
    return "number" if is_number(value) else type(value).__name__


def _not_comparable(left: Value, right: Value) -> OperationError:
    return OperationError(
        f"{described(left)} and {described(right)} cannot be compared", number=True
    )


def contains(container: Value, item: Value) -> bool:
    """Return whether a list has an item, or a text has another within it."""
    if isinstance(container, tuple):
        # Every item is compared, so that one of another sort is told wherever it stands.
        found = [_equal(item, other) for other in container]
        return any(found)
    if not isinstance(container, str):
        raise OperationError(
            f"'in' looks in a list, a text or a range such as 1..3; got {described(container)}"
        )
    if not isinstance(item, str):
        raise OperationError(f"a text has only text within it; got {described(item)}")
    return item in container


def within(low: Value, high: Value, item: Value) -> bool:
    """Return whether a number lies in a range, both ends included.

    >>> within(142, 143, 143), within(142, 143, 144)
    (True, False)
    """
    first, last = _number("a range", low), _number("a range", high)
    if last < first:
        raise OperationError(f"a range goes upwards; got {first}..{last}")
    return first <= _number("a range", item) <= last


def item_of(sequence: Value, index: Value) -> Value:
    """Return an item of a list, counted from 0; there is no counting from the end."""
    if not isinstance(sequence, tuple):
        raise OperationError(
            f"only a list has items to choose by number; got {described(sequence)}"
        )
    if not isinstance(index, int) or isinstance(index, bool):
        raise OperationError(
            f"an item is chosen by a whole number; got {described(index)}", number=True
        )
    if not 0 <= index < len(sequence):
        raise OperationError(
            f"there is no item {index} in a list of {len(sequence)}"
            + ("; items count from 0, and none from the end" if index < 0 else "")
        )
    return sequence[index]


def truth(value: Value) -> bool:
    """Return a value that is true or false; nothing else counts as either."""
    if not isinstance(value, bool):
        raise OperationError(f"expected true or false, got {described(value)}")
    return value


def _number(what: str, value: Value) -> int | float:
    if not is_number(value):
        raise OperationError(f"{what} takes numbers; got {described(value)}", number=True)
    return value  # type: ignore[return-value]


def _text(what: str, value: Value) -> str:
    if not isinstance(value, str):
        raise OperationError(f"{what} takes text; got {described(value)}")
    return value


def _length(value: Value) -> Value:
    if not isinstance(value, str | tuple):
        raise OperationError(f"len(x) takes a list or text; got {described(value)}")
    return len(value)


def _number_of(value: Value) -> Value:
    """Return the number that a text spells, read as a spec reads it; a number stays as it is."""
    if is_number(value):
        return value
    if not isinstance(value, str) or not reads_as_number(value):
        raise OperationError(f"{described(value)} is not a number")
    return held(read_plain(value))


def _extreme(name: str, choose: Callable[..., int | float]) -> Callable[..., Value]:
    def apply(*values: Value) -> Value:
        one = values[0]
        items = one if len(values) == 1 and isinstance(one, tuple) else values
        if not items:
            raise OperationError(f"{name}(x) of an empty list has no value")
        return choose([_number(f"{name}(x)", item) for item in items])

    return apply


@dataclass(frozen=True)
class Function:
    """A function of the language: how it is written, and what it does to its values."""

    usage: str
    apply: Callable[..., Value]
    least: int = 1
    most: int = 1


FUNCTIONS: dict[str, Function] = {
    "abs": Function("abs(x)", lambda x: held(abs(_number("abs(x)", x)))),
    "capital": Function("capital(x)", lambda x: (t := _text("capital(x)", x))[:1].upper() + t[1:]),
    "len": Function("len(x)", _length),
    "lower": Function("lower(x)", lambda x: _text("lower(x)", x).lower()),
    "max": Function("max(x, y)", _extreme("max", max), most=LARGEST),
    "min": Function("min(x, y)", _extreme("min", min), most=LARGEST),
    "number": Function("number(x)", _number_of),
    "upper": Function("upper(x)", lambda x: _text("upper(x)", x).upper()),
    "words": Function("words(x)", lambda x: _text("words(x)", x).replace("_", " ")),
}
"""Every function of values. `index(x)` stands apart: it asks for a name, not for a value."""
