"""What the planner saves changes no number: every architecture, site and sort of intervention."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from patchclamp.engine import run
from patchclamp.engine.savings import Wanted, plain, sweep_of

SPEC = """\
patchclamp: 1
name: savings
model: {{id: {model}}}
stimuli:
  words:
    kind: items
    text: "{{text}}"
    id: name
    groups: none
    answer: {{correct: " w1", foil: " w2"}}
    spans: {{first: "{{one}}"}}
    items:
      - {{name: a, text: w1 w2 w3 w4 w5 w6 w7, one: w3}}
      - {{name: b, text: w8 w9 w10 w11, one: w10}}
      - {{name: c, text: w12 w13 w14 w15 w16, one: w13}}
  others:
    kind: items
    text: "{{text}}"
    id: name
    groups: none
    spans: {{first: "{{one}}"}}
    partners: {{of: words, by: id, equal_length: error}}
    items:
      - {{name: c, text: w22 w23 w24 w25 w26, one: w23}}
      - {{name: b, text: w18 w19 w20 w21, one: w20}}
      - {{name: a, text: w11 w12 w13 w14 w15 w16 w17, one: w13}}
interventions:
  zero: {{kind: ablate, value: zero, allow_no_effect: true}}
  mean: {{kind: ablate, value: {{mean_over: others, per: position}}}}
  patch: {{kind: patch, source: others, allow_no_effect: true}}
  noise: {{kind: replace, by: noise}}
  clamp: {{kind: clamp, units: [0], value: [3.0]}}
analyses:
  heads: {{kind: ablation, with: mean, units: {{site: z}}, metric: logit_diff}}
  keys: {{kind: ablation, with: patch, units: {{site: k, layers: 1}}, metric: logprob}}
  late: {{kind: ablation, with: mean, units: {{site: z, positions: last}}, metric: kl}}
  span:
    kind: ablation
    with: patch
    units: {{site: resid_post, positions: first.last}}
    metric: logprob
  mlps:
    kind: ablation
    with: zero
    units: {{site: mlp_out}}
    remove: all_but_each
    metric: logprob
  some: {{kind: ablation, with: noise, units: {{site: mlp_act, group: 40}}, metric: logprob}}
  whole:
    kind: ablation
    with: patch
    units: {{site: resid_pre, layers: [0, 2]}}
    metric: logprob
  held: {{kind: ablation, with: clamp, units: {{site: attn_out}}, metric: logit_diff}}
run: {{backend: {backend}, optimise: {optimise}, threads: 1}}
"""

CAUSAL = [name for name in tiny.TWINS if name != "bert"]


def results(folder: Path, backend: str, optimise: str, model: str, *, template: str = SPEC) -> Any:
    text = template.format(model=model, backend=backend, optimise=optimise)
    spec = folder / f"{backend}-{optimise}.yaml"
    spec.write_text(text)
    return run(spec, out=folder / "runs", cache=folder / f"cache-{backend}-{optimise}")


@pytest.mark.parametrize("architecture", CAUSAL)
def test_savings_change_no_number(
    architecture: str,
    twin: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Transformers would take the tokenizer of Qwen 2 models, which knows none of these words.
    monkeypatch.setattr("patchclamp.engine.model.AutoTokenizer", PreTrainedTokenizerFast)
    folder = twin(architecture).folder
    backend = "hooks" if architecture != "llama" else "nnsight"
    oracle = results(tmp_path, backend, "false", str(folder))
    quick = results(tmp_path, backend, "true", str(folder))
    for name, expected in oracle.analyses.items():
        found = quick.analysis(name)
        metric = next(v for v in expected.data_vars if f"{v}_clean" in expected)
        for variable in (metric, "effect"):
            scale = max(1.0, float(np.abs(expected[metric]).max()))
            np.testing.assert_allclose(
                found[variable], expected[variable], rtol=0, atol=1e-5 * scale, err_msg=name
            )
        # The negative control: what is compared is not all the same.
        assert float(np.abs(expected["effect"]).max()) > 1e-4


def test_savings_hold_where_answers_of_several_tokens_are_scored(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    """Each stimulus then takes several rows of a pass, which are longer than its text."""
    forced = SPEC.replace(
        'correct: " w1", foil: " w2"', 'correct: " w1 w3 w4", foil: " w2", tokens: teacher_forced'
    ).replace("per: position", "per: all")
    folder = str(twin("llama").folder)
    oracle, quick = (
        results(tmp_path, "hooks", optimise, folder, template=forced)
        for optimise in ("false", "true")
    )
    for name, expected in oracle.analyses.items():
        found = quick.analysis(name)["effect"]
        np.testing.assert_allclose(found, expected["effect"], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "gptj", "gpt_neox"])
def test_savings_hold_where_only_the_logits_of_answers_are_read(
    architecture: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    """No metric needs the vocabulary: bounds, biases and tied weights stay as they are."""
    narrow = re.sub("metric: [a-z]+$", "metric: logit_diff", SPEC, flags=re.M)
    narrow = re.sub("metric: [a-z]+}", "metric: logit_diff}", narrow)
    folder = str(twin(architecture).folder)
    oracle, quick, ours = (
        results(tmp_path, backend, optimise, folder, template=narrow)
        for backend, optimise in (("hooks", "false"), ("hooks", "true"), ("nnsight", "true"))
    )
    for name, expected in oracle.analyses.items():
        scale = max(1.0, float(np.abs(expected["logit_diff"]).max()))
        for found in (quick.analysis(name)["logit_diff"], ours.analysis(name)["logit_diff"]):
            np.testing.assert_allclose(
                found, expected["logit_diff"], rtol=0, atol=1e-5 * scale, err_msg=name
            )


def test_nnsight_takes_the_same_savings(twin: Callable[[str], Any], tmp_path: Path) -> None:
    folder = twin("gptj").folder
    ours, plain_hooks = (
        results(tmp_path, backend, "true", str(folder)) for backend in ("nnsight", "hooks")
    )
    for name, expected in plain_hooks.analyses.items():
        np.testing.assert_allclose(ours.analysis(name)["effect"], expected["effect"], atol=1e-5)


def test_a_sweep_skips_layers_and_tokens_only_where_that_pays() -> None:
    one = [Wanted(0, (0, 1), 2, 1)]
    assert not sweep_of(one, layers=4, length=10, budget=100).clean
    many = [Wanted(number, (0, 1), number % 4, 1 + number % 3) for number in range(40)]
    sweep = sweep_of(many, layers=4, length=10, budget=100)
    assert sweep.past
    assert sweep.streams == (1, 2, 3)
    assert sorted(part.number for pack in sweep.packs for part in pack.parts) == list(range(40))
    for pack in sweep.packs:
        longest = max(part.tokens or 10 for part in pack.parts)
        assert sum(len(part.rows) for part in pack.parts) * longest <= 100
        assert all(part.start == pack.start for part in pack.parts)
    assert len(plain(many).packs) == 40
