"""What a model writes under interventions, against a plain loop with hooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from patchclamp.engine import generating, run
from patchclamp.engine.generating import choose
from patchclamp.engine.plan import make_plan
from patchclamp.engine.plan_text import describe_plan
from patchclamp.registry.errors import AnalysisError, GuardError, SpecError
from patchclamp.specs.load import load

SPEC = """\
patchclamp: 1
name: written
model: {id: MODEL}
stimuli:
  words:
    kind: items
    text: "{text}"
    id: name
    groups: none
    answer: {correct: " w1"}
    items:
      - {name: a, text: w1 w2 w3 w4 w5 w6}
      - {name: b, text: w8 w9 w10}
      - {name: c, text: w12 w13 w14 w15}
interventions:
  cut: {kind: ablate, value: zero, site: z, heads: [L1H0, L2H3]}
  late: {kind: ablate, value: zero, site: mlp_out, layers: 1, during: generation}
  early: {kind: ablate, value: zero, site: mlp_out, layers: 0, positions: last, during: prompt}
  all: {kind: together, of: [cut, late, early]}
  pattern: {kind: ablate, value: zero, site: attn_pattern, layers: 1, heads: [0]}
  noisy: {kind: replace, by: noise, site: resid_post, layers: 0}
  mean: {kind: ablate, value: {mean_over: words, per: position}, site: mlp_out, layers: 1}
analyses:
  text:
    kind: steering
    with: [cut, late, early, all, pattern, noisy]
    generate: {max_new_tokens: 6}
    controls: []
run: {backend: BACKEND, device: cpu, threads: 1}
"""

TEXTS = {"a": range(3, 9), "b": range(10, 13), "c": range(14, 18)}


def written(folder: Path, model: Path, *more: str, backend: str = "hooks") -> Any:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.replace("MODEL", str(model)).replace("BACKEND", backend))
    cache = folder / f"cache-{backend}-{'-'.join(more)}"
    return run(spec, out=folder / "runs", cache=cache, overrides=more).analysis("text")


class Cut:
    """Zeros at some places of some modules, as hooks; `start` is the first generated token."""

    def __init__(self, source: Any, what: str) -> None:
        self.source, self.module, self.start, self.handles = source, source.module, 0, []
        heads, sites = source.shape.heads, source.architecture.sites

        def z(layer: int, head: int) -> None:
            def hook(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
                tensor = args[0].clone()
                size = tensor.shape[-1] // heads
                tensor[..., head * size : (head + 1) * size] = 0
                return (tensor,)

            place = self.module.get_submodule(sites["z"].path.format(layer=layer))
            self.handles.append(place.register_forward_pre_hook(hook))

        def mlp(layer: int, places: Callable[[], slice]) -> None:
            def hook(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
                out = out.clone()
                out[:, places()] = 0
                return out

            place = self.module.get_submodule(sites["mlp_out"].path.format(layer=layer))
            self.handles.append(place.register_forward_hook(hook))

        if what in ("cut", "all"):
            z(1, 0)
            z(2, 3)
        if what in ("late", "all"):
            mlp(1, lambda: slice(self.start, None))
        if what in ("early", "all"):
            mlp(0, lambda: slice(self.start - 1, self.start))

    def write(self, ids: list[int], tokens: int) -> list[int]:
        found = list(ids)
        self.start = len(ids)
        with torch.no_grad():
            for _ in range(tokens):
                logits = self.module(torch.tensor([found]), use_cache=False).logits[0, -1]
                found.append(int(logits.argmax()))
                if found[-1] in ends_of(self.source):
                    break
        return found[len(ids) :]

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def ends_of(source: Any) -> set[int]:
    """What ends a text: 1 to the tokenizer, and perhaps another token to the model."""
    return {1, source.config.eos_token_id}


def behind(source: Any, prompt: range, tokens: list[int]) -> str:
    """What stands behind a prompt, the token that ends it left out."""
    decode, ends = source.tokenizer.decode, ends_of(source)
    whole = decode([*prompt, *(token for token in tokens if token not in ends)])
    return str(whole.removeprefix(decode(list(prompt))))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "mistral"])
def test_what_is_written_is_what_a_plain_loop_with_hooks_writes(
    architecture: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    source = twin(architecture)
    found = written(tmp_path, source.folder)
    for what in ("clean", "cut", "late", "early", "all"):
        texts = found["text_clean"] if what == "clean" else found["text"].sel(condition=what)
        with Cut(source, what) as loop:
            for name, ids in TEXTS.items():
                expected = behind(source, ids, loop.write(list(ids), 6))
                assert str(texts.sel(stimulus=name).item()) == expected, (what, name)
    # The negative control: what is done changes what is written.
    changed = [bool((found["changed"].sel(condition=c) == 1).any()) for c in ("late", "all")]
    assert all(changed)


def test_clean_texts_are_those_of_the_models_own_generate(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    source = twin("llama")
    found = written(tmp_path, source.folder, backend="nnsight")
    for name, ids in TEXTS.items():
        out = source.module.generate(
            torch.tensor([list(ids)]),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=list(ends_of(source)),
        )[0, len(ids) :].tolist()
        expected = behind(source, ids, out)
        assert str(found["text_clean"].sel(stimulus=name).item()) == expected


@pytest.mark.parametrize("architecture", ["gpt2", "mistral", "opt", "gemma2"])
def test_what_is_kept_between_tokens_changes_no_text(
    architecture: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    """Attention patterns are made of all keys, and are computed anew."""
    folder = twin(architecture).folder
    quick = written(tmp_path, folder)
    whole = written(tmp_path, folder, "run.optimise=false")
    alone = written(tmp_path, folder, "run.batch.tokens=1")
    for other in (whole, alone):
        assert bool((quick["text"] == other["text"]).all())
        assert bool((quick["text_clean"] == other["text_clean"]).all())


def test_drawn_texts_depend_on_the_stimulus_and_on_nothing_beside_it(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    folder, hot = twin("llama").folder, "analyses.text.generate.temperature=20.0"
    first, again = (
        written(tmp_path, folder, hot),
        written(tmp_path, folder, hot, "run.batch.tokens=1"),
    )
    assert bool((first["text"] == again["text"]).all())
    assert bool((first["text"] != written(tmp_path, folder)["text"]).any())
    assert bool((first["text"] != written(tmp_path, folder, hot, "seed=1")["text"]).any())


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).double().expand(20_000, -1)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for temperature in (1.0, 0.5):
        drawn = choose(logits, temperature, uniform).bincount(minlength=3) / 20_000
        expected = (logits[0] / temperature).softmax(0)
        torch.testing.assert_close(drawn.double(), expected, rtol=0, atol=0.01)
    assert choose(logits, 0.0, uniform).unique().tolist() == [2]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("analyses.text.with=[mean]", SpecError, "generated tokens have none there: say 'during"),
        ("analyses.text.generate.max_new_tokens=60", SpecError, "generate at most 58"),
        (
            "interventions.cut.heads=[0]",
            GuardError,
            "'cut' changes no logit at all; where that is right, say 'allow_no_effect",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(
    given: str, error: type[Exception], said: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    more = [given]
    if error is GuardError:  # the last layer's first token is read by nobody
        more = [
            "analyses.text.with=[cut]",
            "interventions.cut.heads=[L2H3]",
            "interventions.cut.positions=first",
            "interventions.cut.during=prompt",
        ]
    with pytest.raises(error, match=said):
        written(tmp_path, twin("llama").folder, *more)


def test_a_score_needs_an_answer(twin: Callable[[str], Any], tmp_path: Path) -> None:
    text = SPEC.replace('    answer: {correct: " w1"}\n', "").replace("BACKEND", "hooks")
    text = text.replace("    controls: []", "    controls: []\n    score: {kind: exact}")
    spec = tmp_path / "spec.yaml"
    spec.write_text(text.replace("MODEL", str(twin("llama").folder)))
    with pytest.raises(AnalysisError, match="the stimuli have none: give them an 'answer'"):
        run(spec, out=tmp_path, cache=tmp_path / "cache")


def test_texts_that_are_there_are_not_written_again(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    text = SPEC.replace("MODEL", str(twin("llama").folder)).replace("BACKEND", "hooks")
    spec.write_text(text)
    said = "words is continued by at most 6 tokens, clean and under 6 conditions"
    assert said in describe_plan(make_plan(load(spec)))
    passes = []
    for _ in range(2):
        result = run(spec, out=tmp_path, cache=tmp_path / "cache")
        passes.append(result.groups["/analyses/text"])
    assert bool((passes[0]["text"] == passes[1]["text"]).all())
    made = list((tmp_path / "cache" / "texts").glob("*/key.json"))
    assert len(made) == 1
    assert np.isfinite(passes[0]["effect"]).all()


def test_texts_are_held_against_a_stimulus_that_is_continued_alone(
    twin: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: padding that is taken for tokens is an error, and leaves nothing."""
    source = twin("llama")
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace("MODEL", str(source.folder)).replace("BACKEND", "hooks"))
    result = run(spec, out=tmp_path / "runs", cache=tmp_path / "cache")
    (verdict,) = [guard for guard in result.guards if guard["guard"] == "batched = alone"]
    assert verdict["on"] == "words, stimulus 'b' with 3 padding tokens"
    assert 0 <= verdict["value"] <= 1e-5

    def seen(ids: Any, pad_id: int) -> dict[str, torch.Tensor]:
        inputs = pad(ids, pad_id)
        return {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}

    pad = generating.pad
    monkeypatch.setattr(generating, "pad", seen)
    with pytest.raises(GuardError, match="guard 'batched = alone' failed on words, stimulus 'b'"):
        run(spec, out=tmp_path / "runs", cache=tmp_path / "other")
    assert not list((tmp_path / "other" / "texts").glob("*/*"))
