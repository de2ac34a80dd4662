"""Rows: what a stimulus file or a spec holds, by column."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patchclamp.engine.problems import Problems
from patchclamp.registry import STIMULI
from patchclamp.specs.stimuli import Builtin, Csv, Hub, Items, Jsonl, Source, Template

Row = Mapping[str, Any]
"""The columns of one stimulus: text, numbers, true and false, and lists of these."""


class Vocabulary(tuple[Any, ...]):
    """An ordered list of items that has a name, which stands for it in a label."""

    name: str

    def __new__(cls, name: str, items: tuple[Any, ...]) -> Vocabulary:
        """Return items under a name."""
        made = super().__new__(cls, items)
        made.name = name
        return made


@dataclass(frozen=True)
class Rows:
    """The rows of a source: how many there are, and blocks of them."""

    total: int
    blocks: Iterable[list[Row]]


def read_rows(entry: Source, here: tuple[str, ...], problems: Problems) -> list[Row] | None:
    """Return the rows of a source, or None after reporting why they can't be read."""
    assert not isinstance(entry, Hub | Template), "rows that are fetched or generated"
    if isinstance(entry, Items):
        rows: list[Row] = [dict(item) for item in entry.items]
        where = "items"
    else:
        where = "set" if isinstance(entry, Builtin) else "path"
        path = (
            STIMULI[entry.set].path
            if isinstance(entry, Builtin)
            else problems.loaded.folder_of((*here, where)) / entry.path
        )
        try:
            text = path.read_bytes().decode("utf-8-sig")  # its own ends of lines, in cells too
            rows = _jsonl(text) if isinstance(entry, Jsonl) else parse_csv(text)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problems.add((*here, where), "P401", f"cannot read {origin(entry)}: {reason}")
            return None
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            odd = ", ".join(sorted(row.keys() ^ rows[0].keys()))
            message = f"row {number + 1} of {origin(entry)} has other columns than row 1: {odd}"
            null = " (null is no value)" if isinstance(entry, Jsonl) else ""
            problems.add((*here, where), "P401", f"{message}{null}")
            return None
    return rows


def parse_csv(text: str) -> list[Row]:
    """Parse CSV with a header line; a row of another length is an error."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        header = next(reader, [])
        twice = {column for column in header if header.count(column) > 1}
        if twice:
            raise ValueError(f"the header names {', '.join(sorted(twice))} twice")
        for row in filter(None, reader):
            if len(row) != len(header):
                raise ValueError(
                    f"row {len(rows) + 1} has {len(row)} values, the header names {len(header)} "
                    "columns"
                )
            rows.append(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    return rows


def _jsonl(text: str) -> list[Row]:
    """Parse one JSON object a line; of its lists those stay that every line has."""
    records: list[dict[str, Any]] = []
    # Lines end where JSON Lines says, not at every separator that may stand in a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(
                line, object_pairs_hook=_object, parse_constant=_number, parse_float=_number
            )
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {error.msg}") from error
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"line {number} is not a JSON object")
        records.append(dict(_flat(record)))
    lists = {
        key
        for key in (records[0] if records else ())
        if all(isinstance(record.get(key), tuple) for record in records)
    }
    return [
        {k: v for k, v in record.items() if isinstance(v, str | int | float) or k in lists}
        for record in records
    ]


def _object(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, of which no member stands twice."""
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _number(text: str) -> float:
    """Return a number of JSON, which has neither NaN nor infinity."""
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text} is no number that JSON has; leave it out, or put it into quotes")
    return found


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the members of an object; those of one inside it as `outer_inner`."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", frozen(value)


def frozen(value: Any) -> Any:
    """Return a value with its lists made tuples, which templates and conditions can hold."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def as_text(value: Any) -> str:
    """Return a value as a label: text as it is, true and false as YAML has them, a name by name.

    >>> as_text("a"), as_text(2), as_text(True)
    ('a', '2', 'true')
    """
    if isinstance(value, Vocabulary):
        return value.name
    return value if isinstance(value, str) else json.dumps(value)


def origin(entry: Source) -> str:
    """Name a source for a message."""
    match entry:
        case Builtin():
            return f"the bundled set {entry.set!r}"
        case Csv() | Jsonl():
            return entry.path
        case Hub():
            return f"the dataset {entry.dataset!r}"
        case Template():
            return "the template"
    return "items"
