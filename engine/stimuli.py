"""Stimuli: from the rows of a source to texts, labels, groups and answers."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, permutations
from typing import Any

import numpy as np

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.problems import Problems
from patchclamp.registry import STIMULI
from patchclamp.registry.errors import nearest
from patchclamp.specs.stimuli import Builtin, Corrupt, Csv, Items, Jsonl, Source
from patchclamp.specs.template import columns_of, render

Row = Mapping[str, str]

_ENUMERABLE = 8
"""Slots up to which every order is tried; 8! = 40,320 takes a blink, 9! does not."""


@dataclass(frozen=True)
class StimulusTable:
    """A stimulus set, rendered: one entry per stimulus in every column."""

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    groups: tuple[str, ...] | None
    correct: tuple[str, ...] | None
    foil: tuple[str, ...] | None
    slots: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """sha256 over everything that enters the model or a label."""
        content = [self.ids, self.texts, dict(self.labels), self.groups, self.correct, self.foil]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_stimuli(problems: Problems, seed: int) -> dict[str, StimulusTable]:
    """Render every stimulus set of a spec; problems go to `problems`, and their sets are left out.

    Sources come first, then the sets derived from them.
    """
    entries = problems.loaded.spec.stimuli
    tables: dict[str, StimulusTable] = {}
    for name, entry in entries.items():
        if not isinstance(entry, Corrupt):
            table = _read_source(name, entry, problems)
            if table is not None:
                tables[name] = table
    for name, entry in entries.items():
        if isinstance(entry, Corrupt) and entry.of in tables:
            corrupted = _corrupt(name, tables[entry.of], problems, seed)
            if corrupted is not None:
                tables[name] = corrupted
    return {name: tables[name] for name in entries if name in tables}


def _read_source(name: str, entry: Source, problems: Problems) -> StimulusTable | None:
    """Read and render one set; None where it has a problem."""
    here = ("stimuli", name)
    rows = _rows(entry, here, problems)
    if rows is None:
        return None
    if not rows:
        problems.add(here, "P403", f"stimulus set {name!r} is empty: {_origin(entry)} has no rows")
        return None
    slots = _slot_columns(entry)
    before = len(problems)
    for path, columns in _columns_used(entry, slots):
        for column in columns:
            if column not in rows[0]:
                problems.add(
                    (*here, *path),
                    "P402",
                    f"stimulus set {name!r} has no column {column!r}",
                    allowed=tuple(rows[0]),
                    suggestion=nearest(column, rows[0]),
                )
    if len(problems) > before:
        return None
    ids = _ids(entry, rows, here, problems)
    if ids is None:
        return None
    answer = entry.answer
    return StimulusTable(
        name=name,
        ids=ids,
        texts=tuple(render(entry.text, row) for row in rows),
        labels={label: tuple(row[label] for row in rows) for label in entry.labels},
        groups=_groups(entry, rows),
        correct=tuple(render(answer.correct, row) for row in rows) if answer else None,
        foil=tuple(render(answer.foil, row) for row in rows) if answer and answer.foil else None,
        slots=tuple(tuple(row[slot] for slot in slots) for row in rows),
    )


def _rows(entry: Source, here: tuple[str, ...], problems: Problems) -> list[Row] | None:
    """Return the rows of a source as text, or None after reporting why they can't be read."""
    if isinstance(entry, Items):
        rows: list[Row] = [{k: _as_text(v) for k, v in item.items()} for item in entry.items]
        where = "items"
    else:
        where = "set" if isinstance(entry, Builtin) else "path"
        path = (
            STIMULI[entry.set].path
            if isinstance(entry, Builtin)
            else problems.loaded.folder / entry.path
        )
        try:
            text = path.read_text(encoding="utf-8-sig")
            rows = _jsonl(text) if isinstance(entry, Jsonl) else _csv(text)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problems.add((*here, where), "P401", f"cannot read {_origin(entry)}: {reason}")
            return None
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            odd = sorted(row.keys() ^ rows[0].keys())
            problems.add(
                (*here, where),
                "P401",
                f"row {number + 1} of {_origin(entry)} has other columns than row 1: "
                f"{', '.join(odd)}",
            )
            return None
    return rows


def _csv(text: str) -> list[Row]:
    """Parse CSV with a header line; a row of another length is an error."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    twice = {column for column in header if header.count(column) > 1}
    if twice:
        raise ValueError(f"the header names {', '.join(sorted(twice))} twice")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"row {number + 1} has {len(row)} values, the header names {len(header)} columns"
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


def _jsonl(text: str) -> list[Row]:
    """Parse one JSON object a line, keeping its scalar members as text."""
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {error.msg}") from error
        if not isinstance(record, dict):
            raise ValueError(f"line {number} is not a JSON object")
        scalar = {k: v for k, v in record.items() if isinstance(v, str | int | float)}
        rows.append({k: _as_text(v) for k, v in scalar.items()})
    return rows


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _origin(entry: Source) -> str:
    """Name a source for a message."""
    match entry:
        case Builtin():
            return f"the bundled set {entry.set!r}"
        case Csv() | Jsonl():
            return entry.path
        case Items():
            return "items"


def _slot_columns(entry: Source) -> tuple[str, ...]:
    """Return the slots of a source: its own, or those its bundled set declares."""
    if entry.slots or not isinstance(entry, Builtin):
        return entry.slots
    return STIMULI[entry.set].slots


def _columns_used(
    entry: Source, slots: tuple[str, ...]
) -> list[tuple[tuple[str | int, ...], tuple[str, ...]]]:
    """List where a source names columns, as (path inside the entry, columns)."""
    used: list[tuple[tuple[str | int, ...], tuple[str, ...]]] = [
        (("text",), columns_of(entry.text)),
        (("slots",), slots),
        *((("labels", i), (label,)) for i, label in enumerate(entry.labels)),
    ]
    if entry.id is not None:
        used.append((("id",), (entry.id,)))
    if entry.groups not in (None, "none"):
        used.append((("groups",), (str(entry.groups),)))
    if entry.answer is not None:
        used.append((("answer", "correct"), columns_of(entry.answer.correct)))
        if entry.answer.foil is not None:
            used.append((("answer", "foil"), columns_of(entry.answer.foil)))
    return used


def _ids(
    entry: Source, rows: Sequence[Row], here: tuple[str, ...], problems: Problems
) -> tuple[str, ...] | None:
    """Return the stimulus ids; they must be unique, because results are aligned by them."""
    column = entry.id or ("id" if "id" in rows[0] else None)
    if column is None:
        width = len(str(len(rows) - 1))
        return tuple(f"{number:0{width}d}" for number in range(len(rows)))
    ids = tuple(row[column] for row in rows)
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        path = (*here, "id") if entry.id else here
        problems.add(
            path, "P404", f"stimulus id {twice!r} stands {ids.count(twice)} times in {column!r}"
        )
        return None
    return ids


def _groups(entry: Source, rows: Sequence[Row]) -> tuple[str, ...] | None:
    if entry.groups in (None, "none"):
        return None
    return tuple(row[str(entry.groups)] for row in rows)


def _corrupt(
    name: str, source: StimulusTable, problems: Problems, seed: int
) -> StimulusTable | None:
    """Shuffle the slots of every stimulus, each with its own draw; ids, labels, answers stay."""
    rng = Seeds(seed, f"stimuli.{name}").generator("shuffle")
    texts, slots = [], []
    for id_, text, values in zip(source.ids, source.texts, source.slots, strict=True):
        try:
            shuffled = tuple(values[i] for i in shuffled_order(len(values), rng))
            texts.append(replace_slots(text, values, shuffled))
        except ValueError as error:
            problems.add(("stimuli", name), "P405", f"cannot corrupt stimulus {id_!r}: {error}")
            return None
        slots.append(shuffled)
    return replace(source, name=name, texts=tuple(texts), slots=tuple(slots))


def shuffled_order(n: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw an order of `n` slots in which as few neighbours as possible stay neighbours.

    A plain shuffle often leaves runs such as *May June*, which still say what comes next.
    """
    if n < 2:
        raise ValueError(f"a set with {n} slot{'s' * (n != 1)} has nothing to shuffle")
    if n <= _ENUMERABLE:
        orders = _best_orders(n)
        return orders[int(rng.integers(len(orders)))]
    while True:
        order = tuple(int(i) for i in rng.permutation(n))
        if _kept_neighbours(order) == 0:
            return order


@cache
def _best_orders(n: int) -> tuple[tuple[int, ...], ...]:
    """All orders of n slots, other than the given one, that keep the fewest neighbours."""
    orders = [order for order in permutations(range(n)) if order != tuple(range(n))]
    fewest = min(map(_kept_neighbours, orders))
    return tuple(order for order in orders if _kept_neighbours(order) == fewest)


def _kept_neighbours(order: Sequence[int]) -> int:
    return sum(abs(a - b) == 1 for a, b in pairwise(order))


def replace_slots(text: str, old: Sequence[str], new: Sequence[str]) -> str:
    """Put other words into the slots of a text, which must hold the old ones once, in order.

    >>> replace_slots("May June July", ["May", "June", "July"], ["July", "May", "June"])
    'July May June'
    """
    parts, position = [], 0
    for before, after in zip(old, new, strict=True):
        found = re.compile(rf"(?<!\w){re.escape(before)}(?!\w)").search(text, position)
        if found is None:
            raise ValueError(f"slot value {before!r} does not stand in {text!r} after {position}")
        parts += [text[position : found.start()], after]
        position = found.end()
    parts.append(text[position:])
    for value in set(old):
        stands = len(re.findall(rf"(?<!\w){re.escape(value)}(?!\w)", text))
        if stands != list(old).count(value):
            raise ValueError(f"slot value {value!r} stands {stands} times in {text!r}: ambiguous")
    result = "".join(parts)
    if result == text:
        raise ValueError(f"shuffling leaves {text!r} as it was")
    return result
