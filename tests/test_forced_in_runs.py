"""Answers of several tokens in whole runs: what is captured, and what an intervention changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from transformers import AutoModelForCausalLM, AutoTokenizer

from patchclamp.engine import run
from patchclamp.engine.plan import make_plan
from patchclamp.registry import MODELS
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import loads

BUNDLED = MODELS["bundled:sequences"].path("main")
LAYER, HEAD = 1, 1
SPEC = """\
patchclamp: 1
name: forced
model: bundled:sequences
stimuli:
  words:
    kind: items
    text: "{t}"
    groups: none
    answer: {correct: "{a}", foil: "{b}", tokens: teacher_forced}
    items:
      - {t: Monday Tuesday, a: " Wednesday Thursday", b: " Friday"}
      - {t: one two three, a: " four five six", b: " four four"}
      - {t: in March April May, a: " June", b: " July"}
captures: {resid: {of: words, site: resid_post, positions: all}}
interventions:
  zero: {kind: ablate, value: zero}
  mean: {kind: ablate, value: {mean_over: words, per: PER}}
analyses:
  zeroed: {kind: ablation, with: zero, units: {site: z, layers: 1}, metric: logprob}
  averaged: {kind: ablation, with: mean, units: {site: z, layers: 1}, metric: logit_diff}
run: {batch: {tokens: 10}}
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    folder = tmp_path_factory.mktemp("forced")
    (folder / "t.yaml").write_text(SPEC.replace("PER", "all"))
    result = run(folder / "t.yaml", out=folder / "runs", cache=folder / "cache")
    return xr.open_datatree(result.path, engine="netcdf4").load()


class Plain:
    """A model with one head set to a value, scored one sequence at a time."""

    def __init__(self) -> None:
        self.module = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
        size = self.module.config.hidden_size // self.module.config.num_attention_heads
        self.channels = slice(HEAD * size, (HEAD + 1) * size)
        self.projection = self.module.gpt_neox.layers[LAYER].attention.dense

    def z(self, text: str) -> np.ndarray:
        """What the head gives at each token."""
        seen = []

        def look(_: Any, args: tuple[torch.Tensor]) -> None:
            seen.append(args[0][0, :, self.channels].numpy())

        handle = self.projection.register_forward_pre_hook(look)
        with torch.no_grad():
            self.module(torch.tensor([self.tokenizer(text).input_ids]))
        handle.remove()
        return seen[0]

    def logprob(self, text: str, answer: str, value: Any = None) -> float:
        before = len(self.tokenizer(text).input_ids)
        ids = self.tokenizer(text + answer).input_ids

        def put(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            z = args[0].clone()
            z[..., self.channels] = torch.as_tensor(value, dtype=z.dtype)
            return (z,)

        handle = self.projection.register_forward_pre_hook(put) if value is not None else None
        with torch.no_grad():
            logs = self.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        if handle is not None:
            handle.remove()
        return float(sum(logs[i - 1, ids[i]] for i in range(before, len(ids))))


def test_interventions_reach_the_answer_too(tree: xr.DataTree) -> None:
    plain, stimuli = Plain(), tree["stimuli/words"].to_dataset()
    texts, correct, foil = (
        stimuli[name].to_numpy().tolist() for name in ("text", "correct", "foil")
    )
    mean = np.concatenate([plain.z(text) for text in texts]).mean(axis=0)
    zeroed, averaged = tree["analyses/zeroed"], tree["analyses/averaged"]
    at = {"layer": LAYER, "head": HEAD}
    for row, text in enumerate(texts):
        clean = plain.logprob(text, correct[row])
        assert float(zeroed["logprob_clean"][row]) == pytest.approx(clean, abs=1e-4)
        changed = plain.logprob(text, correct[row], 0.0)
        assert float(zeroed["logprob"].sel(at)[row]) == pytest.approx(changed, abs=1e-4)
        assert abs(changed - clean) > 1e-3
        difference = plain.logprob(text, correct[row], mean) - plain.logprob(text, foil[row], mean)
        assert float(averaged["logit_diff"].sel(at)[row]) == pytest.approx(difference, abs=1e-4)


def test_captures_are_of_the_texts_alone(tree: xr.DataTree, tmp_path: Path) -> None:
    one = SPEC.replace("PER", "all").partition("analyses:")[0] + "run: {batch: {tokens: 10}}\n"
    (tmp_path / "t.yaml").write_text(one)
    alone = run(tmp_path / "t.yaml", out=tmp_path / "runs", cache=tmp_path / "cache")
    expected = alone.groups["/captures/resid"]["activation"]
    found = tree["captures/resid/activation"]
    assert found.sizes == expected.sizes
    np.testing.assert_allclose(found, expected, atol=1e-4)
    lengths = tree["stimuli/words/n_tokens"].to_numpy()
    assert found.isel(unit=0, layer=0).notnull().sum("position").to_numpy().tolist() == (
        lengths.tolist()
    )


def test_a_mean_per_position_must_reach_as_far_as_the_answers() -> None:
    message = "'words' reaches [0-9]+ tokens with its answers, but 'words', whose mean per position"
    with pytest.raises(SpecError, match=message):
        make_plan(loads(SPEC.replace("PER", "position").replace('a: " June"', 'a: " June July"')))


@pytest.mark.parametrize(
    ("correct", "foil", "message"),
    [
        (" four five", " four", "the answer ' four five' begins with the tokens of ' four', whose"),
        (" four", " four five", "the answer ' four five' begins with the tokens of ' four', whose"),
    ],
)
def test_an_answer_that_begins_another_cannot_compete_with_it(
    correct: str, foil: str, message: str
) -> None:
    text = SPEC.replace("PER", "all").replace(" four five six", correct)
    text = text.replace(" four four", foil)
    with pytest.raises(SpecError, match=message):
        make_plan(loads(text))


def test_an_answer_must_fit_behind_its_text() -> None:
    long = SPEC.replace("PER", "all").replace("Monday Tuesday", "one " * 127 + "Monday")
    with pytest.raises(SpecError, match="needs 129 tokens with its text, the model"):
        make_plan(loads(long))


SLOPES = """\
patchclamp: 1
name: slopes
model: bundled:sequences
stimuli:
  words:
    kind: items
    text: "{t}"
    groups: none
    answer: {correct: "{a}", foil: "{b}", tokens: teacher_forced}
    items:
      - {t: one two three, a: " four five six", b: " seven eight"}
      - {t: in March April May, a: " June", b: " July August"}
captures:
  slope: {site: mlp_out, positions: all, gradient: {of: logit_diff}}
  weight: {site: mlp_out, positions: all, gradient: {of: logit_diff, wrt: weight}, reduce: norm}
run: {batch: {tokens: 20}}
"""


def test_a_gradient_is_that_through_all_ways_in_which_answers_go_on(tmp_path: Path) -> None:
    """One change at a token of the text, which stands before both answers, against autograd."""
    (tmp_path / "s.yaml").write_text(SLOPES)
    result = run(tmp_path / "s.yaml", out=tmp_path / "runs", cache=tmp_path / "cache")
    plain = Plain()
    for parameter in plain.module.parameters():
        parameter.requires_grad_(False)
    block, stimuli = plain.module.gpt_neox.layers[LAYER], result.groups["/stimuli/words"]
    for row, text in enumerate(stimuli["text"].to_numpy().tolist()):
        n = len(plain.tokenizer(text).input_ids)
        change = torch.zeros(n, plain.module.config.hidden_size, requires_grad=True)
        given: list[torch.Tensor] = []

        def add(_: Any, args: Any, gives: torch.Tensor, change: Any = change) -> torch.Tensor:
            more = gives.shape[1] - len(change)
            return gives + torch.nn.functional.pad(change, (0, 0, 0, more))

        def look(_: Any, args: Any, given: Any = given) -> None:
            given.append(args[0])

        handles = [
            block.mlp.register_forward_hook(add),
            block.mlp.dense_4h_to_h.register_forward_pre_hook(look),
        ]
        scores = []
        for part in ("correct", "foil"):
            ids = plain.tokenizer(text + str(stimuli[part].to_numpy()[row])).input_ids
            logs = plain.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            scores.append(sum(logs[i - 1, ids[i]] for i in range(n, len(ids))))
        for handle in handles:
            handle.remove()
        (expected,) = torch.autograd.grad(scores[0] - scores[1], change)
        at = {"stimulus": row, "position": slice(n)}
        found = result.groups["/captures/slope"]["gradient"].sel(layer=LAYER).isel(at).to_numpy()
        assert np.abs(found - expected.numpy()).max() < 1e-5 * float(expected.abs().max())
        sizes = expected.norm(dim=1) * given[0][0, :n].norm(dim=1)
        norms = result.groups["/captures/weight"]["norm"].sel(layer=LAYER).isel(at).to_numpy()
        np.testing.assert_allclose(norms, sizes.detach().numpy(), rtol=1e-4)
