"""Costs are told from shapes alone, and a run beyond its budget is refused with a cheaper way."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig

import tiny
from patchclamp.engine.costs import (
    capture_bytes,
    cheaper,
    disk_bytes,
    memory_bytes,
    parameters,
    said,
)
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.engine.plan_text import plan_command
from patchclamp.engine.records import Cache
from patchclamp.engine.run import run
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import load, loads

SPEC = """\
patchclamp: 1
name: costs
model: {{id: {model}, weights: random, dtype: bfloat16}}
stimuli:
  prompts:
    kind: template
    for: {{i: 0..499}}
    text: "{words}"
    groups: none
captures:
{captures}
"""

MAPS = """\
  maps: {site: attn_pattern, positions: all}
  rows: {site: attn_pattern, positions: last}
"""


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of an 8B Llama 3, without weights, and a tokenizer."""
    folder = tiny.make("llama", tmp_path_factory.mktemp("models") / "small")
    big = tmp_path_factory.mktemp("models") / "eight"
    AutoTokenizer.from_pretrained(folder).save_pretrained(big)
    LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(big)
    return big


def planned(model: Path, captures: str, cache: Path, **run_keys: Any) -> Plan:
    words = " ".join(f"w{i % 60}" for i in range(134))
    text = SPEC.format(model=model, words=words, captures=captures)
    return make_plan(loads(text, folder=model), Cache(cache))


def test_attention_maps_of_an_8b_model_weigh_what_they_weigh(eight: Path, tmp_path: Path) -> None:
    plan = planned(eight, MAPS, tmp_path)
    maps, rows = plan.captures
    assert capture_bytes(plan, maps) == 18_386_944_000
    assert capture_bytes(plan, rows) == 137_216_000
    options = {option.words: option.bytes for option in cheaper(plan, maps)}
    assert options["positions: last"] == 137_216_000
    assert parameters(plan.model) == 8_030_261_248
    assert memory_bytes(plan) > 2 * 8_030_261_248


def test_hidden_states_too(eight: Path, tmp_path: Path) -> None:
    plan = planned(eight, "  h: {site: resid_post, positions: all}\n", tmp_path)
    (hidden,) = plan.captures
    assert capture_bytes(plan, hidden) == 500 * 32 * 134 * 4096 * 2
    options = {option.words: option.bytes for option in cheaper(plan, hidden)}
    assert options == {
        "positions: last": 500 * 32 * 4096 * 2,
        "reduce: norm": 500 * 32 * 134 * 4,
    }


def test_memory_holds_what_every_block_keeps_for_a_gradient(eight: Path, tmp_path: Path) -> None:
    """A pass that goes back needs what all 32 blocks made; 32 bytes a number of them at least."""
    plain = planned(eight, "  h: {site: resid_post}\n", tmp_path)
    slope = planned(eight, "  h: {site: resid_post, gradient: {of: entropy}}\n", tmp_path)
    tokens = 8192 // 134 * 134
    streams = tokens * 4096 * 2
    assert memory_bytes(plain) - 2 * parameters(plain.model) < 32 * streams
    assert memory_bytes(slope) - memory_bytes(plain) > 32 * 16 * streams
    logits = planned(eight, "  h: {site: logits, positions: last}\n", tmp_path)
    assert memory_bytes(logits) - memory_bytes(plain) > 2 * tokens * 128256


def test_memory_holds_the_maps_of_a_layer_and_the_logits_of_a_loss(
    eight: Path, tmp_path: Path
) -> None:
    plain = memory_bytes(planned(eight, "  h: {site: resid_post}\n", tmp_path))
    shares = "  a: {site: attn_pattern, positions: all, reduce: first_share}\n"
    tokens = 8192 // 134 * 134
    assert memory_bytes(planned(eight, shares, tmp_path)) - plain > 4 * 4 * tokens * 32 * 134
    kept = "gradient: {of: METRIC, at: answer}, reduce: norm}\n"
    of = [
        memory_bytes(
            planned(eight, "  h: {site: resid_post, " + kept.replace("METRIC", m), tmp_path)
        )
        for m in ("entropy", "cross_entropy")
    ]
    assert of[1] - of[0] == tokens * 128256 * (24 - 2 * 2)


@pytest.mark.parametrize(("key", "limit"), [("disk", "100kB"), ("memory", "1MB")])
def test_beyond_the_budget_nothing_is_loaded_and_the_cheaper_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, limit: str
) -> None:
    monkeypatch.setattr("patchclamp.engine.rig.load_weights", pytest.fail)
    overrides = [f"run.budget.{key}={limit}", "captures.wide={site: resid_post, positions: all}"]
    with pytest.raises(SpecError) as caught:
        run("quickstart", out=tmp_path / "runs", cache=tmp_path / "cache", overrides=overrides)
    (found,) = caught.value.diagnostics
    assert found.code == "P425"  # type: ignore[attr-defined]
    message = str(caught.value)
    assert f"of {key} and may have {said(100_000 if key == 'disk' else 1_000_000)}" in message
    assert "the largest capture is 'wide' (9.12 MB)" in message
    assert "it could be 'positions: last', 276 kB or 'reduce: norm', 95 kB" in message
    assert not (tmp_path / "runs").exists()
    with pytest.raises(SpecError, match=f"of {key} and may have"):
        plan_command(Namespace(spec=["quickstart"], set=overrides, why=False, time=False))


def test_disk_is_that_of_records_and_of_what_the_result_copies(tmp_path: Path) -> None:
    """Two captures of one content are one record, and two copies."""
    text = "patchclamp: 1\nname: disk\nmodel: bundled:sequences\nstimuli:\n  w: {kind: builtin, "
    text += (
        "set: sequences, text: '{prompt}'}\ncaptures:\n  a: {site: resid_post, positions: all}\n"
    )
    text += "  b: {site: resid_post, positions: all}\n  c: {site: mlp_act, positions: all}\n"
    (tmp_path / "s.yaml").write_text(text)
    cache = Cache(tmp_path / "cache")
    told = disk_bytes(make_plan(load(tmp_path / "s.yaml"), cache), cache)
    run(tmp_path / "s.yaml", out=tmp_path / "runs", cache=cache.root)
    files = (*(tmp_path / "cache").rglob("*"), *(tmp_path / "runs").rglob("*"))
    there = sum(file.stat().st_size for file in files if file.is_file())
    assert there < told < 2 * there
    assert disk_bytes(make_plan(load(tmp_path / "s.yaml"), cache), cache) < there / 1.5


def test_a_budget_that_suffices_changes_nothing(tmp_path: Path) -> None:
    loaded = load("quickstart", ["run.budget.disk=1GB", "run.budget.memory=8GB"])
    assert loaded.spec.run.budget.disk == 10**9
    run("quickstart", out=tmp_path, overrides=["run.budget.disk=1GB", "run.budget.memory=8GB"])
