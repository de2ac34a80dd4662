"""What `patchclamp plan` says is what a run then does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclamp.engine import cli
from patchclamp.engine.efforts import all_passes
from patchclamp.engine.plan import make_plan
from patchclamp.engine.plan_text import describe_plan, time_in_words
from patchclamp.engine.recording import prepare
from patchclamp.engine.records import Cache
from patchclamp.engine.run import run
from patchclamp.engine.sizes import sizes
from patchclamp.registry import plugins
from patchclamp.registry.errors import BudgetError
from patchclamp.registry.locations import Architecture
from patchclamp.specs.load import load


def test_the_quick_starts_plan_in_words(tmp_path: Path) -> None:
    said = describe_plan(make_plan(load("quickstart")), Cache(tmp_path)).splitlines()
    assert said == [
        "quickstart: bundled:sequences@main, 3 layers x 4 heads, 418,272 parameters, trained "
        "weights in float32",
        "  stimuli.words: 240 stimuli, 4625 tokens, longest 33, in 1 batch",
        "  stimuli.scrambled: 240 stimuli, 4625 tokens, longest 33, in 1 batch",
        "  captures.resid: activation of resid_post (stimulus 240, layer 3, position 1, unit 96)",
        "    276 kB in float32",
        "  interventions: mean per position of scrambled in z, layers 0..2",
        "  analyses.heads: 12 conditions of words",
        "  15 forward passes (worth 10.7 whole ones; 14 without savings): 2 sets clean, "
        "12 interventions",
        *said[-1:],
    ]
    assert said[-1].startswith("  memory about ")


def test_shapes_and_passes_are_those_of_the_run(tmp_path: Path) -> None:
    plan = make_plan(load("untrained"))
    seen: list[int] = []
    result = run(
        "untrained",
        out=tmp_path,
        cache=tmp_path / "cache",
        progress=lambda _, done, total: seen.append(total),
    )
    assert seen == [all_passes(plan)] * all_passes(plan)
    activation = result.groups["/captures/resid"]["activation"]
    size = sizes(plan, plan.captures[0])
    assert dict(activation.sizes) == {str(dim): size[str(dim)] for dim in activation.dims}


def test_what_is_recorded_is_told_and_what_differs_if_not(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")

    def said(*overrides: str) -> str:
        return describe_plan(make_plan(load("quickstart", overrides), cache), cache, why=True)

    assert "recompute (nothing like it has been measured)" in said()
    run("quickstart", out=tmp_path, cache=cache.root)
    assert "2 sets clean, 12 interventions; 0 due, the rest is recorded" in said()
    assert said().count("    recorded 20") == 2
    other = said("captures.resid.layers=1")
    assert "recompute (layers changed: [0, 1, 2] → [1])" in other
    assert "recompute (weights changed: " in said("model.revision=step0")
    assert "tokens changed: " in said("stimuli.words.where=step == '+1'")


@pytest.mark.parametrize(
    "spec", ["captures: {g: {site: z, gradient: {of: logit_diff}}}", "KEEP"], ids=["slope", "keep"]
)
def test_the_time_is_that_of_a_pass_that_reads_something(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is asked of it, a pass ends before the first block, and tells no time."""
    text = (
        "patchclamp: 1\nname: time\nmodel: bundled:sequences\n"
        "stimuli: {words: {kind: builtin, set: sequences, text: '{prompt}', groups: template, "
        "answer: {correct: ' {next}', foil: ' {last}'}MORE}}\n"
    )
    more = ", keep_if: rank == 0" if spec == "KEEP" else ""
    (tmp_path / "s.yaml").write_text(text.replace("MORE", more) + spec.replace("KEEP", "seed: 3"))
    seen = []

    def look(*given: Any) -> Any:
        seen.append(prepare(*given))
        return seen[-1]

    monkeypatch.setattr("patchclamp.engine.plan_text.prepare", look)
    cache = Cache(tmp_path / "cache")
    assert "time: about" in time_in_words(make_plan(load(tmp_path / "s.yaml"), cache), cache)
    assert seen[0].steps


def test_the_same_weights_under_another_config_are_measured_anew(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    """A folder whose config is edited keeps its name and its weights, and is another model."""
    model = tmp_path / "model"
    shutil.copytree(twin("llama").folder, model)
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "patchclamp: 1\nname: same\nmodel: model\n"
        "stimuli: {words: {kind: items, items: [{s: w1 w2 w3 w4}, {s: w5}], text: '{s}'}}\n"
        "captures: {stream: {site: resid_post}}\n"
    )
    cache = Cache(tmp_path / "cache")

    def measured(**changes: Any) -> tuple[str, np.ndarray]:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, **changes}))
        said = describe_plan(make_plan(load(spec), cache), cache, why=True)
        groups = run(spec, out=tmp_path / "runs", cache=cache.root).groups
        return said, groups["/captures/stream"]["activation"].to_numpy()

    before = measured()[1]
    said, same = measured(transformers_version="0", torch_dtype="float16", _name_or_path="there")
    assert "0 due, the rest is recorded" in said
    assert np.array_equal(same, before)
    said, after = measured(rope_parameters={"rope_type": "default", "rope_theta": 3.0})
    assert "recompute (config changed: " in said
    assert np.abs(after - before).max() > 0.1


def test_a_plugin_that_says_otherwise_where_sites_live_is_measured_anew(
    twin: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"patchclamp: 1\nname: same\nmodel: {twin('llama').folder}\n"
        "stimuli: {words: {kind: items, items: [{s: w1 w2}], text: '{s}'}}\n"
        "captures: {stream: {site: mlp_out}}\n"
    )
    plan = make_plan(load(spec))

    def key(row: Architecture) -> str:
        under = replace(plan, model=replace(plan.model, architecture=row))
        return under.record(plan.captures[0]).key

    ours = plan.model.architecture
    moved = {**ours.places, "mlp_out": ours.places["attn_out"]}
    theirs = replace(ours, name="theirs"), replace(ours, name="theirs", places=moved)
    monkeypatch.setitem(plugins._used.origins, ("architecture", "theirs"), "a plugin")
    assert len({key(row) for row in (ours, *theirs)}) == 3
    assert key(replace(theirs[0])) == key(theirs[0])


def test_the_command_takes_the_time_and_shows_the_tokens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The suite's records may hold the quick start already, so another seed is asked for."""
    command = ["plan", "quickstart", "--time", "--set", "seed=71", "--set", "run.batch.tokens=999"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "  time: about " in said
    assert " a batch\n" in said
    assert "words: 240 stimuli of 4..33 tokens, as bundled:sequences reads them" in said


def test_a_run_that_would_take_too_long_stops_and_goes_on(tmp_path: Path) -> None:
    slow = ["run.batch.tokens=400", "run.budget.time=0.001s"]
    with pytest.raises(
        BudgetError, match=r"2 of \d+ passes took .* may take 0.001 s .* goes on from"
    ):
        run("quickstart", out=tmp_path, cache=tmp_path / "cache", overrides=slow)
    done: list[int] = []
    run(
        "quickstart",
        out=tmp_path,
        cache=tmp_path / "cache",
        overrides=slow[:1],
        progress=lambda _, __, total: done.append(total),
    )
    whole = all_passes(make_plan(load("quickstart", slow[:1])))
    assert done[0] == whole - 2
