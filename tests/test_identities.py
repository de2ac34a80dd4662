"""Identities: they hold on every architecture, vouch for every site, and fail on a wrong table."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

import tiny
from patchclamp.engine.guards import worst
from patchclamp.engine.identities import check_sites

IDS = (3, 4, 5, 6, 7, 8, 9, 10, 11)


def deviations(source: Any, backend: str = "hooks") -> dict[str, float]:
    return worst(check_sites(source, source.module, source.backends[backend], IDS))


@pytest.mark.parametrize("name", tiny.TWINS)
def test_every_identity_holds_and_every_site_has_one(name: str, twin: Callable[[str], Any]) -> None:
    source = twin(name)
    found = check_sites(source, source.module, source.backends["nnsight"], IDS)
    # Sums in another order differ by this much; what is the same computation, by nothing.
    assert max(identity.deviation for identity in found) < 1e-6
    assert {site for identity in found for site in identity.sites} == set(source.architecture.sites)


def spoilt(source: Any, **more: Any) -> Any:
    other = copy(source)
    other.architecture = replace(source.architecture, **more)
    return other


def moved(source: Any, site: str, **more: Any) -> Any:
    places = dict(source.architecture.places)
    places[site] = replace(places[site], **more)
    return spoilt(source, places=places)


@pytest.mark.parametrize(
    ("name", "site", "wrong", "identity"),
    [
        ("gpt2", "q", {"share": 1}, "attn_pattern v = z"),
        ("gpt2", "v", {"split": "triples"}, "attn_pattern v = z"),
        ("gpt_neox", "k", {"split": "thirds"}, "attn_pattern v = z"),
        ("gptj", "k", {"path": "transformer.h.{layer}.attn.q_proj"}, "attn_pattern v = z"),
        ("qwen3", "q", {"path": "model.layers.{layer}.self_attn.k_proj"}, "norm(q) = normed q"),
        ("gemma2", "attn_out", {"path": "model.layers.{layer}.self_attn"}, "resid_pre + attn_out"),
        ("gemma3_text", "mlp_out", {"path": "model.layers.{layer}.mlp"}, "norm(mlp_act W_out"),
        ("bert", "resid_mid", {"path": "bert.encoder.layer.{layer}"}, "norm(resid_pre + attn_out)"),
        ("gemma2", "logits", {"path": "lm_head"}, "bound(lm_head(norm(resid_post[last])))"),
        ("llama", "mlp_act", {"path": "model.layers.{layer}.mlp.gate_proj"}, "mlp_act W_out"),
        ("opt", "embed", {"path": "model.decoder.embed_positions"}, "embed + W_P[position]"),
    ],
)
def test_a_wrong_place_breaks_an_identity(
    name: str, site: str, wrong: dict[str, Any], identity: str, twin: Callable[[str], Any]
) -> None:
    found = deviations(moved(twin(name), site, **wrong))
    broken = [text for text, value in found.items() if not value < 1e-3]
    assert any(text.startswith(identity) for text in broken), broken


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("llama", {"rotary": ""}),
        ("llama", {"rotary": "pairs"}),
        ("gptj", {"rotary": "half"}),
        ("gemma2", {"softcap": ""}),
        ("bert", {"encoder": False}),
    ],
)
def test_attention_that_is_computed_wrongly_is_caught(
    name: str, wrong: dict[str, Any], twin: Callable[[str], Any]
) -> None:
    try:
        found = deviations(spoilt(twin(name), **wrong))
    except (KeyError, TypeError):  # what would turn queries and keys is not given
        return
    assert not found["attn_pattern v = z"] < 1e-3


def test_a_bound_or_a_scale_that_is_not_the_models_is_caught(twin: Callable[[str], Any]) -> None:
    for name, key in (("gemma3_text", "query_pre_attn_scalar"), ("gpt2_scaled", "scale_attn")):
        source = copy(twin(name))
        source.config = copy(source.config)
        if key == "scale_attn":
            source.config.scale_attn_by_inverse_layer_idx = False
        else:
            source.config.query_pre_attn_scalar = 99
        assert not deviations(source)["attn_pattern v = z"] < 1e-3


def test_half_precision_stays_within_the_limits_of_the_guards(tmp_path: Any) -> None:
    from patchclamp.engine.guards import TOLERANCE

    for dtype in ("bfloat16", "float16"):
        source = tiny.twin("gemma2", tmp_path / dtype, dtype=dtype)
        assert 0 < max(deviations(source).values()) < TOLERANCE[dtype]
