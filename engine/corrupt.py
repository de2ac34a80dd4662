"""Corrupted sets: another set's slots rearranged, its words, labels and answers kept.

1. Every stimulus draws from a stream of its own, named by its id: leaving out others changes
   nothing for it.
2. What leaves the text as it was, or meets the condition of `reject_if`, is drawn again, all
   that are left over at a time, so that a tokenizer counts them together.
3. Spans stay with the slots and words that they are in the clean text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, permutations
from typing import Any, Protocol

import numpy as np

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.derive import Count
from patchclamp.engine.generate import vocabularies_of
from patchclamp.engine.places import Places, replace_slots
from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import Row, Vocabulary, as_text
from patchclamp.specs.columns import CLEAN, slots_of
from patchclamp.specs.expression import ExpressionError, parse
from patchclamp.specs.stimuli import Corrupt, Source, Template

DRAWS = 1000
"""Draws after which a stimulus counts as one that cannot be corrupted as asked."""

_ENUMERABLE = 8
"""Slots up to which every order is tried; 8! = 40,320 takes a blink, 9! does not."""

Pool = tuple[tuple[Any, ...], ...]
"""For each slot of a stimulus, the values that it may be given."""


class CorruptError(ValueError):
    """A stimulus that cannot be corrupted as asked."""


class Slotted(Protocol):
    """A stimulus set whose slots are known."""

    @property
    def ids(self) -> Sequence[str]:
        """Names of the stimuli."""

    @property
    def texts(self) -> Sequence[str]:
        """Their texts."""

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Their labels."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Their columns."""

    @property
    def places(self) -> tuple[Places, ...]:
        """Where in its text each slot stands."""


class Vocabularies:
    """The vocabularies of a set, and which of them a slot's value is of."""

    def __init__(self, origin: Source) -> None:
        self.by_name = vocabularies_of(origin) if isinstance(origin, Template) else {}
        self._places: dict[str, dict[str, int]] = {}
        for name, items in self.by_name.items():
            for number, item in enumerate(items):
                self._places.setdefault(as_text(item), {}).setdefault(name, number)

    def place(self, row: Row, value: Any) -> tuple[str, int] | None:
        """Return the vocabulary that a value is of, the stimulus's own or the only one, and where.

        Raises `CorruptError` where it is in several.
        """
        places = self._places.get(as_text(value), {})
        if len(places) > 1:
            own = {v.name for v in row.values() if isinstance(v, Vocabulary)}
            places = {name: at for name, at in places.items() if name in own} or places
        if len(places) > 1:
            names = ", ".join(places)
            raise CorruptError(
                f"slot value {as_text(value)!r}: it is in several vocabularies: {names}"
            )
        return next(iter(places.items()), None)


@dataclass(frozen=True)
class Work:
    """What corrupts a set: its entry, its origin's entry and table, and what each slot draws."""

    entry: Corrupt
    origin: Source
    clean: Slotted
    pools: tuple[Pool, ...]
    count: Count | None

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots."""
        return slots_of(self.origin)

    @cached_property
    def vocabularies(self) -> Vocabularies:
        """Vocabularies of the origin."""
        return Vocabularies(self.origin)


def corrupt(
    name: str, clean: Slotted, context: tuple[Problems, int, Count | None]
) -> list[tuple[str, ...]] | None:
    """Return the slot values of a corrupted set, or None after P405 or P416."""
    problems, seed, count = context
    entry = problems.loaded.spec.stimuli[name]
    assert isinstance(entry, Corrupt)
    origin = problems.loaded.spec.stimuli[str(entry.of)]
    assert not isinstance(origin, Corrupt), "the loader refuses what is corrupt twice"
    try:
        pools = tuple(_pools(entry, origin, clean)) if entry.slots == "redraw" else ()
        return _drawn(Work(entry, origin, clean, pools, count), Seeds(seed, f"stimuli.{name}"))
    except CorruptError as error:
        problems.add(("stimuli", name), "P405", f"cannot corrupt {error}")
    except ExpressionError as error:
        problems.add(("stimuli", name, "reject_if"), "P416", str(error))
    return None


def _drawn(work: Work, seeds: Seeds) -> list[tuple[str, ...]]:
    """Return the new slot values of every stimulus, drawing again what is rejected."""
    ids = work.clean.ids
    if len(work.slots) < 2 and work.entry.slots == "shuffle":
        raise CorruptError("a set with one slot: there is nothing to shuffle")
    streams = [seeds.generator(f"{work.entry.slots}/{id_}") for id_ in ids]
    values: list[tuple[Any, ...]] = [()] * len(ids)
    left = list(range(len(ids)))
    for _ in range(DRAWS):
        for row in left:
            values[row] = _draw(work, row, streams[row])
        left = _rejected(work, left, values)
        if not left:
            return [tuple(map(as_text, drawn)) for drawn in values]
    row = left[0]
    asked = f"is left as it was, or meets {work.entry.reject_if!r}," if work.entry.reject_if else (
        "is left as it was"
    )  # fmt: skip
    raise CorruptError(f"stimulus {ids[row]!r}: {work.clean.texts[row]!r} {asked} in {DRAWS} draws")


def _draw(work: Work, row: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Draw the slots of one stimulus: its own in another order, or others from its pools."""
    if work.entry.slots == "shuffle":
        given = tuple(work.clean.rows[row][slot] for slot in work.slots)
        return tuple(given[i] for i in shuffled_order(len(given), rng))
    return tuple(pool[int(rng.integers(len(pool)))] for pool in work.pools[row])


def _rejected(work: Work, rows: Sequence[int], values: Sequence[tuple[Any, ...]]) -> list[int]:
    """Return those of some stimuli that must be drawn again."""
    clean = work.clean
    texts = {
        row: replace_slots(clean.texts[row], clean.places[row], list(map(as_text, values[row])))
        for row in rows
    }
    same = [row for row in rows if texts[row] == clean.texts[row]]
    if work.entry.reject_if is None:
        return same
    condition = parse(work.entry.reject_if)
    counted = _counts(work, condition.names, texts)
    rejected = set(same)
    for row in rows:
        given = {f"{CLEAN}{slot}": clean.rows[row][slot] for slot in work.slots}
        now = dict(zip(work.slots, values[row], strict=True))
        names = {**work.vocabularies.by_name, **clean.rows[row], **given, **now, **counted[row]}
        if condition.evaluate_bool(names, indexes=_indexes(work, row, {**given, **now})):
            rejected.add(row)
    return [row for row in rows if row in rejected]


def _counts(
    work: Work, names: Sequence[str], texts: Mapping[int, str]
) -> dict[int, dict[str, int]]:
    """Return numbers of tokens, of the corrupted texts and the clean ones, where they are asked."""
    asked = {"tokens": texts, f"{CLEAN}tokens": {row: work.clean.texts[row] for row in texts}}
    found: dict[int, dict[str, int]] = {row: {} for row in texts}
    for name, of in asked.items():
        if name in names:
            # Without a model to count for, no count rejects anything.
            counted = work.count(list(of.values())) if work.count else [0] * len(of)
            for row, number in zip(of, counted, strict=True):
                found[row][name] = number
    return found


def _indexes(work: Work, row: int, values: Mapping[str, Any]) -> dict[str, int]:
    """Return where in its vocabulary each slot's value stands, for those that are of one."""
    places = {
        name: work.vocabularies.place(work.clean.rows[row], value) for name, value in values.items()
    }
    return {name: place[1] for name, place in places.items() if place is not None}


def _pools(entry: Corrupt, origin: Source, clean: Slotted) -> Iterator[Pool]:
    """Yield what each slot of each stimulus is drawn from."""
    slots = slots_of(origin)
    vocabularies = Vocabularies(origin)
    if vocabularies.by_name:
        for id_, row in zip(clean.ids, clean.rows, strict=True):
            yield tuple(_members(vocabularies, (id_, row), row[slot]) for slot in slots)
        return
    shared = clean.labels[entry.within] if entry.within else ("",) * len(clean.ids)
    values: dict[str, dict[Any, None]] = {}
    for label, row in zip(shared, clean.rows, strict=True):
        values.setdefault(label, {}).update((row[slot], None) for slot in slots)
    for label in shared:
        yield (tuple(values[label]),) * len(slots)


def _members(vocabularies: Vocabularies, stimulus: tuple[str, Row], value: Any) -> tuple[Any, ...]:
    """Return the members of the vocabulary that a slot's value is of, written as it is."""
    id_, row = stimulus
    place = vocabularies.place(row, value)
    if place is None:
        known = ", ".join(vocabularies.by_name)
        raise CorruptError(f"stimulus {id_!r}: {as_text(value)!r} is in no vocabulary ({known})")
    items = vocabularies.by_name[place[0]]
    return tuple(as_text(item) if isinstance(value, str) else item for item in items)


def shuffled_order(n: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw an order of `n` slots in which as few neighbours as possible stay neighbours.

    A plain shuffle often leaves runs such as *May June*, which still say what comes next.
    """
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
