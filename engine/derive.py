"""Derived columns, conditions on rows, and the part of them that is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.problems import Problems
from patchclamp.engine.ragged import Texts
from patchclamp.engine.rows import Row, Vocabulary, as_text
from patchclamp.registry.errors import UnknownNameError, nearest
from patchclamp.specs.characters import UNHOLDABLE
from patchclamp.specs.columns import COUNTS, NO_GROUPS
from patchclamp.specs.expression import ExpressionError, parse
from patchclamp.specs.stimuli import Source, Take
from patchclamp.specs.template import TemplateError, columns_of, render

Count = Callable[[Sequence[str]], list[int]]
"""How many tokens a model reads in each text."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Filler:
    """Fills templates from rows; `vocabularies` can be named in every row.

    The first row that cannot fill a template is reported, and no other of that template; `before`
    is how many rows the source has before those that are given. `drawn` are the vocabularies that
    columns are drawn from, one item each, so that `index(column)` has a value.
    """

    here: tuple[str, ...]
    vocabularies: Mapping[str, Vocabulary]
    problems: Problems
    before: int = 0
    drawn: Mapping[str, Vocabulary] = field(default_factory=dict)

    def names(self, row: Row) -> tuple[str, ...]:
        """Return all that a template can name."""
        return (*row, *(name for name in self.vocabularies if name not in row))

    def indexes(self, row: Row) -> dict[str, int]:
        """Return where in its vocabulary each drawn item stands; one that stands twice has none."""
        items = {name: list(map(as_text, vocabulary)) for name, vocabulary in self.drawn.items()}
        return {
            name: of.index(as_text(row[name]))
            for name, of in items.items()
            if name in row and of.count(as_text(row[name])) == 1
        }

    def known(self, path: Path, columns: Sequence[str], row: Row) -> bool:
        """Return whether every column is there; P402 where one is not."""
        names = self.names(row)
        missing = [column for column in columns if column not in names]
        for column in missing:
            self.problems.add(
                (*self.here, *path),
                "P402",
                f"stimulus set {self.here[-1]!r} has no column {column!r}",
                allowed=names,
                suggestion=nearest(column, names),
            )
        return not missing

    def fill(self, path: Path, template: str, rows: Sequence[Row]) -> Texts | None:
        """Return a template filled from each row, or None after P402 or P416."""
        if rows and not self.known(path, columns_of(template), rows[0]):
            return None
        filled = []
        for number, row in enumerate(rows):
            try:
                values = {**self.vocabularies, **row}
                filled.append(render(template, values, indexes=self.indexes(row)))
            except (TemplateError, ExpressionError, UnknownNameError) as error:
                self.no_value(path, number, error)
                return None
        return Texts(filled) if self.holdable(path, filled) else None

    def holdable(self, path: Path, texts: Sequence[str]) -> bool:
        """Return whether files and models can hold what each row gives; P407 for the first not."""
        if not any(map(UNHOLDABLE.search, texts)):
            return True
        number = next(i for i, text in enumerate(texts) if UNHOLDABLE.search(text))
        message = (
            f"row {self.before + number + 1}: {texts[number]!r} holds NUL or half a surrogate "
            "pair, which no tokenizer and no result file can hold; correct the source"
        )
        self.problems.add((*self.here, *path), "P407", message)
        return False

    def apart(self, path: Path, values: Sequence[str]) -> None:
        """P428: no two values of a label differ only by spaces around them."""
        seen: dict[str, str] = {}
        for value in dict.fromkeys(values):
            other = seen.setdefault(value.strip(), value)
            if other != value:
                message = f"{other!r} and {value!r} differ by spaces only, and would be two"
                self.problems.add((*self.here, *path), "P428", message)
                return

    def alike(self, path: Path, column: str | None, rows: Sequence[Row]) -> None:
        """P402, P428: a column is there, if one is named, and none of its values are one class or
        two by how they are written."""
        if column is None or not self.known(path, (column,), rows[0]):
            return
        texts: dict[str, Any] = {}
        numbers: dict[Any, Any] = {}
        for value in (row[column] for row in rows):
            other = texts.setdefault(as_text(value), value)
            why = "one is text, and they would be one"
            if isinstance(other, str) == isinstance(value, str):
                other = numbers.setdefault(value, value) if type(value) in (int, float) else value
                why = "they are one number, and would be two"
                if as_text(other) == as_text(value):
                    continue
            first, second = (repr(v) if isinstance(v, str) else as_text(v) for v in (other, value))
            message = f"the {column} is {first} and {second}: {why}; write them alike"
            self.problems.add((*self.here, *path), "P428", message)
            return

    def no_value(self, path: Path, number: int, error: Exception) -> None:
        """P416: a row for which a template or condition has no value."""
        self.problems.add((*self.here, *path), "P416", f"row {self.before + number + 1}: {error}")


def with_columns(entry: Source, rows: list[Row], filler: Filler) -> list[Row] | None:
    """Return rows with the set's `columns`, each made from those that stand before it."""
    for name, template in entry.columns.items():
        made = filler.fill(("columns", name), template, rows)
        if made is None:
            return None
        rows = [{**row, name: value} for row, value in zip(rows, made, strict=True)]
    return rows


def where(
    entry: Source, rows: list[Row], filler: Filler, count: Count | None
) -> Sequence[int] | None:
    """Return the numbers of the rows that meet the set's condition; None after P402 or P416.

    `words` counts what stands between spaces of a text; `tokens` all that the model reads, BOS
    included. Without a model to count for, a condition on tokens holds for every row.
    """
    every = range(len(rows))
    if entry.where is None:
        return every
    condition, path = parse(entry.where), ("where",)
    counts = [name for name in COUNTS if name in condition.names]
    if "tokens" in counts and count is None:
        return every
    if rows and not filler.known(path, [n for n in condition.names if n not in COUNTS], rows[0]):
        return None
    texts = filler.fill(("text",), entry.text, rows) if counts else ()
    if texts is None:
        return None
    lengths = count(texts) if "tokens" in counts and count is not None else []
    kept = []
    for number, row in enumerate(rows):
        values = {**filler.vocabularies, **row}
        if "words" in counts:
            values["words"] = len(texts[number].split())
        if "tokens" in counts:
            values["tokens"] = lengths[number]
        try:
            if condition.evaluate_bool(values, indexes=filler.indexes(row)):
                kept.append(number)
        except ExpressionError as error:
            filler.no_value(path, number, error)
            return None
    return kept


def take(chosen: Take, rows: Sequence[Row], filler: Filler, seed: int) -> list[int] | None:
    """Return the numbers of the rows that are taken, in their order; None after P402 or P417.

    A random part is drawn without replacement, for each value of `by` from a stream of its own.
    """
    if chosen.by is not None and rows and not filler.known(("take", "by"), [chosen.by], rows[0]):
        return None
    sorts: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        value = as_text(row[chosen.by]) if chosen.by is not None else ""
        sorts.setdefault(value, []).append(number)
    if chosen.by is not None and "" in map(str.strip, sorts):
        number = next(of[0] for value, of in sorts.items() if not value.strip())
        message = f"row {filler.before + number + 1} has no {chosen.by}: leave it out by 'where'"
        filler.problems.add((*filler.here, "take", "by"), "P416", message)
        return None
    for value, numbers in sorts.items():
        if len(numbers) < chosen.n and not chosen.fewer:
            of = f" with {chosen.by} {value!r}" if chosen.by is not None else ""
            filler.problems.add(
                (*filler.here, "take", "n"),
                "P417",
                f"{chosen.n} stimuli are to be taken{of}, and there are {len(numbers)}; "
                "write 'fewer: true' if that is enough",
            )
            return None
    return sorted(
        number
        for value, numbers in sorts.items()
        for number in _taken(chosen, value, numbers, filler, seed)
    )


def _taken(chosen: Take, value: str, numbers: list[int], filler: Filler, seed: int) -> list[int]:
    if chosen.draw == "first" or len(numbers) <= chosen.n:
        return numbers[: chosen.n]
    seeds = Seeds(seed, f"stimuli.{filler.here[-1]}.take")
    drawn = seeds.generator(value).choice(len(numbers), chosen.n, replace=False)
    return [numbers[int(i)] for i in drawn]


def split(entry: Source, rows: list[Row], filler: Filler, seed: int) -> Texts | None:
    """Return the part that each row is in; None after P402 or P417.

    Rows that share a value of `by`, or a group, are in one part. What is tied is shuffled, then
    dealt from the largest to the smallest, each to the part that lacks most of its share.
    """
    parts = entry.split
    assert parts is not None
    columns = [column for column in (parts.by, entry.groups) if column not in (None, NO_GROUPS)]
    for key, column in (("split", parts.by), ("groups", entry.groups)):
        path = (key, "by") if key == "split" else (key,)
        if column in columns and not filler.known(path, [str(column)], rows[0]):
            return None
    tied = _tied([[as_text(row[str(column)]) for row in rows] for column in columns], len(rows))
    sizes = np.bincount(tied)
    order = Seeds(seed, f"stimuli.{filler.here[-1]}").generator("split").permutation(len(sizes))
    lacking = {part: share * len(rows) for part, share in parts.parts.items()}
    chosen = {}
    for number in order[np.argsort(-sizes[order], kind="stable")]:
        part = max(lacking, key=lambda name: lacking[name])
        chosen[int(number)] = part
        lacking[part] -= sizes[number]
    empty = [part for part in parts.parts if part not in chosen.values()]
    if empty:
        what = "groups of stimuli" if columns else "stimuli"
        message = f"nothing is left for the part {empty[0]!r}: {len(sizes)} {what}, "
        filler.problems.add(
            (*filler.here, "split", "parts", empty[0]),
            "P417",
            f"{message}{len(parts.parts)} parts",
        )
        return None
    return Texts(chosen[int(number)] for number in tied)


def _tied(columns: Sequence[Sequence[str]], n: int) -> NDArray[np.int64]:
    """Return a number for each row, the same for rows that share a value of some column."""
    if not columns:
        return np.arange(n)
    links = [np.unique(np.asarray(column), return_inverse=True)[1] for column in columns]
    offsets = np.cumsum([0, *(int(link.max()) + 1 for link in links)])
    ends = np.concatenate([link + offset for link, offset in zip(links, offsets, strict=False)])
    starts = np.tile(np.arange(n), len(links))
    size = n + int(offsets[-1])
    graph = coo_array((np.ones(len(starts)), (starts, ends + n)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][:n], dtype=np.int64)
