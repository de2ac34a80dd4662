"""Stimuli: from the rows of a source to texts, labels, groups and answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from patchclamp.engine.corrupt import corrupt
from patchclamp.engine.derive import Count, Filler, split, take, where, with_columns
from patchclamp.engine.encoding import count_tokens
from patchclamp.engine.generate import generate, vocabularies_of
from patchclamp.engine.hub import read_hub
from patchclamp.engine.model import ModelSource
from patchclamp.engine.places import Places, moved, replace_slots, slot_places, span_places
from patchclamp.engine.problems import Problems
from patchclamp.engine.ragged import Ragged, Texts
from patchclamp.engine.rows import Row, Rows, as_text, origin, read_rows
from patchclamp.specs.columns import NO_GROUPS, SPLIT, slots_of
from patchclamp.specs.stimuli import Corrupt, Hub, Source, Template


@dataclass(frozen=True)
class StimulusTable:
    """A stimulus set, rendered: one entry per stimulus in every column.

    `slots` are the values that may be rearranged and `places` where in the text they stand, as
    `spans` are where stretches with a name do; `rows` are the columns a stimulus was made from.
    """

    name: str
    ids: Sequence[str]
    texts: Sequence[str]
    labels: Mapping[str, Sequence[str]]
    groups: Sequence[str] | None
    correct: Sequence[str] | None
    foil: Sequence[str] | None
    slots: tuple[tuple[str, ...], ...]
    spans: Mapping[str, Ragged] = field(default_factory=dict)
    places: tuple[Places, ...] = ()
    rows: tuple[Row, ...] = ()
    screened: Mapping[str, int] = field(default_factory=dict)
    """With `keep_if`, how many stimuli were asked and how many of them were kept."""

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, rows: Sequence[int]) -> StimulusTable:
        """Return the table of some of the stimuli, by their numbers."""

        def some(column: Any) -> Any:
            kind = type(column) if isinstance(column, Texts | Ragged) else tuple
            return column and kind(column[row] for row in rows)

        columns = ("ids", "texts", "groups", "correct", "foil", "slots", "places", "rows")
        changes: dict[str, Any] = {name: some(getattr(self, name)) for name in columns}
        for name in ("labels", "spans"):
            changes[name] = {key: some(column) for key, column in getattr(self, name).items()}
        return replace(self, **changes)

    @cached_property
    def digest(self) -> str:
        """sha256 over everything that enters the model or a label."""
        content = [self.ids, self.texts, dict(self.labels), self.groups, self.correct, self.foil]
        digest = hashlib.sha256()
        for piece in json.JSONEncoder(sort_keys=True, default=list).iterencode(content):
            digest.update(piece.encode())
        return digest.hexdigest()


def read_stimuli(
    problems: Problems, seed: int, model: ModelSource | None = None, *, fetch: bool = True
) -> dict[str, StimulusTable]:
    """Render every stimulus set of a spec; problems go to `problems`, and their sets are left out.

    Sources come first, then the sets derived from them. The model's tokenizer counts tokens where
    a set asks for that; without a model all that a count would leave out stays. Without `fetch`
    a dataset that would have to be fetched is left out with a warning.
    """
    entries = problems.loaded.spec.stimuli
    count = None if model is None else partial(count_tokens, model)
    tables: dict[str, StimulusTable] = {}
    for name, entry in entries.items():
        if not isinstance(entry, Corrupt):
            table = _read_source(name, entry, (problems, seed, count), fetch=fetch)
            if table is not None:
                tables[name] = table
    for name, entry in entries.items():
        if isinstance(entry, Corrupt) and entry.of in tables:
            corrupted = _corrupted(name, tables[entry.of], (problems, seed, count))
            if corrupted is not None:
                tables[name] = corrupted
    return {name: _settled(tables[name], entries[name]) for name in entries if name in tables}


def _settled(table: StimulusTable, entry: Source | Corrupt) -> StimulusTable:
    """Let go of what a set was made and corrupted from; `keep_if` still needs its columns."""
    screened = not isinstance(entry, Corrupt) and entry.keep_if is not None
    slots = table.slots if any(table.slots) else ()
    return replace(table, slots=slots, places=(), rows=table.rows if screened else ())


def _read_source(
    name: str, entry: Source, context: tuple[Problems, int, Count | None], *, fetch: bool
) -> StimulusTable | None:
    """Read and render one set; None where it has a problem."""
    problems, seed, count = context
    here = ("stimuli", name)
    rows = _rows(entry, here, context, fetch=fetch)
    if rows is not None and not rows.total:
        problems.add(here, "P403", f"stimulus set {name!r} is empty: {origin(entry)} has no rows")
    vocabularies = vocabularies_of(entry) if isinstance(entry, Template) else {}
    draws = entry.draw if isinstance(entry, Template) else {}
    drawn = {
        column: vocabularies[draw.source]
        for column, draw in draws.items()
        if draw.n == 1 and draw.source in vocabularies
    }
    filler = Filler(here, vocabularies, problems, drawn=drawn)
    numbers, kept = _kept(entry, rows, filler, count) if rows and rows.total else ([], [])
    if not rows or not kept:
        return None
    taken = None if entry.take is None else take(entry.take, kept, filler, seed)
    if entry.take is not None and taken is None:
        return None
    if taken is not None and entry.keep_if is None:
        # Else from what the model does as asked.
        numbers, kept = [numbers[i] for i in taken], [kept[i] for i in taken]
    parts = split(entry, kept, filler, seed) if entry.split is not None else ()
    if parts is None:
        return None
    width = len(str(rows.total - 1))
    # A stimulus without an id keeps the number of its row, whichever others are taken.
    table = _render(entry, kept, filler, Texts(f"{number:0{width}d}" for number in numbers))
    return table and replace(table, labels={**table.labels, **({SPLIT: parts} if parts else {})})


def _rows(
    entry: Source,
    here: tuple[str, ...],
    context: tuple[Problems, int, Count | None],
    *,
    fetch: bool,
) -> Rows | None:
    """Return the rows that a set begins with."""
    problems, seed, count = context
    match entry:
        case Hub():
            return read_hub(entry, here, problems, fetch=fetch)
        case Template():
            made = generate(entry, here, problems, seed, count)
        case _:
            made = read_rows(entry, here, problems)
    return None if made is None else Rows(len(made), [made])


def _kept(
    entry: Source, rows: Rows, filler: Filler, count: Count | None
) -> tuple[list[int], list[Row]]:
    """Return the rows that meet the set's condition, after their numbers in the source.

    Where the first ones are taken, no more blocks are read than needed. Nothing after a problem.
    """
    numbers, kept = list[int](), list[Row]()
    for block in rows.blocks:
        made = with_columns(entry, block, filler)
        chosen = None if made is None else where(entry, made, filler, count)
        if made is None or chosen is None:
            return [], []
        numbers += [filler.before + i for i in chosen]
        kept += [made[i] for i in chosen]
        filler = replace(filler, before=filler.before + len(block))
        if _enough(entry, len(kept)):
            break
    if not kept:
        message = f"none of {filler.before} rows meets {entry.where!r}"
        filler.problems.add((*filler.here, "where"), "P403", message)
    return numbers, kept


def _enough(entry: Source, found: int) -> bool:
    """Return whether no further row can be taken."""
    part = entry.take
    first = part is not None and part.draw == "first" and part.by is None and entry.keep_if is None
    return first and part is not None and found >= part.n


def _render(
    entry: Source, rows: Sequence[Row], filler: Filler, numbers: Texts
) -> StimulusTable | None:
    """Fill every template of a set and gather its columns."""
    problems, before = filler.problems, len(filler.problems)
    answer = entry.answer
    texts = filler.fill(("text",), entry.text, rows)
    correct = answer and filler.fill(("answer", "correct"), answer.correct, rows)
    foil = answer and answer.foil and filler.fill(("answer", "foil"), answer.foil, rows)
    said = {name: filler.fill(("spans", name), s.text, rows) for name, s in entry.spans.items()}
    slots = slots_of(entry)
    filler.known(("slots",), slots, rows[0])
    for i, label in enumerate(entry.labels):
        filler.alike(("labels", i), label, rows)
    grouped = entry.groups not in (None, NO_GROUPS)
    for key in ("id", *(("groups",) if grouped else ())):
        filler.alike((key,), getattr(entry, key), rows)
    if len(problems) > before:
        return None
    column = entry.id or ("id" if "id" in rows[0] else None)
    ids = numbers if column is None else _column(rows, column)
    labels = {label: _column(rows, label) for label in entry.labels}
    groups = _column(rows, str(entry.groups)) if grouped else None
    if not (_unique(ids, column, filler) and _whole(ids, labels, groups, filler) and texts):
        return None
    values = tuple(tuple(as_text(row[slot]) for slot in slots) for row in rows)
    places = slot_places(entry, (ids, rows, values), filler)
    if places is None:
        return None
    return StimulusTable(
        name=filler.here[-1],
        ids=ids,
        texts=texts,
        labels=labels,
        groups=groups,
        correct=correct or None,
        foil=foil or None,
        slots=values,
        spans=span_places(entry, (ids, texts, rows), said, filler),
        places=places,
        rows=tuple(rows),
    )


def _whole(
    ids: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    groups: Sequence[str] | None,
    filler: Filler,
) -> bool:
    """P404, P407, P416: files can hold each label, and every stimulus has an id and its group."""
    problems, here, before = filler.problems, filler.here, len(filler.problems)
    filler.holdable(("id",), ids)
    for key, values in (("groups", groups or ()), *(("labels", of) for of in labels.values())):
        if filler.holdable((key,), values):
            filler.apart((key,), values)
    for number, id_ in enumerate(ids):
        if not id_.strip():
            message = f"stimulus {number + 1} of {here[-1]!r} has no id, {id_!r}"
            problems.add((*here, "id"), "P404", message)
            break
        if groups is not None and not groups[number].strip():
            message = f"stimulus {id_!r} of {here[-1]!r} has no group: leave it out by 'where'"
            problems.add((*here, "groups"), "P416", message)
            break
    return len(problems) == before


def _column(rows: Sequence[Row], name: str) -> Texts:
    return Texts(as_text(row[name]) for row in rows)


def _unique(ids: Sequence[str], column: str | None, filler: Filler) -> bool:
    """P404: stimulus ids are unique, because results are aligned by them."""
    if len(set(ids)) == len(ids):
        return True
    twice = next(i for i in ids if ids.count(i) > 1)
    message = f"stimulus id {twice!r} stands {ids.count(twice)} times in {column!r}"
    filler.problems.add((*filler.here, "id"), "P404", message)
    return False


def _corrupted(
    name: str, clean: StimulusTable, context: tuple[Problems, int, Count | None]
) -> StimulusTable | None:
    """Return a corrupted version of a set: other slots; the same ids, labels and answers.

    A span is what stands where it stood: the slot, whatever it holds now.
    """
    problems = context[0]
    if not clean.places:
        message = f"the text of {clean.name!r} does not hold its slots, or not only as slots"
        problems.add(("stimuli", name, "of"), "P405", message)
        return None
    slots = corrupt(name, clean, context)
    if slots is None:
        return None
    spans = {}
    for span, stands in clean.spans.items():
        given = zip(stands, clean.places, slots, strict=True)
        places = [moved((a, b), whole, values) for (a, b), whole, values in given]
        for id_, place in zip(clean.ids, places, strict=True):
            if place is None:
                message = f"stimulus {id_!r}: the span {span!r} of {clean.name!r} cuts a slot, "
                message += "and would be nowhere once the slot is changed"
                problems.add(("stimuli", clean.name, "spans", span), "P418", message)
                return None
        spans[span] = Ragged(place for place in places if place is not None)
    texts = Texts(map(replace_slots, clean.texts, clean.places, slots))
    return replace(clean, name=name, texts=texts, slots=tuple(slots), spans=spans, places=())
