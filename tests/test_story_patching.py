"""The story model's she and he: where in the text, block by block, a patch moves the pronoun."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from patchclamp.engine import run

SPEC = """\
patchclamp: 1
name: story
model: MODEL
stimuli:
  prompts:
    kind: jsonl
    path: prompts.jsonl
    text: "{text}"
    groups: template
    spans: {noun: "{noun}", name: "{name}"}
    answer: {correct: " {right}", foil: " {wrong}"}
  other:
    kind: jsonl
    path: others.jsonl
    text: "{text}"
    groups: template
    spans: {noun: "{noun}", name: "{name}"}
    partners: {of: prompts, by: id, equal_length: error}
interventions:
PLACES
analyses:
  words:
    kind: steering
    stimuli: prompts
    with: [both0, both1, both2, both3, both4]
    controls: []
    metric: logit_diff
  last:
    kind: patching
    clean: prompts
    corrupt: other
    direction: denoising
    units: {site: resid_post, positions: last}
    metric: logit_diff
"""


PLACE = """\
  noun{n}: {{kind: patch, source: other, positions: noun.all, {at}}}
  name{n}: {{kind: patch, source: other, positions: name.all, {at}}}
  both{n}: {{kind: together, of: [noun{n}, name{n}]}}
"""
AT = "site: resid_post, layers: {n}, allow_no_effect: true"


def pairs(shared: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Prompts with their counterfactuals, whose two differing words have as many tokens each."""
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "stories260k")

    def tokens(text: str, word: str) -> int:
        begin = text.index(word)
        end = begin + len(word)
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return sum(a < end and b > begin for a, b in offsets)

    found = []
    path = shared / "data" / "sequences" / "story_pronouns.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        own, other = row["prompt"].split(), row["counterfactual_prompt"].split()
        apart = [(a, b) for a, b in zip(own, other, strict=True) if a != b]
        if len(apart) != 2:
            continue
        (noun, noun2), (name, name2) = ((a.strip(".,"), b.strip(".,")) for a, b in apart)
        texts = row["prompt"], row["counterfactual_prompt"]
        counts = [
            [len(tokenizer(text)["input_ids"]), tokens(text, a), tokens(text, b)]
            for text, a, b in ((texts[0], noun, name), (texts[1], noun2, name2))
        ]
        if counts[0] != counts[1]:
            continue
        more = {"id": f"s{number}", "template": row["template"]}
        answers = {"right": row["right"], "wrong": row["wrong"]}
        found.append(
            (
                {**more, **answers, "text": row["prompt"], "noun": noun, "name": name},
                {**more, "text": row["counterfactual_prompt"], "noun": noun2, "name": name2},
            )
        )
    return found


def test_the_pronoun_goes_from_the_differing_words_to_the_last_token_in_the_last_block(
    shared: Path, tmp_path: Path
) -> None:
    made = pairs(shared)
    assert len(made) >= 6
    for name, rows in zip(("prompts", "others"), zip(*made, strict=True), strict=True):
        lines = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    spec = tmp_path / "spec.yaml"
    text = SPEC.replace("PLACES\n", "".join(PLACE.format(n=n, at=AT.format(n=n)) for n in range(5)))
    spec.write_text(text.replace("MODEL", str(shared / "models" / "stories260k")))
    result = run(spec, out=tmp_path, cache=tmp_path / "cache")
    words, last = result.analysis("words"), result.analysis("last")
    # The other way round, what a patch takes away is what the reverse one brings.
    whole = float((last["logit_diff_into"] - last["logit_diff_from"]).mean())
    moved = words["effect"] / whole
    # The notes beside the model say 1.00 0.94 0.84 0.81 0.00 and 0.00 0.01 0.04 0.05 1.00, and not
    # of which pairs: a plain loop gives 1.00 0.96 0.95 0.96 0.00 over all of equal length.
    np.testing.assert_allclose(moved, [1.0, 0.97, 0.94, 0.93, 0.0], atol=0.01)
    np.testing.assert_allclose(last["recovered"], [0.0, 0.01, 0.04, 0.05, 1.0], atol=0.05)
