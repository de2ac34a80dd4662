"""Field types that several kinds share: names, layer choices, and the strict base model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from patchclamp.registry.errors import hint
from patchclamp.registry.table import Table

Layers = tuple[int, ...] | Literal["all", "last"]
"""Layer numbers in the order given, or `all`, or `last`."""


class Model(BaseModel):
    """A spec model: frozen, closed and strict, so that nothing is ignored or converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""A name of the user's: lower-case letters, digits and underscores; it becomes a netCDF group."""

PATTERNS: dict[str, str] = {
    r"^[a-z][a-z0-9_]*$": "a name has lower-case letters, digits and '_', and begins with a letter",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": (
        "a name has letters, digits, '.', '_' and '-', and begins with a letter or a digit"
    ),
}
"""What each pattern of the grammar asks for, in words."""


class NotAmongError(ValueError):
    """A value that is not one of those allowed; `allowed` lists them."""

    def __init__(self, sort: str, given: object, allowed: Iterable[str]) -> None:
        self.sort, self.given, self.allowed = sort, given, tuple(allowed)
        super().__init__(f"unknown {sort} {given!r}{hint(str(given), self.allowed)}")


def _parse_layers(value: Any) -> Layers:
    """Turn the short forms of a layer choice into numbers; `0..2` includes both ends."""
    allowed = "all, last, a number, a list of numbers, or a range such as 0..11"
    if isinstance(value, str):
        if value in ("all", "last"):
            return "all" if value == "all" else "last"
        bounds = re.fullmatch(r"(\d{1,4})\.\.(\d{1,4})", value)
        if bounds is None:
            raise ValueError(f"expected layers as {allowed}; got {value!r}")
        first, last = int(bounds[1]), int(bounds[2])
        if last < first:
            raise ValueError(f"a layer range goes upwards; got {value!r}")
        return tuple(range(first, last + 1))
    numbers = (value,) if isinstance(value, int) else value
    if (
        not isinstance(numbers, list | tuple)
        or not numbers
        or not all(type(n) is int and n >= 0 for n in numbers)
    ):
        given = list(value) if isinstance(value, tuple) else value
        raise ValueError(f"expected layers as {allowed}; got {given!r}")
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"a layer is named twice; got {list(numbers)}")
    return tuple(numbers)


LayerChoice = Annotated[
    Layers,
    PlainValidator(
        _parse_layers,
        json_schema_input_type=int | list[int] | Literal["all", "last"] | str,
    ),
    PlainSerializer(lambda v: v if isinstance(v, str) else list(v)),
]


def one_of(table: Table[Any]) -> Any:
    """Return a validator that accepts the names of a table and proposes the nearest."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in table:
            raise NotAmongError(table.sort, value, table)
        return value

    return PlainValidator(check, json_schema_input_type=Literal[tuple(table)])
