"""Slots: where in its text each value stands that may be rearranged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from patchclamp.specs.template import filled

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
    found: dict[str | None, list[Place]] = {}
    text = ""
    for column, piece in filled(template, row):
        found.setdefault(column, []).append((len(text), len(text) + len(piece)))
        text += piece
    if all(slot in found for slot in slots):
        return tuple(tuple(found[slot]) for slot in slots)
    return tuple((place,) for place in find_slots(text, values))


def find_slots(text: str, values: Sequence[str]) -> list[Place]:
    """Return where values stand in a text, which must say them as whole words, in order.

    >>> find_slots("1 11 1", ["1", "11", "1"])
    [(0, 1), (2, 4), (5, 6)]
    """
    places: list[Place] = []
    at = 0
    for value in values:
        found = _word(value).search(text, at)
        if found is None:
            raise ValueError(f"slot value {value!r} does not stand in {text!r} after {at}")
        places.append(found.span())
        at = found.end()
    for value in dict.fromkeys(values):
        stands = len(_word(value).findall(text))
        if stands != list(values).count(value):
            raise ValueError(f"slot value {value!r} stands {stands} times in {text!r}: ambiguous")
    return places


def _word(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")


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
