"""Prompts as studies make them: from aligned vocabularies, and from files that others published."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from patchclamp.engine import Result, run
from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import read_stimuli
from patchclamp.specs.load import loads

SPEC = Path(__file__).parent / "specs" / "sequence_prompts.yaml"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("study")
    return run(SPEC, out=folder / "runs", cache=folder / "cache")


def test_a_sentence_is_kept_in_every_vocabulary_or_in_none(result: Result) -> None:
    stimuli = result.groups["/stimuli/seq"]
    starts = Counter(stimuli["i"].to_numpy().tolist())
    assert 0 < len(starts) < 8
    assert set(starts.values()) == {3}
    assert (stimuli.attrs["n_asked"], stimuli.attrs["n_kept"]) == (24, 3 * len(starts))


def test_no_corruption_goes_on_or_ends_as_the_clean_text_does(result: Result) -> None:
    clean, bad = (result.groups[f"/stimuli/{name}"] for name in ("seq", "corrupted"))
    assert bad["stimulus"].equals(clean["stimulus"])
    vocabularies = result.loaded.spec.stimuli["seq"].vocabularies
    for text, was, seq in zip(
        bad["text"].values, clean["text"].values, bad["seq"].values, strict=True
    ):
        words, order = str(text).split(), list(vocabularies[str(seq)])
        assert set(words) <= set(order)
        assert order.index(words[3]) != order.index(words[2]) + 1
        assert words[3] != str(was).split()[3]


def test_a_span_of_a_corruption_is_the_slot_that_was_drawn(result: Result) -> None:
    third = result.groups["/captures/third"]
    words = [text.split()[2] for text in result.groups["/stimuli/corrupted"]["text"].values]
    names = result.groups["/stimuli/corrupted"]["token_text"].to_series()
    read = [names[int(token)].lstrip("Ġ") for token in third["token_id"].values[:, 0]]
    assert read == words


def test_what_was_kept_is_solved(result: Result) -> None:
    assert float(result.analysis("solved")["top_accuracy"]) == 1
    assert float(result.analysis("heads")["logit_diff_clean"].min()) > 0.69


PUBLISHED = """\
patchclamp: 1
name: published
model: bundled:sequences
stimuli:
  clean:
    kind: jsonl
    path: {folder}/numerals.jsonl
    text: "{{text}}"
    groups: none
    slots: [S1, S2, S3, S4]
    where: template == 'done'
    take: {{n: 512, draw: first}}
  published:
    kind: jsonl
    path: {folder}/numerals_corrupted.jsonl
    id: pairs_with_index
    text: "{{text}}"
    groups: none
    slots: [S1, S2, S3, S4]
  ours: {{kind: corrupt, of: clean, slots: redraw}}
"""


def test_rows_whose_slots_disagree_with_their_text_are_refused(shared: Path) -> None:
    """More than a third of the published corruptions say something else than their fields."""
    folder = shared / "data" / "sequences"
    problems = Problems(loads(PUBLISHED.format(folder=folder)))
    tables = read_stimuli(problems, 0)
    (told,) = problems.found
    assert (told.code, told.path[1]) == ("P405", "published")
    rows = list(map(json.loads, (folder / "numerals_corrupted.jsonl").read_text().splitlines()))
    agree = [re.findall(r"\d+", row["text"]) == [row[f"S{n}"] for n in range(1, 5)] for row in rows]
    assert told.message.startswith(
        f"stimulus '{rows[agree.index(False)]['pairs_with_index']}': slot"
    )
    assert 0.3 < 1 - sum(agree) / len(rows) < 0.45
    # Ours say in the text what they say in their slots, all of them.
    said = [re.findall(r"\d+", text) for text in tables["ours"].texts]
    assert said == [list(slots) for slots in tables["ours"].slots]
    assert len(said) == 512


def test_texts_of_partners_are_taken_as_they_are(shared: Path) -> None:
    text = PUBLISHED.format(folder=shared / "data" / "sequences")
    head, _, rest = text.partition("  published:")
    rest = rest.replace("    slots: [S1, S2, S3, S4]\n", "    take: {n: 512, draw: first}\n")
    problems = Problems(loads(f"{head}  published:{rest}"))
    assert len(read_stimuli(problems, 0)["published"]) == 512
    assert not problems.found
