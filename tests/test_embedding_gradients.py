"""Gradients at the token embeddings, where they begin, against autograd through a plain hook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from patchclamp.engine import run

SPEC = """\
patchclamp: 1
name: slopes
model: {model}
stimuli:
  words:
    kind: items
    text: "{{text}}"
    answer: {{correct: " w40", foil: " w41"}}
    items: [{{text: w1 w2 w3 w4 w5}}, {{text: w8 w9}}]
captures:
  slope: {{site: embed, positions: all, gradient: {{of: logit_diff}}}}
  size: {{site: embed, positions: all, gradient: {{of: logit_diff}}, reduce: norm}}
  other: {{site: resid_post, positions: all, gradient: {{of: logit_diff}}}}
  plain: {{site: embed, positions: all}}
run: {{backend: {backend}}}
"""
TEXTS = ("w1 w2 w3 w4 w5", "w8 w9")


@pytest.mark.parametrize("backend", ["nnsight", "hooks"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gemma2", "opt", "phi"])
def test_they_are_those_of_the_text_alone(name: str, backend: str, tmp_path: Path) -> None:
    folder = tiny.make(name, tmp_path / "model")
    (tmp_path / "s.yaml").write_text(SPEC.format(model="./model", backend=backend))
    result = run(tmp_path / "s.yaml", out=tmp_path / "runs", cache=tmp_path / "cache")
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    right, wrong = (tiny.WORDS.index(word) for word in ("w40", "w41"))
    for id_, text in zip("01", TEXTS, strict=True):
        ids = torch.tensor([[tiny.WORDS.index(word) for word in text.split()]])
        kept: list[torch.Tensor] = []

        def hold(module: object, given: object, out: torch.Tensor, kept: list = kept) -> None:  # type: ignore[type-arg]
            out.requires_grad_(True)
            kept.append(out)

        handle = model.get_input_embeddings().register_forward_hook(hold)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        last = model(ids, use_cache=False).logits[0, -1].double()
        handle.remove()
        (expected,) = torch.autograd.grad(last[right] - last[wrong], kept)
        n = ids.shape[1]
        scale = float(expected.abs().max())
        found = result.groups["/captures/slope"]["gradient"].sel(stimulus=id_).to_numpy()[:n]
        assert np.abs(found - expected[0].numpy()).max() < 1e-5 * scale
        sizes = result.groups["/captures/size"]["norm"].sel(stimulus=id_).to_numpy()[:n]
        assert sizes == pytest.approx(expected[0].norm(dim=-1).numpy(), rel=1e-4)
        stream = result.groups["/captures/plain"]["activation"].sel(stimulus=id_).to_numpy()[:n]
        assert np.allclose(stream, kept[0][0].detach().numpy(), atol=1e-5)
