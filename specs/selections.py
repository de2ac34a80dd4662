"""Which layers and heads: `all`, `last`, `4`, `0..11`, `[0%, 50%, 100%]`, and heads as `L4H10`.

A choice is kept in a canonical form and becomes numbers only where the model's size is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import floor
from typing import Annotated, Any, Literal

from pydantic import Field

from patchclamp.specs.fields import written
from patchclamp.specs.quantities import percentage, write_percent

Layers = tuple[int | str, ...] | Literal["all", "last"]
"""`all`, `last`, or layer numbers, percentages `50%`, ranges `25%..75%` and `last`, in order."""

Heads = tuple[int, ...] | tuple[str, ...] | Literal["all"]
"""`all`, head numbers that hold in every layer, or heads by name such as `L4H10`, sorted."""

_RANGE = re.compile(r"([0-9]{1,4})\.\.([0-9]{1,4})")
_PERCENTS = re.compile(r"([0-9]+(?:\.[0-9]+)?%)(?:\.\.([0-9]+(?:\.[0-9]+)?%))?")
_HEAD = re.compile(r"L(0|[1-9][0-9]{0,3})H(0|[1-9][0-9]{0,3})")
_HEAD_MEANT = re.compile(r"\D{0,8}?([0-9]{1,4})\D{1,8}?([0-9]{1,4})\D?")
_QUOTED = 60
"""Longest piece of a given value that a message repeats."""

LARGEST = 9999
"""The largest layer or head number that is read; no model comes near."""

_LAYERS = (
    "all, last, a number, a range such as 0..11, a percentage such as 50%, a range such as "
    "25%..75%, or a list of these"
)
_HEADS = "all, a number, a range such as 0..11, a head such as L4H10, or a list of these"


class BeyondError(LookupError):
    """Layers that a model does not have; `missing` lists them."""

    def __init__(self, missing: tuple[int, ...], count: int) -> None:
        self.missing = missing
        named = ", ".join(map(str, missing))
        super().__init__(f"there is no layer {named} among {count} layers, 0..{count - 1}")


def parse_layers(value: Any) -> Layers:
    """Return a layer choice in its canonical form; a range includes both ends.

    >>> parse_layers("0..2"), parse_layers([0, "50.0%", "last"]), parse_layers("25%..75%")
    ((0, 1, 2), (0, '50%', 'last'), ('25%..75%',))
    """
    if value in ("all", "last"):
        return "all" if value == "all" else "last"
    members = value if isinstance(value, list | tuple) else (value,)
    if not members:
        raise _unlike("layers", _LAYERS, value)
    layers = tuple(layer for member in members for layer in _layers(member, value))
    _once("layer", layers, value)
    return "last" if layers == ("last",) else layers


def resolve_layers(choice: Layers, count: int) -> tuple[int, ...]:
    """Return the numbers of the layers that are chosen from a model of `count` layers.

    0% is the first layer and 100% the last; between them p% is layer p (count - 1) / 100, rounded
    half up. A layer that several percentages round to stands once, where it was named first.

    >>> resolve_layers(("0%", "50%", "last"), 12), resolve_layers(("25%..75%",), 12)
    ((0, 6, 11), (3, 4, 5, 6, 7, 8))
    """
    assert count >= 1, count
    if choice == "all":
        return tuple(range(count))
    members = (choice,) if isinstance(choice, str) else choice
    numbers = tuple(dict.fromkeys(n for member in members for n in _numbers(member, count)))
    missing = tuple(n for n in numbers if n >= count)
    if missing:
        raise BeyondError(missing, count)
    return numbers


def parse_heads(value: Any) -> Heads:
    """Return a head choice in its canonical form: numbers as given, names sorted.

    >>> parse_heads(["L10H0", "L4H10"]), parse_heads("0..2"), parse_heads(3)
    (('L4H10', 'L10H0'), (0, 1, 2), (3,))
    """
    if value == "all":
        return "all"
    members = value if isinstance(value, list | tuple) else (value,)
    if not members:
        raise _unlike("heads", _HEADS, value)
    heads = [head for member in members for head in _heads(member, value)]
    _once("head", heads, value)
    numbers = tuple(head for head in heads if isinstance(head, int))
    names = tuple(head for head in heads if isinstance(head, str))
    if numbers and names:
        raise ValueError(
            "heads are either numbers, which hold in every layer, or names such as L4H10; "
            f"got {_said(value)}"
        )
    return numbers or tuple(sorted(names, key=parse_head_name))


def parse_head_name(text: Any) -> tuple[int, int]:
    """Return the layer and the head that a name such as `L4H10` stands for, both from 0.

    >>> parse_head_name("L4H10")
    (4, 10)
    """
    found = _HEAD.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        return int(found[1]), int(found[2])
    if isinstance(text, float) and re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", repr(text)):
        layer, head = repr(text).split(".")
        raise ValueError(
            f"a head is written L4H10; {text}0 is the number {text}, so it stays open whether "
            f"L{layer}H{head} or L{layer}H{head}0 is meant"
        )
    meant = _HEAD_MEANT.fullmatch(text) if isinstance(text, str) else None
    close = f"; did you mean 'L{int(meant[1])}H{int(meant[2])}'?" if meant else ""
    raise ValueError(f"a head is written L4H10; got {_said(text)}{close}")


def _layers(member: Any, value: Any) -> Iterable[int | str]:
    """Return one member of a layer choice: numbers, or the text that stands for some."""
    if type(member) is int:
        return (_in_range("layer", member),)
    if member == "last":
        return ("last",)
    if member == "all":
        raise ValueError(f"'all' stands alone; got {_said(value)}")
    if isinstance(member, str):
        if bounds := _RANGE.fullmatch(member):
            return _between("layer", int(bounds[1]), int(bounds[2]), member)
        if percents := _PERCENTS.fullmatch(member):
            return (_percents(percents[1], percents[2], member),)
    raise _unlike("layers", _LAYERS, value)


def _heads(member: Any, value: Any) -> Iterable[int | str]:
    if type(member) is int:
        return (_in_range("head", member),)
    if member == "all":
        raise ValueError(f"'all' stands alone; got {_said(value)}")
    if isinstance(member, str) and (bounds := _RANGE.fullmatch(member)):
        return _between("head", int(bounds[1]), int(bounds[2]), member)
    if isinstance(member, float) or (isinstance(member, str) and re.search("[0-9]", member)):
        layer, head = parse_head_name(member)
        return (f"L{layer}H{head}",)
    raise _unlike("heads", _HEADS, value)


def _in_range(sort: str, number: int) -> int:
    if number < 0:
        last = "; the last one is 'last'" if sort == "layer" else ""
        raise ValueError(f"a {sort} is counted from 0; got {_said(number)}{last}")
    if number > LARGEST:
        raise ValueError(f"a {sort} number is at most {LARGEST}; got {_said(number)}")
    return number


def _between(sort: str, first: int, last: int, given: str) -> range:
    if last < first:
        raise ValueError(f"a {sort} range goes upwards; got {given!r}")
    return range(first, last + 1)


def _percents(first: str, last: str | None, given: str) -> str:
    if last is None:
        return write_percent(percentage(first))
    low, high = percentage(first), percentage(last)
    if high < low:
        raise ValueError(f"a layer range goes upwards; got {given!r}")
    return f"{write_percent(low)}..{write_percent(high)}"


def _numbers(member: int | str, count: int) -> Iterator[int]:
    if isinstance(member, int):
        yield member
    elif member == "last":
        yield count - 1
    else:
        ends = [_at_depth(percentage(part), count) for part in member.split("..")]
        yield from range(ends[0], ends[-1] + 1)


def _at_depth(percent: Fraction, count: int) -> int:
    # Fractions, because 50% of three steps is exactly 1.5 and rounds up.
    return floor((count - 1) * percent / 100 + Fraction(1, 2))


def _once(sort: str, members: Iterable[int | str], value: Any) -> None:
    members = tuple(members)
    if len(set(members)) != len(members):
        raise ValueError(f"a {sort} is named twice; got {_said(value)}")


def _unlike(sort: str, allowed: str, value: Any) -> ValueError:
    return ValueError(f"expected {sort} as {allowed}; got {_said(value)}")


def _said(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "..."


def _listed(choice: Layers | Heads) -> Any:
    return choice if isinstance(choice, str) else list(choice)


_LayersText = (
    Literal["all", "last"]
    | Annotated[str, Field(pattern=rf"^({_RANGE.pattern}|{_PERCENTS.pattern})$")]
)
_HeadsText = (
    Literal["all"] | Annotated[str, Field(pattern=rf"^({_RANGE.pattern}|{_HEAD.pattern})$")]
)

LayerChoice = Annotated[
    Layers, written(parse_layers, _LayersText | int | list[_LayersText | int], _listed)
]
"""A layer choice as a field of a spec."""

HeadChoice = Annotated[
    Heads, written(parse_heads, _HeadsText | int | list[_HeadsText | int], _listed)
]
"""A head choice as a field of a spec."""
