"""Which stimuli stay: conditions, ties, versions of one set, and what is said where none does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from patchclamp.engine.problems import Problems
from patchclamp.engine.screen import Readings, measures, screen, screened_sets
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: t
model: {id: llama}
stimuli:
  words:
    kind: items
    text: "{a} {b}"
    labels: [sort]
    groups: block
    slots: [a, b]
    answer: {correct: " w1", foil: " w2"}
    KEEP
    items:
""" + "".join(
    f"      - {{id: s{n}, a: u{n}, b: v{n}, sort: {'xy'[n % 2]}, block: {n // 2}}}\n"
    for n in range(8)
)  # fmt: skip
BAD = "  bad: {kind: corrupt, of: words}\n"
RANKS = [0, 3, 0, 0, 5, 1, 0, 0]


def answers(ranks: Sequence[int] = RANKS) -> Readings:
    """Readings in which the answer has the probability 1 / (rank + 2), the foil half of that."""
    logs = np.log(1 / (np.asarray(ranks) + 2))
    zero = np.zeros(len(ranks))
    return {
        "rank": np.asarray(ranks, float),
        "logit_correct": logs + 7,
        "logit_foil": logs + 7 - np.log(2),
        "logsumexp": zero + 7,
    }


def screened(
    text: str, found: dict[str, Readings] | None = None
) -> tuple[dict[str, StimulusTable], list[tuple[str, str]]]:
    problems = Problems(loads(text))
    tables = read_stimuli(problems, 0)
    assert not problems.found, problems.found
    assert set(screened_sets(problems)) == set(found or {"words": 0})
    kept = screen(tables, found or {"words": answers()}, problems)
    return kept, [(told.code, told.message) for told in problems.found]


@pytest.mark.parametrize(
    ("keep", "ids"),
    [
        ("keep_if: rank == 0", "0 2 3 6 7"),
        ("keep_if: correct", "0 2 3 6 7"),
        ("keep_if: rank == 0 and p > 2.1 * p_foil", ""),
        ("keep_if: p >= 1.99 * p_foil and p < 0.3", "1 4"),
        ("keep_if: logit_diff > 0.69", "0 1 2 3 4 5 6 7"),
        ("keep_if: {holds: correct, together: [block]}", "2 3 6 7"),
        ("keep_if: {holds: correct, together: [block, sort]}", "0 2 3 6 7"),
        ("keep_if: correct\n    take: {n: 2, draw: first}", "0 2"),
        ("keep_if: correct\n    take: {n: 1, by: sort, draw: first}", "0 3"),
    ],
)
def test_what_meets_the_condition_stays(keep: str, ids: str) -> None:
    kept, told = screened(SPEC.replace("KEEP", keep))
    if not ids:
        message = (
            "none of 8 stimuli meets 'rank == 0 and p > 2.1 * p_foil' (median rank 0, "
            "median p 0.5, median p_foil 0.25)"
        )
        assert told == [("P403", message)]
        return
    assert kept["words"].ids == tuple(f"s{n}" for n in ids.split())
    assert kept["words"].screened == {"asked": 8, "kept": 5 if "take" in keep else len(ids.split())}
    assert kept["words"].groups == tuple(str(int(n) // 2) for n in ids.split())
    assert kept["words"].rows[0]["b"] == f"v{ids[0]}"


def test_probabilities_are_those_that_the_model_gives() -> None:
    found = measures(answers())
    np.testing.assert_allclose(found["p"], 1 / (np.asarray(RANKS) + 2))
    np.testing.assert_allclose(found["p_foil"], found["p"] / 2)


def test_among_options_the_right_one_need_only_be_the_most_probable_of_them() -> None:
    found = {**answers(), "logit_options": np.zeros((8, 2))}
    assert measures(found)["correct"].all()
    alone = {name: values for name, values in answers().items() if name != "logit_foil"}
    assert set(measures(alone)) == {"rank", "p", "correct"}


def test_a_random_part_is_drawn_from_what_stays() -> None:
    keep = "keep_if: correct\n    take: {n: 3}"
    drawn = {
        tuple(
            screened(SPEC.replace("KEEP", keep).replace("name: t\n", f"name: t\nseed: {seed}\n"))[
                0
            ]["words"].ids
        )
        for seed in range(20)
    }
    assert len(drawn) > 4
    assert all(set(ids) <= {"s0", "s2", "s3", "s6", "s7"} for ids in drawn)


def test_versions_of_a_set_lose_what_it_loses() -> None:
    text = SPEC.replace("KEEP", "keep_if: correct") + BAD + (
        "  pairs:\n    kind: items\n    text: '{t}'\n    partners: {of: words}\n    items:\n"
        + "".join(f"      - {{id: s{n}, t: p{n}}}\n" for n in (3, 1, 0, 2, 7, 6, 5, 4))
    )  # fmt: skip
    kept, _ = screened(text)
    assert kept["bad"].ids == kept["words"].ids == kept["pairs"].ids
    assert kept["pairs"].texts == ("p0", "p2", "p3", "p6", "p7")
    assert kept["bad"].texts[0] == "v0 u0"


def test_a_stimulus_stays_if_every_version_of_it_is_kept() -> None:
    text = SPEC.replace("KEEP", "keep_if: correct") + (
        "  wrong:\n    kind: items\n    text: '{t}'\n    answer: {correct: ' w1', foil: ' w2'}\n"
        "    partners: {of: words, by: order}\n    keep_if: rank > 0\n    items:\n"
        + "".join(f"      - {{t: p{n}}}\n" for n in range(8))
    )
    found = {"words": answers(), "wrong": answers([0, 0, 4, 4, 4, 0, 0, 2])}
    kept, _ = screened(text, found)
    assert kept["words"].ids == ("s2", "s3", "s7")
    assert kept["wrong"].texts == ("p2", "p3", "p7")
    found["wrong"] = answers([0, 1, 0, 0, 1, 1, 0, 0])
    assert screened(text, found)[1] == [
        ("P403", "no stimulus of 'words' is kept by all the sets that are versions of it")
    ]


@pytest.mark.parametrize(
    ("keep", "code", "message"),
    [
        ("keep_if: {holds: rank == 3, together: [block]}", "P403",
         "1 of 8 stimuli meet 'rank == 3', and in no case all that share 'block': none is left"),
        ("keep_if: correct\n    take: {n: 6}", "P417",
         "6 stimuli are to be taken, and there are 5"),
        ("keep_if: 1 / rank > 0", "P416", "stimulus 's0': 1 is divided by zero"),
        ("keep_if: rank > 4\n    split: {parts: {a: 0.5, b: 0.5}}", "P417",
         "'keep_if' leaves nothing in the part"),
    ],
)  # fmt: skip
def test_what_leaves_too_little_is_told(keep: str, code: str, message: str) -> None:
    ((found, told),) = screened(SPEC.replace("KEEP", keep))[1]
    assert (found, told[: len(message)]) == (code, message)


def test_a_split_is_the_same_whatever_a_model_solves() -> None:
    keep = "keep_if: rank < 4\n    split: {parts: {a: 0.5, b: 0.5}}"
    text = SPEC.replace("KEEP", keep)
    whole = read_stimuli(Problems(loads(text)), 0)["words"]
    part = screened(text)[0]["words"]
    of = dict(zip(whole.ids, whole.labels["split"], strict=True))
    assert part.labels["split"] == tuple(of[id_] for id_ in part.ids)
