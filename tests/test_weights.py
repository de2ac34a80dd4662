"""Weights: what a file may lack or have beside the sites, and how encoders are loaded and run."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForPreTraining, BertModel

import tiny
from patchclamp.engine.plan import make_plan
from patchclamp.engine.run import run
from patchclamp.engine.weights import load_weights
from patchclamp.registry.errors import ModelError, SpecError
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: encoder
model: {model}
stimuli:
  words:
    kind: items
    text: "{{text}}"
    labels: [sort]
    groups: none
    items:
      - {{text: w1 w2 w3, sort: a}}
      - {{text: w4 w5, sort: a}}
      - {{text: w13 w14, sort: a}}
      - {{text: w15 w16 w17, sort: a}}
      - {{text: w6 w7 w8 w9, sort: b}}
      - {{text: w10 w11 w12, sort: b}}
      - {{text: w18 w19, sort: b}}
      - {{text: w20 w21 w22, sort: b}}
captures:
  stream: {{site: {site}}}
"""


def plan_of(folder: Path, text: str = SPEC, *, model: str, site: str = "resid_post") -> Any:
    return make_plan(loads(text.format(model=model, site=site), folder=folder))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny.make("bert", tmp_path / "bert")


@pytest.mark.parametrize("saved", [BertModel, BertForPreTraining, None])
def test_an_encoder_is_loaded_with_and_without_what_stands_beside(
    saved: Any, bert: Path, tmp_path: Path
) -> None:
    """A checkpoint of the bare encoder, of pretraining with its poolers, and of masked tokens."""
    trained = AutoModelForMaskedLM.from_pretrained(bert)
    if saved is not None:
        other = saved(tiny.TWINS["bert"])
        inner = getattr(other, "bert", other)
        inner.load_state_dict(trained.bert.state_dict(), strict=False)
        other.save_pretrained(bert)
    plan = plan_of(tmp_path, model="bert")
    module = load_weights(plan.model, "cpu")
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        ours, theirs = module.bert(ids), trained.bert(ids)  # type: ignore[operator, union-attr]
    assert torch.equal(ours.last_hidden_state, theirs.last_hidden_state)
    assert ("logits" in plan.model.architecture.sites) == (saved is not BertModel)


def test_logits_of_an_encoder_without_a_head_are_refused(bert: Path, tmp_path: Path) -> None:
    BertModel(tiny.TWINS["bert"]).save_pretrained(bert)
    from patchclamp.engine.deep_model import check_site
    from patchclamp.engine.problems import Problems

    plan = plan_of(tmp_path, model="bert")
    problems = Problems(plan.loaded)
    check_site("logits", ("captures", "stream", "site"), plan.model, problems)
    assert "'bert' has no site 'logits': its weights lack the head that predicts hidden" in str(
        problems.found[0].message
    )


def test_a_weight_that_a_site_needs_must_be_there(bert: Path, tmp_path: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"do not fit the config: .*layer\.1\.output\.dense"):
        load_weights(plan_of(tmp_path, model="bert").model, "cpu")


def test_an_encoder_gives_representations(bert: Path, tmp_path: Path) -> None:
    text = SPEC + (
        "analyses:\n  sorts: {{kind: rsa, against: {{sort: {{kind: category, column: sort}}}}, "
        "test: {{permute: sort, n: 99}}}}\n"
    )
    (tmp_path / "spec.yaml").write_text(text.format(model="bert", site="resid_post"))
    result = run(tmp_path / "spec.yaml", out=tmp_path / "runs")
    data = xr.open_datatree(result.path)
    expected = AutoModelForMaskedLM.from_pretrained(bert).bert(torch.tensor([[3, 4, 5]]))
    last = expected.last_hidden_state[0, -1].detach().numpy()
    found = data["captures/stream/activation"].sel(stimulus="0", layer=2).values[0]
    assert abs(found - last).max() < 1e-5
    data.close()


def test_an_encoder_answers_no_question(bert: Path, tmp_path: Path) -> None:
    text = SPEC.replace(
        "labels: [sort]\n    groups: none", 'answer: {{correct: " w1", foil: " w2"}}'
    ) + (
        "interventions:\n  zero: {{kind: ablate, value: zero}}\n"
        "analyses:\n"
        "  heads: {{kind: ablation, units: {{site: z}}, metric: {{kind: logit_diff}}}}\n"
    )
    with pytest.raises(SpecError, match="'bert' is an encoder: it predicts hidden tokens and none"):
        plan_of(tmp_path, text, model="bert")
    answered = text.partition("interventions:")[0]
    slope = "  slope: {{site: resid_post, gradient: {{of: entropy}}}}\n"
    kept = answered.replace("answer:", "keep_if: rank == 0\n    answer:")
    for asks, place in ((answered + slope, r"captures\.slope\.gradient"), (kept, r"\.keep_if")):
        with pytest.raises(SpecError, match=f"{place}: 'bert' is an encoder"):
            plan_of(tmp_path, asks, model="bert")


def test_a_bound_on_scores_is_not_left_to_attention_that_ignores_it(twin: Any) -> None:
    assert twin("gemma2").module.config._attn_implementation == "eager"
    assert twin("llama").module.config._attn_implementation == "sdpa"


HEAP = """
import resource
from patchclamp.engine.heap import kept_heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        blocks = [b"x" * (24 << 20) for _ in range(6)]
        blocks.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
with kept_heap():
    with kept_heap():
        faults()
    print(faults())
print(faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library")
def test_a_heap_is_kept_only_while_it_is_held() -> None:
    """Pages that the system maps for six blocks of 24 MiB, made and freed eight times."""
    run = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=True)
    before, held, after = map(int, run.stdout.split())
    assert held < before / 10
    assert after > before / 2


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def another_shape(file: Path) -> None:
    weights = load_file(file)
    weights["model.norm.weight"] = torch.zeros(3)
    save_file(weights, file, metadata={"format": "pt"})


def a_part_missing(file: Path) -> None:
    names = dict.fromkeys(load_file(file), "model-00001-of-00002.safetensors")
    names["model.norm.weight"] = "model-00002-of-00002.safetensors"
    file.rename(file.with_name("model-00001-of-00002.safetensors"))
    index = {"metadata": {}, "weight_map": names}
    file.with_name("model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"cannot be read: .*file not fully covered; copy or fetch them again"),
        (another_shape, r"do not fit the config: \{'mismatched_keys': .*model\.norm\.weight"),
        (a_part_missing, r"cannot be read: .*model-00002-of-00002.*; copy or fetch them again"),
    ],
)
def test_damaged_weights_are_told(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tiny.make("llama", tmp_path / "model")
    damage(folder / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_weights(plan_of(tmp_path, model="model").model, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("w1", "zebra"), "'0' holds 'zebra', token 62 of the tokenizer, and the model has 62: th"),
        (
            ("labels: [sort]", 'answer: {{correct: " zebra", foil: " w2"}}\n    labels: [sort]'),
            "the correct answer ' zebra' holds 'zebra', token 62 of the tokenizer, and the model",
        ),
    ],
)
def test_a_tokenizer_of_another_model_is_told(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    folder = tiny.make("llama", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(SpecError, match=message):
        plan_of(tmp_path, SPEC.replace(*change, 1), model="model")
