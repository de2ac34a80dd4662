"""Plain YAML scalars as the YAML 1.2 core schema reads them, and text that reads back the same."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import yaml

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")

LONGEST_NUMBER = 1000
"""Digits of the longest number that is read; Python itself refuses more than 4300."""


class NumberError(ValueError):
    """A plain scalar that looks like a number and cannot be held as one."""


@lru_cache(maxsize=4096)
def read_plain(text: str) -> Scalar:
    """Return the value of a plain (unquoted) scalar.

    `no`, `on`, `4:10`, `2024-01-01` and `1_000` are text, `0777` is 777 and `1e-4` a number.

    >>> [read_plain(text) for text in ("no", "4:10", "0777", "1e-4", "~")]
    ['no', '4:10', 777, 0.0001, None]
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if len(text) > LONGEST_NUMBER and (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
        raise NumberError(f"a number of {len(text)} characters is too long to read; quote it")
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    if _INFINITY.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    return math.nan if _NAN.fullmatch(text) else text


def _finite(text: str) -> float:
    """Return a number with a fraction or an exponent, unless it leaves the range of a float."""
    value = float(text)
    if math.isinf(value):
        raise NumberError(f"{text!r} overflows to infinity (a commit hash?); quote it")
    if value == 0 and re.search(r"[1-9]", re.split(r"[eE]", text)[0]):
        raise NumberError(f"{text!r} underflows to zero (a commit hash?); quote it")
    return value


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would take for something else; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Double quotes escape what a reader would fold, drop or refuse.
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"0o[0-7]+$"), list("0"))
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(_FLOAT.pattern + "$"), list("+-.0123456789")
)


def dump(value: Any) -> str:
    """Return YAML text of plain data, in its order, that `parse` reads back unchanged.

    >>> print(dump({"revision": "12e4567", "flag": "no", "layers": (0, 4)}), end="")
    revision: '12e4567'
    flag: 'no'
    layers:
    - 0
    - 4
    """
    # No line is folded: a resolved spec is read by people and compared line by line.
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
