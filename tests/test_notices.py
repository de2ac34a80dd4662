"""Notices: what is only worth a warning is said by the run, and stands in its result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr
from rich.console import Console

import tiny
from patchclamp.engine import cli, run
from patchclamp.engine.reporting.page import page
from patchclamp.engine.results import open_result
from patchclamp.engine.terminal import show

SPEC = """\
patchclamp: 1
name: notices
model: {id: MODEL}
stimuli:
  words:
    kind: items
    text: "{t}"
    labels: [sort]
    groups: none
    items: [{t: w1 w2, sort: x}, {t: w3 w4, sort: y}, {t: w5 w6, sort: x}, {t: w7 w8, sort: y}]
  others:
    kind: items
    text: "{t}"
    items: [{t: w1 w2}, {t: w3 w4 w9}, {t: w5 w6}, {t: w7 w8}]
    partners: {of: words, by: order, equal_length: warn}
captures:
  resid: {of: words, site: resid_post}
analyses:
  decode: {kind: probe, of: resid, target: sort, cv: {folds: 2}, controls: []}
run: {device: cpu, threads: 1}
"""


def test_what_a_run_warns_of_stands_on_the_terminal_in_the_result_and_on_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.make("llama", tmp_path / "model")
    path = tmp_path / "t.yaml"
    path.write_text(SPEC.replace("MODEL", str(tmp_path / "model")))
    lengths = (
        "the partner of stimulus '1' has 3 tokens instead of 2; write 'equal_length: any' if "
        "lengths may differ"
    )
    result = run(path, out=tmp_path / "runs")
    assert [warning.code for warning in result.warnings] == ["P607", "P422"]
    assert result.warnings[1].message == lengths
    made = json.loads(xr.open_datatree(result.path).attrs["provenance"])
    assert [(one["code"], one["at"]) for one in made["warnings"]] == [
        ("P607", "analyses.decode.controls"),
        ("P422", "stimuli.others.partners.equal_length"),
    ]
    for command in (["run", "--out", str(tmp_path / "runs")], ["plan"]):
        assert cli.main([*command, str(path)]) == 0
        said = capsys.readouterr().out
        assert lengths in said
        assert said.count("warning[P607]") == 1
    with open_result(result.path) as found:
        assert lengths in page(found).replace("&#x27;", "'")


def test_a_run_says_what_it_has_left_out_and_in_what_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.make("llama", tmp_path / "model")
    path = tmp_path / "t.yaml"
    window = "positions: {align: left, size: 3, short: drop, at_least: 0.2}"
    text = SPEC.replace("MODEL", str(tmp_path / "model"))
    text = text.replace("captures:\n", f"captures:\n  three: {{of: others, site: z, {window}}}\n")
    path.write_text(text)
    result = run(path, out=tmp_path / "runs")
    some = {"guard": "precision", "on": "weights in bfloat16, some in float32", "value": 0.031}
    show(replace(result, guards=(some,)), Console(width=200))
    said = capsys.readouterr().out
    assert "three  3 of 4 stimuli too short and dropped" in said
    assert "precision  weights in bfloat16, some in float32 (3.1% of the parameters)" in said
    show(result, Console(width=200))
    assert "precision" not in capsys.readouterr().out
