"""The planted induction network: its closed-form numbers, by hand and through the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import induction
import numpy as np
import pytest
import torch
from induction import CHANNELS, WIDTH, WORDS

from patchclamp.analyses.quadrature import points_of
from patchclamp.engine import run
from patchclamp.engine.run import Result

CLEAN = "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w0 w1 w2 w3"
CORRUPT = "w0 w1 w2 w10 w11 w5 w6 w7 w8 w9 w0 w1 w2 w3"
EFFECT = -9.279815776603
"""What the previous-token head does to the logit difference through the keys of L1H0."""

MODEL = """\
patchclamp: 1
name: induction
model: MODEL
stimuli:
  clean:
    kind: items
    text: "{text}"
    groups: none
    answer: {correct: " w4", foil: " w11"}
    items: [{text: CLEAN}]
  corrupt:
    kind: items
    text: "{text}"
    groups: none
    partners: {of: clean, by: order}
    items: [{text: CORRUPT}]
"""


@pytest.fixture(scope="module")
def model() -> Any:
    return induction.build()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return induction.write(tmp_path_factory.mktemp("induction") / "model")


def ran(folder: Path, out: Path, analyses: str) -> Result:
    text = MODEL.replace("MODEL", str(folder)).replace("CLEAN", CLEAN).replace("CORRUPT", CORRUPT)
    (out / "spec.yaml").write_text(text + "analyses:\n" + analyses)
    return run(out / "spec.yaml", out=out)


def ids(text: str) -> torch.Tensor:
    return torch.tensor([[WORDS.index(word) for word in text.split()]])


def difference(model: Any, text: str) -> torch.Tensor:
    logits = model(ids(text), use_cache=False).logits[0, -1]
    found: torch.Tensor = logits[WORDS.index("w4")] - logits[WORDS.index("w11")]
    return found


def added(model: Any, text: str) -> torch.Tensor:
    """Return what the heads of the first layer add to the stream."""
    seen = []
    projection = model.transformer.h[0].attn.c_proj
    handle = projection.register_forward_hook(lambda _, __, output: seen.append(output))
    difference(model, text)
    handle.remove()
    found: torch.Tensor = seen[0].detach()
    return found


@contextmanager
def through(model: Any, part: int, change: torch.Tensor) -> Iterator[None]:
    """Let a change of the stream reach one input of L1H0, and nothing else."""
    projection = model.transformer.h[1].attn.c_attn

    def see(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        own = slice(part * WIDTH, part * WIDTH + CHANNELS)
        changed = output.clone()
        changed[..., own] = output[..., own] + (change @ projection.weight)[..., own]
        return changed

    handle = projection.register_forward_hook(see)
    yield
    handle.remove()


def test_only_keys_carry_what_the_previous_token_head_found(model: Any) -> None:
    clean = float(difference(model, CLEAN).detach())
    e = np.exp
    assert clean == pytest.approx(10 * e(10) / (e(10) + 13), abs=1e-8)
    assert float(difference(model, CORRUPT).detach()) == pytest.approx(-10 / 14, abs=1e-8)
    change = added(model, CORRUPT) - added(model, CLEAN)
    effects = []
    for part in range(3):
        with through(model, part, change):
            effects.append(float(difference(model, CLEAN).detach()) - clean)
    assert effects[0] == effects[2] == 0.0
    assert effects[1] == pytest.approx(EFFECT, abs=1e-12)
    # What that head writes is not among what logits read.
    assert not (change @ model.lm_head.weight.T).any()


def test_the_network_repeats_every_sequence(model: Any) -> None:
    order = np.random.default_rng(0).permutation(14)[:10]
    words = [f"w{number}" for number in order]
    with torch.no_grad():
        logits = model(ids(" ".join(words * 2)), use_cache=False).logits[0]
    # The first token's key finds itself, for it has none before it.
    said = [WORDS[number] for number in logits[11:-1].argmax(-1).tolist()]
    assert said == words[2:]


PATHS = """\
  paths:
    kind: patching
    clean: clean
    corrupt: corrupt
    direction: noising
    normalise: false
    metric: logit_diff
    path:
      freeze: heads_and_mlps
      senders: [{site: z, layers: 0, heads: [0]}]
      receivers:
        - {site: q, layers: 1, heads: [0]}
        - {site: k, layers: 1, heads: [0]}
        - {site: v, layers: 1, heads: [0]}
        - {site: resid_post, layers: 1}
"""


def test_path_patching_finds_the_keys(folder: Path, tmp_path: Path) -> None:
    found = ran(folder, tmp_path, PATHS).analysis("paths")["effect"].isel(sender=0)
    assert float(found.sel(receiver="L1H0.k")) == pytest.approx(EFFECT, abs=1e-5)
    for receiver in ("L1H0.q", "L1H0.v", "L1.resid_post"):
        assert float(found.sel(receiver=receiver)) == 0.0


TABLE = {
    "left": (-8.4310, -8.9035, -9.1649, -9.2465),
    "right": (-9.7458, -9.5608, -9.3841, -9.3122),
    "midpoint": (-9.3759, -9.3036, -9.2825, -9.2801),
    "gauss_legendre": (-9.2979, -9.2804, EFFECT, EFFECT),
}
"""What rules make of the effect with 5, 10, 30 and 100 points; `left` has the clean run."""


def slope(model: Any, text: str, change: torch.Tensor, share: float) -> float:
    """Return what the difference gains as more of a change of the stream reaches the keys."""
    moved = torch.tensor(share, dtype=torch.float64, requires_grad=True)
    with through(model, 1, moved * change):
        (gained,) = torch.autograd.grad(difference(model, text), moved)
    return float(gained)


def test_gradients_and_rules_in_double_precision(model: Any) -> None:
    change = added(model, CORRUPT) - added(model, CLEAN)
    assert slope(model, CLEAN, change, 0.0) == pytest.approx(-0.0589503, abs=1e-7)
    assert slope(model, CORRUPT, -change, 0.0) == pytest.approx(-6.6326530, abs=1e-6)
    for rule, (expected, *_) in TABLE.items():
        points = points_of(cast("Any", rule), 5)
        found = sum(weight * slope(model, CLEAN, change, share) for share, weight in points)
        assert found == pytest.approx(expected, abs=6e-5), rule
    points = points_of("gauss_legendre", 30)
    found = sum(weight * slope(model, CLEAN, change, share) for share, weight in points)
    assert found == pytest.approx(EFFECT, abs=1e-9)


def attribution(name: str, **more: object) -> str:
    said = {"kind": "attribution", "clean": "clean", "corrupt": "corrupt", "metric": "logit_diff"}
    text = ", ".join(f"{key}: {value}" for key, value in {**said, **more}.items())
    return f"  {name}: {{{text}}}\n"


def test_where_the_gradient_is_taken_and_by_which_rule(folder: Path, tmp_path: Path) -> None:
    text = attribution("clean", of="edges", direction="noising", gradient_at="clean")
    text += attribution("corrupt", of="edges", direction="denoising", gradient_at="corrupt")
    for rule in TABLE:
        for steps in (5, 10, 30, 100):
            how = {"gradient_at": "integrated", "along": "activations", "direction": "noising"}
            how |= {"quadrature": rule, "steps": str(steps)}
            text += attribution(f"{rule}_{steps}", units="{site: z, layers: 0, heads: [0]}", **how)
    found = ran(folder, tmp_path, text)
    # In float32 a saturated softmax leaves 1e-4 of a gradient of 1e-2 to rounding.
    for at, expected in (("clean", -0.0589503), ("corrupt", -6.6326530)):
        edges = found.analysis(at)["score"].sel(sender="L0H0")
        assert float(edges.sel(receiver="L1H0.k")) == pytest.approx(expected, abs=2e-5)
        others = edges.drop_sel(receiver="L1H0.k").fillna(0)
        assert float(np.abs(others).max()) < 1e-20
    for rule, expected in TABLE.items():
        for steps, value in zip((5, 10, 30, 100), expected, strict=True):
            one = found.analysis(f"{rule}_{steps}")
            assert float(one["score"][0]) == pytest.approx(value, abs=6e-5), (rule, steps)
            assert float(one["residual"][0]) == pytest.approx(value - EFFECT, abs=6e-5)
    share = found.analysis("gauss_legendre_5")["residual_share"]
    assert float(share[0]) == pytest.approx(0.0019, abs=1e-4)


STUDY = """\
patchclamp: 1
name: induction
model: MODEL
stimuli:
  repeats:
    kind: items
    text: "{text}"
    groups: none
    answer: {correct: " {right}", foil: " {wrong}"}
    items:
ITEMS
  scrambled:
    kind: items
    text: "{text}"
    groups: none
    partners: {of: repeats, by: order}
    items:
OTHERS
interventions:
  mean: {kind: ablate, value: {mean_over: scrambled, per: position}, allow_no_effect: true}
analyses:
  found:
    kind: circuit
    with: mean
    units: {site: z}
    metric: logit_diff
    circuits: {pruned: {kind: prune, keep_above: 0.8}}
    random: 0
"""


def study(folder: Path, out: Path, count: int = 12) -> Result:
    """Prune heads on random sequences that repeat; the reference set's do not."""
    rng = np.random.default_rng(1)
    items, others = [], []
    for _ in range(count):
        words = [f"w{number}" for number in rng.permutation(14)]
        text, right, wrong = " ".join([*words[:10], *words[:4]]), words[4], words[12]
        items.append(f"      - {{text: {text}, right: {right}, wrong: {wrong}}}")
        drawn = [f"w{number}" for number in rng.integers(0, 14, size=14)]
        others.append(f"      - {{text: {' '.join(drawn)}}}")
    text = STUDY.replace("MODEL", str(folder)).replace("ITEMS", "\n".join(items))
    (out / "spec.yaml").write_text(text.replace("OTHERS", "\n".join(others)))
    return run(out / "spec.yaml", out=out)


def test_pruning_finds_the_two_heads_and_no_other(tmp_path: Path) -> None:
    folder = induction.write(tmp_path / "model", distractors=0.002)
    found = study(folder, tmp_path).analysis("found").sel(circuit="pruned")
    kept = found["node"].values[found["member"].values == 1].tolist()
    assert kept == ["L0H0", "L1H0"]
    assert float(found["faithfulness"][0]) == pytest.approx(1.0, abs=0.02)
    # The others do write: it is not that there was nothing to find.
    others = np.abs(found["effect"]).drop_sel(node=kept)
    assert float(others.max()) > 1e-3


def test_of_two_heads_that_do_the_same_pruning_keeps_one(tmp_path: Path) -> None:
    folder = induction.write(tmp_path / "model", distractors=0.002, doubled=True)
    found = study(folder, tmp_path).analysis("found").sel(circuit="pruned")
    kept = found["node"].values[found["member"].values == 1].tolist()
    assert kept in (["L0H0", "L1H0"], ["L0H1", "L1H0"])
    # Neither matters while the other is there, so that no single ablation finds them.
    alone = np.abs(found["effect"].sel(node=["L0H0", "L0H1"]))
    assert float(alone.max()) < 0.02 * found["effect"].attrs["scale"]
