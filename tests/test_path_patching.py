"""Path patching against two passes with hooks: what is frozen, and norms frozen or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from patchclamp.engine import run
from patchclamp.registry.errors import SpecError

SPEC = """\
patchclamp: 1
name: paths
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
      - {name: b, text: w8 w9 w10 w11 w12}
  others:
    kind: items
    text: "{text}"
    id: name
    groups: none
    partners: {of: words, by: id}
    items:
      - {name: b, text: w18 w19 w20 w21 w22}
      - {name: a, text: w11 w12 w13 w14 w15 w16}
analyses:
  paths:
    kind: patching
    clean: words
    corrupt: others
    direction: noising
    path:
      senders: [{site: z, layers: 0}, {site: mlp_out, layers: 0}]
      receivers: [{site: v, layers: 2}, {site: mlp_out, layers: 2}, {site: logits}]
      freeze: FREEZE
      norms: NORMS
    normalise: false
    metric: logit_diff
run: {backend: BACKEND, optimise: OPTIMISE, threads: 1}
"""

WORDS = {"a": range(3, 9), "b": range(10, 15)}
OTHERS = {"a": range(13, 19), "b": range(20, 25)}


def patched(folder: Path, model: Path, device: str = "cpu", **said: str) -> Any:
    text = SPEC.replace("MODEL", str(model))
    for key, value in {"BACKEND": "hooks", "OPTIMISE": "true", **said}.items():
        text = text.replace(key, value)
    spec = folder / "spec.yaml"
    spec.write_text(text)
    cache = folder / "-".join(["cache", *said.values()])
    found = run(spec, out=folder / "runs", cache=cache, overrides=[f"run.device={device}"])
    return found.analysis("paths")["logit_diff"]


class ByHand:
    """A model whose heads, MLPs and norms are kept and put back by hooks of its own."""

    def __init__(self, source: Any) -> None:
        self.source, self.module = source, source.module
        self.layers, self.heads = source.shape.layers, source.shape.heads

    def at(self, site: str, layer: int) -> Any:
        path = self.source.architecture.sites[site].path.format(layer=layer)
        return self.module.get_submodule(path)

    def norms(self) -> list[Any]:
        return [m for m in self.module.modules() if "norm" in type(m).__name__.lower()]

    def logits(self, ids: range, hooks: list[tuple[Any, bool, Any]]) -> torch.Tensor:
        with ExitStack() as stack, torch.no_grad():
            for where, before, hook in hooks:
                register = where.register_forward_pre_hook if before else None
                handle = register(hook) if register else where.register_forward_hook(hook)
                stack.callback(handle.remove)
            return self.module(torch.tensor([list(ids)]), use_cache=False).logits[0, -1]

    def kept(self, ids: range) -> dict[Any, torch.Tensor]:
        found: dict[Any, torch.Tensor] = {}

        def keep(key: Any, what: Callable[[Any], torch.Tensor]) -> Any:
            return lambda *seen: found.__setitem__(key, what(seen))

        hooks = []
        for layer in range(self.layers):
            hooks += [
                (self.at("z", layer), True, keep(("z", layer), lambda seen: seen[1][0])),
                (self.at("mlp_out", layer), False, keep(("mlp", layer), lambda seen: seen[2])),
            ]
        for number, norm in enumerate(self.norms()):
            size = keep(("size", number), lambda seen: self.size(seen[0], seen[1][0]))
            hooks.append((norm, False, size))
        self.logits(ids, hooks)
        return found

    def size(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        if isinstance(norm, torch.nn.LayerNorm):
            return (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        return (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()

    def frozen_norm(self, norm: Any, size: torch.Tensor) -> Any:
        def hook(_: Any, args: Any, __: Any) -> torch.Tensor:
            x = args[0]
            if isinstance(norm, torch.nn.LayerNorm):
                x = x - x.mean(-1, keepdim=True)
                return x / size * norm.weight + norm.bias
            return x / size * norm.weight

        return hook

    def run(self, name: str, sender: str, receiver: str, freeze: str, norms: str) -> float:
        clean, corrupt = self.kept(WORDS[name]), self.kept(OTHERS[name])
        hooks: list[tuple[Any, bool, Any]] = []
        for layer in range(self.layers):
            z = clean["z", layer].clone()
            if sender.startswith(f"L{layer}H"):
                size = z.shape[-1] // self.heads
                own = slice(int(sender[3:]) * size, (int(sender[3:]) + 1) * size)
                z[..., own] = corrupt["z", layer][..., own]
            hooks.append((self.at("z", layer), True, lambda _, __, z=z: (z,)))
            out = None
            if sender == f"MLP{layer}":
                out = corrupt["mlp", layer]
            elif freeze == "heads_and_mlps" and receiver != f"MLP{layer}":
                out = clean["mlp", layer]
            if out is not None:
                hooks.append((self.at("mlp_out", layer), False, lambda *_, out=out: out))
        if norms == "frozen":
            hooks += [
                (norm, False, self.frozen_norm(norm, clean["size", number]))
                for number, norm in enumerate(self.norms())
            ]
        if receiver == "logits":
            found = self.logits(WORDS[name], hooks)
            return float(found[3] - found[4])
        site = "mlp_out" if receiver.startswith("MLP") else "v"
        place, seen = self.at(site, 2), []
        self.logits(WORDS[name], [*hooks, (place, False, lambda *a: seen.append(a[2]))])
        own = slice(None)
        if site == "v":
            size = seen[0].shape[-1] // self.module.config.num_key_value_heads
            head = int(receiver[3 : receiver.index(".")])
            own = slice(head * size, (head + 1) * size)

        def put(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
            out = out.clone()
            out[..., own] = seen[0][..., own]
            return out

        found = self.logits(WORDS[name], [(place, False, put)])
        return float(found[3] - found[4])


@pytest.mark.parametrize("freeze", ["heads", "heads_and_mlps"])
@pytest.mark.parametrize("norms", ["frozen", "recomputed"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_path_is_what_two_passes_with_hooks_give(
    architecture: str, norms: str, freeze: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    source = twin(architecture)
    found = patched(tmp_path, source.folder, FREEZE=freeze, NORMS=norms)
    by_hand = ByHand(source)
    receivers = ["MLP2", "logits", *(["L2H1.v"] if architecture == "llama" else [])]
    for sender in ("L0H2", "MLP0"):
        for receiver in receivers:
            for name in WORDS:
                expected = by_hand.run(name, sender, receiver, freeze, norms)
                cell = found.sel(sender=sender, receiver=receiver, stimulus=name)
                assert float(cell) == pytest.approx(expected, abs=2e-5), (sender, receiver, name)


def test_norms_matter_and_savings_and_backends_do_not(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    for architecture in ("gpt_neox", "llama"):
        folder = twin(architecture).folder
        said = {"FREEZE": "heads", "NORMS": "frozen"}
        frozen = patched(tmp_path, folder, **said)
        other = patched(tmp_path, folder, **said, OPTIMISE="false")
        traced = patched(tmp_path, folder, **said, BACKEND="nnsight")
        np.testing.assert_allclose(frozen, other, atol=1e-5)
        np.testing.assert_allclose(frozen, traced, atol=1e-5)
        anew = patched(tmp_path, folder, FREEZE="heads", NORMS="recomputed")
        assert float(np.abs(frozen - anew).max()) > 1e-3


@pytest.mark.parametrize("architecture", ["gemma2", "opt", "phi", "qwen3"])
def test_norms_are_held_in_every_architecture(
    architecture: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    """Behind attention, in two dims, shared by both, and of queries: two backends find the same."""
    import transformers

    patch = pytest.MonkeyPatch()
    patch.setattr("patchclamp.engine.model.AutoTokenizer", transformers.PreTrainedTokenizerFast)
    folder = twin(architecture).folder
    said = {"FREEZE": "heads_and_mlps", "NORMS": "frozen"}
    frozen = patched(tmp_path, folder, **said)
    traced = patched(tmp_path, folder, **said, BACKEND="nnsight")
    patch.undo()
    np.testing.assert_allclose(frozen, traced, atol=1e-5)


def test_a_receiver_before_the_sender_is_no_path(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    text = SPEC.replace("[{site: v, layers: 2}, {site: mlp_out, layers: 2}, {site: logits}]", "X")
    text = text.replace("X", "[{site: q, layers: 0}]").replace("MODEL", str(twin("llama").folder))
    for key, value in {"FREEZE": "heads", "NORMS": "frozen", "BACKEND": "hooks"}.items():
        text = text.replace(key, value)
    (tmp_path / "spec.yaml").write_text(text.replace("OPTIMISE", "true"))
    with pytest.raises(SpecError, match=r"L0H0 and others cannot reach L0H0\.q or others"):
        run(tmp_path / "spec.yaml", out=tmp_path)
