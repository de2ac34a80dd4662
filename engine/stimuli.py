"""Stimuli: from the rows of a source to texts, labels, groups and answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, permutations

import numpy as np

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import Row, origin, read_rows
from patchclamp.registry import STIMULI
from patchclamp.registry.errors import nearest
from patchclamp.specs.stimuli import Builtin, Corrupt, Source
from patchclamp.specs.template import columns_of, render

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
    rows = read_rows(entry, here, problems)
    if rows is None:
        return None
    if not rows:
        problems.add(here, "P403", f"stimulus set {name!r} is empty: {origin(entry)} has no rows")
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
