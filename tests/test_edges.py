"""Edges against a graph that is split by hand, against nodes, and by their number."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from patchclamp.engine import run
from patchclamp.specs import loads
from patchclamp.specs.library import shipped

SPEC = """\
patchclamp: 1
name: edges
model: {id: MODEL}
stimuli:
  words:
    kind: items
    text: "{text}"
    id: name
    groups: none
    answer: {correct: " w1", foil: " w2"}
    items:
      - {name: a, text: w1 w2 w3 w4 w5 w6}
      - {name: b, text: w8 w9 w10 w11}
      - {name: c, text: w12 w13 w14 w15 w16 w17}
  others:
    kind: items
    text: "{text}"
    id: name
    groups: none
    partners: {of: words, by: id}
    items:
      - {name: c, text: w22 w23 w24 w25 w26 w27}
      - {name: b, text: w18 w19 w20 w21}
      - {name: a, text: w11 w12 w13 w14 w15 w16}
analyses:
  edges:
    kind: attribution
    of: edges
    clean: words
    corrupt: others
    direction: noising
    gradient_at: AT
    steps: 3
    metric: logit_diff
    units: UNITS
  nodes:
    kind: attribution
    clean: words
    corrupt: others
    direction: noising
    gradient_at: AT
    steps: 3
    metric: logit_diff
run: {backend: BACKEND, threads: 1}
"""

TEXTS = {
    "clean": [range(3, 9), range(10, 14), range(14, 20)],
    "corrupt": [range(13, 19), range(20, 24), range(24, 30)],
}

PATHS = {
    "gpt2": ("transformer.h.{}", "ln_1", "ln_2", "attn.c_proj", "transformer.ln_f"),
    "llama": (
        "model.layers.{}",
        "input_layernorm",
        "post_attention_layernorm",
        "self_attn.o_proj",
        "model.norm",
    ),
    "gpt_neox": (
        "gpt_neox.layers.{}",
        "input_layernorm",
        "post_attention_layernorm",
        "attention.dense",
        "gpt_neox.final_layer_norm",
    ),
    "gptj": ("transformer.h.{}", "ln_1", "ln_1", "attn.out_proj", "transformer.ln_f"),
}
"""Block, norms before attention and MLP, the output projection, and the last norm."""


def analysed(model: Path, out: Path, **more: str) -> dict[str, xr.Dataset]:
    said = {"MODEL": str(model), "AT": "clean", "BACKEND": "nnsight", "UNITS": "[]", **more}
    text = SPEC
    for name, value in said.items():
        text = text.replace(name, value)
    (out / "spec.yaml").write_text(text)
    return dict(run(out / "spec.yaml", out=out / "runs", cache=out / "cache").analyses)


class Split:
    """A model whose receivers each have a stream of their own, to which a zero is added."""

    def __init__(self, module: Any, architecture: str) -> None:
        self.module, self.architecture = module, architecture
        block, *self.norms, self.out, self.last = PATHS[architecture]
        config = module.config
        self.heads = config.num_attention_heads
        self.shared = getattr(config, "num_key_value_heads", None) or self.heads
        self.blocks = [module.get_submodule(block.format(n)) for n in range(3)]
        self.width = config.hidden_size
        self.channels = self.width // self.heads

    def projections(self, block: Any) -> dict[str, Any]:
        """Return queries, keys and values (token, head, channel) of a normed stream."""
        match self.architecture:
            case "gpt2":
                fused = block.attn.c_attn.forward
                return {
                    x: lambda s, i=i: fused(s).view(-1, 3, self.heads, self.channels)[:, i]
                    for i, x in enumerate("qkv")
                }
            case "gpt_neox":
                fused = block.attention.query_key_value.forward
                return {
                    x: lambda s, i=i: fused(s).view(-1, self.heads, 3, self.channels)[:, :, i]
                    for i, x in enumerate("qkv")
                }
        attention = block.attn if self.architecture == "gptj" else block.self_attn
        return {
            x: lambda s, x=x: (
                getattr(attention, f"{x}_proj").forward(s).view(len(s), -1, self.channels)
            )
            for x in "qkv"
        }

    def gradients(self, ids: range) -> dict[str, torch.Tensor]:
        """Return the gradient of the logit difference through each receiver, (token, unit)."""
        zeros: dict[str, torch.Tensor] = {}
        hooks = []

        def zero(name: str) -> torch.Tensor:
            return zeros.setdefault(name, torch.zeros(len(ids), self.width, requires_grad=True))

        for number, block in enumerate(self.blocks):
            stream: dict[str, torch.Tensor] = {}
            norm, middle = (block.get_submodule(path) for path in self.norms)

            def see(_: Any, args: Any, stream: dict[str, torch.Tensor] = stream) -> None:
                stream["x"] = args[0][0]

            hooks.append(block.register_forward_pre_hook(see))
            project = self.projections(block)

            def own(
                name: str,
                count: int,
                number: int = number,
                stream: dict[str, torch.Tensor] = stream,
                norm: Any = norm,
                project: dict[str, Any] = project,
            ) -> torch.Tensor:
                each = [
                    project[name](norm.forward(stream["x"] + zero(f"L{number}H{h}.{name}")))[:, h]
                    for h in range(count)
                ]
                return torch.stack(each, 1)

            counts = {"q": self.heads, "k": self.shared, "v": self.shared}
            if self.architecture in ("gpt2", "gpt_neox"):
                dim = 1 if self.architecture == "gpt2" else 2

                def all_three(_: Any, __: Any, out: Any, own: Any = own, dim: int = dim) -> Any:
                    parts = torch.stack([own(x, self.heads) for x in "qkv"], dim)
                    return parts.reshape(out.shape)

                inner = (
                    block.attn.c_attn
                    if self.architecture == "gpt2"
                    else block.attention.query_key_value
                )
                hooks.append(inner.register_forward_hook(all_three))
            else:
                attention = block.attn if self.architecture == "gptj" else block.self_attn
                for name, count in counts.items():

                    def one(
                        _: Any, __: Any, out: Any, own: Any = own, n: str = name, c: int = count
                    ) -> Any:
                        return own(n, c).reshape(out.shape)

                    projection = getattr(attention, f"{name}_proj")
                    hooks.append(projection.register_forward_hook(one))
            if self.norms[0] == self.norms[1]:

                def alone(
                    _: Any,
                    args: Any,
                    number: int = number,
                    stream: dict[str, torch.Tensor] = stream,
                    norm: Any = norm,
                ) -> Any:
                    return (norm.forward(stream["x"] + zero(f"MLP{number}"))[None],)

                hooks.append(block.mlp.register_forward_pre_hook(alone))
            else:
                hooks.append(
                    middle.register_forward_pre_hook(
                        lambda _, args, n=number: (args[0] + zero(f"MLP{n}"),)
                    )
                )
        last = self.module.get_submodule(self.last)
        hooks.append(last.register_forward_pre_hook(lambda _, args: (args[0] + zero("logits"),)))
        logits = self.module(torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
        for hook in hooks:
            hook.remove()
        found = torch.autograd.grad(logits[3] - logits[4], list(zeros.values()))
        return dict(zip(zeros, found, strict=True))

    def added(self, ids: range) -> dict[str, torch.Tensor]:
        """Return what each sender adds to the stream, (token, unit), less what is constant."""
        found: dict[str, torch.Tensor] = {}
        hooks = []
        for number, block in enumerate(self.blocks):

            def keep(module: Any, args: Any, number: int = number) -> None:
                z = args[0][0].view(len(ids), self.heads, self.channels)
                for head in range(self.heads):
                    alone = torch.zeros_like(z)
                    alone[:, head] = z[:, head]
                    found[f"L{number}H{head}"] = module.forward(alone.flatten(1)).detach()

            hooks.append(block.get_submodule(self.out).register_forward_pre_hook(keep))
            hooks.append(
                block.mlp.register_forward_hook(
                    lambda _, __, out, n=number: found.__setitem__(f"MLP{n}", out[0].detach())
                )
            )
        hooks.append(
            self.blocks[0].register_forward_pre_hook(
                lambda _, args: found.__setitem__("embed", args[0][0].detach())
            )
        )
        self.module(torch.tensor([list(ids)]), use_cache=False)
        for hook in hooks:
            hook.remove()
        return found


def by_hand(source: Any, architecture: str) -> dict[tuple[str, str], float]:
    """Return the mean score of every pair of a sender and a receiver."""
    split = Split(source.module, architecture)
    scores: dict[tuple[str, str], list[float]] = {}
    for clean, corrupt in zip(TEXTS["clean"], TEXTS["corrupt"], strict=True):
        slopes, here, there = split.gradients(clean), split.added(clean), split.added(corrupt)
        for sender, added in here.items():
            for receiver, slope in slopes.items():
                score = float(((there[sender] - added) * slope).sum())
                scores.setdefault((sender, receiver), []).append(score)
    return {ends: float(np.mean(found)) for ends, found in scores.items()}


def count(layers: int, heads: int, shared: int, *, parallel: bool) -> int:
    """Return the number of edges: into queries, keys and values, into MLPs, into logits."""
    total = 0
    for layer in range(layers):
        before = 1 + (heads + 1) * layer
        total += (heads + 2 * shared) * before + before + (0 if parallel else heads)
    return total + 1 + (heads + 1) * layers


def test_edges_are_as_many_as_published() -> None:
    """GPT-2 small and Qwen2.5-0.5B, whose shared keys are counted for each head there."""
    assert count(12, 12, 12, parallel=False) == 32_491
    assert count(24, 14, 14, parallel=False) == 179_749


@pytest.mark.parametrize("architecture", PATHS)
def test_scores_are_those_of_a_graph_split_by_hand(
    architecture: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    source = twin(architecture)
    found = analysed(source.folder, tmp_path)
    score = found["edges"]["score"]
    there = np.isfinite(score)
    heads, shared = 4, 2 if architecture == "llama" else 4
    parallel = architecture in ("gpt_neox", "gptj")
    assert int(there.sum()) == count(3, heads, shared, parallel=parallel)
    expected = by_hand(source, architecture)
    scale = float(np.abs(score).max())
    for sender, receiver in np.argwhere(there.to_numpy()).tolist():
        cell = score[sender, receiver]
        names = (cell["sender"].item(), cell["receiver"].item())
        assert float(cell) == pytest.approx(expected[names], abs=1e-4 * scale), names
    # The control: the same products of what comes too late for an edge are not all zero.
    late = [expected[a, b] for a, b in expected if np.isnan(score.sel(sender=a, receiver=b))]
    assert np.abs(late).max() > 1e-2 * scale


@pytest.mark.parametrize("architecture", [*PATHS, "gpt_neox_sequential", "qwen3", "opt", "phi"])
@pytest.mark.parametrize("at", ["clean", "integrated"])
def test_the_edges_of_a_node_sum_to_its_own_score(
    architecture: str, at: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    found = analysed(twin(architecture).folder, tmp_path, AT=at)
    node, edge = found["nodes"]["score"], found["edges"]["score"]
    total = edge.sum("receiver").sel(sender=node["node"].to_numpy())
    scale = float(np.abs(node).max())
    assert scale > 1e-3
    np.testing.assert_allclose(total, node, rtol=0, atol=2e-5 * scale)


EXACT = """\
  exact:
    kind: attribution
    of: edges
    clean: words
    corrupt: others
    direction: noising
    gradient_at: clean
    metric: logit_diff
    verify: 30
  paths:
    kind: patching
    clean: words
    corrupt: others
    direction: noising
    normalise: false
    metric: logit_diff
    path:
      freeze: heads_and_mlps
      senders: [{site: z, layers: 0, heads: [0, 2]}, {site: mlp_out, layers: 0}]
      receivers:
        - {site: q, layers: [1, 2]}
        - {site: k, layers: [1, 2]}
        - {site: v, layers: 1}
        - {site: mlp_out}
        - {site: resid_post, layers: last}
"""


@pytest.mark.parametrize("architecture", [*PATHS, "opt"])
def test_an_edge_that_is_cut_is_the_path_with_everything_else_frozen(
    architecture: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    """One pass that changes what a receiver sees, against a run aside with all nodes frozen."""
    text = SPEC[: SPEC.index("  edges:\n")] + EXACT + "run: {backend: BACKEND, threads: 1}\n"
    text = text.replace("MODEL", str(twin(architecture).folder))
    found = {}
    for backend, optimise in (("nnsight", "true"), ("hooks", "false")):
        end = f"run: {{backend: {backend}, threads: 1, optimise: {optimise}}}\n"
        (tmp_path / "spec.yaml").write_text(
            text.replace("run: {backend: BACKEND, threads: 1}\n", end)
        )
        result = run(tmp_path / "spec.yaml", out=tmp_path, cache=tmp_path / backend)
        found[backend] = result.analysis("exact")["exact"]
        assert 0 <= result.analysis("exact").attrs["recall"] <= 1
    paths = result.analysis("paths")["effect"]
    exact = found["hooks"].where(np.isfinite(found["hooks"]))
    np.testing.assert_allclose(found["nnsight"], exact, atol=1e-4 * float(np.abs(exact).max()))
    compared = 0
    for sender, receiver in np.argwhere(np.isfinite(exact.to_numpy())).tolist():
        cell = exact[sender, receiver]
        names = cell["sender"].item(), cell["receiver"].item().replace("logits", "L2.resid_post")
        if names[0] in paths["sender"] and names[1] in paths["receiver"]:
            path = float(paths.sel(sender=names[0], receiver=names[1]))
            assert float(cell) == pytest.approx(path, abs=2e-4), names
            compared += abs(path) > 1e-2
    assert compared > 4


def test_the_page_about_attribution_says_what_is_valid_and_counts_right() -> None:
    page = (Path(__file__).parents[1] / "docs" / "attribution.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    quick = shipped()["quickstart"].read_text(encoding="utf-8")
    text = quick.partition("\nanalyses:")[0] + "\n" + example
    assert set(loads(text).spec.analyses) == {"edges", "circuit"}
    layers, heads = 12, 12
    total = sum((3 * heads + 1) * (1 + (heads + 1) * n) + heads for n in range(layers))
    assert f"{total + 1 + (heads + 1) * layers:,} for GPT-2 small" in page
