"""Results of several runs: as a table, and as one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from results import PROVENANCE, about, groups, write

from patchclamp.engine import cli, open_result
from patchclamp.engine.comparison.table import UNTESTED, tabulate


def made(tmp_path: Path, name: str, model: str, seed: int, layers: int = 4) -> str:
    provenance = json.loads(json.dumps(PROVENANCE))
    provenance["model"]["id"] = provenance["resolved"]["model"]["id"] = model
    provenance["seed"] = provenance["resolved"]["seed"] = seed
    data = {path: one.isel(layer=slice(layers)) for path, one in groups().items()}
    decode = data["/analyses/decode"]
    accuracy = decode["accuracy"] - seed / 100
    data["/analyses/decode"] = decode.assign(
        accuracy=accuracy.assign_attrs(decode["accuracy"].attrs)
    )
    return str(write(tmp_path / f"{name}.nc", data, provenance))


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return [
        made(tmp_path, "large0", "org/large", 0),
        made(tmp_path, "large1", "org/large", 1),
        made(tmp_path, "small0", "org/small", 0, layers=2),
    ]


def test_a_table_is_labelled_by_what_the_runs_differ_in(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "decode, where accuracy is largest"
    assert lines[1] == f"  {UNTESTED}"
    assert lines[2].split() == ["run", "model.id", "seed", "layer", "accuracy", "p"]
    assert [line.split()[1:] for line in lines[3:6]] == [
        ["org/large", "0", "3", "0.925", "0.048"],
        ["org/large", "1", "3", "0.915", "0.048"],
        ["org/small", "0", "1", "0.625", "0.2"],
    ]
    assert cli.main(["compare", *runs, "--sel", "layer=0", "--format", "json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    decode = next(table for table in tables if table["analysis"] == "decode")
    assert [line["values"]["accuracy"] for line in decode["lines"]] == pytest.approx(
        [0.475, 0.465, 0.475]
    )
    assert cli.main(["compare", *runs, "--format", "markdown"]) == 0
    assert "| org/small | 0 | 1 | 0.625 | 0.2 |" in capsys.readouterr().out


def test_runs_stand_beside_a_sweep_where_they_would_in_it(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = str(tmp_path / "swept.nc")
    assert cli.main(["merge", runs[0], runs[1], "--along", "seed", "--out", swept]) == 0
    made = json.loads(json.dumps(PROVENANCE)) | {"seed": 7}
    made["resolved"]["analyses"] = {
        "decode": {"kind": "probe", "cv": {"folds": 9}}, "heads": {"kind": "ablation", "share": 1},
    }  # fmt: skip
    other = str(write(tmp_path / "other.nc", groups(), made))
    capsys.readouterr()
    assert cli.main(["compare", swept, other, runs[2]]) == 0
    decode, heads = capsys.readouterr().out.split("\n\n")[:2]
    # A run is labelled by the dim of the sweep, and not by what other analyses do, or lack.
    head, *lines = [line.split() for line in decode.splitlines()[2:]]
    assert head == ["run", "model.id", "seed", "layer", "accuracy", "p"]
    assert [line[2] for line in lines] == ["0", "1", "7", "0"]
    assert "folds" not in heads
    assert cli.main(["compare", *runs, "--sel", "layer=9"]) == 4
    assert "not comparable: there is no layer 9 (known: 0, 1, 2, 3)" in capsys.readouterr().err


def test_another_quantity_is_left_out_of_a_table(tmp_path: Path, runs: list[str]) -> None:
    data = groups()
    data["/analyses/decode"]["accuracy"].attrs["units"] = "%"
    other = str(write(tmp_path / "percent.nc", data))
    results = [(name, open_result(name)) for name in (*runs, other)]
    decode = next(table for table in tabulate(results) if table.analysis == "decode")
    assert ["accuracy" in line.values for line in decode.lines] == [True, True, True, False]
    assert decode.remarks == (
        UNTESTED,
        f"accuracy of {other} is another quantity: ('%', 'probe_accuracy/1'), not "
        "('1', 'probe_accuracy/1')",
    )
    for _, result in results:
        result.close()


def test_the_largest_of_places_is_said_to_be_a_choice_unless_a_test_knows_of_it(
    tmp_path: Path,
) -> None:
    def remarks(**select: str) -> tuple[str, ...]:
        results = [(name, open_result(tmp_path / name)) for name in ("a.nc", "b.nc")]
        tables = tabulate(results, select=select)
        for _, result in results:
            result.close()
        return next(table.remarks for table in tables if table.analysis == "decode")

    for name in ("a.nc", "b.nc"):
        write(tmp_path / name, groups())
    assert remarks() == (UNTESTED,)
    assert remarks(layer="last") == ()
    data = groups()
    data["/analyses/decode"]["p_max"] = data["/analyses/decode"]["p"]
    for name in ("a.nc", "b.nc"):
        write(tmp_path / name, data)
    assert remarks() == ()


def test_table_refusals(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *runs, "--sel", "layer"]) == 2
    assert "--sel takes DIM=LABEL, such as layer=last; got 'layer'" in capsys.readouterr().err
    assert cli.main(["compare", *runs, "--format", "junit"]) == 2
    assert "a table of several results is written as human, markdown, json; got 'junit'" in (
        capsys.readouterr().err
    )
    nothing = str(write(tmp_path / "captures.nc", {"/captures/resid": groups()["/captures/resid"]}))
    assert cli.main(["compare", nothing, nothing, nothing]) == 4
    assert "no analysis is in two of these results" in capsys.readouterr().err
    assert cli.main(["compare", runs[0]]) == 2
    assert "compare takes two results or more; got one" in capsys.readouterr().err


def test_merged_results_hold_each_run_under_its_labels(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged" / "all.nc"
    command = ["merge", *runs, "--along", "model", "--along", "seed", "--out", str(out)]
    assert cli.main(command) == 0
    assert "3 results along model, seed" in capsys.readouterr().out
    with open_result(out) as merged:
        accuracy = merged.analysis("decode")["accuracy"]
        assert dict(accuracy.sizes) == {"model": 2, "seed": 2, "layer": 4}
        assert float(accuracy.sel(model="org/large", seed=1, layer=3)) == pytest.approx(0.915)
        assert accuracy.sel(model="org/small", seed=1).isnull().all()
        assert "/captures/resid" not in merged.groups
        assert [run["seed"] for run in merged.provenance["merged"]["runs"]] == [0, 1, 0]
        assert "seed" not in merged.provenance
        assert merged.provenance["versions"] == PROVENANCE["versions"]
    # A claim about the last layer is about each model's own.
    assert cli.main(["check", str(out)]) == 1
    assert "model=org/small" in capsys.readouterr().out


def test_stimuli_that_agree_are_held_once(tmp_path: Path) -> None:
    paths = []
    for seed, chosen in enumerate((["a", "b"], ["b", "c"])):
        words = xr.Dataset(
            {
                "text": ("stimulus", [f"text {x}" for x in chosen], about("text", "the text")),
                "n_tokens": ("stimulus", np.array([2, 2], "i4"), about("token", "tokens")),
            },
            coords={"stimulus": chosen},
        )  # fmt: skip
        data = {**groups(), "/stimuli/words": words}
        provenance = {**PROVENANCE, "seed": seed}
        paths.append(str(write(tmp_path / f"{seed}.nc", data, provenance)))
    out = tmp_path / "m.nc"
    assert cli.main(["merge", *paths, "--along", "seed", "--out", str(out)]) == 0
    with open_result(out) as merged:
        words = merged.stimuli("words")
        assert words["text"].dims == ("stimulus",)
        assert words["text"].to_numpy().tolist() == ["text a", "text b", "text c"]
        assert words["n_tokens"].dtype.kind == "i"
    three = write(tmp_path / "2.nc", groups(), {**PROVENANCE, "seed": 2})
    again = tmp_path / "again.nc"
    assert cli.main(["merge", str(out), str(three), "--along", "seed", "--out", str(again)]) == 0
    with open_result(again) as merged:
        assert merged.analysis("decode")["seed"].to_numpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize(("options", "code", "message"), [
    (["--along", "sead"], 2, "results cannot be merged along 'sead' (known: model, revision, "
     "seed); did you mean 'seed'?"),
    (["--along", "model"], 3, "has labels that another part has, too (model org/large): "
     "each is taken from one result only"),
    (["--along", "model", "--along", "seed", "--only", "nothing"], 3, "nothing is selected"),
])  # fmt: skip
def test_merge_refusals(
    options: list[str], code: int, message: str, runs: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert cli.main(["merge", *runs, *options, "--out", str(tmp_path / "m.nc")]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m.nc").exists()


def test_a_run_that_does_not_say_its_label(
    tmp_path: Path, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    silent = str(write(tmp_path / "silent.nc", groups(), {}))
    command = ["merge", runs[0], silent, "--along", "seed", "--out", str(tmp_path / "m.nc")]
    assert cli.main(command) == 3
    assert "does not say its seed" in capsys.readouterr().err
    assert cli.main(["merge", runs[0], "--along", "seed", "--out", str(tmp_path / "m.nc")]) == 2
    assert "merge takes two results or more; got 1" in capsys.readouterr().err
