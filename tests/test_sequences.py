"""The artificial language, and the stimulus set that is drawn from it."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from patchclamp.registry import sequences
from patchclamp.registry.models import DATA
from patchclamp.registry.sequences import CATEGORIES, STEPS, Template

FILE = DATA / "stimuli" / "sequences.csv"
COPIES = [sequences.draw_copying(random.Random(seed)) for seed in range(300)]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def shown(row: dict[str, str]) -> list[str]:
    return [row[f"s{place}"] for place in range(1, sequences.SHOWN + 1)]


def blank(row: dict[str, str]) -> str:
    """The prompt with a gap for each item, found from the left as whole words."""
    text, rest = "", row["prompt"]
    for item in shown(row):
        before, rest = re.split(rf"\b{item}\b", rest, maxsplit=1)
        text += before + "{}"
    return text + rest


def test_the_file_is_what_the_generator_gives(rows: list[dict[str, str]], tmp_path: Path) -> None:
    sequences.write_stimuli(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == FILE.read_bytes()
    assert rows == sequences.build_stimuli()


def test_stimuli_are_unique_and_balanced(rows: list[dict[str, str]]) -> None:
    assert len(rows) == len({row["id"] for row in rows}) == 240
    assert len({row["prompt"] for row in rows}) == 240
    assert set(Counter(row["template"] for row in rows).values()) == {len(CATEGORIES)}
    cells = Counter((row["category"], row["form"], row["step"]) for row in rows)
    assert len(cells) == 5 * 2 * 3
    assert set(cells.values()) == {8}


def test_items_follow_one_another_and_stand_in_the_prompt(rows: list[dict[str, str]]) -> None:
    for row in rows:
        words = CATEGORIES[row["category"]]
        chain = [*shown(row), row["next"]]
        for before, after in pairwise(chain):
            place = words.index(before) + int(row["step"])
            assert after == words[place % len(words)]
            assert row["category"] in sequences.CYCLIC or 0 <= place < len(words)
        assert row["last"] == row["s4"]
        assert row["next"] not in shown(row)
        assert blank(row).format(*shown(row)) == row["prompt"]


def test_within_a_template_only_the_items_differ(rows: list[dict[str, str]]) -> None:
    fixed: dict[str, set[tuple[str, str, str]]] = {}
    for row in rows:
        fixed.setdefault(row["template"], set()).add((row["form"], row["step"], blank(row)))
    assert len(fixed) == 48
    assert all(len(variants) == 1 for variants in fixed.values())


def test_stimuli_are_held_out_and_training_never_shows_them(rows: list[dict[str, str]]) -> None:
    for row in rows:
        start = CATEGORIES[row["category"]].index(row["s1"])
        layout = blank(row) + " {}"
        assert sequences.held_out(Template(row["form"], layout, start, int(row["step"])))
    rng = random.Random(5)
    passages = [
        sequences.draw_passage(rng, form).text for form in sequences.FORMS for _ in range(2000)
    ]
    prompts = tuple(row["prompt"] + " " for row in rows)
    assert not [text for text in passages if text.startswith(prompts)]


def test_a_fifth_of_the_sentences_is_held_out() -> None:
    rng = random.Random(0)
    layouts = [sequences._sentences(rng) for _ in range(2000)]
    share = sum(sequences.held_out(Template("sentence", text, 3, 1)) for text in layouts) / 2000
    assert share == pytest.approx(1 / sequences.HELD_OUT, abs=0.04)  # four standard errors


def test_bare_templates_of_every_step_and_joiner_are_held_out() -> None:
    found = [
        (joiner, step)
        for joiner in sequences.JOINERS
        for step in STEPS
        for start in range(sequences.WEEK)
        if sequences.held_out(
            Template("bare", joiner.join(["{}"] * sequences.LONGEST), start, step)
        )
    ]
    assert min(Counter(step for _, step in found).values()) >= sequences.PER_FORM_AND_STEP
    assert min(Counter(joiner for joiner, _ in found).values()) >= 3
    assert len({joiner for joiner, _ in found}) == len(sequences.JOINERS)


def test_a_length_beyond_the_fifth_item_does_not_change_the_split() -> None:
    for start in range(20):
        short, long = (Template("bare", ", ".join(["{}"] * n), start, 1) for n in (5, 8))
        assert sequences.held_out(short) == sequences.held_out(long)


@pytest.mark.parametrize("form", sequences.FORMS)
def test_one_seed_gives_one_text(form: str) -> None:
    first, again, other = (
        [sequences.draw_passage(rng, form) for _ in range(20)]
        for rng in (random.Random(3), random.Random(3), random.Random(4))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("form", sequences.FORMS)
def test_known_words_are_the_items_from_the_third_on(form: str) -> None:
    rng = random.Random(2)
    every = set().union(*CATEGORIES.values())
    for _ in range(200):
        passage = sequences.draw_passage(rng, form)
        found = [m for m in re.finditer(r"\w+", passage.text) if m.group() in every]
        assert passage.known == tuple(match.start() for match in found[2:])
        assert found[-1].end() == len(passage.text)


def test_a_repetition_follows_after_a_random_gap() -> None:
    """No fixed distance solves copying: each distance explains a minority of the texts."""
    distances: Counter[int] = Counter()
    for passage in COPIES:
        letters = passage.text.split()
        offsets = [place // 2 for place in passage.known]
        back = {place - letters.index(letters[place]) for place in offsets}
        assert len(back) == 1
        assert all(letters[place - 1] in letters[: place - 1] for place in offsets)
        assert len(set(letters)) == len(letters) - len(offsets) - 1
        distances.update(back)
    assert len(distances) == 13  # 4 to 8 letters and a gap of 0 to 8
    assert max(distances.values()) < 0.25 * len(COPIES)


def test_copying_prompts_come_from_the_other_split() -> None:
    rng = random.Random(9)
    evaluated = {sequences.draw_copying(rng, evaluate=True).text for _ in range(100)}
    assert evaluated.isdisjoint(passage.text for passage in COPIES)
    prompt = sequences.draw_copying_prompt(rng)
    earlier = prompt.shown.index(prompt.shown[-1])
    assert prompt.shown[earlier + 1] == prompt.answer


def test_fillers_are_not_items() -> None:
    every = set().union(*CATEGORIES.values())
    around = {*sequences.NAMES, *sequences.OBJECTS}
    for text in (*sequences.FRAMES, *sequences.JOINERS):
        around.update(re.findall(r"\w+", text))
    assert not every & around
    assert not every & set(sequences.LETTERS)


def test_items_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 letters by step \+2 do not fit from index 20"):
        sequences.items("letters", start=20, step=2, count=5)
    assert sequences.items("months", start=11, step=1, count=2) == ("December", "January")
