"""Steering: effects against random interventions, right texts, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclamp.analyses.acting import acting, random_heads
from patchclamp.analyses.readings import Change, ModelShape
from patchclamp.engine import run
from patchclamp.engine.reporting.methods import methods
from patchclamp.engine.results import open_result
from patchclamp.registry.errors import SpecError
from patchclamp.specs.interventions import Ablate, Add, Together

SPEC = """\
patchclamp: 1
name: steering
model: {id: "bundled:sequences"}
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'numerals' or category == 'months'
    take: {n: 24}
captures:
  resid: {site: resid_post, layers: 1, positions: last}
interventions:
  push:
    kind: add
    vector: {of: decode, toward: months, normalise: residual}
    scale: [0.5, -0.5]
    site: resid_post
    layers: 1
    positions: last
  bare: {kind: add, vector: {of: decode, toward: months, normalise: residual}, scale: [0.5, -0.5]}
  one: {kind: add, vector: decode, site: resid_post, layers: 1, positions: last}
  cut: {kind: ablate, value: zero, site: z, heads: [L1H0, L1H1]}
  whole: {kind: ablate, value: zero}
  both: {kind: together, of: [cut, one]}
  nested: {kind: together, of: [both, one]}
  doses: {kind: together, of: [cut, push]}
  later: {kind: ablate, value: zero, site: z, during: generation}
analyses:
  decode: {kind: probe, of: resid, target: category, shuffles: 19, controls: []}
ANALYSES
"""


def analysed(folder: Path, *lines: str) -> Any:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.replace("ANALYSES", "\n".join(lines)))
    return run(spec, out=folder, cache=folder / "cache")


def test_effects_stand_beside_those_of_random_directions_and_heads(tmp_path: Path) -> None:
    result = analysed(
        tmp_path,
        "  steer: {kind: steering, with: [push, cut], metric: logit_diff, by: category,",
        "    controls: [random_direction, random_heads], repeats: 9}",
        "  same: {kind: ablation, with: bare, units: {site: resid_post, layers: 1,"
        " positions: last}, metric: logit_diff}",
        "  both: {kind: steering, with: [both, cut, one], metric: logit_diff, repeats: 2}",
    )
    found, same = result.analysis("steer"), result.analysis("same")
    effect = found["effect"].sel(condition="push", dose=0.5)
    np.testing.assert_allclose(effect, same["effect"].sel(dose=0.5).squeeze(), atol=1e-9)
    drawn = found["control_effect"].sel(condition="push", dose=0.5, control="random_direction")
    k = int((np.abs(drawn) >= np.abs(effect)).sum())
    p = found["p"].sel(condition="push", dose=0.5, control="random_direction")
    assert float(p) == pytest.approx((k + 1) / 10)
    assert len(np.unique(drawn)) == 9
    # Each control is of the interventions that it is one for.
    assert bool(found["p"].sel(condition="push", control="random_heads").isnull().all())
    assert bool(found["p"].sel(condition="cut", control="random_direction").isnull().all())
    each = found["logit_diff"].sel(condition="cut", dose=1.0) - found["logit_diff_clean"]
    by = each.groupby("category").mean()
    np.testing.assert_allclose(found["effect_by"].sel(condition="cut", dose=1.0), by)
    assert found["class"].attrs["label"] == "category"
    # Both at once is neither of them, and not their sum.
    joined = result.analysis("both")["effect"]
    assert len(np.unique(joined.round(3))) == 3


def test_texts_are_right_by_their_answers(tmp_path: Path) -> None:
    text = "with: [cut], generate: {max_new_tokens: 2}, controls: [random_heads], repeats: 3"
    found = analysed(
        tmp_path,
        f"  first: {{kind: steering, {text}, score: {{kind: contains}}}}",
        f"  none: {{kind: steering, {text}, score: {{kind: contains, after: 'Answer:'}}}}",
    )
    first, none = found.analysis("first"), found.analysis("none")
    answers = found.groups["/stimuli/words"]["correct"].to_numpy()
    for name in ("text", "text_clean"):
        texts = first[name].squeeze().to_numpy()
        said = [re.findall(r"\w+", text) for text in texts]
        expected = [a.strip() in words for a, words in zip(answers, said, strict=True)]
        variable = "right" if name == "text" else "right_clean"
        assert first[variable].squeeze().to_numpy().tolist() == expected
    assert float(first["right_clean"].mean()) > 0.9
    assert float(first["effect"].squeeze()) < -0.3
    assert first["effect"].attrs["units"] == "1"
    assert float(none["right_clean"].max()) == 0
    with open_result(found.path) as stored:
        said = methods(stored)
    assert "texts were continued by at most 2 tokens, and the effect is in right texts" in said
    assert "over 24 stimuli, beside random heads (3 of each)." in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("with: [whole], metric: kl", "interventions.whole does not say where it acts"),
        ("with: [nested], metric: kl", "puts 'both' together, which is itself several"),
        ("with: [doses], metric: kl", "'push' together with others, which has several doses"),
        ("with: [later], metric: kl", "acts during generation alone, and a metric is of the"),
        ("with: [cut], metric: kl", "there is no 'random_direction' to compare with: nothing in"),
        ("metric: kl", "steering has nothing to do: name interventions in 'with'"),
    ],
)
def test_what_says_too_little_is_refused(line: str, said: str, tmp_path: Path) -> None:
    controls = "" if "cut" in line else ", controls: []"
    with pytest.raises(SpecError, match=said):
        analysed(tmp_path, f"  steer: {{kind: steering, stimuli: words, {line}{controls}}}")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "with: cut, units: {site: z}",
            r"says where it acts \(heads\), and here the analysis says",
        ),
        ("with: one, units: {site: mlp_out}", r"says where it acts \(site, layers, positions\)"),
        ("with: later, units: {site: z}", r"interventions.later says where it acts \(during\)"),
    ],
)
def test_where_it_acts_is_said_once(what: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=said):
        analysed(tmp_path, f"  heads: {{kind: ablation, {what}, metric: logit_diff}}")


def test_several_at_once_are_no_single_unit(tmp_path: Path) -> None:
    line = "  heads: {kind: ablation, with: both, units: {site: z}, metric: logit_diff}"
    with pytest.raises(SpecError, match="each where it says itself, and here the analysis says"):
        analysed(tmp_path, line)


SHAPE = ModelShape(
    layers=4,
    heads=3,
    interventions={
        "cut": Ablate.model_validate(
            {"kind": "ablate", "value": "zero", "site": "z", "heads": ["L1H0", "L2H2"]}
        ),
        "all": Ablate.model_validate(
            {"kind": "ablate", "value": "zero", "site": "z", "layers": [3], "during": "prompt"}
        ),
        "push": Add.model_validate({"kind": "add", "vector": "v", "site": "resid_post"}),
        "both": Together.model_validate({"kind": "together", "of": ("all", "cut")}),
    },
)


def test_interventions_act_where_they_say() -> None:
    assert acting("cut", SHAPE) == (Change("cut", "z", 1, 0), Change("cut", "z", 2, 2))
    assert acting("all", SHAPE) == (Change("all", "z", 3, during="prompt"),)
    assert [change.layer for change in acting("push", SHAPE)] == [0, 1, 2, 3]
    assert acting("both", SHAPE) == (*acting("all", SHAPE), *acting("cut", SHAPE))


def test_random_heads_are_as_many_each_once_and_of_the_spec_s_seed() -> None:
    changes = acting("cut", SHAPE)
    drawn = list(random_heads(changes, SHAPE, 200))
    assert drawn == list(random_heads(changes, SHAPE, 200))
    assert all(len({(c.layer, c.head) for c in some}) == 2 for some in drawn)
    assert len({(c.layer, c.head) for some in drawn for c in some}) == 12
    assert list(random_heads(acting("push", SHAPE), SHAPE, 3)) == []
