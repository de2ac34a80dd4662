"""Quantities with units, as a spec writes them: `20m`, `8GiB`, `50M`, `25%`.

Each sort has a parser, a canonical text that reads back as the same value, and a field type that
serialises to it: the digest of a spec does not depend on whether it says `90s` or `1m30s`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, NamedTuple

from pydantic import Field, JsonValue

from patchclamp.specs.fields import written

LARGEST = 2**63 - 1
"""The most bytes or things that are counted; a file holds no larger whole number."""

LONGEST_DURATION = 36500 * 86400
"""Seconds; a hundred years, below which a float tells microseconds apart."""

_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,6})?"
_PART = re.compile(rf"({_NUMBER})([A-Za-z%]*)")
_WHOLE = re.compile(rf"(?:{_NUMBER}[A-Za-z%]+)*{_NUMBER}[A-Za-z%]*")
_LOOSE = re.compile(r"((?:[0-9]{1,3}(?:[_,][0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)\s*([^\W\d_]*)")
_QUOTED = 40


class _Sort(NamedTuple):
    """A sort of quantity: its units, largest last, and how a message speaks of it."""

    name: str
    example: str
    units: Mapping[str, int]
    aliases: Mapping[str, str]
    """Other spellings of a unit, in lower case, and the unit to propose for them."""


_DURATION = _Sort(
    "duration",
    "20m",
    {"s": 1, "m": 60, "h": 3600, "d": 86400},
    {
        **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
        **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
        **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
        **dict.fromkeys(("day", "days"), "d"),
    },
)
_SIZE = _Sort(
    "size",
    "8GiB",
    {"B": 1}
    | {"kB": 1000, "KiB": 2**10, "MB": 1000**2, "MiB": 2**20}
    | {"GB": 1000**3, "GiB": 2**30, "TB": 1000**4, "TiB": 2**40},
    {
        "byte": "B",
        "bytes": "B",
        **{prefix: f"{prefix.upper()}iB" for prefix in ("k", "m", "g", "t")},
        **{f"{prefix}i": f"{prefix.upper()}iB" for prefix in ("k", "m", "g", "t")},
    },
)
_COUNT = _Sort(
    "count",
    "50M",
    {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3},
    {"mn": "M", "mio": "M", "million": "M", "b": "G", "bn": "G", "billion": "G"},
)


def parse_duration(text: object) -> float:
    """Return a duration in seconds; units are s, m, h and d, and may be combined.

    >>> parse_duration("20m"), parse_duration("1h30m"), parse_duration("0.5s")
    (1200.0, 5400.0, 0.5)
    """
    parts = _parts(text, _DURATION)
    sizes = [_DURATION.units[unit] for _, unit in parts]
    if sizes != sorted(set(sizes), reverse=True):
        raise ValueError(
            f"a duration names each unit once, the largest first, such as 1h30m; got {text!r}"
        )
    seconds = sum(number * size for (number, _), size in zip(parts, sizes, strict=True))
    if seconds > LONGEST_DURATION:
        raise ValueError(f"a duration is at most 36500d; got {text!r}")
    return float(seconds)


def parse_size(text: object) -> int:
    """Return a size in bytes; kB, MB, GB, TB are powers of 1000 and KiB to TiB of 1024.

    >>> parse_size("8GiB"), parse_size("1.5kB")
    (8589934592, 1500)
    """
    return _whole(text, _SIZE)


def parse_count(value: object) -> int:
    """Return a whole number; k, M and G stand for a thousand, a million and a thousand million.

    >>> parse_count("50M"), parse_count("1.5k"), parse_count(300)
    (50000000, 1500, 300)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= LARGEST:
            raise ValueError(f"a count is a whole number from 0 to 2^63 - 1; got {_said(value)}")
        return value
    return _whole(value, _COUNT)


def parse_percent(text: object) -> float:
    """Return a percentage from 0% to 100% as a share of 1.

    >>> parse_percent("25%")
    0.25
    """
    return float(percentage(text) / 100)


def percentage(text: object) -> Fraction:
    """Return the exact number before the sign of a percentage from 0% to 100%."""
    found = _PART.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[2] != "%":
        needs = "needs a percent sign, such as 25%" if _bare(text) else "is written such as 25%"
        raise ValueError(f"a percentage {needs}; got {_said(text)}")
    if Fraction(found[1]) > 100:
        raise ValueError(f"a percentage is at most 100%; got {text!r}")
    return Fraction(found[1])


def write_duration(seconds: float) -> str:
    """Return the canonical text of a duration: the largest unit that it is a whole number of.

    >>> write_duration(90), write_duration(7200), write_duration(0.5)
    ('90s', '2h', '0.5s')
    """
    for unit, size in reversed(list(_DURATION.units.items())):
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    # Six decimals are what `parse_duration` reads.
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def write_size(size: int) -> str:
    """Return the canonical text of a size: the shortest, and of these the smallest unit.

    >>> write_size(2**33), write_size(1500), write_size(0)
    ('8GiB', '1500B', '0B')
    """
    exact = (f"{size // u}{unit}" for unit, u in _SIZE.units.items() if size % u == 0)
    return min(exact, key=len) if size else "0B"


def said(size: int) -> str:
    """Return a size as a person reads it.

    >>> said(137_000_000), said(512)
    ('137 MB', '512 bytes')
    """
    for unit, bytes_ in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            number = size / bytes_
            return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"
    return f"{size} bytes"


def write_percent(share: Fraction) -> str:
    """Return the canonical text of a percentage, given the number before its sign.

    >>> write_percent(Fraction(25, 2))
    '12.5%'
    """
    return f"{float(share):.6f}".rstrip("0").rstrip(".") + "%"


def _whole(text: object, sort: _Sort) -> int:
    parts = _parts(text, sort)
    if len(parts) > 1:
        raise ValueError(f"a {sort.name} has one number and one unit; got {text!r}")
    ((number, unit),) = parts
    value = number * sort.units[unit]
    if value > LARGEST:
        raise ValueError(f"a {sort.name} is at most 2^63 - 1; got {text!r}")
    if value.denominator != 1:
        what = "a whole number of bytes" if sort is _SIZE else "a whole number"
        raise ValueError(f"{text!r} is not {what}")
    return int(value)


def _parts(text: object, sort: _Sort) -> list[tuple[Fraction, str]]:
    """Return the numbers and units of a quantity, or say what is wrong with them."""
    if _bare(text) and "" not in sort.units:
        raise ValueError(f"a {sort.name} needs a unit, such as {sort.example}; got {_said(text)}")
    if not isinstance(text, str):
        raise ValueError(f"expected a {sort.name} such as {sort.example}; got {_said(text)}")
    if text.lstrip()[:1] == "-":
        raise ValueError(f"a {sort.name} is not negative; got {_said(text)}")
    found = list(_matches(text))
    if not found or any(unit not in sort.units for _, unit in found):
        raise ValueError(_not_read(text, sort))
    return [(Fraction(number), unit) for number, unit in found]


def _matches(text: str) -> Iterator[tuple[str, str]]:
    """Yield numbers with their units; nothing at all where something else is among them."""
    if len(text) <= _QUOTED and _WHOLE.fullmatch(text):
        yield from ((found[1], found[2]) for found in _PART.finditer(text))


def _not_read(text: str, sort: _Sort) -> str:
    message = f"expected a {sort.name} such as {sort.example}; got {_said(text)}"
    if len(text) > _QUOTED:
        return f"{message}, which has {len(text)} characters"
    close = _proposal(text, sort)
    if close == text:
        return f"{message}; a number has at most 19 digits before its point and 6 after it"
    units = ", ".join(unit for unit in sort.units if unit)
    return f"{message} (units: {units})" + (f"; did you mean {close!r}?" if close else "")


def _proposal(text: str, sort: _Sort) -> str | None:
    """Return what was meant: spaces and separators dropped, units in their own spelling."""
    folded = {unit.lower(): unit for unit in sort.units}
    out, rest = "", text.strip()
    while rest:
        found = _LOOSE.match(rest)
        if found is None:
            return None
        unit = folded.get(found[2].lower(), sort.aliases.get(found[2].lower()))
        if unit is None:
            return None
        out += re.sub("[_,]", "", found[1]) + unit
        rest = rest[found.end() :].lstrip()
    return out or None


def _bare(value: object) -> bool:
    """Return whether a value is a number without a unit."""
    if isinstance(value, str):
        return re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**_QUOTED else "a number"
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "..."


def _example(sort: _Sort) -> dict[str, JsonValue]:
    """Return what an editor says where a quantity is not written as it should be."""
    return {"patternErrorMessage": f"a {sort.name} is written such as {sort.example}"}


Duration = Annotated[
    float,
    written(
        parse_duration,
        Annotated[
            str, Field(pattern=rf"^({_NUMBER}[smhd])+$", json_schema_extra=_example(_DURATION))
        ],
        write_duration,
    ),
]
"""Seconds; written with units, such as 20m or 1h30m."""

Size = Annotated[
    int,
    written(
        parse_size,
        Annotated[
            str,
            Field(
                pattern=rf"^{_NUMBER}(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)$",
                json_schema_extra=_example(_SIZE),
            ),
        ],
        write_size,
    ),
]
"""Bytes; written with a unit, such as 8GiB."""

Count = Annotated[
    int,
    written(
        parse_count,
        Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=rf"^{_NUMBER}[kMG]$")],
    ),
]
"""A whole number, which may be written such as 50M; serialised as the number itself."""
