"""Summaries of attention maps: neither padding nor what a query does not see enters any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

import tiny
from patchclamp.engine import Result, run

TEXTS = ("w1 w2 w3 w4 w5 w6", "w7 w2", "w9 w2 w8 w4")
SPEC = """\
patchclamp: 1
name: maps
model: ./model
stimuli:
  words: {{kind: items, text: "{{text}}", labels: [l], items: [ITEMS]}}
captures:
  whole: {{site: attn_scores, positions: all}}
  queries: {{site: attn_pattern, positions: all, reduce: [mean, max]}}
  scores: {{site: attn_scores, positions: all, reduce: [mean, max]}}
  stimuli: {{site: attn_pattern, positions: all, reduce: {{kind: mean, over: stimulus}}}}
  largest:
    site: attn_scores
    positions: all
    reduce: [{{kind: max, over: stimulus, by: l}}, {{kind: mean, over: stimulus, by: l}}]
run: {{batch: {{tokens: {tokens}}}}}
""".replace("ITEMS", ", ".join(f"{{{{text: {t}, l: {'xyx'[i]}}}}}" for i, t in enumerate(TEXTS)))


def measured(folder: Path, name: str, tokens: int) -> Result:
    tiny.make(name, folder / "model")
    (folder / "s.yaml").write_text(SPEC.format(tokens=tokens))
    return run(folder / "s.yaml", out=folder / "runs", cache=folder / f"cache{tokens}")


@pytest.mark.parametrize("name", ["llama", "mistral", "bert"])
@pytest.mark.parametrize("tokens", [4, 1000])
def test_they_are_of_the_tokens_that_there_are(name: str, tokens: int, tmp_path: Path) -> None:
    result = measured(tmp_path, name, tokens)
    family = AutoModelForMaskedLM if name == "bert" else AutoModelForCausalLM
    model = family.from_pretrained(tmp_path / "model", attn_implementation="eager").eval()
    longest = max(len(text.split()) for text in TEXTS)
    whole = np.full((len(TEXTS), 3, 4, longest, longest), np.nan)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([[tiny.WORDS.index(word) for word in text.split()]])
        with torch.no_grad():
            maps = model(ids, output_attentions=True).attentions
        n = ids.shape[1]
        whole[row, :, :, :n, :n] = torch.stack(maps, 1)[0].numpy()
    groups = {name: result.groups[f"/captures/{name}"] for name in ("queries", "stimuli")}
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        expected = {
            "mean_over_position": np.nanmean(whole, axis=3),
            "max_over_position": np.nanmax(whole, axis=3),
        }
    for variable, numbers in expected.items():
        found = groups["queries"][variable].to_numpy()
        assert np.allclose(found, numbers, atol=1e-5, equal_nan=True)
    found = groups["stimuli"]["mean_over_stimulus"].to_numpy()
    assert np.allclose(found, np.nanmean(whole, axis=0), atol=1e-5, equal_nan=True)
    count = groups["stimuli"]["mean_over_stimulus_count"]
    assert count.dims == ("query", "key")
    assert (count.to_numpy() == (~np.isnan(whole[:, 0, 0])).sum(axis=0)).all()


@pytest.mark.parametrize("tokens", [4, 1000])
def test_a_score_that_there_is_not_enters_none(tokens: int, tmp_path: Path) -> None:
    result = measured(tmp_path, "mistral", tokens)
    group = {name: result.groups[f"/captures/{name}"] for name in ("whole", "scores", "largest")}
    whole = group["whole"]["activation"]
    assert np.isnan(whole).any()
    assert not np.isinf(whole).any()
    for how in ("mean", "max"):
        reduced = getattr(whole, how)("query", skipna=True)
        assert np.allclose(
            group["scores"][f"{how}_over_position"], reduced, atol=1e-5, equal_nan=True
        )
        for label, rows in (("x", [0, 2]), ("y", [1])):
            some = getattr(whole.isel(stimulus=rows), how)("stimulus", skipna=True)
            found = group["largest"][f"{how}_over_stimulus"].sel({"class": label})
            assert np.allclose(found, some, atol=1e-5, equal_nan=True)
