"""Stimuli as they come: what would be read in two ways, repeated, or not be kept, is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patchclamp.engine.capture_plans import plan_capture
from patchclamp.engine.marks import Marks
from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: t
model: bundled:sequences
stimuli:
  a: {kind: SORT, path: data, text: "{t}"MORE}
"""


def read(
    folder: Path, data: str | bytes, more: str = "", sort: str = "csv"
) -> tuple[StimulusTable | None, list[tuple[str, str]]]:
    (folder / "data").write_bytes(data if isinstance(data, bytes) else data.encode())
    text = SPEC.replace("SORT", sort).replace("MORE", more)
    problems = Problems(loads(text, "t.yaml", folder))
    tables = read_stimuli(problems, 0)
    return tables.get("a"), [(told.code, told.message) for told in problems.found]


@pytest.mark.parametrize(
    ("data", "sort", "texts"),
    [
        (b"\xef\xbb\xbft\nw1\nw2\n", "csv", ("w1", "w2")),
        (b't\r\nw1\r\n"w2\r\nw3"\r\n', "csv", ("w1", "w2\r\nw3")),
        (b"t\n\nw1\n\n", "csv", ("w1",)),
        ('t\n"w1\u2028w2"\n', "csv", ("w1\u2028w2",)),
        (b'\xef\xbb\xbf{"t": "w1"}\r\n\r\n{"t": "w2"}', "jsonl", ("w1", "w2")),
        # Separators that Python takes for ends of lines, and JSON Lines does not.
        ('{"t": "w1\u2028w2\x85w3"}\n{"t": "w4"}\n', "jsonl", ("w1\u2028w2\x85w3", "w4")),
    ],
)
def test_marks_ends_and_separators_change_no_text(
    tmp_path: Path, data: str | bytes, sort: str, texts: tuple[str, ...]
) -> None:
    table, found = read(tmp_path, data, sort=sort)
    assert not found
    assert table is not None
    assert table.texts == texts


@pytest.mark.parametrize(
    ("data", "sort", "more", "code", "message"),
    [
        ('{"t": "w1", "t": "w2"}', "jsonl", "", "P401", "line 1: 't' stands twice in one object"),
        ('{"t": "w", "n": NaN}', "jsonl", "", "P401", "line 1: NaN is no number that JSON has"),
        ('{"t": "w"}\n{"t": "w", "n": 1e400}', "jsonl", "", "P401", "line 2: 1e400 is no number"),
        (
            '{"t": "w", "n": 1}\n{"t": "w", "n": null}',
            "jsonl",
            "",
            "P401",
            "row 2 of data has other columns than row 1: n (null is no value)",
        ),
        (b"t\nw1\nw\x00\n", "csv", "", "P407", "row 2: 'w\\x00' holds NUL or half a surrogate"),
        ('{"t": "w \\ud800"}', "jsonl", "", "P407", "row 1: 'w \\ud800' holds NUL or half a surr"),
        (b"t,l\nw1,\x00\n", "csv", ", labels: [l]", "P407", "row 1: '\\x00' holds NUL"),
        (
            "t,l\nw1,x\nw2,y\nw3,x \n",
            "csv",
            ", labels: [l]",
            "P428",
            "'x' and 'x ' differ by spaces only, and would be two",
        ),
        (
            "t,g\nw1, a\nw2,a\n",
            "csv",
            ", groups: g",
            "P428",
            "' a' and 'a' differ by spaces only, and would be two",
        ),
        ("t,id\nw1,a\nw2, \n", "csv", "", "P404", "stimulus 2 of 'a' has no id, ' '"),
        (
            "t,g\nw1,a\nw2,\n",
            "csv",
            ", groups: g",
            "P416",
            "stimulus '1' of 'a' has no group: leave it out by 'where'",
        ),
        (
            "t,l\nw1,a\nw2,\nw3,a\n",
            "csv",
            ", labels: [l], take: {n: 1, by: l}",
            "P416",
            "row 2 has no l: leave it out by 'where'",
        ),
    ],
)
def test_what_could_be_read_in_two_ways_or_not_be_kept_is_told(
    tmp_path: Path, data: str | bytes, sort: str, more: str, code: str, message: str
) -> None:
    table, ((told, said),) = read(tmp_path, data, more, sort)
    assert table is None
    assert told == code
    assert message in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("1", '"1"'), "the n is 1 and '1': one is text, and they would be one; write them alike"),
        (("true", '"true"'), "the n is true and 'true': one is text, and they would be one"),
        (("1", "1.0"), "the n is 1 and 1.0: they are one number, and would be two; write"),
        (("1", "true"), ""),
        (("1", "2", "1"), ""),
        (("1.0", "1.00", "1e0"), ""),
        (('"1"', '"1.0"'), ""),
    ],
)
@pytest.mark.parametrize("key", ["labels: [n]", "groups: n"])
def test_a_label_is_not_one_class_or_two_by_how_a_number_is_written(
    tmp_path: Path, values: tuple[str, ...], said: str, key: str
) -> None:
    data = "".join(f'{{"t": "w", "n": {value}}}\n' for value in values)
    table, found = read(tmp_path, data, f", {key}", "jsonl")
    assert (table is None) is bool(said)
    assert [code for code, _ in found] == (["P428"] if said else [])
    assert all(said in message for _, message in found)


def test_a_column_that_nothing_uses_may_hold_what_it_will(tmp_path: Path) -> None:
    table, found = read(tmp_path, b"t,other\nw1,\x00\nw2,\n")
    assert not found
    assert table is not None


def test_stimuli_are_not_put_together_by_a_label_that_some_lack(tmp_path: Path) -> None:
    from patchclamp.engine.model import find_model
    from patchclamp.engine.sets import locate
    from patchclamp.engine.tokens import tokenise

    (tmp_path / "data").write_text("t,l\none,x\ntwo,\n")
    text = SPEC.replace("SORT", "csv").replace("MORE", ", labels: [l]")
    by = "reduce: {kind: mean, over: stimulus, by: l}"
    problems: Any = Problems(
        loads(f"{text}captures: {{r: {{of: a, site: z, {by}}}}}\n", "t.yaml", tmp_path)
    )
    model = find_model(problems)
    assert model is not None
    table = read_stimuli(problems, 0)["a"]
    tokens = tokenise(table, model, problems)
    assert tokens is not None
    of_set = locate(table, tokens, Marks(), problems)
    assert plan_capture("r", problems.loaded.spec.captures["r"], model, (of_set, problems)) is None
    (told,) = problems.found
    assert told.code == "P416"
    assert told.message == "stimulus '1' of 'a' has no l: leave it out by 'where'"


@pytest.mark.parametrize(
    ("made", "code", "message"),
    [
        ("for: {i: [1, 2, '1']}", "P416", "the loop 'i' has '1' twice, which would repeat stimuli"),
        ("for: {v: [a]}", "P416", "'v' stands under 'vocabularies' too; give one of them another"),
        (
            "for: {i: [1]}, draw: {i: {source: v}}",
            "P416",
            "'i' stands under 'for' too; give one of them another name",
        ),
        (
            "for: {i: [1]}, words: {w: [a, b, a]}, draw: {d: {source: w, n: 2}}",
            "P417",
            "'w' has 'a' twice, which could come twice in one stimulus",
        ),
    ],
)
def test_nothing_is_repeated_without_being_asked_for(
    tmp_path: Path, made: str, code: str, message: str
) -> None:
    entry = f"kind: template, text: x, vocabularies: {{v: [a, b]}}, {made}"
    text = SPEC.replace('kind: SORT, path: data, text: "{t}"MORE', entry)
    problems = Problems(loads(text, "t.yaml", tmp_path))
    assert not read_stimuli(problems, 0)
    ((told, said),) = [(one.code, one.message) for one in problems.found]
    assert told == code
    assert message in said


def test_texts_that_a_tokenizer_has_no_token_for_are_warned_of(tmp_path: Path) -> None:
    import tiny
    from patchclamp.engine.deep import check_deep

    tiny.make("llama", tmp_path / "llama")
    (tmp_path / "data").write_text("t\nw1 w2\nw1 zebra\nw3 <unk>\n")
    text = SPEC.replace("bundled:sequences", "./llama").replace("SORT", "csv").replace("MORE", "")
    (told,) = check_deep(loads(text, "t.yaml", tmp_path)).diagnostics
    assert (told.code, told.severity) == ("P612", "warning")
    assert told.message == (
        "1 of 3 texts, '1' first, hold what the tokenizer does not know: the model reads '<unk>' "
        "there; write them otherwise, or leave them out by 'where'"
    )
