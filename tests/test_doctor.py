"""Doctor: what it says of models that are known, that are not, and that nobody can help."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

import tiny
from patchclamp.engine import examination
from patchclamp.engine.cli import main
from patchclamp.engine.doctor import Report, _find, diagnose
from patchclamp.engine.environment import Fact, environment, package
from patchclamp.engine.plan import make_plan
from patchclamp.engine.weights import load_weights
from patchclamp.registry import SITES
from patchclamp.registry.architectures import ARCHITECTURES
from patchclamp.registry.errors import ModelError, SpecError
from patchclamp.registry.matching import architecture_of
from patchclamp.specs.load import load

SIZES: dict[str, Any] = {
    "vocab_size": len(tiny.WORDS),
    "max_position_embeddings": 64,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
SIZES_OF_MAMBA = {**SIZES, "num_attention_heads": 1}
GROUPED = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 96}


ENDS: dict[str, dict[str, Any]] = {
    "projected, norms without weights": {
        "word_embed_proj_dim": 32,
        "layer_norm_elementwise_affine": False,
    },
    "no last norm": {"word_embed_proj_dim": 64, "_remove_final_layer_norm": True},
    "norms behind, not projected": {"word_embed_proj_dim": 64, "do_layer_norm_before": False},
}
"""What stands at the ends of an OPT, by its config."""


def stranger(folder: Path, model_type: str, **config: Any) -> str:
    """Write a model whose type the table does not have: a tokenizer and a config, no weights."""
    tiny.make("llama", folder)
    (folder / "model.safetensors").unlink()
    AutoConfig.for_model(model_type, **config).save_pretrained(folder)
    return str(folder)


def verdicts(report: Report) -> dict[str, str]:
    return {finding.site: finding.verdict for finding in report.sites}


def test_weights_that_overflow_are_a_finding(tmp_path: Path) -> None:
    """No site of it is right, so none is OK, and it is still the row that its config names."""
    folder = tiny.make("llama", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.2.mlp.down_proj.weight"].fill_(float("inf"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    report = diagnose(str(folder))
    assert (report.architecture, report.known, report.findings) == ("llama", True, True)
    assert not {verdicts(report)[site] for site in ("mlp_out", "resid_post")} & {"OK"}
    assert "no row of" not in " ".join(finding.reason for finding in report.sites)


@pytest.mark.parametrize("ends", ENDS.values(), ids=list(ENDS))
def test_an_opt_has_at_its_ends_what_its_config_says(ends: dict[str, Any], tmp_path: Path) -> None:
    model = stranger(tmp_path / "opt", "opt", **{**SIZES, "ffn_dim": 96, **ends})
    report = diagnose(model, untrained=True)
    assert set(verdicts(report).values()) == {"OK"}, report.sites
    assert report.known


BOTH_WAYS = {"gemma3_text": "use_bidirectional_attention", "llama": "is_causal"}


@pytest.mark.parametrize(("name", "member"), BOTH_WAYS.items())
def test_no_row_is_for_a_model_whose_tokens_see_what_follows(
    name: str, member: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is saved of passes relies on it, and so does the pattern where a pass has no mask."""
    folder = tiny.make(name, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    value = member != "is_causal"
    (folder / "config.json").write_text(json.dumps({**config, member: value}))
    assert main(["doctor", str(folder)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"for '{name}' with {member}: {str(value).lower()}: a spec is refused (P411)" in said
    (tmp_path / "spec.yaml").write_text(
        f"patchclamp: 1\nname: x\nmodel: {folder}\n"
        "stimuli: {t: {kind: items, items: [{s: w1}], text: '{s}'}}\n"
        "captures: {r: {site: attn_pattern}}\n"
    )
    with pytest.raises(SpecError, match=f"is a '{name}' model with {member}: .*, whose sites are"):
        make_plan(load(tmp_path / "spec.yaml"))
    (folder / "config.json").write_text(json.dumps({**config, member: not value}))
    make_plan(load(tmp_path / "spec.yaml"))


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gemma3_text", "opt_post_norm", "bert"])
def test_every_site_of_a_known_model_is_fine_or_lacking(name: str, tmp_path: Path) -> None:
    report = diagnose(str(tiny.make(name, tmp_path / name)))
    assert report.known
    assert not report.findings
    lacking = set() if "resid_mid" in ARCHITECTURES[report.architecture].sites else {"resid_mid"}
    assert {site for site, verdict in verdicts(report).items() if verdict != "OK"} == lacking
    assert list(verdicts(report)) == list(SITES)
    for finding in report.sites:
        assert (finding.site in lacking) == finding.reason.startswith("attention and MLP read the")


@pytest.mark.parametrize(
    ("model_type", "config", "as_row", "found"),
    [
        ("gemma", {**GROUPED, "head_dim": 16}, "llama", {}),
        (
            "phi3",
            GROUPED,
            "llama",
            dict.fromkeys(("q", "k", "v", "attn_scores", "attn_pattern"), "UNSUPPORTED"),
        ),
        (
            "codegen",  # it has no table of positions, which a row that is tried has
            {**SIZES, "n_embd": 64, "n_layer": 3, "n_head": 4, "rotary_dim": 8},
            "gptj",
            dict.fromkeys(
                ("q", "k", "v", "attn_scores", "attn_pattern", "resid_mid"), "UNSUPPORTED"
            ),
        ),
        (
            "granite",  # what attention and MLP give is made smaller before it is added
            {**GROUPED, "residual_multiplier": 0.3, "attention_multiplier": 0.5},
            "llama",
            {
                **dict.fromkeys(("q", "k", "v", "attn_scores", "attn_pattern"), "WRONG"),
                **dict.fromkeys(("resid_pre", "attn_out", "mlp_out", "resid_post"), "DEGRADED"),
                "resid_mid": "WRONG",
            },
        ),
    ],
)
def test_a_model_nobody_has_tried_is_examined_as_what_it_is_like(
    model_type: str, config: Any, as_row: str, found: dict[str, str], tmp_path: Path
) -> None:
    report = diagnose(stranger(tmp_path / "new", model_type, **config), untrained=True)
    assert (report.known, report.architecture, report.findings) == (False, as_row, True)
    assert {s: v for s, v in verdicts(report).items() if v != "OK"} == found


def test_a_model_that_is_like_no_row(tmp_path: Path) -> None:
    report = diagnose(stranger(tmp_path / "new", "mamba", **SIZES_OF_MAMBA), untrained=True)
    assert report.architecture is None
    assert set(verdicts(report).values()) == {"UNSUPPORTED"}


@pytest.mark.parametrize(
    ("site", "wrong", "verdict", "reason"),
    [
        (
            "attn_out",
            {"path": "gpt_neox.layers.{layer}.mlp"},
            "WRONG",
            "attn_out + mlp_out = resid_post",
        ),
        ("k", {"split": "thirds"}, "WRONG", "not attn_pattern v = z"),
        ("z", {"path": "gpt_neox.layers.{layer}.attn"}, "UNSUPPORTED", "the model has no module"),
        ("embed", {"path": "gpt_neox.rotary_emb", "io": "output"}, "WRONG", "the size of unit is"),
        ("q", {"split": ""}, "WRONG", "it has 2 dims, and not (head, position, channel)"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    site: str, wrong: dict[str, Any], verdict: str, reason: str, tmp_path: Path
) -> None:
    source = _find(str(tiny.make("gpt_neox", tmp_path / "model")), False)
    row = architecture_of(source.config)
    assert row is not None
    places = {**row.places, site: replace(row.places[site], **wrong)}
    source = replace(source, architecture=replace(row, places=places))
    found = examination.examine(source, load_weights(source, "cpu"), (3, 14, 15, 26, 27, 38, 9, 10))
    said = {finding.site: finding for finding in found}
    assert said[site].verdict == verdict
    assert reason in said[site].reason


def test_a_model_that_the_trace_cannot_read_is_read_by_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _find(str(tiny.make("llama", tmp_path / "model")), False)
    source = replace(source, architecture=ARCHITECTURES["llama"])
    whole = examination.open_backend

    class Broken:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def forward(self, inputs: Any, steps: Any, *, stop: bool) -> Any:
            if any(step["place"]["site"] == "v" for step in steps):
                raise RuntimeError("no such value")
            found = self.inner.forward(inputs, steps, stop=stop)
            for step in steps:
                if step["place"]["site"] == "mlp_out" and step["do"] == "read":
                    found[f"{step['key']}/activation"] += 0.5
            return found

    Broken.__name__ = "Nnsight"
    monkeypatch.setattr(
        examination,
        "open_backend",
        lambda name, *rest: whole(name, *rest) if name == "hooks" else Broken(whole(name, *rest)),
    )
    module = load_weights(source, "cpu")
    said = {f.site: f for f in examination.examine(source, module, (3, 14, 15, 26, 27, 38, 9, 10))}
    assert (said["v"].verdict, said["v"].reason) == (
        "DEGRADED",
        "nnsight cannot read it: RuntimeError: no such value",
    )
    assert said["mlp_out"].verdict == "WRONG"
    assert "nnsight and plain hooks differ by" in said["mlp_out"].reason
    assert said["z"].verdict == "OK"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("padding", "a stimulus gives other numbers in a padded batch"),
        ("write", "what is written there is not read again"),
        ("deaf", "what is written there does not reach what the model gives"),
    ],
)
def test_what_padding_and_writing_show(
    spoil: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _find(str(tiny.make("llama", tmp_path / "model")), False)
    source = replace(source, architecture=ARCHITECTURES["llama"])
    whole = examination.read_whole

    def spoilt(through: Any, ids: Any, places: Any, *, first: Any = ()) -> Any:
        if spoil == "write":
            return whole(through, ids, places)
        found = whole(through, ids, places, first=first)
        for where in found:
            if spoil == "padding" and len(ids) > 1 and where[0] == "z":
                found[where] = found[where] + 1.0
            if spoil == "deaf" and first and where[0] == "logits":
                found[where] = whole(through, ids, places)[where]
        return found

    monkeypatch.setattr(examination, "read_whole", spoilt)
    module = load_weights(source, "cpu")
    said = {f.site: f for f in examination.examine(source, module, (3, 14, 15, 26, 27, 38, 9, 10))}
    assert reason in said["z"].reason
    assert said["z"].verdict == ("DEGRADED" if spoil == "deaf" else "WRONG")


def test_the_command_prints_a_table_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny.make("gpt_neox", tmp_path / "model"))
    assert main(["doctor", model]) == 0
    text = capsys.readouterr().out
    assert "gpt_neox, examined as gpt_neox" in text
    assert "14 OK, 1 UNSUPPORTED" in text
    assert main(["doctor", model, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["findings"], data["shape"]["layers"], len(data["sites"])) == (False, 3, 15)
    assert {site["verdict"] for site in data["sites"]} == {"OK", "UNSUPPORTED"}


def test_a_stranger_is_a_finding_until_a_plugin_knows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = stranger(tmp_path / "new", "gemma", **GROUPED, head_dim=16)
    assert main(["doctor", model, "--untrained"]) == 1
    assert "No row of the architecture table is for 'gemma': a spec is refused" in " ".join(
        capsys.readouterr().out.split()
    )
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from dataclasses import replace\n"
        "from patchclamp.registry import ARCHITECTURES as known\n"
        'ARCHITECTURES = [replace(known["llama"], name="gemma", summary="Gemma: as Llama")]\n'
    )
    try:
        assert main(["doctor", model, "--untrained", "--plugin", str(plugin)]) == 0
    finally:
        del ARCHITECTURES._entries["gemma"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda m: shutil.rmtree(m), "there is no model folder|could not be had from the hub"),
        (lambda m: (m / "model.safetensors").unlink(), r"holds no \*\.safetensors weights"),
        (
            lambda m: AutoConfig.for_model("t5").save_pretrained(m),
            "no language model of one stack|is no language model: Unrecognized configuration",
        ),
        (
            lambda m: AutoConfig.for_model("clip").save_pretrained(m),
            "whose config has no 'num_hidden_layers'",
        ),
    ],
)
def test_what_cannot_be_read_is_said(
    prepare: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    model = tiny.make("llama", tmp_path / "model")
    prepare(model)
    assert main(["doctor", str(model)]) == 3
    assert re.search(message, capsys.readouterr().err)


def test_a_model_that_cannot_run_itself_is_not_blamed_on_sites(tmp_path: Path) -> None:
    config = {**GROUPED, "hidden_size": 48, "partial_rotary_factor": 0.25}  # an odd number of dims
    with pytest.raises(ModelError, match="cannot be run: The size of tensor"):
        diagnose(stranger(tmp_path / "new", "stablelm", **config), untrained=True)


def test_a_model_whose_config_it_does_not_check_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be made by its config: unsupported operand"):
        diagnose(stranger(tmp_path / "new", "ministral", **GROUPED), untrained=True)


def test_an_unknown_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "x", "--format", "jsn"]) == 2
    assert "unknown format 'jsn' (known: human, json); did you mean 'json'?" in (
        capsys.readouterr().err
    )


def test_the_environment_is_in_order_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format", "json"]) == 0
    facts = {fact["name"]: fact for fact in json.loads(capsys.readouterr().out)}
    assert facts["torch"]["value"] == version("torch")  # without the name of its build
    assert facts["network"]["verdict"] == "NOTE"  # tests are offline
    assert main(["doctor"]) == 0
    assert "capture cache" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        ("numpy>=1000", "patchclamp needs numpy>=1000"),
        ("no-such-package>=1", "it is not installed; needed is no-such-package>=1"),
    ],
)
def test_a_package_that_is_wrong_is_said(need: str, reason: str) -> None:
    fact = package(Requirement(need))
    assert (fact.verdict, fact.reason) == ("WRONG", reason)


def test_a_finding_in_the_environment_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from patchclamp.engine import environment as module

    bad = Fact("package", "numpy", "1.0", "WRONG", "patchclamp needs numpy>=2.0")
    monkeypatch.setattr(module, "environment", lambda: iter([*environment(), bad]))
    assert main(["doctor"]) == 1
    assert "WRONG: patchclamp needs numpy>=2.0" in " ".join(capsys.readouterr().out.split())
