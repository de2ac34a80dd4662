"""Slots are whole words in order, or where a template puts them; replacing can be undone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.engine.places import find_slots, locate_slots, moved, replace_slots


def test_slots_are_whole_words_in_order() -> None:
    text, words = "In May, not Mayor; in June (July).", ["May", "June", "July"]
    places = tuple((place,) for place in find_slots(text, words))
    assert [text[a:b] for ((a, b),) in places] == words
    assert replace_slots(text, places, ["June", "July", "May"]) == (
        "In June, not Mayor; in July (May)."
    )


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("May June", ["May", "July"], "slot value 'July' does not stand in 'May June'"),
        ("June May", ["May", "June"], "slot value 'June' does not stand in 'June May' after 8"),
        ("May May June", ["May", "June"], "slot value 'May' stands 2 times .*: ambiguous"),
    ],
)
def test_slots_that_do_not_match_their_text_are_refused(
    text: str, values: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_slots(text, values)


def test_a_slot_that_a_template_names_twice_stands_in_both_places() -> None:
    row = {"a": "x", "b": "x"}
    places = locate_slots("{a}{b} {a}", row, ["a", "b"], ["x", "x"])
    assert places == (((0, 1), (3, 4)), ((1, 2),))
    assert replace_slots("xx x", places, ["long", ""]) == "long long"


def test_a_slot_behind_another_column_is_searched_for() -> None:
    row = {"prompt": "in May, June", "a": "May", "b": "June"}
    assert locate_slots("{prompt}", row, ["a", "b"], ["May", "June"]) == (((3, 6),), ((8, 12),))


WORDS = st.lists(st.text("abcxyz", min_size=1, max_size=3), min_size=1, max_size=6)


@given(WORDS, st.data())
def test_replacing_back_gives_the_text_back(words: list[str], data: st.DataObject) -> None:
    template = "; ".join(f"in {{s{n}}}." for n in range(len(words)))
    slots = [f"s{n}" for n in range(len(words))]
    other = data.draw(st.permutations(words).map(lambda p: [word * 2 for word in p]))

    def written(values: list[str]) -> tuple[str, tuple[tuple[tuple[int, int], ...], ...]]:
        row = dict(zip(slots, values, strict=True))
        text = template.format(**row)
        return text, locate_slots(template, row, slots, values)

    text, places = written(words)
    changed, there = written(other)
    assert replace_slots(text, places, other) == changed
    assert replace_slots(changed, there, words) == text
    for before, after in zip(places, there, strict=True):
        assert moved(before[0], places, other) == after[0]
    assert moved((0, len(text)), places, other) == (0, len(changed))


def test_a_stretch_that_cuts_a_slot_is_nowhere_after_it_changed() -> None:
    places = (((3, 6),),)
    assert moved((4, 9), places, ["August"]) is None
    assert moved((0, 5), places, ["August"]) is None
    assert moved((0, 2), places, ["August"]) == (0, 2)
    assert moved((7, 9), places, ["August"]) == (10, 12)
    assert moved((2, 7), places, ["August"]) == (2, 10)
