"""Stimuli: from the rows of a source to texts, labels, groups and answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise, permutations

import numpy as np

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.derive import Count, Filler, take, where, with_columns
from patchclamp.engine.encoding import count_tokens
from patchclamp.engine.generate import generate, vocabularies_of
from patchclamp.engine.model import ModelSource
from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import Row, as_text, origin, read_rows
from patchclamp.specs.columns import NO_GROUPS, slots_of
from patchclamp.specs.stimuli import Corrupt, Hub, Source, Template

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
    spans: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """sha256 over everything that enters the model or a label."""
        content = [self.ids, self.texts, dict(self.labels), self.groups, self.correct, self.foil]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_stimuli(
    problems: Problems, seed: int, model: ModelSource | None = None
) -> dict[str, StimulusTable]:
    """Render every stimulus set of a spec; problems go to `problems`, and their sets are left out.

    Sources come first, then the sets derived from them. The model's tokenizer counts tokens where
    a set asks for that; without a model all that a count would leave out stays.
    """
    entries = problems.loaded.spec.stimuli
    count = None if model is None else partial(count_tokens, model)
    tables: dict[str, StimulusTable] = {}
    for name, entry in entries.items():
        if not isinstance(entry, Corrupt):
            table = _read_source(name, entry, (problems, seed, count))
            if table is not None:
                tables[name] = table
    for name, entry in entries.items():
        if isinstance(entry, Corrupt) and entry.of in tables and entry.slots == "shuffle":
            corrupted = _corrupt(name, tables[entry.of], problems, seed)
            if corrupted is not None:
                tables[name] = corrupted
    return {name: tables[name] for name in entries if name in tables}


def _read_source(
    name: str, entry: Source, context: tuple[Problems, int, Count | None]
) -> StimulusTable | None:
    """Read and render one set; None where it has a problem."""
    problems, seed, count = context
    here = ("stimuli", name)
    vocabularies = vocabularies_of(entry) if isinstance(entry, Template) else {}
    filler = Filler(here, vocabularies, problems)
    rows = _rows(entry, here, context)
    if rows is not None and not rows:
        problems.add(here, "P403", f"stimulus set {name!r} is empty: {origin(entry)} has no rows")
        return None
    rows = rows and with_columns(entry, rows, filler)
    if not rows:
        return None
    # A stimulus without an id keeps the number of its row, whichever others are taken.
    width = len(str(len(rows) - 1))
    numbers = {id(row): f"{number:0{width}d}" for number, row in enumerate(rows)}
    kept = where(entry, rows, filler, count)
    kept = kept and take(entry, kept, filler, seed)
    return _render(entry, kept, filler, [numbers[id(row)] for row in kept]) if kept else None


def _rows(
    entry: Source, here: tuple[str, ...], context: tuple[Problems, int, Count | None]
) -> list[Row] | None:
    """Return the rows that a set begins with."""
    problems, seed, count = context
    match entry:
        case Hub():
            message = f"{origin(entry)} cannot be read here: datasets of the hub are not fetched"
            problems.add((*here, "dataset"), "P419", message, severity="warning")
            return None
        case Template():
            return generate(entry, here, problems, seed, count)
    return read_rows(entry, here, problems)


def _render(
    entry: Source, rows: Sequence[Row], filler: Filler, numbers: Sequence[str]
) -> StimulusTable | None:
    """Fill every template of a set and gather its columns."""
    problems, before = filler.problems, len(filler.problems)
    answer = entry.answer
    texts = filler.fill(("text",), entry.text, rows)
    correct = answer and filler.fill(("answer", "correct"), answer.correct, rows)
    foil = answer and answer.foil and filler.fill(("answer", "foil"), answer.foil, rows)
    spans = {
        name: filler.fill(("spans", name), span.text, rows) for name, span in entry.spans.items()
    }
    slots = slots_of(entry)
    filler.known(("slots",), slots, rows[0])
    for i, label in enumerate(entry.labels):
        filler.known(("labels", i), (label,), rows[0])
    grouped = entry.groups not in (None, NO_GROUPS)
    for key in ("id", *(("groups",) if grouped else ())):
        column = getattr(entry, key)
        filler.known((key,), () if column is None else (column,), rows[0])
    if len(problems) > before:
        return None
    column = entry.id or ("id" if "id" in rows[0] else None)
    ids = tuple(numbers) if column is None else _column(rows, column)
    if not _unique(ids, column, filler) or texts is None:
        return None
    return StimulusTable(
        name=filler.here[-1],
        ids=ids,
        texts=texts,
        labels={label: _column(rows, label) for label in entry.labels},
        groups=_column(rows, str(entry.groups)) if grouped else None,
        correct=correct or None,
        foil=foil or None,
        slots=tuple(tuple(as_text(row[slot]) for slot in slots) for row in rows),
        spans={name: found for name, found in spans.items() if found is not None},
    )


def _column(rows: Sequence[Row], name: str) -> tuple[str, ...]:
    return tuple(as_text(row[name]) for row in rows)


def _unique(ids: tuple[str, ...], column: str | None, filler: Filler) -> bool:
    """P404: stimulus ids are unique, because results are aligned by them."""
    if len(set(ids)) == len(ids):
        return True
    twice = next(i for i in ids if ids.count(i) > 1)
    message = f"stimulus id {twice!r} stands {ids.count(twice)} times in {column!r}"
    filler.problems.add((*filler.here, "id"), "P404", message)
    return False


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
    # Where the clean text says a span, the corrupted one says something else.
    return replace(source, name=name, texts=tuple(texts), slots=tuple(slots), spans={})


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
