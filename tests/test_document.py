"""YAML text to plain data with places: the YAML 1.2 scalars, limits, and every refusal by text."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.specs import nodes
from patchclamp.specs.diagnostics import Span
from patchclamp.specs.document import Document, Source, parse, parse_value
from patchclamp.specs.scalars import dump, read_plain

SCALARS = {
    "1e-4": 1e-4, "1E4": 1e4, "1e+10": 1e10, ".5": 0.5, "1.": 1.0, "+3": 3, "-0.0": -0.0,
    "no": "no", "yes": "yes", "on": "on", "off": "off", "y": "y",
    "4:10": "4:10", "12:30": "12:30", "2024-01-01": "2024-01-01", "1_000": "1_000",
    "017": 17, "0777": 777, "0123456": 123456, "0o17": 15, "0x1F": 31, "0b11": "0b11",
    "true": True, "True": True, "FALSE": False, "tRue": "tRue",
    "~": None, "null": None, "NULL": None, "nUll": "nUll",
    ".inf": math.inf, "-.INF": -math.inf, "3.10": 3.1, "1.2.3": "1.2.3", "0..11": "0..11",
    "L4H10": "L4H10", "20m": "20m", "1e": "1e", ".": ".", "-": "-", "+": "+", "e5": "e5",
}  # fmt: skip


@pytest.fixture(params=["PureLoader", "FastLoader"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if not hasattr(nodes, request.param):
        pytest.skip("no libyaml")
    monkeypatch.setattr(nodes, "LOADER", getattr(nodes, request.param))
    return str(request.param)


def read(text: str) -> Document:
    document, problems = parse(text)
    assert not problems
    assert document is not None
    return document


def complaints(text: str) -> list[tuple[str, int, int, str]]:
    return [(p.code, p.line, p.column, p.message) for p in parse(text)[1]]


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert (read_plain(text), type(read_plain(text))) == (value, type(value))
    if text not in ("-",):
        assert read(f"a: {text}").value == {"a": value}
    assert read(f"a: '{text}'").value == {"a": text}


def test_nan_is_a_number() -> None:
    assert math.isnan(read("a: .nan").value["a"])


def test_lists_are_tuples_and_block_scalars_are_text(loader: str) -> None:
    text = "a: [1, {b: [x]}]\nc: |\n  1\n  2\nd: >-\n  x\n  y\ne:\nf: {}\n"
    value = {"a": (1, {"b": ("x",)}), "c": "1\n2\n", "d": "x y", "e": None, "f": {}}
    assert read(text).value == value


def test_every_key_and_value_has_its_place(loader: str) -> None:
    document = read("é: {日本: 1}\nb:\n  - x\n  - '😀 y'\n")
    assert document.keys[("é", "日本")] == Span(1, 5, 1, 7)
    assert document.values[("é", "日本")] == Span(1, 9, 1, 10)
    assert document.values[("b", 1)] == Span(4, 5, 4, 10)
    assert document.raw == {("é", "日本"): "1"}


def test_a_byte_order_mark_and_windows_line_ends_move_nothing(loader: str) -> None:
    document = read("\ufeffa: 1\r\nbb: 2\r\n")
    assert document.value == {"a": 1, "bb": 2}
    assert document.values[("bb",)] == Span(2, 5, 2, 6)


def test_aliases_repeat_a_value(loader: str) -> None:
    document = read("a: &x {k: [1]}\nb: *x\n")
    assert document.value["b"] == {"k": (1,)}
    assert document.values[("a",)].column == 7


def test_a_place_that_is_left_out_is_that_of_its_nearest_parent() -> None:
    document = read("a:\n  b: {c: 1}\n")
    assert document.span(("a", "b", "c")) == Span(2, 10, 2, 11)
    assert document.span(("a", "b", "x", "y")) == Span(2, 3, 2, 4)
    assert document.span(("a",)) == Span(1, 1, 1, 2)
    assert document.span(("zzz",)) == Span(1, 1, 1, 2)
    assert document.get(("a", "b", "c")) == 1
    assert document.get(("a", 0)) is None


def test_a_place_names_its_text() -> None:
    document, _ = parse("a: {b: 1}\n", "x.yaml", Path("folder"))
    assert document is not None
    assert {span.source for span in (*document.keys.values(), *document.values.values())} == {
        "x.yaml"
    }
    assert document.sources == {"x.yaml": Source("x.yaml", "a: {b: 1}\n", Path("folder"))}
    assert document.texts == {"x.yaml": "a: {b: 1}\n"}
    assert document.get(("a", "x"), 7) == 7


@pytest.mark.parametrize(
    ("text", "value", "column"),
    [
        ("a=1e-4", 1e-4, 3), ("a=no", "no", 3), ("a=", None, 2), ("a=null", None, 3),
        ("a= 'x: y' ", "x: y", 4), ("a=[1, {b: x}]", (1, {"b": "x"}), 3),
    ],
)  # fmt: skip
def test_the_rest_of_a_line_is_one_value(
    text: str, value: object, column: int, loader: str
) -> None:
    document, problems = parse_value(Source("--set", text), 2)
    assert document is not None
    assert not problems
    assert (document.value, document.values[()].column) == (value, column)


@pytest.mark.parametrize("text", ["a=b: c", "a=- x", "a=x\ny", "a=1\n---\n2", "a=? x"])
def test_a_value_is_not_spread_over_lines(text: str, loader: str) -> None:
    document, (problem,) = parse_value(Source("--set", text), 2)
    assert document is None
    assert (problem.code, problem.column) == ("P504", 3)
    assert problem.message == "expected one value: text, a number, or a list or mapping in brackets"


REFUSED = [
    ("a: 1\nb: {c: 1, c: 2}\na: 3", [
        ("P105", 2, 11, "duplicate key 'c': first given in line 2, column 5"),
        ("P105", 3, 1, "duplicate key 'a': first given in line 1, column 1"),
    ]),
    ("a: !!python/object:os.system x", [
        ("P106", 1, 4, "tags such as '!!python/object:os.system' are not part of a spec; "
         "nothing in a spec is executed"),
    ]),
    ("a: !f {b: 1}\nc: ! 5\n!k d: 1\ne: !<plain> x", [
        ("P106", 1, 4, "tags such as '!f' are not part of a spec; nothing in a spec is executed"),
        ("P106", 2, 4, "tags such as '!' are not part of a spec; nothing in a spec is executed"),
        ("P106", 3, 1, "tags such as '!k' are not part of a spec; nothing in a spec is executed"),
        ("P106", 4, 4, "tags such as 'plain' are not part of a spec; "
         "nothing in a spec is executed"),
    ]),
    ("a: &x {b: 1}\nc: {<<: *x}", [
        ("P107", 2, 5, "merge keys are not part of a spec; write the keys out"),
    ]),
    ("a: &x [1, *x]", [("P108", 1, 7, "an alias refers to a value that it is part of")]),
    ("- 1", [("P112", 1, 1, "a spec is a mapping of keys to values; this is a list")]),
    ("text", [("P112", 1, 1, "a spec is a mapping of keys to values; this is a single value")]),
    ("", [("P111", 1, 1, "the file holds no spec")]),
    ("# only a comment\n", [("P111", 1, 1, "the file holds no spec")]),
    ("a: 1\n---\nb: 2\n", [
        ("P110", 2, 1, "a spec file holds one document; a second one begins here"),
    ]),
    ("1: x\ntrue: y\n~: z\n[a]: w\n12e4567: v", [
        ("P113", 1, 1, 'a key must be text; quote it: "1"'),
        ("P113", 2, 1, 'a key must be text; quote it: "true"'),
        ("P113", 3, 1, 'a key must be text; quote it: "~"'),
        ("P113", 4, 1, "a key must be text; this is a list or a mapping"),
        ("P113", 5, 1, 'a key must be text; quote it: "12e4567"'),
    ]),
    ("a: 12e4567\nb: 1e-999\nc: 0e999", [
        ("P114", 1, 4, "'12e4567' overflows to infinity (a commit hash?); quote it"),
        ("P114", 2, 4, "'1e-999' underflows to zero (a commit hash?); quote it"),
    ]),
    ("a: " + "9" * 5000, [
        ("P114", 1, 4, "a number of 5000 characters is too long to read; quote it"),
    ]),
    ("a: \x00\nb: x\u2028y", [
        ("P102", 1, 4, "the character U+0000 cannot stand in a spec; "
         "write it as an escape in double quotes"),
        ("P102", 2, 5, "the character U+2028 cannot stand in a spec; "
         "write it as an escape in double quotes"),
    ]),
    ('a: "x\\0"', [
        ("P102", 1, 4, "this text holds an escape (NUL or half a surrogate pair) "
         "that no file can keep"),
    ]),
    ("a:\n\tb: 1", [("P104", 2, 1, "a tab indents this line; YAML takes spaces only")]),
    ("a: " + "[" * 100_000, [("P109", 1, 62, "nested more than 60 levels deep")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=[text[:20] for text, _ in REFUSED])
def test_what_a_spec_cannot_hold_is_refused(
    text: str, expected: list[tuple[str, int, int, str]], loader: str
) -> None:
    assert complaints(text) == expected


SYNTAX = [
    ("a: [1, 2\nb: 3", 2, 2, "a comma or a closing bracket is missing"),
    ("a: 'x", 1, 4, "a quote or a bracket is never closed"),
    ("a: b: c", 1, 5, "text with ': ' needs quotes; keys of one mapping align"),
    ("a: *x", 1, 4, "text that begins with * needs quotes; an alias needs its anchor above"),
    ("a: @b", 1, 4, "text that begins with @, ` or % needs quotes"),
    ("a:\n  b: 1\n c: 2", 3, 2, "the keys of one mapping start in the same column"),
    ("- a\nb: 1", 2, 1, "the items of one list start in the same column"),
    ('a: "\\q"', 1, 5, "a backslash in double quotes is an escape; use single quotes"),
    ("&a x: &a y", 1, 7, "each anchor has a name of its own"),
    ("a: x\nb", 2, 1, "is there a key without ':'?"),
    ("a: [1,\n\n", 1, 7, "a value is missing, or a bracket is never closed"),
    ("a: [1,", 1, 7, "a value is missing, or a bracket is never closed"),
]


@pytest.mark.parametrize(("text", "line", "column", "hint"), SYNTAX)
def test_syntax_errors_say_where_and_what_to_do(
    text: str, line: int, column: int, hint: str
) -> None:
    [(code, at_line, at_column, message)] = complaints(text)
    assert (code, at_line) == ("P103", line)
    assert message.startswith("not YAML: ")
    assert message.endswith(f"({hint})")
    assert at_column == column


def test_an_alias_bomb_is_refused_at_once(loader: str) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    [(code, _, _, message)] = complaints("\n".join(lines))
    assert (code, message) == ("P108", "aliases repeat more than 20,000 values")


def test_a_long_list_without_aliases_is_no_bomb() -> None:
    assert len(read("a: [" + "x, " * 30_000 + "]").value["a"]) == 30_000


def test_aliases_cannot_deepen_the_nesting(loader: str) -> None:
    lines = ["a0: &a0 " + "[" * 40 + "]" * 40, "a1: " + "[" * 40 + "*a0" + "]" * 40]
    assert [c[0] for c in complaints("\n".join(lines))] == ["P109"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4).map(tuple)
    | st.dictionaries(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
                      inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_dumped_data_reads_back_unchanged(value: object) -> None:
    assert read(dump({"a": value})).value == {"a": value}


@pytest.mark.parametrize(
    "text", [*SCALARS, "", " x ", "a: b", "# no", "1e5", "0o17", "<<", "=", "\x85"]
)
def test_text_stays_text_in_a_dump(text: str) -> None:
    assert read(dump({"a": text})).value == {"a": text}
    assert read(dump({text: 1})).value == {text: 1}
