"""Attribution against gradients taken by hand, and against exact patching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from patchclamp.engine import run
from patchclamp.engine.run import Result
from patchclamp.registry import MODELS

SPEC = """\
patchclamp: 1
name: attribution
model: {id: bundled:sequences}
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'numerals'
    take: {n: 12}
  scrambled: {kind: corrupt, of: words, slots: shuffle}
analyses:
  clean:
    kind: attribution
    clean: words
    corrupt: scrambled
    metric: logit_diff
    direction: noising
    gradient_at: clean
    verify: 4
  corrupt:
    kind: attribution
    clean: words
    corrupt: scrambled
    metric: logit_diff
    direction: denoising
    gradient_at: corrupt
  patched:
    kind: patching
    clean: words
    corrupt: scrambled
    direction: noising
    units: {site: z}
    grid: [head]
    metric: logit_diff
  last:
    kind: patching
    clean: words
    corrupt: scrambled
    direction: noising
    units: {site: z, layers: last, positions: last}
    metric: logit_diff
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("attribution")
    (folder / "spec.yaml").write_text(SPEC)
    return run(folder / "spec.yaml", out=folder)


def by_hand(result: Result, at: str) -> np.ndarray:
    """Return the scores of the heads of layer 1, by plain hooks, one stimulus at a time."""
    module = AutoModelForCausalLM.from_pretrained(
        MODELS["bundled:sequences"].path("main"), dtype=torch.float32
    ).eval()
    sets = {"clean": "/stimuli/words", "corrupt": "/stimuli/scrambled"}
    words = result.groups["/stimuli/words"]
    scores = []
    for row in range(words.sizes["stimulus"]):
        kept, slope = {}, None
        for name, group in sets.items():
            ids = result.groups[group]["token_id"].to_numpy()[row]
            seen: list[torch.Tensor] = []

            def keep(_: object, args: tuple[torch.Tensor], seen: list[torch.Tensor] = seen) -> None:
                args[0].retain_grad()
                seen.append(args[0])

            projection = module.gpt_neox.layers[1].attention.dense
            handle = projection.register_forward_pre_hook(keep)
            logits = module(torch.from_numpy(ids[ids >= 0])[None].long(), use_cache=False).logits
            handle.remove()
            right, wrong = (int(words[f"{part}_id"][row]) for part in ("correct", "foil"))
            (logits[0, -1, right] - logits[0, -1, wrong]).backward()
            kept[name] = seen[0].detach()
            slope = seen[0].grad if name == at else slope
        change = kept["corrupt"] - kept["clean"]
        product = (change if at == "clean" else -change) * slope
        heads = module.config.num_attention_heads
        scores.append(product[0].view(len(product[0]), heads, -1).sum(dim=(0, 2)).numpy())
    return np.stack(scores, axis=1)


@pytest.mark.parametrize("at", ["clean", "corrupt"])
def test_scores_are_those_of_hooks(result: Result, at: str) -> None:
    found = result.analysis(at)["score_each"]
    expected = by_hand(result, at)
    heads = [f"L1H{head}" for head in range(len(expected))]
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found.sel(node=heads), expected, rtol=0, atol=1e-4 * scale)
    assert not np.allclose(result.analysis("clean")["score"], result.analysis("corrupt")["score"])


def test_verified_nodes_have_the_effect_that_patching_finds(result: Result) -> None:
    found, patched = result.analysis("clean"), result.analysis("patched")["effect"]
    exact = found["exact"].where(found["verified"] != "", drop=True)
    assert len(exact) == 8
    top = np.abs(found["score"]).where(found["verified"] == "top", drop=True)
    others = np.abs(found["score"]).where(found["verified"] != "top", drop=True)
    assert float(top.min()) >= float(others.max())
    for name in exact["node"].to_numpy().tolist():
        if "H" in name:
            layer, head = map(int, name[1:].split("H"))
            effect = float(patched.sel(layer=layer, head=head))
            assert float(exact.sel(node=name)) == pytest.approx(effect, abs=1e-4)
    assert 0 <= found.attrs["recall"] <= 1
    assert found.attrs["correlation"] > 0.8


def test_in_the_last_layer_only_the_last_position_reaches_an_answer(
    result: Result,
) -> None:
    whole, last = result.analysis("patched")["effect"], result.analysis("last")["effect"]
    layer = int(last["layer"][0])
    np.testing.assert_allclose(whole.sel(layer=layer), last.sel(layer=layer), atol=1e-4)
    assert float(np.abs(last).max()) > 1e-3
