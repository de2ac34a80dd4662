"""Columns made, rows chosen and rows generated are the same wherever and however often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import tiny
from patchclamp.engine.plan import make_plan
from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import Vocabulary, as_text
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import loads

HEAD = "patchclamp: 1\nname: t\nmodel: {id: llama}\nstimuli:\n"
ITEMS = HEAD + (
    "  words:\n    kind: items\n    text: '{t} w9'\n    labels: [sort]\n    groups: none\n"
    "    items:\n"
) + "".join(f"      - {{t: w{n}, sort: {'xyz'[n % 3]}, n: {n}}}\n" for n in range(12))  # fmt: skip


def read(text: str, folder: Path = Path(), seed: int = 0) -> StimulusTable:
    problems = Problems(loads(text, "t.yaml", folder))
    (table,) = read_stimuli(problems, seed).values()
    assert not problems.found
    return table


def with_(line: str) -> str:
    return ITEMS.replace("    groups: none\n", f"    groups: none\n    {line}\n")


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("where: n > 8", ["09", "10", "11"]),
        ("where: sort == 'x' and n // 3 in 1..2", ["03", "06"]),
        ("where: words == 2 and n < 2", ["00", "01"]),
        ("where: words == 1 or n < 1", ["00"]),
        ("take: {n: 2, draw: first}", ["00", "01"]),
        ("take: {n: 1, by: sort, draw: first}", ["00", "01", "02"]),
        ("take: {n: 99, fewer: true}", [f"{n:02}" for n in range(12)]),
    ],
)
def test_rows_keep_the_number_that_they_have_in_their_source(line: str, ids: Sequence[str]) -> None:
    assert list(read(with_(line)).ids) == ids


def test_a_random_part_is_drawn_without_replacement_and_by_seed() -> None:
    text = with_("take: {n: 2, by: sort}")
    drawn = [tuple(read(text, seed=seed).ids) for seed in range(20)]
    assert drawn[0] == read(text, seed=0).ids
    assert len(set(drawn)) > 5
    for ids in drawn:
        assert list(ids) == sorted(set(ids))
        assert sorted("xyz"[int(i) % 3] for i in ids) == list("xxyyzz")


def test_a_class_that_grows_changes_no_other_ones_draw() -> None:
    text = with_("take: {n: 2, by: sort}")
    more = read(text + "      - {t: w1, sort: x, n: 99}\n")
    was = read(text)
    for value in "yz":
        assert [
            i for i, sort in zip(more.ids, more.labels["sort"], strict=True) if sort == value
        ] == [i for i, sort in zip(was.ids, was.labels["sort"], strict=True) if sort == value]


PARTS = "split: {parts: {train: 0.5, val: 0.25, test: 0.25}}"


def test_a_split_has_the_shares_that_it_is_given() -> None:
    drawn = [tuple(read(with_(PARTS), seed=seed).labels["split"]) for seed in range(10)]
    assert all(Counter(parts) == {"train": 6, "val": 3, "test": 3} for parts in drawn)
    assert len(set(drawn)) > 5
    assert drawn[0] == read(with_(PARTS), seed=0).labels["split"]


def test_a_split_divides_neither_groups_nor_what_it_is_made_by() -> None:
    """Pairs 0-1, 2-3, ... are groups; `by` ties 0 and 6, 1 and 7, ...: what is tied stays."""
    rows = "".join(f"      - {{t: w{n}, pair: {n // 2}, six: {n % 6}}}\n" for n in range(12))
    text = HEAD + (
        "  words:\n    kind: items\n    text: '{t} w9'\n    labels: [six]\n    groups: pair\n"
        f"    {PARTS}\n    items:\n{rows}"
    )
    parts = read(text).labels["split"]
    assert all(parts[n] == parts[n + 1] for n in range(0, 12, 2))
    by = read(text.replace("0.25}}", "0.25}, by: six}")).labels["split"]
    tied = [{by[n], by[n + 1], by[n + 6], by[n + 7]} for n in (0, 2, 4)]
    assert [len(one) for one in tied] == [1, 1, 1]
    assert set.union(*tied) == {"train", "val", "test"}


def test_a_part_that_nothing_is_left_for_is_told() -> None:
    text = with_(PARTS).replace("groups: none", "groups: half").replace("{t: ", "{half: 1, t: ", 6)
    text = text.replace("- {t: ", "- {half: 2, t: ")
    problems = Problems(loads(text))
    assert read_stimuli(problems, 0) == {}
    (told,) = problems.found
    assert told.code == "P417"
    assert told.message.startswith("nothing is left for the part 'test': 2 groups of stimuli, 3")


def test_a_split_is_a_label_that_no_column_may_take() -> None:
    clash = with_(PARTS).replace("labels: [sort]", "labels: [split]").replace("sort:", "split:")
    with pytest.raises(SpecError, match="the label 'split' is what 'split' makes"):
        loads(clash)


def test_columns_are_made_from_those_before_them() -> None:
    table = read(
        with_('columns: {double: "{2 * n}", both: "{sort}{double}"}').replace("[sort]", "[both]")
    )
    assert table.labels["both"][:4] == ("x0", "y2", "z4", "x6")


def test_lists_and_nested_members_of_json_lines_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(
        '{"q": "w1", "c": ["w2", "w3"], "more": [1]}\n{"q": "w4", "c": ["w5", "w6"]}\n'
    )
    (tmp_path / "n.jsonl").write_text('{"q": {"stem": "w1", "c": {"text": ["w2", "w3"]}}}\n')
    nested = "  q: {kind: jsonl, path: n.jsonl, text: '{q_stem} {q_c_text[1]}', groups: none}\n"
    assert read(HEAD + nested, tmp_path).texts == ("w1 w3",)
    text = HEAD + "  q: {kind: jsonl, path: q.jsonl, text: '{q} {c[1]}', groups: none}\n"
    assert read(text, tmp_path).texts == ("w1 w3", "w4 w6")


def test_values_are_labels_as_a_spec_writes_them() -> None:
    assert [as_text(v) for v in ("a", 1, 1.5, True)] == ["a", "1", "1.5", "true"]
    assert as_text(Vocabulary("months", ("May",))) == "months"


LOOPS = HEAD + (
    "  made:\n    kind: template\n    words: {w: {path: words.txt, keep: one_token, first: 4}}\n"
    "    for: {i: 0..3, kind_of: [a, b]}\n    draw: {d: {source: w}, e: {source: w, n: 2}}\n"
    "    text: '{d} {e[0]} {e[1]} w{i}'\n    labels: [i, kind_of]\n    groups: i\n"
    "    answer: {correct: ' w1'}\n"
)  # fmt: skip


def test_loops_and_draws_make_rows_that_a_plan_can_run(tmp_path: Path) -> None:
    tiny.make("llama", tmp_path / "llama")
    (tmp_path / "words.txt").write_text("w1\nw2 w3\nw3\nw4\nw5\nw6\nw3\n")
    plan = make_plan(loads(LOOPS, "t.yaml", tmp_path))
    table = plan.sets["made"].table
    assert table.labels["i"] == tuple("00112233")
    assert table.labels["kind_of"] == tuple("abababab")
    words = [text.split() for text in table.texts]
    # 'w2 w3' is two tokens, and only the first four that are one are drawn from
    assert {w for row in words for w in row[:3]} <= {"w1", "w3", "w4", "w5"}
    assert all(row[1] != row[2] for row in words)
    fewer = make_plan(loads(LOOPS.replace("0..3", "1..2"), "t.yaml", tmp_path)).sets["made"].table
    assert fewer.texts == table.texts[2:6]


def test_an_item_drawn_from_a_vocabulary_has_a_place_in_it() -> None:
    months = "[January, February, March, April, May, June]"
    text = HEAD + (
        f"  made:\n    kind: template\n    vocabularies: {{months: {months}}}\n"
        "    for: {n: 0..19}\n    draw: {m: {source: months}}\n"
        "    where: index(m) < 5\n    labels: [m]\n    groups: none\n"
        "    text: '{m} {months[index(m) + 1]}'\n"
    )
    table = read(text)
    order = months[1:-1].split(", ")
    assert 0 < len(table) < 20
    for said, month in zip(table.texts, table.labels["m"], strict=True):
        assert said == f"{month} {order[order.index(month) + 1]}"


def test_designs_cross_their_factors() -> None:
    text = HEAD + (
        "  made:\n    kind: template\n    for: {a: [x, y], b: [1, 2], rep: 0..2}\n"
        "    columns: {cell: '{a}{b}'}\n    labels: [a, b, cell]\n    groups: rep\n"
        "    text: '{a} {b} {rep}'\n"
    )
    assert Counter(read(text).labels["cell"]) == dict.fromkeys(("x1", "x2", "y1", "y2"), 3)


@pytest.mark.parametrize(("bos", "first"), [("auto", 3), ("always", 1), ("never", 3)])
def test_bos_stands_before_every_text_where_it_is_asked_for(
    tmp_path: Path, bos: str, first: int
) -> None:
    tiny.make("llama", tmp_path / "llama")
    config = tmp_path / "llama" / "tokenizer_config.json"
    config.write_text(config.read_text().replace("{", '{"bos_token": "<end>",', 1))
    text = ITEMS.replace("id: llama", f"id: llama, tokenizer: {{bos: {bos}}}")
    ids = make_plan(loads(text, "t.yaml", tmp_path)).sets["words"].tokens.ids
    assert ids[1][0] == first
    assert len(ids[1]) == 2 + (bos == "always")
