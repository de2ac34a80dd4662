"""Corrupting keeps the words and breaks the order; slots must be where the spec says they are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.engine.stimuli import replace_slots, shuffled_order


@given(st.integers(2, 30), st.integers(0, 2**32))
def test_a_shuffle_is_another_order_of_the_same_slots(n: int, seed: int) -> None:
    order = shuffled_order(n, np.random.default_rng(seed))
    assert sorted(order) == list(range(n))
    assert order != tuple(range(n))


@given(st.integers(4, 30), st.integers(0, 2**32))
def test_no_neighbours_stay_neighbours_in_either_direction(n: int, seed: int) -> None:
    order = shuffled_order(n, np.random.default_rng(seed))
    assert all(abs(a - b) != 1 for a, b in pairwise(order))


def test_every_best_order_is_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = {shuffled_order(4, rng) for _ in range(100)}
    assert drawn == {(1, 3, 0, 2), (2, 0, 3, 1)}
    assert {shuffled_order(2, rng) for _ in range(20)} == {(1, 0)}


@pytest.mark.parametrize(("n", "words"), [(0, "0 slots"), (1, "1 slot has")])
def test_fewer_than_two_slots_cannot_be_shuffled(n: int, words: str) -> None:
    with pytest.raises(ValueError, match=f"a set with {words}"):
        shuffled_order(n, np.random.default_rng(0))


def test_slots_are_whole_words_in_order() -> None:
    text = "In May, not Mayor; in June (July)."
    assert replace_slots(text, ["May", "June", "July"], ["June", "July", "May"]) == (
        "In June, not Mayor; in July (May)."
    )
    assert replace_slots("1 11 1", ["1", "11", "1"], ["11", "1", "1"]) == "11 1 1"


@pytest.mark.parametrize(
    ("text", "old", "message"),
    [
        ("May June", ["May", "July"], "slot value 'July' does not stand in 'May June'"),
        ("June May", ["May", "June"], "slot value 'June' does not stand in 'June May' after 8"),
        ("May May June", ["May", "June"], "slot value 'May' stands 2 times .*: ambiguous"),
    ],
)
def test_slots_that_do_not_match_their_text_are_refused(
    text: str, old: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace_slots(text, old, list(reversed(old)))


def test_a_shuffle_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="shuffling leaves 'a a' as it was"):
        replace_slots("a a", ["a", "a"], ["a", "a"])


@given(st.lists(st.text("abcxyz", min_size=1, max_size=3), min_size=2, max_size=6, unique=True))
def test_swapping_back_gives_the_text_back(words: list[str]) -> None:
    text = "; ".join(f"in {word}." for word in words if word != "in")
    old = [word for word in words if word != "in"]
    if len(old) < 2:
        return
    new = [*old[1:], old[0]]
    there = replace_slots(text, old, new)
    assert replace_slots(there, new, old) == text
