"""Layer and head choices: canonical forms, their numbers in a model, and every refusal by text."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from patchclamp.specs.selections import (
    BeyondError,
    HeadChoice,
    LayerChoice,
    parse_head_name,
    parse_heads,
    parse_layers,
    resolve_layers,
)


@pytest.mark.parametrize(
    ("given", "choice", "of_twelve"),
    [
        ("all", "all", tuple(range(12))),
        ("last", "last", (11,)),
        (["last"], "last", (11,)),
        (3, (3,), (3,)),
        ([4, 0], (4, 0), (4, 0)),
        ((4, 0), (4, 0), (4, 0)),
        ("0..3", (0, 1, 2, 3), (0, 1, 2, 3)),
        ("3..3", (3,), (3,)),
        (["0..2", 7, "last"], (0, 1, 2, 7, "last"), (0, 1, 2, 7, 11)),
        ("50%", ("50%",), (6,)),
        (["0%", "50%", "100%"], ("0%", "50%", "100%"), (0, 6, 11)),
        (["050.0%", "12.50%"], ("50%", "12.5%"), (6, 1)),
        ("25%..75%", ("25%..75%",), (3, 4, 5, 6, 7, 8)),
        ("0.0%..100%", ("0%..100%",), tuple(range(12))),
        (["100%", 11, "last", "99%"], ("100%", 11, "last", "99%"), (11,)),
        ([2, "10%..30%", 1], (2, "10%..30%", 1), (2, 1, 3)),
    ],
)
def test_layers_have_a_canonical_form(given: Any, choice: Any, of_twelve: tuple[int, ...]) -> None:
    assert parse_layers(given) == choice
    assert resolve_layers(parse_layers(given), 12) == of_twelve
    assert parse_layers(choice) == choice


@pytest.mark.parametrize(
    ("percent", "count", "layer"),
    [
        ("50%", 1, 0),
        ("100%", 1, 0),
        ("50%", 2, 1),  # half of one step, rounded up
        ("50%", 4, 2),  # 1.5
        ("49.9%", 4, 1),
        ("10%", 26, 3),  # 2.5, which binary fractions and rounding to even would make 2
        ("30%", 6, 2),  # 1.5
        ("33.3%", 4, 1),
    ],
)
def test_percentages_round_half_up(percent: str, count: int, layer: int) -> None:
    assert resolve_layers((percent,), count) == (layer,)


def test_layers_beyond_the_model_are_listed() -> None:
    with pytest.raises(LookupError, match=re.escape("no layer 12, 40 among 12 layers, 0..11")) as e:
        resolve_layers((0, 12, "last", 40), 12)
    assert isinstance(e.value, BeyondError)
    assert e.value.missing == (12, 40)


LAYERS = (
    "expected layers as all, last, a number, a range such as 0..11, a percentage such as 50%, a "
    "range such as 25%..75%, or a list of these; got "
)
HEADS = (
    "expected heads as all, a number, a range such as 0..11, a head such as L4H10, or a list of "
    "these; got "
)
HEAD = "a head is written L4H10; got "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], f"{LAYERS}[]"),
        (True, f"{LAYERS}True"),
        (None, f"{LAYERS}None"),
        (1.5, f"{LAYERS}1.5"),
        ({}, f"{LAYERS}{{}}"),
        ([[1]], f"{LAYERS}[[1]]"),
        ([0, "x"], f"{LAYERS}[0, 'x']"),
        ("0-2", f"{LAYERS}'0-2'"),
        ("50", f"{LAYERS}'50'"),
        ("0..50%", f"{LAYERS}'0..50%'"),
        ("4..last", f"{LAYERS}'4..last'"),
        ("-5%", f"{LAYERS}'-5%'"),
        ("x" * 100, f"{LAYERS}'{'x' * 59}..."),
        ("2..0", "a layer range goes upwards; got '2..0'"),
        ("75%..25%", "a layer range goes upwards; got '75%..25%'"),
        ("150%", "a percentage is at most 100%; got '150%'"),
        ("1.2345678%", "a percentage is written such as 25%; got '1.2345678%'"),
        ([1, 1], "a layer is named twice; got [1, 1]"),
        ((1, "0..3"), "a layer is named twice; got [1, '0..3']"),
        (["50%", "50.0%"], "a layer is named twice; got ['50%', '50.0%']"),
        (["all", 1], "'all' stands alone; got ['all', 1]"),
        (-1, "a layer is counted from 0; got -1; the last one is 'last'"),
        (10000, "a layer number is at most 9999; got 10000"),
    ],
)
def test_what_is_no_layer_choice_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_layers(given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("all", "all"),
        (0, (0,)),
        ([3, 1], (3, 1)),
        ("0..2", (0, 1, 2)),
        ("L4H10", ("L4H10",)),
        (["L10H0", "L4H10", "L4H2"], ("L4H2", "L4H10", "L10H0")),
    ],
)
def test_heads_have_a_canonical_form(given: Any, choice: Any) -> None:
    assert parse_heads(given) == choice
    assert parse_heads(choice) == choice


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (4.1, "a head is written L4H10; 4.10 is the number 4.1, so it stays open whether L4H1 or "
         "L4H10 is meant"),
        ([4.1, 5.2], "a head is written L4H10; 4.10 is the number 4.1"),
        ("4.10", f"{HEAD}'4.10'; did you mean 'L4H10'?"),
        ("4:10", f"{HEAD}'4:10'; did you mean 'L4H10'?"),
        ("l4h10", f"{HEAD}'l4h10'; did you mean 'L4H10'?"),
        ("a4.h10", f"{HEAD}'a4.h10'; did you mean 'L4H10'?"),
        ("L04H10", f"{HEAD}'L04H10'; did you mean 'L4H10'?"),
        ("layer 4 head 10", f"{HEAD}'layer 4 head 10'; did you mean 'L4H10'?"),
        ("(4, 10)", f"{HEAD}'(4, 10)'; did you mean 'L4H10'?"),
        ("H4", f"{HEAD}'H4'"),
        ("1" * 99, f"{HEAD}'{'1' * 59}..."),
        (1e30, f"{HEAD}1e+30"),
        (float("nan"), f"{HEAD}nan"),
        ([[4, 10]], f"{HEADS}[[4, 10]]"),
        ([], f"{HEADS}[]"),
        (True, f"{HEADS}True"),
        ("last", f"{HEADS}'last'"),
        (["all"], "'all' stands alone; got ['all']"),
        ("3..1", "a head range goes upwards; got '3..1'"),
        (-1, "a head is counted from 0; got -1"),
        (10000, "a head number is at most 9999; got 10000"),
        (["L4H1", "L4H1"], "a head is named twice; got ['L4H1', 'L4H1']"),
        ([1, "L4H1"], "heads are either numbers, which hold in every layer, or names such as "
         "L4H10; got [1, 'L4H1']"),
    ],
)  # fmt: skip
def test_what_is_no_head_choice_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_heads(given)
    assert ("did you mean" in message) == ("did you mean" in str(caught.value))


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_head_names_read_back(layer: int, head: int) -> None:
    assert parse_head_name(f"L{layer}H{head}") == (layer, head)
    assert parse_heads(f"L{layer}H{head}") == (f"L{layer}H{head}",)


def test_a_head_name_is_text() -> None:
    with pytest.raises(ValueError, match=re.escape("a head is written L4H10; got 4")):
        parse_head_name(4)


MEMBERS = st.one_of(
    st.integers(-2, 10),
    st.sampled_from(["all", "last", "0%", "50%", "100%", "0..3", "5..1", "20%..60%", "", "L0H1"]),
    st.text(max_size=8),
    st.floats(),
    st.none(),
)


@given(st.one_of(MEMBERS, st.lists(MEMBERS, max_size=4)), st.integers(1, 12))
def test_anything_is_a_choice_or_refused(given: Any, count: int) -> None:
    try:
        layers = parse_layers(given)
    except ValueError:
        return
    assert parse_layers(layers) == layers
    try:
        numbers = resolve_layers(layers, count)
    except LookupError:
        return
    assert numbers
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(count))


@given(st.one_of(MEMBERS, st.lists(MEMBERS, max_size=4)))
def test_any_head_choice_keeps_its_form(given: Any) -> None:
    try:
        heads = parse_heads(given)
    except ValueError:
        return
    assert parse_heads(heads) == heads


class Units(BaseModel):
    """A model with both choices."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layers: LayerChoice = "all"
    heads: HeadChoice = "all"


def test_fields_are_written_as_lists_or_words() -> None:
    units = Units(layers=["0%", 3, "4..5"], heads="L4H10")  # type: ignore[arg-type]
    assert units.model_dump(mode="json") == {"layers": ["0%", 3, 4, 5], "heads": ["L4H10"]}
    assert Units().model_dump(mode="json") == {"layers": "all", "heads": "all"}
    assert Units.model_validate(units.model_dump()) == units
    with pytest.raises(ValidationError, match=re.escape(f"{HEAD}'4.10'; did you mean 'L4H10'?")):
        Units(heads="4.10")  # type: ignore[arg-type]


def test_the_schema_offers_the_words() -> None:
    properties = Units.model_json_schema()["properties"]
    assert {"enum": ["all", "last"], "type": "string"} in properties["layers"]["anyOf"]
    assert {"const": "all", "type": "string"} in properties["heads"]["anyOf"]
