"""Mean ablation against resampling, by what a quadratic metric makes of either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from patchclamp.engine import run

WORDS = ("<unk>", "<end>", *(f"w{number}" for number in range(30)))

SPEC = """\
patchclamp: 1
name: values
model: MODEL
stimuli:
  same:
    kind: items
    text: "{text}"
    id: name
    groups: none
    answer: {correct: " w1", foil: " w2"}
    items: [SAME]
  others:
    kind: items
    text: "{text}"
    id: name
    groups: none
    partners: {of: same, by: id}
    items: [OTHERS]
captures:
  z: {of: others, site: z, positions: last}
interventions:
  mean: {kind: ablate, value: {mean_over: others, per: position}}
  drawn: {kind: ablate, value: {resample: others}}
analyses:
  mean: {kind: ablation, stimuli: same, with: mean, units: UNITS, metric: logit_diff}
  drawn: {kind: ablation, stimuli: same, with: drawn, units: UNITS, metric: logit_diff}
run: {threads: 1}
"""

SIZE = 24


def quadratic(folder: Path) -> GPT2LMHeadModel:
    """Write a block whose logits are a quadratic of what its heads give.

    Norms hold a variance of 1e12 to be small and only centre, the MLP squares what is positive,
    and its biases see to it that everything is.
    """
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=16,
        n_embd=32,
        n_layer=1,
        n_head=4,
        activation_function="relu2",
        layer_norm_epsilon=1e12,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1e6)
        model.transformer.wte.weight.mul_(20)
        block = model.transformer.h[0]
        for weight in (block.attn.c_attn.weight, block.attn.c_proj.weight, block.mlp.c_fc.weight):
            weight.mul_(25)
        block.mlp.c_fc.bias.fill_(60.0)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>"
    ).save_pretrained(folder)
    return model


def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(f"w{word}" for word in rng.integers(3, 30, size=6)) for _ in range(SIZE)]


def analysed(folder: Path, model: Path, others: list[tuple[int, str]], units: str) -> Any:
    same = [f"{{name: s{i}, text: w3 w4 w5 w6 w7 w8}}" for i in range(SIZE)]
    drawn = [f"{{name: s{i}, text: {text}}}" for i, text in others]
    spec = SPEC.replace("MODEL", str(model)).replace("SAME", ", ".join(same))
    spec = spec.replace("OTHERS", ", ".join(drawn)).replace("UNITS", units)
    (folder / "spec.yaml").write_text(spec)
    return run(folder / "spec.yaml", out=folder / "runs", cache=folder / "cache")


def hessian(model: GPT2LMHeadModel, head: int) -> Any:
    """Return the Hessian of the metric with respect to what a head gives at the last token."""
    channels = slice(8 * head, 8 * (head + 1))
    projection = model.transformer.h[0].attn.c_proj

    def metric(z: torch.Tensor) -> torch.Tensor:
        def put(_: Any, args: Any) -> Any:
            given = args[0].clone()
            given[0, -1, channels] = z
            return (given,)

        handle = projection.register_forward_pre_hook(put)
        ids = torch.tensor([[WORDS.index(f"w{n}") for n in range(3, 9)]])
        logits = model(ids, use_cache=False).logits[0, -1]
        handle.remove()
        found: torch.Tensor = logits[WORDS.index("w1")] - logits[WORDS.index("w2")]
        return found

    return torch.autograd.functional.hessian(metric, torch.zeros(8)).numpy()


def effects(result: Any, name: str) -> xr.DataArray:
    found: xr.DataArray = result.analysis(name)["effect"].isel(layer=0)
    return found


def test_the_gap_of_resampling_is_half_the_trace_of_hessian_and_covariance(tmp_path: Path) -> None:
    """E m(a) - m(E a) = tr(H Cov) / 2, with H constant and Cov over the reference set."""
    model = quadratic(tmp_path / "model")
    units = "{site: z, positions: last}"
    result = analysed(tmp_path, tmp_path / "model", list(enumerate(texts())), units)
    gap = effects(result, "drawn") - effects(result, "mean")
    z = result.groups["/captures/z"]["activation"].isel(layer=0, position=0).to_numpy()
    for head in range(4):
        curvature = hessian(model, head)
        covariance = np.cov(z[:, head].astype(np.float64), rowvar=False, ddof=0)
        expected = 0.5 * np.trace(curvature.astype(np.float64) @ covariance)
        assert float(gap.sel(head=head)) == pytest.approx(expected, rel=2e-3)
        # The control: the gap is not nothing, and the wrong degrees of freedom are seen.
        assert abs(expected) > 1e-2
        assert abs(float(gap.sel(head=head)) / expected - SIZE / (SIZE - 1)) > 2e-2


def test_the_order_in_which_the_reference_is_given_changes_nothing(tmp_path: Path) -> None:
    quadratic(tmp_path / "model")
    pairs = list(enumerate(texts()))
    turned = [pairs[i] for i in np.random.default_rng(1).permutation(SIZE)]
    first = analysed(tmp_path, tmp_path / "model", pairs, "{site: z}")
    again = analysed(tmp_path, tmp_path / "model", turned, "{site: z}")
    for name in ("mean", "drawn"):
        one, other = first.analysis(name)["logit_diff"], again.analysis(name)["logit_diff"]
        np.testing.assert_allclose(one, other, atol=1e-4 * float(np.abs(one).max()))
    # The control: partners are by name, so that others in their place are something else.
    names = [i for i, _ in turned]
    moved = [(i, text) for i, (_, text) in zip(names, pairs, strict=True)]
    third = analysed(tmp_path, tmp_path / "model", moved, "{site: z}")
    one, other = first.analysis("drawn")["logit_diff"], third.analysis("drawn")["logit_diff"]
    assert float(np.abs(one - other).max()) > 1e-2 * float(np.abs(one).max())
    one, other = first.analysis("mean")["logit_diff"], third.analysis("mean")["logit_diff"]
    np.testing.assert_allclose(one, other, atol=1e-4 * float(np.abs(one).max()))
