"""Captures against plain forwards of each stimulus alone: positions, reductions and gradients.

Nothing of the engine's own is used for what is expected: texts are split into words by hand, and
transformers gives hidden states, attention and gradients of one text at a time, without padding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

import tiny
from patchclamp.engine import run
from patchclamp.engine.plan import make_plan
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import loads

TEXTS = {
    "a": ("w1 w2 w3 w4 w5 w6 w7", "x", "w3", "w6"),
    "b": ("w8 w9 w10", "y", "w8", "w10"),
    "c": ("w11 w12 w13 w14 w15", "x", "w12", "w15"),
    "d": ("w20 w21 w22 w23", "y", "w22", "w23"),
}
IDS = list(TEXTS)
RIGHT, WRONG = tiny.WORDS.index("w40"), tiny.WORDS.index("w41")

SPEC = """\
patchclamp: 1
name: captures
model: {model}
stimuli:
  words:
    kind: items
    text: "{{text}}"
    labels: [sort]
    groups: none
    answer: {{correct: " w40", foil: " w41"}}
    spans: {{one: "{{one}}", two: "{{two}}"}}
    items:
{items}
captures:
{captures}
run: {{batch: {{tokens: {tokens}}}, backend: {backend}}}
"""

CAPTURES = """\
  whole: {site: resid_post, positions: all}
  listed: {site: resid_post, layers: [1], positions: [two.last, first, one.last]}
  minus: {site: resid_post, layers: last, positions: -2}
  ragged:
    site: resid_post
    layers: last
    positions: {align: one.last, before: 1, after: 2, short: mask}
  dropped:
    site: resid_post
    layers: last
    positions: {align: left, size: 4, short: drop, at_least: 0.5}
  centred: {site: resid_post, layers: last, positions: {align: centre, before: 1, after: 1}}
  sizes:
    site: resid_post
    positions: all
    reduce:
      - norm
      - absmax
      - {kind: topk, k: 2}
      - {kind: mean, over: position}
      - {kind: max, over: position}
      - {kind: mean, over: unit}
  by_sort:
    site: resid_post
    positions: all
    reduce: [{kind: mean, over: stimulus, by: sort}, {kind: max, over: stimulus, by: sort}]
  all_alike: {site: resid_post, positions: last, reduce: {kind: mean, over: stimulus}}
  pattern: {site: attn_pattern, positions: all}
  last_query: {site: attn_pattern, positions: last}
  seen: {site: attn_pattern, positions: all, reduce: [column_mean, first_share]}
  some_heads: {site: attn_pattern, positions: last, heads: [L1H2, L0H3, L1H0]}
  last_keys: {site: attn_pattern, positions: all, keys: {align: last, before: 2, after: 0}}
  listed_keys: {site: attn_pattern, positions: last, heads: [1], keys: [first, one.last]}
  dropped_keys:
    site: attn_pattern
    positions: {align: last, before: 1, after: 0}
    keys: {align: last, before: 3, after: 0, short: drop, at_least: 0.5}
  masked_keys:
    site: attn_pattern
    positions: last
    keys: {align: two.last, before: 3, after: 1, short: mask}
  mean_keys:
    site: attn_pattern
    positions: all
    keys: {align: last, before: 2, after: 0}
    reduce: [mean, {kind: mean, over: stimulus}]
  near: {site: resid_post, layers: last, positions: {align: -2, before: 1, after: 1}}
  two_heads: {site: z, positions: last, heads: [3, 1]}
  slope: {site: resid_post, positions: all, gradient: {of: logit_diff}}
  slope_sizes:
    site: resid_mid
    positions: all
    gradient: {of: cross_entropy, at: each}
    reduce: norm
  weights:
    site: mlp_out
    positions: all
    gradient: {of: cross_entropy, at: each, wrt: weight}
    reduce: norm
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def measured(model: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    return measure(model, tmp_path_factory.mktemp("runs"))


def measure(
    model: Path, folder: Path, *, tokens: int = 1000, backend: str = "nnsight", text: str = CAPTURES
) -> xr.DataTree:
    items = "\n".join(
        f"      - {{id: {i}, text: {t[0]}, sort: {t[1]}, one: {t[2]}, two: {t[3]}}}"
        for i, t in TEXTS.items()
    )
    spec = folder / f"captures-{tokens}-{backend}.yaml"
    spec.write_text(
        SPEC.format(model=model, items=items, captures=text, tokens=tokens, backend=backend)
    )
    result = run(spec, out=folder / "runs", cache=folder / f"cache-{tokens}-{backend}")
    return xr.open_datatree(result.path, engine="netcdf4").load()


@pytest.fixture(scope="module")
def plain(model: Path) -> Callable[[str], dict[str, NDArray[Any]]]:
    """Give what transformers says of one text alone: states, attention, and gradients."""
    module = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").eval()

    @cache
    def of(id_: str) -> dict[str, NDArray[Any]]:
        ids = torch.tensor([[tiny.WORDS.index(word) for word in TEXTS[id_][0].split()]])
        streams: dict[str, list[Any]] = {"post": [], "mid": [], "act": []}
        hooks = []
        for layer in module.model.layers:
            hooks += [
                layer.register_forward_hook(lambda _, __, out: streams["post"].append(out)),
                layer.post_attention_layernorm.register_forward_pre_hook(
                    lambda _, args: streams["mid"].append(args[0])
                ),
                layer.mlp.down_proj.register_forward_pre_hook(
                    lambda _, args: streams["act"].append(args[0])
                ),
            ]
        told = module(ids, output_attentions=True, use_cache=False)
        for hook in hooks:
            hook.remove()
        logits = told.logits[0].double()
        difference = logits[-1, RIGHT] - logits[-1, WRONG]
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum")
        found = {
            "post": torch.stack(streams["post"])[:, 0],
            "pattern": torch.stack(told.attentions)[:, 0],
            "slope": torch.stack(
                torch.autograd.grad(difference, streams["post"], retain_graph=True)
            )[:, 0],
            "mid_slope": torch.stack(torch.autograd.grad(loss, streams["mid"], retain_graph=True))[
                :, 0
            ],
        }
        # What each token adds to a weight's gradient: that of the token's output alone.
        weights = [layer.mlp.down_proj.weight for layer in module.model.layers]
        parts = []
        for number, weight in enumerate(weights):
            out = torch.nn.functional.linear(streams["act"][number], weight)
            above = torch.autograd.grad(loss, streams["post"], retain_graph=True)[number][0]
            each = [
                torch.autograd.grad((out[0, t] * above[t]).sum(), weight, retain_graph=True)[0]
                for t in range(ids.shape[1])
            ]
            parts.append(torch.stack([torch.linalg.matrix_norm(part) for part in each]))
        found["weights"] = torch.stack(parts)
        return {name: tensor.detach().double().numpy() for name, tensor in found.items()}

    return of


def slopes(of: torch.Tensor, streams: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(torch.autograd.grad(of, streams, retain_graph=True))[:, 0]


def close(a: Any, b: Any) -> None:
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("id_", IDS)
def test_positions_are_the_tokens_they_say(measured: xr.DataTree, plain: Any, id_: str) -> None:
    words, _, one, two = TEXTS[id_]
    place = {word: n for n, word in enumerate(words.split())}
    n, post = len(place), plain(id_)["post"]

    def at(name: str) -> Any:
        return measured[f"captures/{name}/activation"].sel(stimulus=id_)

    close(at("whole").isel(position=slice(n)), post)
    assert bool(at("whole").isel(position=slice(n, None)).isnull().all())
    close(at("listed").sel(layer=1), post[1][[place[two], 0, place[one]]])
    close(at("minus").sel(layer=2)[0], post[2][n - 2])
    for label, value in zip((-1, 0, 1, 2), at("ragged").sel(layer=2), strict=True):
        where = place[one] + label
        if 0 <= where < n:
            close(value, post[2][where])
        else:
            assert bool(value.isnull().all())
    middle = (n - 1) // 2
    close(at("centred").sel(layer=2), post[2][middle - 1 : middle + 2])
    if n >= 4:
        close(at("dropped").sel(layer=2), post[2][:4])


@pytest.mark.parametrize("id_", IDS)
def test_keys_are_the_tokens_they_say(measured: xr.DataTree, plain: Any, id_: str) -> None:
    words, _, one, two = TEXTS[id_]
    place = {word: n for n, word in enumerate(words.split())}
    n, pattern = len(place), plain(id_)["pattern"]

    def at(name: str, variable: str = "activation") -> Any:
        return measured[f"captures/{name}/{variable}"].sel(stimulus=id_)

    assert at("last_keys")["key"].to_numpy().tolist() == [-2, -1, 0]
    assert at("last_keys")["key"].attrs["anchor"] == "last"
    close(at("last_keys").isel(query=slice(n)), pattern[..., -3:])
    assert at("listed_keys")["key_name"].to_numpy().tolist() == ["first", "one.last"]
    close(at("listed_keys")[:, 0, 0], pattern[:, 1, -1][:, [0, place[one]]])
    if n >= 4:
        close(at("dropped_keys"), pattern[..., -2:, -4:])
    for label, value in zip(range(-3, 2), at("masked_keys")[..., 0, :].T, strict=True):
        key = place[two] + label
        there = bool(at("masked_keys")["key_mask"].sel(key=label))
        assert there is (0 <= key < n)
        if there:
            close(value.T, pattern[:, :, -1, key])
        else:
            assert bool(value.isnull().all())
    close(at("mean_keys", "mean_over_position"), pattern[..., -3:].mean(2))
    close(at("near").sel(layer=2), plain(id_)["post"][2][n - 3 : n])


def test_keys_of_a_mean_over_stimuli_are_each_stimulus_own(
    measured: xr.DataTree, plain: Any
) -> None:
    mean = measured["captures/mean_keys/mean_over_stimulus"]
    for query in range(7):
        there = [plain(id_)["pattern"] for id_ in IDS if len(TEXTS[id_][0].split()) > query]
        of_all = np.mean([pattern[:, :, query, -3:] for pattern in there], axis=0)
        close(mean.isel(query=query), of_all)
    assert measured["captures/dropped_keys"]["stimulus"].to_numpy().tolist() == ["a", "c", "d"]


def test_a_window_that_drops_says_how_many(measured: xr.DataTree) -> None:
    dropped = measured["captures/dropped"]
    assert dropped["stimulus"].to_numpy().tolist() == ["a", "c", "d"]
    assert dropped.attrs["stimuli_dropped"] == 1


@pytest.mark.parametrize("id_", IDS)
def test_reductions_are_those_of_the_text_alone(
    measured: xr.DataTree, plain: Any, id_: str
) -> None:
    post, pattern = plain(id_)["post"], plain(id_)["pattern"]
    n = post.shape[1]
    sizes = measured["captures/sizes"].sel(stimulus=id_)
    real = sizes.isel(position=slice(n))
    close(real["norm"], np.linalg.norm(post, axis=-1))
    close(real["absmax"], np.abs(post).max(-1))
    assert (real["absmax_unit"].to_numpy() == np.abs(post).argmax(-1)).all()
    order = np.argsort(-np.abs(post), axis=-1)[..., :2]
    assert (real["topk_unit"].to_numpy() == order).all()
    close(real["topk"], np.take_along_axis(post, order, -1))
    close(real["mean_over_unit"], post.mean(-1))
    close(sizes["mean_over_position"], post.mean(1))
    close(sizes["max_over_position"], post.max(1))
    assert bool(sizes["norm"].isel(position=slice(n, None)).isnull().all())
    assert bool((sizes["absmax_unit"].isel(position=slice(n, None)) == -1).all())
    seen = measured["captures/seen"].sel(stimulus=id_)
    close(seen["first_share"].isel(query=slice(n)), pattern[..., 0])
    # A key is seen by itself and by the queries after it: n - k of them.
    close(seen["column_mean"].isel(key=slice(n)), pattern.sum(2) / (n - np.arange(n)))
    close(measured["captures/pattern/activation"].sel(stimulus=id_)[..., :n, :n], pattern)
    close(
        measured["captures/last_query/activation"].sel(stimulus=id_)[..., 0, :n], pattern[:, :, -1]
    )


def test_a_mean_over_stimuli_counts_each_that_has_the_token(
    measured: xr.DataTree, plain: Any
) -> None:
    found = measured["captures/by_sort"]
    for sort in "xy":
        of_sort = [plain(id_)["post"] for id_ in IDS if TEXTS[id_][1] == sort]
        mean = found["mean_over_stimulus"].sel({"class": sort})
        for position in range(7):
            there = [post[:, position] for post in of_sort if post.shape[1] > position]
            counted = found["mean_over_stimulus_count"].sel({"class": sort, "position": position})
            assert int(counted) == len(there)
            if there:
                close(mean.isel(position=position), np.mean(there, axis=0))
                largest = found["max_over_stimulus"].sel({"class": sort, "position": position})
                close(largest, np.max(there, axis=0))
            else:
                assert bool(mean.isel(position=position).isnull().all())
    last = np.mean([plain(id_)["post"][:, -1] for id_ in IDS], axis=0)
    close(measured["captures/all_alike/mean_over_stimulus"].isel(position=0), last)


def test_heads_go_by_number_or_by_name(measured: xr.DataTree, plain: Any) -> None:
    named = measured["captures/some_heads/activation"]
    assert named["head"].to_numpy().tolist() == ["L0H3", "L1H0", "L1H2"]
    assert named["layer"].to_numpy().tolist() == [0, 1, 1]
    for id_ in IDS:
        n = len(TEXTS[id_][0].split())
        for layer, head in ((0, 3), (1, 0), (1, 2)):
            row = named.sel(stimulus=id_, head=f"L{layer}H{head}")[0, :n]
            close(row, plain(id_)["pattern"][layer, head, -1])
    assert measured["captures/two_heads"]["head"].to_numpy().tolist() == [3, 1]


@pytest.mark.parametrize("id_", IDS)
def test_gradients_are_those_of_the_text_alone(measured: xr.DataTree, plain: Any, id_: str) -> None:
    told = plain(id_)
    n = told["post"].shape[1]
    slope = measured["captures/slope/gradient"].sel(stimulus=id_)
    close(slope.isel(position=slice(n)), told["slope"])
    assert float(np.abs(told["slope"][:-1, :-1]).max()) > 1e-3  # earlier tokens matter, too
    sizes = measured["captures/slope_sizes/norm"].sel(stimulus=id_).isel(position=slice(n))
    close(sizes, np.linalg.norm(told["mid_slope"], axis=-1))
    weights = measured["captures/weights/norm"].sel(stimulus=id_).isel(position=slice(n))
    close(weights, told["weights"])
    units = measured["captures/weights/norm"].attrs["units"]
    assert units == "nat per weight"


@pytest.mark.parametrize(("tokens", "backend"), [(1, "nnsight"), (9, "nnsight"), (1000, "hooks")])
def test_batches_and_backends_change_no_capture(
    measured: xr.DataTree, model: Path, tmp_path: Path, tokens: int, backend: str
) -> None:
    other = measure(model, tmp_path, tokens=tokens, backend=backend)
    for node in measured["captures"].children.values():
        for name, variable in node.data_vars.items():
            close(np.nan_to_num(other[f"{node.path}/{name}"]), np.nan_to_num(variable))


@pytest.mark.parametrize(
    ("capture", "message"),
    [
        ("{site: resid_post, reduce: column_mean}", "'column_mean' is of attention patterns; "),
        (
            "{site: attn_pattern, reduce: norm}",
            "'norm' over units has no meaning for",
        ),
        ("{site: resid_post, reduce: {kind: norm, over: position}}", "'norm' is over units"),
        ("{site: resid_post, reduce: {kind: mean, by: sort}}", "it needs 'over: stimulus'"),
        ("{site: attn_pattern, reduce: {kind: first_share, over: unit}}", "takes no 'over'"),
        ("{site: z, keys: last}", "'keys' are of attention maps; 'z' is none"),
        (
            "{site: attn_pattern, keys: last, reduce: first_share}",
            "'first_share' is about all keys, and takes no 'keys'",
        ),
        ("{site: attn_pattern, keys: {align: left, size: 4}}", "stimulus 'b' has 3 tokens, and a"),
        ("{site: attn_pattern, keys: three.last}", "has no span 'three'"),
        (
            "{site: z, positions: {align: all, before: 1, after: 0}}",
            "a window is laid along one token; 'all' is none",
        ),
        ("{site: z, positions: {align: -4, before: 0, after: 0}}", "has 3 tokens and no position"),
        ("{site: resid_post, reduce: [norm, norm]}", "a reduction is asked for twice"),
        (
            "{site: z, gradient: {of: logit_diff, wrt: weight}, reduce: norm}",
            "no weight writes 'z'",
        ),
        ("{site: mlp_out, gradient: {of: logit_diff, wrt: weight}}", "only its size is kept"),
        ("{site: attn_pattern, gradient: {of: logit_diff}}", "has no gradient of its own"),
        ("{site: z, gradient: {of: logit_diff, at: each}}", "it needs 'of: cross_entropy'"),
        ("{site: z, gradient: {of: accuracy}}", "'accuracy' has no gradient; those that have: "),
        ("{site: z, reduce: {kind: topk, k: 13}}", "has 12 channels at 'z'; k is 13"),
        ("{site: z, positions: [one, first]}", None),
        ("{site: z, positions: [all, first]}", "'all' is 7 tokens in 'w1 w2"),
    ],
)
def test_what_has_no_meaning_is_refused(
    model: Path, tmp_path: Path, capture: str, message: str | None
) -> None:
    text = f"  it: {capture}\n"
    if message is None:  # a span of one token everywhere is one position
        assert measure(model, tmp_path, text=text)["captures/it"].sizes["position"] == 2
        return
    with pytest.raises(SpecError, match=message.replace("(", r"\(").replace("{", r"\{")):
        measure(model, tmp_path, text=text)


def test_two_names_for_the_same_are_recorded_once(model: Path, tmp_path: Path) -> None:
    text = "  a: {site: resid_post, positions: all}\n  b: {site: resid_post, positions: all}\n"
    tree = measure(model, tmp_path, text=text, tokens=9)
    xr.testing.assert_equal(tree["captures/a"].to_dataset(), tree["captures/b"].to_dataset())
    records = [*(tmp_path / "cache-9-nnsight" / "captures").glob("*/data.nc")]
    assert len(records) == 1


def test_positions_and_keys_that_no_stimulus_has_both_of_are_refused(model: Path) -> None:
    text = f"""\
patchclamp: 1
name: apart
model: {model}
stimuli:
  words:
    kind: items
    text: "{{text}}"
    groups: none
    spans: {{one: "{{one}}"}}
    items: [{{text: w1 w2 w3 w4, one: w1}}, {{text: w5 w6 w7 w8, one: w8}}]
captures:
  it:
    site: attn_pattern
    positions: {{align: one.last, before: 0, after: 2, short: drop, at_least: 0.5}}
    keys: {{align: one.last, before: 2, after: 0, short: drop, at_least: 0.5}}
"""
    with pytest.raises(SpecError, match="no stimulus of 'words' has both the positions and the k"):
        make_plan(loads(text))
    assert make_plan(loads(text.replace("before: 2, after: 0", "before: 0, after: 1"))).captures
