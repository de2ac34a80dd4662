"""Whole runs in which the model decides which stimuli stay, on a checkpoint that solves some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from patchclamp.engine import Result, run
from patchclamp.engine.plan import make_plan
from patchclamp.engine.plan_text import describe_plan
from patchclamp.registry import MODELS
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: screened
model: bundled:sequences@step80
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'months'
    keep_if: correct and p > 3 * p_foil
    take: {n: 40, draw: first, fewer: true}
  scrambled: {kind: corrupt, of: words}
captures:
  resid: {of: words, site: resid_post}
interventions:
  mean: {kind: ablate, value: {mean_over: scrambled, per: position}}
analyses:
  heads: {kind: ablation, stimuli: words, with: mean, units: {site: z, layers: 1}, metric: logprob}
"""


def run_spec(folder: Path, text: str = SPEC, **options: Any) -> Result:
    (folder / "t.yaml").write_text(text)
    return run(folder / "t.yaml", out=folder / "runs", cache=folder / "cache", **options)


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run_spec(tmp_path_factory.mktemp("screened"))


def test_what_stays_is_what_a_plain_forward_says(screened: Result, tmp_path: Path) -> None:
    whole = SPEC.replace("    keep_if: correct and p > 3 * p_foil\n", "")
    all_ = run_spec(tmp_path, whole.replace("    take: {n: 40, draw: first, fewer: true}\n", ""))
    stimuli = all_.groups["/stimuli/words"]
    folder = MODELS["bundled:sequences"].path("step80")
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    kept = []
    for row in range(stimuli.sizes["stimulus"]):
        of = stimuli.isel(stimulus=row)
        ids = of["token_id"].to_numpy()
        with torch.no_grad():
            p = module(torch.from_numpy(ids[ids >= 0]).long()[None]).logits[0, -1].softmax(-1)
        right, wrong = p[int(of["correct_id"])], p[int(of["foil_id"])]
        if p.argmax() == int(of["correct_id"]) and right > 3 * wrong:
            kept.append(str(of["stimulus"].item()))
    found = screened.groups["/stimuli/words"]
    assert 0 < len(kept) < stimuli.sizes["stimulus"]
    assert found["stimulus"].to_numpy().tolist() == kept[:40]
    assert found.attrs["n_asked"] == stimuli.sizes["stimulus"]
    assert found.attrs["n_kept"] == len(kept)


def test_everything_that_follows_is_about_what_stays(screened: Result) -> None:
    kept = screened.groups["/stimuli/words"]["stimulus"].to_numpy().tolist()
    assert screened.groups["/stimuli/scrambled"]["stimulus"].to_numpy().tolist() == kept
    assert screened.groups["/captures/resid"]["stimulus"].to_numpy().tolist() == kept
    heads = screened.analysis("heads")
    assert heads["stimulus"].to_numpy().tolist() == kept
    assert np.exp(heads["logprob_clean"]).min() > 0


def test_a_corruption_is_the_same_whether_others_stay_or_not(
    screened: Result, tmp_path: Path
) -> None:
    whole = run_spec(tmp_path, SPEC.replace("    keep_if: correct and p > 3 * p_foil\n", ""))
    texts = whole.groups["/stimuli/scrambled"]["text"].to_series().to_dict()
    for id_, text in screened.groups["/stimuli/scrambled"]["text"].to_series().items():
        assert texts.get(id_, text) == text


def test_a_second_run_asks_nothing_again(tmp_path: Path) -> None:
    first, seen = run_spec(tmp_path), []
    again = run_spec(tmp_path, progress=lambda what, done, total: seen.append(what))
    assert seen == []
    assert again.groups["/analyses/heads"].identical(first.groups["/analyses/heads"])


def test_a_model_that_solves_nothing_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"P403.*none of [0-9]+ stimuli meets 'correct and p > 3"):
        run_spec(tmp_path, SPEC.replace("step80", "step0"))
    assert not (tmp_path / "runs").exists()


def test_a_plan_says_that_it_may_be_less() -> None:
    text = describe_plan(make_plan(loads(SPEC)))
    assert "'keep_if' decides first what stays of words: the rest is at most this" in text


def test_a_screened_set_can_be_patched_from_its_corruption(tmp_path: Path) -> None:
    """The corrupted texts with the answers of the clean ones are a set that no spec names."""
    patching = """\
  patched:
    kind: patching
    clean: words
    corrupt: scrambled
    direction: denoising
    units: {site: resid_post, positions: last}
    metric: logit_diff
"""
    found = run_spec(tmp_path, SPEC + patching).analysis("patched")
    kept = run_spec(tmp_path).groups["/stimuli/words"]["stimulus"].to_numpy().tolist()
    assert found["stimulus"].to_numpy().tolist() == kept
    # The last layer's stream is all that the logits are read from.
    last = found.isel(layer=-1)
    np.testing.assert_allclose(last["logit_diff"], last["logit_diff_from"], atol=1e-4)
    assert (found["logit_diff_into"] != found["logit_diff_from"]).any()
