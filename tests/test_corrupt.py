"""Corrupting keeps answers and breaks the order; conditions hold; each stimulus draws alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from patchclamp.engine.corrupt import shuffled_order
from patchclamp.engine.plan import make_plan
from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.specs.load import loads


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


HEAD = "patchclamp: 1\nname: t\nmodel: {id: llama}\nstimuli:\n"
MONTHS = "[January, February, March, April, May, June, July, August]"
MADE = HEAD + (
    "  clean:\n    kind: template\n    vocabularies:\n"
    f"      months: {MONTHS}\n      numerals: ['1', '2', '3', '4', '5', '6', '7', '8']\n"
    "    for: {seq: [months, numerals], i: 0..3}\n"
    '    columns: {s1: "{seq[i]}", s2: "{seq[i + 1]}", s3: "{seq[i + 2]}", next: "{seq[i + 3]}"}\n'
    "    text: 'in {s1}. in {s2}. in {s3}. in'\n    labels: [seq]\n    groups: none\n"
    "    slots: [s1, s2, s3]\n    answer: {correct: ' {next}', foil: ' {s3}'}\n"
    "  bad: {kind: corrupt, of: clean, CHOICE}\n"
)


def both(text: str, seed: int = 0) -> tuple[StimulusTable, StimulusTable]:
    problems = Problems(loads(text))
    tables = read_stimuli(problems, seed)
    assert not problems.found, problems.found
    return tables["clean"], tables["bad"]


def told(text: str) -> list[tuple[str, str]]:
    problems = Problems(loads(text))
    read_stimuli(problems, 0)
    return [(found.code, found.message) for found in problems.found]


@pytest.mark.parametrize("choice", ["slots: shuffle", "slots: redraw"])
def test_only_slots_change_and_the_text_says_them(choice: str) -> None:
    clean, bad = both(MADE.replace("CHOICE", choice))
    assert (bad.ids, bad.labels, bad.groups) == (clean.ids, clean.labels, clean.groups)
    assert (bad.correct, bad.foil) == (clean.correct, clean.foil)
    for text, said, was in zip(bad.texts, bad.slots, clean.texts, strict=True):
        assert text == "in {}. in {}. in {}. in".format(*said)
        assert text != was


def test_a_shuffle_keeps_the_words_and_a_redraw_takes_others_of_their_vocabulary() -> None:
    clean, shuffled = both(MADE.replace("CHOICE", "slots: shuffle"))
    assert all(sorted(a) == sorted(b) for a, b in zip(shuffled.slots, clean.slots, strict=True))
    drawn = [both(MADE.replace("CHOICE", "slots: redraw"), seed)[1] for seed in range(40)]
    values = {
        sort: {
            value
            for table in drawn
            for slots, seq in zip(table.slots, table.labels["seq"], strict=True)
            if seq == sort
            for value in slots
        }
        for sort in ("months", "numerals")
    }
    # August and 8 are in the vocabularies and in no clean slot
    assert values["months"] == set(MONTHS[1:-1].split(", "))
    assert values["numerals"] == set("12345678")


def test_a_redraw_is_uniform_over_the_vocabulary() -> None:
    text = MADE.replace("0..3", "0..3, rep: 0..99").replace("CHOICE", "slots: redraw")
    counts = Counter(value for slots in both(text)[1].slots for value in slots)
    assert len(counts) == 16
    # 1200 draws of 8 for each vocabulary: 150 expected, standard deviation 11
    assert all(100 < count < 200 for count in counts.values())


def test_a_condition_rejects_what_still_is_a_sequence() -> None:
    text = MADE.replace("0..3", "0..3, rep: 0..49")
    months = MONTHS[1:-1].split(", ")

    def follows(text: str) -> int:
        bad = both(text)[1]
        return sum(
            (b == str(int(a) + 1)) if a.isdigit() else months.index(b) == months.index(a) + 1
            for _, a, b in bad.slots
        )

    rule = '"index(s3) == index(s2) + 1"'
    assert follows(text.replace("CHOICE", "slots: redraw")) > 10
    assert follows(text.replace("CHOICE", f"slots: redraw, reject_if: {rule}")) == 0


def test_a_condition_can_compare_with_the_clean_slots_and_their_tokens(tmp_path: Path) -> None:
    rule = "clean_s1 == s1 or clean_s2 == s2 or clean_s3 == s3"
    clean, bad = both(MADE.replace("CHOICE", f"slots: redraw, reject_if: {rule}"))
    for a, b in zip(clean.slots, bad.slots, strict=True):
        assert all(x != y for x, y in zip(a, b, strict=True))
    tiny.make("llama", tmp_path / "llama")
    text = MADE.replace(MONTHS, "[w1, w2 w3, w4, w5 w6, w7, w8]").replace("0..3", "0..2")
    numerals = "'1', '2', '3', '4', '5', '6', '7', '8'"
    text = text.replace(numerals, "w11, w12 w13, w14, w15, w16, w17")
    text = text.replace("{next}", "w40").replace("{s3}'}", "w41'}")
    with pytest.raises(Exception, match="tokens instead of"):
        make_plan(loads(text.replace("CHOICE", "slots: redraw"), "t.yaml", tmp_path))
    rule = "slots: redraw, reject_if: tokens != clean_tokens"
    sets = make_plan(loads(text.replace("CHOICE", rule), "t.yaml", tmp_path)).sets
    assert list(map(len, sets["bad"].tokens.ids)) == list(map(len, sets["clean"].tokens.ids))


def test_leaving_out_stimuli_changes_no_other_ones_corruption() -> None:
    for choice in ("slots: shuffle", "slots: redraw"):
        text = MADE.replace("CHOICE", choice)
        _, bad = both(text)
        fewer = both(text.replace("    labels:", "    where: i > 1\n    labels:"))[1]
        kept = dict(zip(fewer.ids, fewer.texts, strict=True))
        assert len(kept) == 4
        assert kept.items() <= dict(zip(bad.ids, bad.texts, strict=True)).items()


ITEMS = HEAD + (
    "  clean:\n    kind: items\n    text: 'April saw {a}, {b}'\n    labels: [sort]\n"
    "    groups: none\n    slots: [a, b]\n    items:\n"
    "      - {a: April, b: May, sort: months}\n      - {a: June, b: July, sort: months}\n"
    "      - {a: 1, b: 2, sort: numerals}\n      - {a: 3, b: 4, sort: numerals}\n"
    "  bad: {kind: corrupt, of: clean, CHOICE}\n"
)


def test_without_vocabularies_values_come_from_the_slots_of_the_set_or_of_a_label() -> None:
    values = {"April", "May", "June", "July", "1", "2", "3", "4"}
    drawn = [both(ITEMS.replace("CHOICE", "slots: redraw"), n)[1].slots[0] for n in range(50)]
    assert {value for slots in drawn for value in slots} == values
    choice = "slots: redraw, within: sort"
    drawn = [both(ITEMS.replace("CHOICE", choice), n)[1].slots[0] for n in range(50)]
    assert {value for slots in drawn for value in slots} == {"April", "May", "June", "July"}


def test_a_slot_is_where_the_template_has_it_whatever_else_says_the_same() -> None:
    """Chained replacing would have put another month into the name April."""
    _, bad = both(ITEMS.replace("CHOICE", "slots: shuffle"))
    assert bad.texts[0] == "April saw May, April"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("CHOICE", "reject_if: a == a"), "P405", "cannot corrupt stimulus '0': 'April saw April, "
         "May' is left as it was, or meets 'a == a', in 1000 draws"),
        (("b: May", "b: April"), "P405", "cannot corrupt stimulus '0': 'April saw April, April' is "
         "left as it was in 1000 draws"),
        (("slots: [a, b]", "slots: [a]"), "P405", "cannot corrupt a set with one slot: there is "
         "nothing to shuffle"),
        (("CHOICE", "reject_if: index(a) == 1"), "P416", "index(x) takes an item drawn from a "
         "vocabulary; 'a' is none"),
        (("text: 'April saw {a}, {b}'", "text: 'saw {a} twice'"), "P405", "stimulus '0': slot "
         "value 'May' does not stand in 'saw April twice'"),
    ],
)  # fmt: skip
def test_what_cannot_be_corrupted_is_told(change: tuple[str, str], code: str, message: str) -> None:
    assert change[0] in ITEMS
    found = told(ITEMS.replace(*change).replace("CHOICE", "slots: shuffle"))
    assert [(c, m.startswith(message)) for c, m in found] == [(code, True)], found


def test_vocabularies_must_tell_where_a_value_is_from() -> None:
    text = MADE.replace("      numerals:", "      other: [May]\n      numerals:")
    text = text.replace("CHOICE", "slots: redraw")
    assert both(text)  # the loop says which of the two May is of
    ambiguous = text.replace("seq: [months, numerals]", "j: [1]").replace("seq[", "months[")
    ambiguous = ambiguous.replace("labels: [seq]", "labels: [j]")
    assert told(ambiguous) == [
        ("P405", "cannot corrupt slot value 'May': it is in several vocabularies: months, other")
    ]
    none = MADE.replace("{seq[i]}", "x{i}").replace("CHOICE", "slots: redraw")
    message = "cannot corrupt stimulus '0': 'x0' is in no vocabulary (months, numerals)"
    assert told(none) == [("P405", message)]


def words(table: StimulusTable, span: str) -> list[str]:
    return [text[a:b] for text, (a, b) in zip(table.texts, table.spans[span], strict=True)]


def test_spans_of_a_corrupted_set_are_the_slots_that_they_are_in_the_clean_one() -> None:
    spans = '    spans: {first: "{s1}", pair: "{s2}. in {s3}", end: {text: in, occurrence: last}}\n'
    text = MADE.replace("    slots:", spans + "    slots:").replace("CHOICE", "slots: redraw")
    clean, bad = both(text)
    assert words(clean, "first") == [slots[0] for slots in clean.slots]
    assert words(bad, "first") == [slots[0] for slots in bad.slots]
    assert words(bad, "pair") == [f"{s2}. in {s3}" for _, s2, s3 in bad.slots]
    assert set(words(bad, "end")) == {"in"}
    assert [b for _, b in bad.spans["end"]] == list(map(len, bad.texts))


def test_a_span_that_cuts_a_slot_is_told() -> None:
    """A slot of two words, of which the span is one: it would be nowhere in another text."""
    text = ITEMS.replace("{a: April, b: May", "{a: April First, b: May")
    text = text.replace("slots: [a, b]", "slots: [a, b]\n    spans: {month: saw April}")
    text = text.replace("      - {a: June, b: July, sort: months}\n", "").replace(
        "      - {a: 1, b: 2, sort: numerals}\n      - {a: 3, b: 4, sort: numerals}\n", ""
    )
    assert told(text.replace("CHOICE", "slots: shuffle")) == [
        ("P418", "stimulus '0': the span 'month' of 'clean' cuts a slot, and would be nowhere once "
         "the slot is changed")
    ]  # fmt: skip


def test_a_span_that_is_a_column_of_the_template_stands_where_that_is_filled_in() -> None:
    text = ITEMS.replace("slots: [a, b]", 'slots: [a, b]\n    spans: {second: "{b}", first: "{a}"}')
    text = text.replace("{a: June, b: July", "{a: June, b: June").replace("CHOICE", "slots: redraw")
    clean, _ = both(text)
    assert words(clean, "first")[:2] == ["April", "June"]  # although the text begins with April
    assert clean.spans["first"][1] == (10, 14)
    assert clean.spans["second"][1] == (16, 20)
