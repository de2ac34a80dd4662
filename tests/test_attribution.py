"""Attribution against gradients taken by hand, and against exact patching."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from patchclamp.analyses.circuit_tables import SIZES, areas
from patchclamp.engine import run
from patchclamp.engine.efforts import backward_passes
from patchclamp.engine.plan import make_plan
from patchclamp.engine.plan_text import describe_plan
from patchclamp.engine.records import Cache
from patchclamp.engine.run import Result
from patchclamp.registry import MODELS
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import load

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
  integrated:
    kind: attribution
    clean: words
    corrupt: scrambled
    metric: logit_diff
    direction: noising
    gradient_at: integrated
    steps: 6
    faithfulness: true
  edges:
    kind: attribution
    of: edges
    clean: words
    corrupt: scrambled
    metric: logit_diff
    direction: noising
    gradient_at: integrated
    steps: 6
    verify: 5
    faithfulness: true
  few:
    kind: attribution
    clean: words
    corrupt: scrambled
    metric: logit_diff
    direction: noising
    gradient_at: integrated
    quadrature: left
    steps: 6
  layers:
    kind: attribution
    clean: words
    corrupt: scrambled
    metric: logit_diff
    direction: noising
    gradient_at: integrated
    along: activations
    units: {site: z}
    steps: 4
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


def test_the_scores_of_a_path_sum_to_what_it_does_to_the_metric(result: Result) -> None:
    found, few = result.analysis("integrated"), result.analysis("few")
    assert found["moved"].to_numpy().tolist() == ["embed"]
    assert float(found["residual_share"][0]) < 0.02
    # The control: as many points of a poorer rule are further off.
    assert float(few["residual_share"][0]) > 3 * float(found["residual_share"][0])
    assert found.attrs["quadrature"] == "gauss_legendre"


def test_layers_that_move_alone_come_to_their_exact_effects(result: Result) -> None:
    found, patched = result.analysis("layers"), result.analysis("patched")["effect"]
    assert found["moved"].to_numpy().tolist() == ["L0.z", "L1.z", "L2.z"]
    assert float(found["residual_share"].max()) < 0.02
    # In the last layer the metric is nearly affine in each head, and integrals are its effects.
    last = [name for name in found["node"].to_numpy().tolist() if name.startswith("L2")]
    exact = patched.sel(layer=2).to_numpy()
    np.testing.assert_allclose(found["score"].sel(node=last), exact, atol=0.1 * np.abs(exact).max())


@pytest.mark.parametrize("name", ["integrated", "edges"])
def test_few_of_the_highest_scores_keep_most_of_the_metric(result: Result, name: str) -> None:
    found = result.analysis(name)
    for curve in (found["curve"], found["curve_by_size"]):
        assert float(curve.sel(kept=1.0)) == pytest.approx(1.0, abs=1e-5)
        assert float(curve.sel(kept=0.5)) > 0.7
    cpr, cmd = areas(SIZES, found["curve"].to_numpy())[0], areas(SIZES, found["curve_by_size"])[1]
    assert (float(found["cpr"]), float(found["cmd"])) == (pytest.approx(cpr), pytest.approx(cmd))
    # Better than keeping the share k of everything would be if all mattered alike.
    assert cpr > 0.5 > cmd


def test_edges_that_scores_screen_out_matter_less(result: Result) -> None:
    found = result.analysis("edges")
    assert (
        int((found["verified"] == "top").sum()) == int((found["verified"] == "random").sum()) == 5
    )
    assert found.attrs["recall"] > 0.5
    top = found["exact"].where(found["verified"] == "top")
    assert float(np.abs(top - found["score"]).max()) < 0.5 * float(np.abs(top).max())


REFUSED = """\
patchclamp: 1
name: refused
model: {id: MODEL}
stimuli:
  words:
    kind: items
    text: "{text}"
    id: name
    groups: none
    answer: {correct: " w1", foil: " w2"}
    items: [{name: a, text: w1 w2 w3}, {name: b, text: w4 w5 w6}]
  others:
    kind: items
    text: "{text}"
    id: name
    groups: none
    partners: {of: words, by: id, equal_length: any}
    items: [{name: a, text: w5 w7 w9}, {name: b, text: w6 w8 w2OTHER}]
analyses:
  scores: {kind: attribution, clean: words, corrupt: others, MORE}
"""


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (
            "gemma2",
            "metric: logit_diff, gradient_at: clean, of: edges",
            "this model has no edges to tell apart: a norm stands behind attention and MLP",
        ),
        (
            "opt_post_norm",
            "metric: logit_diff, gradient_at: clean, of: edges",
            "it is not known through which norms attention and MLP read the stream",
        ),
        (
            "gpt2",
            "metric: logit_diff, gradient_at: clean, of: edges, units: {site: resid_post}",
            "edges join heads .site z. and MLPs .site mlp_out.; got 'resid_post'",
        ),
        (
            "gpt2",
            "metric: logit_diff, gradient_at: clean, of: edges, units: {site: z, positions: last}",
            "edges are of all positions: leave out 'positions' and 'group'",
        ),
        (
            "gpt2",
            "metric: logit_diff, gradient_at: clean, units: {site: mlp_act, group: 8}",
            "attribution scores heads and whole sites: leave out 'group'",
        ),
        (
            "gpt2",
            "metric: logit_diff, gradient_at: clean, "
            "units: [{site: z, layers: 0, positions: last}, {site: z, layers: 1}]",
            "entries of 'units' attribute to 'z' at other positions: make that two",
        ),
        (
            "gpt2",
            "metric: logit_diff, gradient_at: clean, units: [{site: z}, {site: z, heads: 0}]",
            "the node 'L0H0' is in two entries of 'units'",
        ),
        (
            "gpt2",
            "metric: cross_entropy, gradient_at: integrated",
            "'cross_entropy' is about the text itself, which is another at either end",
        ),
        ("gpt2", "metric: rank, gradient_at: clean", "'rank' has no gradient; those that have"),
        (
            "gpt2",
            "metric: logit_diff, gradient_at: clean, direction: denoising, faithfulness: true",
            "'faithfulness' keeps some of the clean run: it goes with 'noising'",
        ),
        (
            "gpt2",
            "metric: logit_diff, gradient_at: integrated, quadrature: trapezoid, steps: 1",
            "the trapezoid rule has a point at either end: 'steps' is 2 or more",
        ),
    ],
)
def test_what_cannot_be_attributed_is_refused(
    model: str, more: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        refused(model, more, tmp_path)


def refused(model: str, more: str, folder: Path, other: str = "") -> None:
    tiny.make(model, folder / "model")
    more = more if "direction" in more else f"{more}, direction: noising"
    text = REFUSED.replace("MODEL", str(folder / "model")).replace("MORE", more)
    (folder / "spec.yaml").write_text(text.replace("OTHER", other))
    run(folder / "spec.yaml", out=folder)


def test_runs_of_other_lengths_are_subtracted_at_single_positions_only(tmp_path: Path) -> None:
    message = "stimulus 'b' has 3 tokens in 'words' and 4 in 'others', whose activations are"
    for more in ("gradient_at: clean, of: edges", "gradient_at: integrated", "gradient_at: clean"):
        with pytest.raises(SpecError, match=message):
            refused("gpt2", f"metric: logit_diff, {more}", tmp_path, other=" w3")
    at_the_end = "metric: logit_diff, gradient_at: clean, units: {site: z, positions: last}"
    refused("gpt2", at_the_end, tmp_path, other=" w3")


FORCED = REFUSED.replace('foil: " w2"}', 'foil: " w2 w7", tokens: teacher_forced}')


def test_paths_are_complete_where_answers_have_several_tokens(tmp_path: Path) -> None:
    """Each spelling is a row of its own, and gradients reach what stands behind the text too."""
    tiny.make("llama", tmp_path / "model", scale=2.0)
    more = "metric: logprob, direction: noising, gradient_at: integrated, steps: 40"
    text = FORCED.replace('correct: " w1"', 'correct: " w1 w5"').replace("MORE", more)
    text = text.replace("MODEL", str(tmp_path / "model")).replace("OTHER", "")
    (tmp_path / "spec.yaml").write_text(text)
    found = run(tmp_path / "spec.yaml", out=tmp_path).analysis("scores")
    assert float(found["residual_share"][0]) < 1e-4
    assert float(np.abs(found["score"]).max()) > 1e-2


def test_a_plan_says_what_is_scored_and_at_how_many_points(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    plan = make_plan(load(tmp_path / "spec.yaml"))
    said = describe_plan(plan, Cache(tmp_path / "cache"))
    assert "analyses.clean: scores of 15 nodes in words, gradients at 1 point, 1.54 kB" in said
    assert "analyses.edges: scores of 16 senders x 40 receivers in words, gradients at 6" in said
    # Both runs and each point stand beside one another in a pass, which is one backward pass.
    assert backward_passes(plan) == len(plan.score_readings())
    assert f"{backward_passes(plan)} backward passes" in said
    assert "disk about 0 bytes" not in said
