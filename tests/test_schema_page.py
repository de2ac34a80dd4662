"""docs/schema.md against a real file: what is written is named there, and as it says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import xarray as xr

from patchclamp.engine import Result, run

SPEC = """\
patchclamp: 1
name: schema
model: bundled:sequences
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category, form]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    spans: {end: "{last}"}
    split: {parts: {train: 0.5, test: 0.5}}
    take: {n: 60, draw: random}
captures:
  listed: {of: words, site: resid_post, positions: [first, end, last]}
  maps: {of: words, site: attn_pattern, positions: all}
  reduced:
    of: words
    site: z
    positions: all
    reduce: [norm, absmax, {kind: topk, k: 2}, mean, max, {kind: mean, over: unit}]
  classes:
    of: words
    site: v
    positions: all
    reduce: [{kind: mean, over: stimulus, by: category}, {kind: max, over: stimulus, by: category}]
  gradient: {of: words, site: resid_pre, positions: all, gradient: {of: logprob}}
  logits: {of: words, site: logits}
  window: {of: words, site: mlp_act, positions: {align: end, before: 2, after: 3, short: mask}}
  shares: {of: words, site: attn_pattern, positions: all, reduce: [first_share, column_mean]}
interventions:
  none: {kind: ablate, value: zero}
analyses:
  rsa:
    kind: rsa
    of: listed
    against: {category: {kind: category, column: category}}
    compare: spearman
    test: {permute: category, n: 99}
  probe: {kind: probe, of: listed, target: category, controls: [majority, shuffled_labels]}
  heads: {kind: ablation, stimuli: words, with: none, units: {site: z}, metric: logit_diff}
  choice: {kind: choice, stimuli: words}
"""
PAGE = (Path(__file__).parents[1] / "docs" / "schema.md").read_text()
MEMBERS = ("_low", "_high", "_by", "_clean", "_count")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("schema")
    (folder / "s.yaml").write_text(SPEC)
    return run(folder / "s.yaml", out=folder / "runs")


def test_every_name_in_a_file_is_in_the_page(result: Result) -> None:
    named = set(re.findall(r"`(\w+)`", PAGE)) | {"category", "form", "creation_library_version"}
    section = PAGE.split("## Dims")[1].split("## Variables")[0]
    dims = set(re.findall(r"`(\w+)`", section))
    unknown = []
    with xr.open_datatree(result.path) as tree:
        for group in tree.groups:
            data = tree[group].to_dataset(inherit=False)
            unknown += [(group, "dim", dim) for dim in data.dims if dim not in dims]
            unknown += [
                (group, "no coordinate", dim) for dim in data.dims if dim not in data.coords
            ]
            unknown += [(group, "attribute", name) for name in data.attrs if name not in named]
            for name in data.variables:
                known = str(name) in named or any(
                    str(name).removesuffix(end) in named
                    for end in MEMBERS
                    if str(name).endswith(end)
                )
                unknown += [] if known else [(group, "variable", name)]
            for name, variable in data.data_vars.items():
                unknown += [
                    (group, name, key)
                    for key in ("units", "long_name")
                    if not variable.attrs.get(key)
                ]
    assert unknown == []


def test_a_class_says_which_label_it_is_of(result: Result) -> None:
    with xr.open_dataset(result.path, group="/captures/classes") as data:
        assert data["class"].attrs["label"] == "category"


@pytest.mark.skipif(shutil.which("ncdump") is None, reason="ncdump is not installed")
def test_ncdump_reads_it(result: Result) -> None:
    told = subprocess.run(
        ["ncdump", "-h", str(result.path)], capture_output=True, text=True, check=True
    ).stdout
    for group in ("words", "listed", "maps", "rsa", "heads"):
        assert f"group: {group} {{" in told
    assert 'logit_diff:units = "logit"' in told
