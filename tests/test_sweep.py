"""The cells of a matrix: each as it is alone, joined along dims that say which is which."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import tiny
from patchclamp.engine import cli, run
from patchclamp.registry.errors import AnalysisError, SpecError

SPEC = """\
patchclamp: 1
name: sweep
model: models/first
stimuli:
  words:
    kind: items
    text: "{text}"
    labels: [sort]
    answer: {correct: " w40", foil: " w41"}
    items:
      - {id: a, text: w1 w2 w3, sort: x}
      - {id: b, text: w4 w5 w6 w7, sort: x}
      - {id: c, text: w8 w9 w10, sort: y}
      - {id: d, text: w11 w12, sort: y}
captures: {resid: {site: resid_post}}
interventions: {zero: {kind: ablate, value: zero}}
analyses:
  heads: {kind: ablation, units: {site: z, layers: 1}, metric: logit_diff}
"""
GRID = """\
matrix:
  grid: {model.id: [models/first, models/second]}
  zip:
    analyses.heads.units.layers: [0, 2]
    captures.resid.positions: [first, last]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.make("llama", tmp_path / "models" / "first")
    tiny.make("llama", tmp_path / "models" / "second", scale=4.0)
    return tmp_path


def measure(folder: Path, text: str, name: str = "t") -> xr.DataTree:
    (folder / f"{name}.yaml").write_text(text)
    result = run(folder / f"{name}.yaml", out=folder / "runs", cache=folder / "cache")
    return xr.open_datatree(result.path, engine="netcdf4").load()


def test_each_cell_is_what_it_is_alone(folder: Path) -> None:
    tree = measure(folder, SPEC + GRID)
    effect = tree["analyses/heads/effect"]
    assert effect.dims == ("model", "units_layers", "layer", "head")
    assert effect["model"].to_numpy().tolist() == ["models/first", "models/second"]
    assert effect["resid_positions"].dims == ("units_layers",)
    assert effect["resid_positions"].to_numpy().tolist() == ["first", "last"]
    for model in ("first", "second"):
        for layer in (0, 2):
            text = SPEC.replace("models/first", f"models/{model}")
            alone = measure(folder, text.replace("layers: 1", f"layers: {layer}"), "alone")
            cell = effect.sel(model=f"models/{model}", units_layers=layer, layer=layer)
            np.testing.assert_array_equal(cell, alone["analyses/heads/effect"].sel(layer=layer))
            other = effect.sel(model=f"models/{model}", units_layers=layer, layer=2 - layer)
            assert bool(other.isnull().all())  # that layer was not asked for in this cell
    assert tree["stimuli/words/text"].dims == ("stimulus",)


def test_the_result_says_which_cells_it_is_of(folder: Path) -> None:
    tree = measure(folder, SPEC + GRID)
    made = json.loads(tree.attrs["provenance"])
    assert len(made["cells"]) == 4
    (run_folder,) = (folder / "runs" / "sweep").iterdir()
    for cell in made["cells"]:
        alone = xr.open_datatree(run_folder / cell["file"], engine="netcdf4")
        assert alone.attrs["digest"] == cell["digest"]
        assert "captures" in alone.children
        assert cell["label"]["model.id"] == cell["provenance"]["model"]["id"]
    assert "captures" not in tree.children
    assert tree.attrs["cells"] == "4 cells"


def test_a_cell_that_fails_lets_the_others_run_where_that_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPEC.replace("metric: logit_diff}", "metric: logit_diff, share: true}")
    # A share of the random twin's baseline means nothing, which only the run can tell.
    grid = "matrix: {grid: {analyses.heads.share: [false, true]}}\n"
    (folder / "t.yaml").write_text(text + grid)
    with pytest.raises(AnalysisError, match="a share of the clean baseline has no meaning here"):
        run(folder / "t.yaml", out=folder / "runs")
    assert not (folder / "runs").exists()
    (folder / "t.yaml").write_text(text + grid + "run: {on_error: continue}\n")
    assert cli.main(["run", str(folder / "t.yaml"), "--out", str(folder / "runs")]) == 5
    said = capsys.readouterr().out
    assert "failed  analyses.heads.share=true: analyses.heads: a share of the clean" in said
    (path,) = (folder / "runs").rglob("result.nc")
    tree = xr.open_datatree(path, engine="netcdf4")
    assert tree.attrs["cells"] == "2 cells, 1 of them failed"
    assert tree["analyses/heads/effect"]["heads_share"].to_numpy().tolist() == ["false"]


def test_where_every_cell_fails_there_is_no_result(folder: Path) -> None:
    text = SPEC.replace("metric: logit_diff}", "metric: logit_diff, share: true}")
    (folder / "t.yaml").write_text(
        text + "matrix: {grid: {seed: [0, 1]}}\nrun: {on_error: continue}\n"
    )
    with pytest.raises(AnalysisError, match=r"every cell failed; the first: analyses\.heads: "):
        run(folder / "t.yaml", out=folder / "runs")
    assert not (folder / "runs").exists()


def test_revisions_with_the_same_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two snapshots in a hub's cache, of which one was uploaded twice."""
    source = tiny.make("llama", tmp_path / "source")
    repo = tmp_path / "hub" / "models--owner--tiny"
    (repo / "refs").mkdir(parents=True)
    for number, name in enumerate(("step1", "step2")):
        commit = f"{number:040d}"
        (repo / "refs" / name).write_text(commit)
        shutil.copytree(source, repo / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    text = SPEC.replace("models/first", "owner/tiny")
    (tmp_path / "t.yaml").write_text(text + "matrix: {grid: {model.revision: [step1, step2]}}\n")
    with pytest.raises(SpecError, match="have the same weights") as caught:
        run(tmp_path / "t.yaml", out=tmp_path / "runs")
    (found,) = caught.value.diagnostics
    assert found.code == "P426"  # type: ignore[attr-defined]
    tiny.make("llama", repo / "snapshots" / f"{1:040d}", scale=4.0)
    run(tmp_path / "t.yaml", out=tmp_path / "runs")
