"""Interventions against plain loops: what is kept changes nothing, and a path is only a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from patchclamp.engine import run
from patchclamp.registry.errors import GuardError, SpecError
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: interventions
model: {{id: {model}}}
stimuli:
  words:
    kind: items
    text: "{{text}}"
    id: name
    groups: none
    answer: {{correct: " w1", foil: " w2"}}
    items:
      - {{name: a, text: w1 w2 w3 w4 w5 w6}}
      - {{name: b, text: w8 w9 w10 w11 w12 w13}}
      - {{name: c, text: w12 w13 w14 w15 w16 w17}}
  others:
    kind: items
    text: "{{text}}"
    id: name
    groups: none
    partners: {{of: words, by: id}}
    items:
      - {{name: c, text: w22 w23 w24 w25 w26 w27}}
      - {{name: b, text: w18 w19 w20 w21 w22 w23}}
      - {{name: a, text: w11 w12 w13 w14 w15 w16}}
interventions:
  same: {{kind: patch, source: words, allow_no_effect: true}}
  drawn: {{kind: ablate, value: {{resample: words}}}}
  zero: {{kind: ablate, value: zero}}
analyses:
{analyses}
run: {{backend: hooks, optimise: {optimise}, threads: 1}}
"""


def analysed(folder: Path, model: Path, analyses: str, *, optimise: str = "true") -> dict[str, Any]:
    spec = folder / f"spec-{optimise}.yaml"
    spec.write_text(SPEC.format(model=model, analyses=analyses, optimise=optimise))
    return dict(run(spec, out=folder / "runs", cache=folder / f"cache-{optimise}").analyses)


def test_keeping_everything_is_the_clean_run_bit_for_bit(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    sites = (
        "resid_pre",
        "q",
        "k",
        "v",
        "attn_scores",
        "attn_pattern",
        "z",
        "attn_out",
        "resid_mid",
        "mlp_act",
        "mlp_out",
    )
    lines = "\n".join(
        f"  {site}: {{kind: ablation, with: same, units: {{site: {site}}}, metric: logit_diff}}"
        for site in sites
    )
    found = analysed(tmp_path, twin("llama").folder, lines, optimise="false")
    for site in sites:
        value, clean = found[site]["logit_diff"], found[site]["logit_diff_clean"]
        assert bool((value == clean).all()), site


def test_resampling_puts_another_stimulus_in_place(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    """The whole stream of another stimulus gives the answers of that other stimulus."""
    line = (
        "  drawn: {kind: ablation, with: drawn, units: {site: resid_pre, layers: 0}, "
        "metric: logit_diff}"
    )
    found = analysed(tmp_path, twin("llama").folder, line)["drawn"]
    value = found["logit_diff"].isel(layer=0).to_numpy()
    clean = found["logit_diff_clean"].to_numpy()
    distance = np.abs(value[:, None] - clean[None])
    assert distance.min(axis=1).max() < 1e-5
    assert not np.any(distance.argmin(axis=1) == np.arange(len(clean)))


def test_an_intervention_that_moves_nothing_is_an_error_unless_allowed(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    line = (
        "  none: {kind: ablation, with: same, units: {site: z, positions: first, layers: last}, "
        "metric: logit_diff}"
    )
    text = line.replace("same", "zero")
    with pytest.raises(GuardError, match="changes no logit at all; where that is right, say"):
        analysed(tmp_path, twin("llama").folder, text)
    analysed(tmp_path, twin("llama").folder, line)


def test_what_is_no_partner_cannot_be_patched_from(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    line = (
        "  grid: {kind: patching, clean: words, corrupt: others, direction: noising, "
        "units: {site: resid_post}, metric: logit_diff}"
    )
    text = SPEC.format(model=twin("llama").folder, analyses=line, optimise="true")
    (tmp_path / "spec.yaml").write_text(text.replace("    partners: {of: words, by: id}\n", ""))
    with pytest.raises(SpecError, match="no version of 'words', by whose answers it is scored"):
        run(tmp_path / "spec.yaml", out=tmp_path)


PATHS = """\
  keys:
    kind: patching
    clean: words
    corrupt: others
    direction: noising
    path: {senders: [{site: z, layers: 0}], receivers: [{site: k, layers: [1, 2]}], freeze: heads}
    normalise: false
    metric: logit_diff
"""


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_path_patching_is_what_two_passes_with_hooks_give(
    architecture: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    made = twin(architecture)
    found = analysed(tmp_path, made.folder, PATHS)["keys"]["logit_diff"]
    plain = analysed(tmp_path, made.folder, PATHS, optimise="false")["keys"]["logit_diff"]
    np.testing.assert_allclose(found, plain, atol=1e-5)
    if architecture != "llama":
        return
    words = {"a": range(3, 9), "b": range(10, 16)}
    others = {"a": range(13, 19), "b": range(20, 26)}
    for name in words:
        expected = by_hand(made.module, words[name], others[name], (0, 2), (2, 1))
        cell = found.sel(sender="L0H2", receiver="L2H1.k", stimulus=name)
        assert float(cell) == pytest.approx(expected, abs=1e-5)
        clean = float(by_hand(made.module, words[name], words[name], (0, 2), (2, 1)))
        assert abs(expected - clean) > 1e-5


def by_hand(
    module: Any, clean: range, corrupt: range, sender: tuple[int, int], receiver: tuple[int, int]
) -> float:
    """Patch the path from a head to a key, in a Llama: record aside, then put in place."""
    attention = [block.self_attn for block in module.model.layers]
    heads, kv_heads = module.config.num_attention_heads, module.config.num_key_value_heads

    def logits(ids: range, *hooks: tuple[Any, Any]) -> torch.Tensor:
        handles = [
            where.register_forward_pre_hook(hook)
            if where in [one.o_proj for one in attention]
            else where.register_forward_hook(hook)
            for where, hook in hooks
        ]
        with torch.no_grad():
            found = module(torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
        for handle in handles:
            handle.remove()
        return found

    z: dict[str, list[torch.Tensor]] = {"clean": [], "corrupt": []}
    for name, ids in (("clean", clean), ("corrupt", corrupt)):
        keep = [(one.o_proj, lambda _, args, n=name: z[n].append(args[0])) for one in attention]
        logits(ids, *keep)
    layer, head = sender
    width = z["clean"][0].shape[-1] // heads
    frozen = [tensor.clone() for tensor in z["clean"]]
    own = slice(head * width, (head + 1) * width)
    frozen[layer][..., own] = z["corrupt"][layer][..., own]
    keys: list[torch.Tensor] = []
    hooks = [
        (one.o_proj, lambda _, __, t=t: (t,)) for one, t in zip(attention, frozen, strict=True)
    ]
    logits(clean, *hooks, (attention[receiver[0]].k_proj, lambda _, __, out: keys.append(out)))

    def put(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        size = out.shape[-1] // kv_heads
        part = slice(receiver[1] * size, (receiver[1] + 1) * size)
        out = out.clone()
        out[..., part] = keys[0][..., part]
        return out

    found = logits(clean, (attention[receiver[0]].k_proj, put))
    return float(found[3] - found[4])


def test_the_story_model_moves_the_pronoun_from_the_noun_to_the_end(
    shared: Path, tmp_path: Path
) -> None:
    """Patching a block's stream at the last token: 0.00 0.01 0.04 0.05 1.00 from block to block."""
    spec = tmp_path / "story.yaml"
    spec.write_text(STORY.replace("SHARED", str(shared)))
    found = run(spec, out=tmp_path).analysis("last")
    np.testing.assert_allclose(found["recovered"], [0.0, 0.01, 0.06, 0.07, 1.0], atol=0.04)
    assert bool((found["recovered_low"] <= found["recovered"]).all())


STORY = """\
patchclamp: 1
name: story
model: SHARED/models/stories260k
stimuli:
  prompts:
    kind: csv
    path: SHARED/data/sequences/story_pronouns.csv
    text: "{prompt}"
    groups: none
    answer: {correct: " {right}", foil: " {wrong}"}
  other:
    kind: csv
    path: SHARED/data/sequences/story_pronouns.csv
    text: "{counterfactual_prompt}"
    groups: none
    partners: {of: prompts, by: order, equal_length: any}
analyses:
  last:
    kind: patching
    clean: prompts
    corrupt: other
    direction: denoising
    units: {site: resid_post, positions: last}
    metric: logit_diff
"""


ADDED = """\
patchclamp: 1
name: added
model: {id: bundled:sequences}
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'numerals' or category == 'months'
    take: {n: 60}
captures:
  resid: {site: resid_post, layers: 1, positions: last}
interventions:
  push: {kind: add, vector: {of: decode, normalise: unit}, scale: [0.5, 1.0, -1.0]}
analyses:
  pushed:
    kind: ablation
    with: push
    units: {site: resid_post, layers: 1, positions: last}
    metric: logprob
  decode: {kind: probe, of: resid, target: category, shuffles: 19, controls: []}
"""


def test_a_direction_is_added_after_the_analysis_that_finds_it(tmp_path: Path) -> None:
    spec = tmp_path / "added.yaml"
    spec.write_text(ADDED)
    found = run(spec, out=tmp_path, cache=tmp_path / "cache").analysis("pushed")
    assert found["dose"].to_numpy().tolist() == [-1.0, 0.5, 1.0]
    effect = found["logprob"].isel(layer=0) - found["logprob_clean"]
    # Half a dose does about half, a dose of the other sign the reverse: it is one direction.
    whole, half = effect.sel(dose=1.0), effect.sel(dose=0.5)
    assert np.corrcoef(whole, half)[0, 1] > 0.9
    assert np.corrcoef(whole, effect.sel(dose=-1.0))[0, 1] < 0
    assert float(np.abs(whole).max()) > 1e-3


def test_what_lies_along_a_direction_is_taken_away(tmp_path: Path) -> None:
    """As a hook on the model does it, and nothing that a probe reads is left along it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from patchclamp.registry import MODELS

    spec = tmp_path / "along.yaml"
    text = ADDED.replace(
        "push: {kind: add, vector: {of: decode, normalise: unit}, scale: [0.5, 1.0, -1.0]}",
        "push: {kind: ablate, value: {along: decode}}",
    )
    spec.write_text(text)
    result = run(spec, out=tmp_path, cache=tmp_path / "cache")
    found = result.analysis("pushed")["logprob"].squeeze("layer", drop=True)
    u = result.analysis("decode")["direction"].sel(layer=1).squeeze(drop=True).to_numpy()
    u = torch.from_numpy(u / np.linalg.norm(u))
    folder = MODELS["bundled:sequences"].path("main")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = result.groups["/stimuli/words"]
    left: list[float] = []

    def hook(module: torch.nn.Module, given: object, output: object) -> object:
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = hidden.clone()
        last = hidden[:, -1].double()
        hidden[:, -1] = (last - (last @ u)[:, None] * u).float()
        left.append(float((hidden[:, -1].double() @ u).abs().max()))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    parts = model.base_model.children()
    blocks = next(part for part in parts if isinstance(part, torch.nn.ModuleList))
    handle = blocks[1].register_forward_hook(hook)
    for name in found["stimulus"].to_numpy()[:6]:
        one = words.sel(stimulus=name)
        ids = tokenizer(str(one["text"].item()), return_tensors="pt")
        with torch.no_grad():
            logits = model(**ids).logits[0, -1].double()
        expected = logits.log_softmax(-1)[int(one["correct_id"])]
        assert float(found.sel(stimulus=name)) == pytest.approx(float(expected), abs=1e-4)
    handle.remove()
    assert max(left) < 1e-5
    assert float(np.abs(found - result.analysis("pushed")["logprob_clean"]).max()) > 1e-3


def test_a_direction_is_taken_from_all_units() -> None:
    pushed = "kind: add, vector: {of: decode, normalise: unit}, scale: [0.5, 1.0, -1.0]"
    along = "kind: ablate, value: {along: decode}, units: [1]"
    with pytest.raises(SpecError, match="a direction runs over all units of its site: leave"):
        loads(ADDED.replace(pushed, along))
