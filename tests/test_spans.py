"""Spans fall on whole words and whole tokens; windows never leave their text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.engine.spans import (
    PositionError,
    SpanError,
    Stimulus,
    find,
    lay,
    resolve,
    tokens_of,
)
from patchclamp.specs.positions import Window


@pytest.mark.parametrize(
    ("text", "said", "occurrence", "place"),
    [
        ("one, two.", "two", "only", (5, 8)),
        ("1 11 1", "1", "first", (0, 1)),
        ("1 11 1", "1", "last", (5, 6)),
        ("1 11 1", "11", "only", (2, 4)),
        ("a (b) c", "(b)", "only", (2, 5)),
        ("Mayor May", " May", "only", (5, 9)),
        ("1 1 1", "1 1", "last", (2, 5)),
        ("11 1 1", "1 1", "only", (3, 6)),
        # Accents, vowel signs and the parts of an emoji do not stand alone.
        ("cafe\u0301 cafe", "cafe", "only", (6, 10)),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u0939\u093f\u0928",
            "\u0939\u093f\u0928",
            "only",
            (7, 10),
        ),
        ("\U0001f468\u200d\U0001f467 \U0001f468", "\U0001f468", "only", (4, 5)),
        ("\U0001f44d\U0001f3fd \U0001f44d", "\U0001f44d", "only", (3, 4)),
        ("a\r\nb\r\n", "b", "only", (3, 4)),
        ("\u6211\u7231 \u4f60", "\u4f60", "only", (3, 4)),
    ],
)
def test_a_span_is_whole_words(
    text: str, said: str, occurrence: str, place: tuple[int, int]
) -> None:
    assert find(text, said, occurrence) == place


@pytest.mark.parametrize(
    ("text", "said", "message"),
    [
        ("Mayor", "May", "'May' does not stand in 'Mayor'"),
        ("a a", "a", "'a' stands 2 times in 'a a'; say which with 'occurrence: first' or 'last'"),
        ("a", "", "'' does not stand in 'a'"),
        (
            "1 1 1",
            "1 1",
            "'1 1' stands 2 times in '1 1 1'; say which with 'occurrence: first' or 'last'",
        ),
    ],
)
def test_a_span_that_is_not_there_once(text: str, said: str, message: str) -> None:
    with pytest.raises(SpanError, match=f"^{re.escape(message)}$"):
        find(text, said)


def test_a_leading_space_belongs_to_a_token_and_other_text_does_not() -> None:
    text, offsets = "in May.", ((0, 0), (0, 2), (2, 6), (6, 7))
    assert tokens_of(text, (3, 6), offsets) == range(2, 3)
    with pytest.raises(SpanError, match=r"^'May' shares the token 'May\.' with its neighbour$"):
        tokens_of(text, (3, 6), ((0, 3), (3, 7)))
    with pytest.raises(SpanError, match=r"^'May' has no token$"):
        tokens_of(text, (3, 6), ((0, 3), (0, 0)))


def stimulus(n: int, lead: int = 0) -> Stimulus:
    places = tuple((i, i + 1) for i in range(n))
    return Stimulus("x" * n, places, lead, {"item": range(1, 3)})


@pytest.mark.parametrize(
    ("anchor", "tokens"),
    [
        ("first", [0]),
        ("last", [4]),
        ("answer", [4]),
        ("all", [0, 1, 2, 3, 4]),
        (0, [0]),
        (-5, [0]),
        ("item", [1, 2]),
        ("item.first", [1]),
        ("item.last", [2]),
        ("item.all", [1, 2]),
    ],
)
def test_a_position_by_name_or_number(anchor: str | int, tokens: list[int]) -> None:
    assert list(resolve(anchor, stimulus(5))) == tokens


@pytest.mark.parametrize("anchor", [5, -6])
def test_a_number_beyond_the_text(anchor: int) -> None:
    with pytest.raises(PositionError, match=f"has 5 tokens and no position {anchor}"):
        resolve(anchor, stimulus(5))


def window(**keys: object) -> Window:
    return Window(kind="window", **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "tokens"),
    [
        ({"align": "left", "size": 2}, [1, 2]),
        ({"align": "left", "size": 2, "skip": "none"}, [0, 1]),
        ({"align": "centre", "before": 1, "after": 1}, [1, 2, 3]),
        ({"align": "item", "before": 1, "after": 1}, [1, 2, 3]),
        ({"align": "item.first", "before": 0, "after": 2}, [1, 2, 3]),
    ],
)
def test_a_window_skips_bos(keys: dict[str, object], tokens: list[int]) -> None:
    assert list(lay(window(**keys), stimulus(5, lead=1))) == tokens


@given(st.integers(1, 12), st.integers(0, 1), st.integers(0, 6), st.integers(0, 6))
def test_a_window_lies_in_its_text_or_is_refused(
    n: int, lead: int, before: int, after: int
) -> None:
    n += lead
    laid, size = window(align="centre", before=before, after=after), before + after + 1
    middle = lead + (n - lead - 1) // 2
    if middle - before < lead or middle + after >= n:
        with pytest.raises(PositionError, match=rf"lacks \d+ of its {size}$"):
            lay(laid, stimulus(n, lead))
    else:
        assert lay(laid, stimulus(n, lead)) == range(middle - before, middle + after + 1)
