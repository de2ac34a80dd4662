"""The untrained twin: the same architecture with random weights, measured for a probe's control."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from patchclamp.engine.plan import make_plan
from patchclamp.engine.plan_text import describe_plan
from patchclamp.engine.records import Cache
from patchclamp.engine.run import Result, run
from patchclamp.registry.errors import SpecError, StoreError
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: twin
model: {id: "bundled:sequences"}
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", labels: [category], groups: template}
captures:
  resid: {of: words, site: resid_post, layers: [0, 2], positions: last}
analyses:
  decode: {kind: probe, of: resid, target: category, cv: {folds: 4}, shuffles: 19,
    controls: [majority, random_twin]}
"""


def outcome(folder: Path, text: str = SPEC) -> Result:
    (folder / "spec.yaml").write_text(text)
    return run(folder / "spec.yaml", out=folder / "runs", cache=folder / "cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("twin")


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return outcome(folder)


def provenance(result: Result) -> dict[str, Any]:
    with xr.open_datatree(result.path) as tree:
        made: dict[str, Any] = json.loads(tree.attrs["provenance"])
    return made


def test_the_control_is_what_a_probe_of_the_untrained_model_finds(
    result: Result, tmp_path: Path
) -> None:
    text = SPEC.replace('sequences"}', 'sequences", weights: random}').replace(", random_twin", "")
    alone = outcome(tmp_path, text).analysis("decode")
    found = result.analysis("decode")
    control = found["control_accuracy"].sel(control="random_twin", drop=True)
    np.testing.assert_array_equal(control, alone["accuracy"])
    other = found["control_balanced_accuracy"].sel(control="random_twin", drop=True)
    np.testing.assert_array_equal(other, alone["balanced_accuracy"])
    assert (found["accuracy"] > control).any()


def test_the_twin_is_kept_under_a_key_of_its_own_and_told(folder: Path, result: Result) -> None:
    made = provenance(result)
    records = made["records"]
    assert set(records) == {"captures.resid", "captures.resid of the untrained twin"}
    ours, theirs = records.values()
    assert ours["sha256"] != theirs["sha256"]
    assert made["model"]["untrained_twin"].startswith("random:")
    keys = sorted((folder / "cache" / "captures").glob("*/key.json"))
    weights = [json.loads(key.read_text())["parts"]["weights"] for key in keys]
    assert sorted(w.partition(":")[0] == "random" for w in weights) == [False, True]
    again = provenance(outcome(folder))
    assert again["forward_passes"] == 0
    assert made["forward_passes"] > 1


def test_a_plan_says_what_the_twin_costs(folder: Path, tmp_path: Path) -> None:
    plan, cache = make_plan(loads(SPEC)), Cache(tmp_path)
    assert "of the untrained twin, for captures resid" in describe_plan(plan, cache)
    assert plan.twin is not None
    assert plan.twin.twin is None
    without = make_plan(loads(SPEC.replace(", random_twin", "")))
    assert without.twin is None
    assert "twin," not in describe_plan(without, cache)


def test_a_damaged_record_of_the_twin_is_named(result: Result, tmp_path: Path) -> None:
    outcome(tmp_path)
    for key in (tmp_path / "cache" / "captures").glob("*/key.json"):
        made = json.loads(key.read_text())
        if made["parts"]["weights"].startswith("random:"):
            file = key.parent / made["file"]
            state = file.stat()
            damaged = bytearray(file.read_bytes())
            damaged[len(damaged) // 3 : len(damaged) // 3 + 4000] = bytes(4000)
            file.write_bytes(damaged)
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(StoreError, match="the record of 'resid' was damaged after"):
        outcome(tmp_path)
    assert outcome(tmp_path).analysis("decode").equals(result.analysis("decode"))


def test_an_untrained_model_is_its_own_twin() -> None:
    text = SPEC.replace('sequences"}', 'sequences", weights: random}')
    with pytest.raises(SpecError) as caught:
        make_plan(loads(text))
    [problem] = caught.value.diagnostics  # type: ignore[attr-defined]
    assert problem.code == "P208"
    assert problem.message == (
        "this model's weights are random, and so it is its own untrained twin: leave the control "
        "'random_twin' out"
    )


def test_another_set_has_a_twin_too(tmp_path: Path) -> None:
    text = SPEC.replace(
        "captures:\n",
        '  more: {kind: builtin, set: sequences, text: "And {prompt}", labels: [category], '
        "groups: template}\ncaptures:\n",
    ).replace("target: category,", "target: category, test_on: more,")
    made = outcome(tmp_path, text)
    found = made.analysis("decode")
    assert (found["control_accuracy"].sel(control="random_twin") < 1).all()
    names = provenance(made)["records"]
    assert "captures.resid@more of the untrained twin" in names
