"""Claims are met, not met or cannot be judged, and each says what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from results import PROVENANCE, groups, write

from patchclamp.engine import cli
from patchclamp.engine.expectations import Claim, describe, judge
from patchclamp.specs.spec import Expectation

ANALYSES = {
    name.removeprefix("/analyses/"): data
    for name, data in groups().items()
    if name.startswith("/analyses/")
}
LAST = float(ANALYSES["decode"]["accuracy"][-1])


def judged(claim: dict[str, Any], data: dict[str, xr.Dataset] = ANALYSES) -> Claim:
    (found,) = judge([Expectation.model_validate({"var": "decode/accuracy", **claim})], data)
    return found


TABLE: list[tuple[dict[str, Any], bool | None, str]] = [
    ({"sel": {"layer": "last"}, "ge": 0.9}, True, "0.925 at layer=3"),
    ({"sel": {"layer": "last"}, "ge": 0.95}, False, "0.925 at layer=3"),
    ({"sel": {"layer": "last"}, "gt": LAST}, False, "0.925"),
    ({"sel": {"layer": "last"}, "ge": LAST}, True, "0.925"),
    ({"sel": {"layer": 0}, "le": 0.5}, True, "0.475 at layer=0"),
    ({"sel": {"layer": 0}, "lt": 0.4}, False, "0.475 at layer=0"),
    ({"sel": {"layer": 0}, "ge": 0.4, "le": 0.5}, True, "0.475 at layer=0"),
    ({"sel": {"layer": 0}, "near": 0.5, "atol": 0.03}, True, "0.475 at layer=0"),
    ({"sel": {"layer": 0}, "near": 0.5, "atol": 0.02}, False, "0.475 at layer=0"),
    ({"ge": 0.4}, True, "at all 4 places, such as 0.475 at layer=0"),
    ({"ge": 0.7}, False, "0.475 at layer=0 (2 of 4 places fail)"),
    ({"sel": {"layer": "last"}, "ge": 0.9, "interval": True}, False, "[0.825, 0.975] at layer=3"),
    ({"sel": {"layer": "last"}, "ge": 0.8, "interval": True}, True, "[0.825, 0.975] at layer=3"),
    ({"sel": {"layer": "last"}, "le": 0.95, "interval": True}, False, "[0.825, 0.975]"),
    ({"sel": {"layer": "last"}, "near": 0.9, "atol": 0.08, "interval": True}, True, "[0.825, "),
    ({"sel": {"layer": "last"}, "near": 0.9, "atol": 0.07, "interval": True}, False, "[0.825, "),
    ({"var": "heads/effect", "sel": {"layer": 2, "head": 1}, "le": -5}, True,
     "at layer=2, head=1"),
    ({"var": "heads/effect", "sel": {"layer": 2}, "le": -5}, False,
     "at layer=2, head=0 (2 of 3 places fail)"),
    ({"var": "heads/logit_diff", "sel": {"layer": 0, "category": "months"}, "gt": 5}, True,
     "at all 60 places"),
    ({"var": "decod/accuracy", "ge": 0}, None,
     "the result has no analysis 'decod' (it has decode, heads); did you mean "
     "'decode'?"),
    ({"var": "decode/acuracy", "ge": 0}, None, "decode has no variable 'acuracy'"),
    ({"var": "heads/effect", "ge": 0, "interval": True}, None,
     "heads/effect has no interval: there is no 'effect_low'"),
    ({"var": "decode/predicted", "ge": 0}, None, "decode/predicted is text"),
    ({"sel": {"layer": 7}, "ge": 0}, None, "there is no layer 7 (known: 0, 1, 2, 3)"),
    ({"sel": {"heads": 7}, "ge": 0}, None,
     "accuracy has no dim or label 'heads' (it has layer)"),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "holds", "found"), TABLE)
def test_claims(claim: dict[str, Any], holds: bool | None, found: str) -> None:
    result = judged(claim)
    assert result.holds is holds, result
    assert found in result.found
    assert result.met is (holds is True)


def test_a_missing_value_meets_nothing() -> None:
    data = {"decode": ANALYSES["decode"].where(False)}
    assert judged({"ge": -np.inf, "le": 1e9}, data).holds is False
    assert judged({"near": 0, "atol": 1e9}, data).holds is False


def test_the_last_layer_is_each_models_own() -> None:
    """A smaller model lacks layers; a value that is missing in its last one is no such lack."""
    small = ANALYSES["decode"].isel(layer=[0, 1]).assign(accuracy=("layer", [0.2, 0.91]))
    both = xr.concat(
        [ANALYSES["decode"], small], xr.DataArray(["large", "small"], dims="model"), join="outer"
    )
    claim = {"sel": {"layer": "last"}, "ge": 0.9}
    assert judged(claim, {"decode": both}).holds is True
    spoiled = both.copy(deep=True)
    spoiled["accuracy"].loc[{"model": "small", "layer": 1}] = 0.5
    found = judged(claim, {"decode": spoiled})
    assert (found.holds, "model=small" in found.found) == (False, True)
    one = ANALYSES["decode"].copy(deep=True)
    one["accuracy"][-1] = np.nan
    assert judged(claim, {"decode": one}).holds is False


def test_claims_in_words() -> None:
    claim = Expectation(var="a/b", sel={"layer": "last"}, ge=0.5, lt=1, interval=True)
    assert describe(claim) == "a/b at layer=last whole interval ≥ 0.5 and < 1"
    assert describe(Expectation(var="a/b", near=1, atol=0.1)) == "a/b within 0.1 of 1"


@pytest.fixture
def results(tmp_path: Path) -> tuple[str, str, str]:
    """One result that meets what is expected, one that does not, and one of which nothing is."""
    spoiled = groups()
    spoiled["/analyses/decode"] = spoiled["/analyses/decode"].drop_vars("accuracy")
    silent = {**PROVENANCE, "resolved": {}}
    return (
        str(write(tmp_path / "good.nc", groups())),
        str(write(tmp_path / "bad.nc", spoiled)),
        str(write(tmp_path / "silent.nc", groups(), silent)),
    )


def test_check(results: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, silent = results
    assert cli.main(["check", good]) == 0
    assert capsys.readouterr().out == (
        f"✓ decode/accuracy at layer=last ≥ 0.9 — 0.925 at layer=3\n"
        f"{good}: 1 of 1 expectation met\n"
    )
    assert cli.main(["check", good, bad]) == 1
    assert "? decode/accuracy at layer=last ≥ 0.9 — decode has no variable 'accuracy'" in (
        capsys.readouterr().out
    )
    assert cli.main(["check", silent]) == 1
    assert "nothing is expected of it: write `expect:` in the spec" in capsys.readouterr().out
    assert cli.main(["check", good, "--format", "xml"]) == 2
    assert "unknown format 'xml'" in capsys.readouterr().err


def test_formats(
    results: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, silent = results
    texts = {}
    for format in ("json", "markdown", "github", "junit"):
        assert cli.main(["check", good, bad, silent, "--format", format]) == 1
        texts[format] = capsys.readouterr().out
    assert [one["unmet"] for one in json.loads(texts["json"])["results"]] == [0, 1, 0]
    assert texts["markdown"].count("### ❌") == 2
    assert texts["github"].count("::error") == 2
    suite = ElementTree.fromstring(texts["junit"])
    assert (suite.attrib["tests"], suite.attrib["errors"]) == ("3", "2")
    report = tmp_path / "report.xml"
    assert cli.main(["check", good, "--format", "junit", "--output", str(report)]) == 0
    assert "1 of 1 expectation met" in capsys.readouterr().out
    assert ElementTree.parse(report).getroot().attrib["failures"] == "0"


SPEC = """\
patchclamp: 1
name: expecting
model: bundled:sequences
stimuli:
  words:
    {kind: builtin, set: sequences, text: "{prompt}", labels: [category], groups: template,
     take: {n: 40}}
captures: {resid: {of: words, site: resid_post, layers: last, positions: last}}
analyses:
  coheres:
    {kind: rsa, of: resid, contrast: {kind: discriminative, column: category},
     test: {permute: category, n: 99}}
expect: [{var: coheres/contrast, sel: {layer: last}, ge: BOUND}]
"""


def test_a_run_that_does_not_show_what_was_expected_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("low.yaml").write_text(SPEC.replace("BOUND", "0.0"))
    Path("high.yaml").write_text(SPEC.replace("BOUND", "5.0"))
    assert cli.main(["run", "low.yaml"]) == 0
    assert "holds: coheres/contrast at layer=last ≥ 0 — " in capsys.readouterr().out
    assert cli.main(["run", "high.yaml"]) == 1
    assert "fails: coheres/contrast at layer=last ≥ 5 — " in capsys.readouterr().out
    # A spec's expectations do not enter its digest: the folder is the same, the claim the new one.
    assert cli.main(["check", "runs/expecting"]) == 1
    assert cli.main(["check", "runs/expecting", "--spec", "low.yaml"]) == 0
