"""Places: where in its text a slot stands, whose value may be rearranged, or a span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from patchclamp.engine.derive import Filler
from patchclamp.engine.ragged import Ragged
from patchclamp.engine.rows import Row
from patchclamp.engine.spans import SpanError, find, occurrences
from patchclamp.specs.columns import slots_of
from patchclamp.specs.stimuli import Source
from patchclamp.specs.template import filled, render

Place = tuple[int, int]
"""The first and one past the last character of a stretch of text."""

Places = tuple[tuple[Place, ...], ...]
"""Where each slot stands, mostly once."""


def locate_slots(
    template: str, row: Mapping[str, object], slots: Sequence[str], values: Sequence[str]
) -> Places:
    """Return where each slot stands in a filled template.

    A slot that the template names is where it is filled in; otherwise the text is searched.
    Raises `ValueError` where a slot does not stand in the text, or not only as a slot.

    >>> locate_slots("In {a}, {b}.", {"a": "May", "b": "In"}, ["a", "b"], ["May", "In"])
    (((3, 6),), ((8, 10),))
    """
    found = located(template, row)
    if all(slot in found for slot in slots):
        return tuple(tuple(found[slot]) for slot in slots)
    return tuple((place,) for place in find_slots(render(template, row), values))


def located(template: str, row: Mapping[str, object]) -> dict[str | None, list[Place]]:
    """Return where each column stands that a template names plainly; what is none, under None.

    >>> located("{a}+{b}", {"a": "x", "b": "yy"})
    {'a': [(0, 1)], None: [(1, 2)], 'b': [(2, 4)]}
    """
    found: dict[str | None, list[Place]] = {}
    at = 0
    for column, piece in filled(template, row):
        found.setdefault(column, []).append((at, at + len(piece)))
        at += len(piece)
    return found


def find_slots(text: str, values: Sequence[str]) -> list[Place]:
    """Return where values stand in a text, which must say them as whole words, in order.

    >>> find_slots("1 11 1", ["1", "11", "1"])
    [(0, 1), (2, 4), (5, 6)]
    """
    places: list[Place] = []
    at = 0
    for value in values:
        found = next((place for place in occurrences(text, value) if place[0] >= at), None)
        if found is None:
            raise ValueError(f"slot value {value!r} does not stand in {text!r} after {at}")
        places.append(found)
        at = found[1]
    for value in dict.fromkeys(values):
        stands = len(occurrences(text, value))
        if stands != list(values).count(value):
            raise ValueError(f"slot value {value!r} stands {stands} times in {text!r}: ambiguous")
    return places


def replace_slots(text: str, places: Places, values: Sequence[str]) -> str:
    """Put other values where the slots of a text stand.

    >>> replace_slots("In May, June.", (((3, 6),), ((8, 12),)), ["June", "May"])
    'In June, May.'
    """
    parts, position = [], 0
    for (start, end), value in _in_order(places, values):
        parts += [text[position:start], value]
        position = end
    return "".join([*parts, text[position:]])


def moved(place: Place, places: Places, values: Sequence[str]) -> Place | None:
    """Return where a stretch of text is once other values stand in the slots.

    It may hold whole slots or parts of the text between them; None if it cuts a slot.

    >>> moved((3, 6), (((3, 6),), ((8, 12),)), ["June", "May"])
    (3, 7)
    """
    start, end = place
    shift_start = shift_end = 0
    for (a, b), value in _in_order(places, values):
        if a < start < b or a < end < b:
            return None
        longer = len(value) - (b - a)
        shift_start += longer if b <= start else 0
        shift_end += longer if b <= end else 0
    return start + shift_start, end + shift_end


def _in_order(places: Places, values: Sequence[str]) -> list[tuple[Place, str]]:
    return sorted(
        (place, value) for stands, value in zip(places, values, strict=True) for place in stands
    )


def slot_places(
    entry: Source,
    made: tuple[Sequence[str], Sequence[Row], tuple[tuple[str, ...], ...]],
    filler: Filler,
) -> tuple[Places, ...] | None:
    """Return where the slots of each stimulus stand in its text; None after P405.

    The slots that a bundled set comes with are of no concern where the text leaves some out.
    """
    ids, rows, values = made
    slots, places = slots_of(entry), []
    for id_, row, said in zip(ids, rows, values, strict=True):
        try:
            places.append(locate_slots(entry.text, {**filler.vocabularies, **row}, slots, said))
        except ValueError as error:
            if not entry.slots:
                return ()
            message = f"stimulus {id_!r}: {error}"
            filler.problems.add((*filler.here, "slots"), "P405", message)
            return None
    return tuple(places)


def span_places(
    entry: Source,
    made: tuple[Sequence[str], Sequence[str], Sequence[Row]],
    said: Mapping[str, Sequence[str] | None],
    filler: Filler,
) -> dict[str, Ragged]:
    """Return where each span stands in each text; none at all after P418.

    A span that is a column which the text names once stands there, whatever else says the same.
    """
    found: dict[str, Ragged] = {}
    ids, texts, rows = made
    for name, span in entry.spans.items():
        places = Ragged()
        for id_, text, row, words in zip(ids, texts, rows, said[name] or (), strict=True):
            try:
                (own, _), *more = filled(span.text, {**filler.vocabularies, **row})
                holes = located(entry.text, {**filler.vocabularies, **row}).get(own, [])
                exact = own is not None and not more and len(holes) == 1
                places.append(holes[0] if exact else find(text, words, span.occurrence))
            except SpanError as error:
                message = f"stimulus {id_!r}: {error}"
                filler.problems.add((*filler.here, "spans", name), "P418", message)
                return {}
        found[name] = places
    return found
