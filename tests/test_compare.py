"""Planted differences of every sort, and what `compare` says of them; none where there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from results import PROVENANCE, groups, write

from patchclamp.analyses.patterns import p_variables
from patchclamp.engine import cli
from patchclamp.engine.comparison.command import FORMATS
from patchclamp.engine.comparison.compare import compare
from patchclamp.engine.comparison.tolerance import PRESETS, Tolerances
from patchclamp.registry.table import load

Groups = dict[str, xr.Dataset]
Plant = Callable[[Groups], None]


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return str(write(tmp_path / "a.nc", groups()))


def compared(
    reference: str, plant: Plant, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, str]:
    """Compare the reference with a copy in which something is planted."""
    data = groups()
    plant(data)
    other = write(Path(reference).with_name("b.nc"), data)
    code = cli.main(["compare", reference, str(other), *options])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def put(group: str, variable: str, at: dict[str, int], value: object) -> Plant:
    def plant(data: Groups) -> None:
        changed = data[group].copy(deep=True)
        changed[variable][at] = value
        data[group] = changed

    return plant


def scale(group: str, variable: str, by: float, **at: int) -> Plant:
    def plant(data: Groups) -> None:
        changed = data[group].copy(deep=True)
        changed[variable][at] = changed[variable][at] * by
        data[group] = changed

    return plant


def attr(group: str, variable: str, **attrs: object) -> Plant:
    def plant(data: Groups) -> None:
        changed = data[group].copy(deep=True)
        changed[variable].attrs.update(attrs)
        data[group] = changed

    return plant


def whole(change: Callable[[Groups], Groups | None]) -> Plant:
    def plant(data: Groups) -> None:
        made = change(data)
        if made is not None:
            data.clear()
            data.update(made)

    return plant


def each(change: Callable[[xr.Dataset], xr.Dataset]) -> Plant:
    return whole(lambda data: {name: change(one) for name, one in data.items()})


def only(group: str, change: Callable[[xr.Dataset], xr.Dataset]) -> Plant:
    return whole(lambda data: {**data, group: change(data[group])})


HEADS, DECODE, RESID = "/analyses/heads", "/analyses/decode", "/captures/resid"


def shuffled(data: xr.Dataset) -> xr.Dataset:
    """Reverse labels along every dim, and the order of axes."""
    flipped = data.isel({dim: slice(None, None, -1) for dim in data.dims})
    return flipped.transpose(*reversed(list(data.dims)))


PLANTED: dict[str, tuple[Plant, int, list[str]]] = {
    "nothing": (lambda data: None, 0, ["equal: all 9 variables within tolerance, structure equal"]),
    "order of labels and axes": (each(shuffled), 0, ["equal: all 9 variables"]),
    "noise of another batch size": (
        scale(RESID, "activation", 1 + 4e-6), 0, ["equal: all 9 variables"]),
    "one value": (
        scale(HEADS, "effect", 1.1, layer=2, head=1), 1,
        ["different: 1 of 9 variables beyond tolerance, structure equal",
         "≠  analyses/heads/effect",
         "worst at layer=2, head=1: A -7.97", "sd of A)", "only within layer 2; head 1"]),
    "a sign": (
        scale(HEADS, "effect", -1, layer=2, head=1), 1,
        ["sign changes: 1", "only within layer 2; head 1"]),
    "a value of a small layer": (
        scale(RESID, "activation", 1.01, layer=0), 1,
        ["≠  captures/resid/activation", "only within layer 0\n"]),
    "a value missing in B": (
        put(DECODE, "accuracy", {"layer": 1}, np.nan), 1,
        ["missing on one side: 0 in A, 1 in B", "worst at layer=1: A 0.6", "B nan"]),
    "a value that is infinite": (
        put(RESID, "activation", {"stimulus": 3, "layer": 1, "unit": 2}, np.inf), 1,
        ["worst at stimulus=s03, layer=1, unit=2:", "B inf"]),
    "labels of B are fewer": (
        each(lambda d: d.isel(layer=[0, 1])), 1,
        ["3 differences in structure", "analyses/decode: only in A: layer 2–3",
         "captures/resid: only in A: layer 2–3"]),
    "labels of B are more": (
        only(HEADS, lambda d: xr.concat([d, d.isel(head=[0]).assign_coords(head=[7])], "head",
                                        data_vars="minimal")), 1,
        ["analyses/heads: only in B: head 7", "1 difference in structure"]),
    "no label in common": (
        only(HEADS, lambda d: d.assign_coords(head=[5, 6, 7])), 1,
        ["analyses/heads: only in A: head 0–2", "analyses/heads: only in B: head 5–7",
         "analyses/heads/effect: not compared: no label of head is in both",
         "?  analyses/heads/effect"]),
    "a label twice": (
        only(HEADS, lambda d: d.assign_coords(head=[0, 1, 1])), 1,
        ["analyses/heads/effect: not compared: head 1 stands 2 times in B"]),
    "another stimulus label": (
        only(DECODE, lambda d: d.assign_coords(
            category=("stimulus", ["months", *d["category"].to_numpy()[1:]][::-1]))), 1,
        ["≠  analyses/decode/category", "worst at stimulus=s00: A 'months', B 'weekdays'"]),
    "numbers of another width": (
        only(HEADS, lambda d: d.astype("f4", keep_attrs=True)), 0,
        ["· analyses/heads/effect: dtype float64 in A, float32 in B", "equal: all 9"]),
    "numbers of another kind": (
        only(DECODE, lambda d: d.assign(correct=d["correct"].astype("f8", keep_attrs=True))), 1,
        ["≠ analyses/decode/correct: dtype int8 in A, float64 in B", "1 difference in structure"]),
    "numbers for text": (
        only(DECODE, lambda d: d.assign(predicted=d["correct"])), 1,
        ["analyses/decode/predicted: not compared: text in A, numbers in B"]),
    "other units": (
        attr(DECODE, "accuracy", units="%"), 1,
        ["analyses/decode/accuracy: not compared: units '1' in A, '%' in B"]),
    "another version of the estimand": (
        attr(HEADS, "effect", estimand="effect_of_logit_diff/2"), 1,
        ["not compared: estimand 'effect_of_logit_diff/1' in A, 'effect_of_logit_diff/2' in B"]),
    "another anchor": (
        attr(RESID, "unit", anchor="last"), 1,
        ["captures/resid/activation: not compared: unit counts from '' in A, from 'last' in B"]),
    "a variable less": (
        only(DECODE, lambda d: d.drop_vars("p")), 1, ["analyses/decode/p: only in A"]),
    "a group more": (
        whole(lambda data: {**data, "/analyses/more": data[HEADS]}), 1,
        ["analyses/more: only in B"]),
    "other dims": (
        only(HEADS, lambda d: d.assign(effect=d["effect"].isel(head=0, drop=True))), 1,
        ["analyses/heads/effect: not compared: dims layer, head in A, layer in B"]),
    "a dim more": (
        only(HEADS, lambda d: d.expand_dims(seed=[0])), 1,
        ["dims layer, head in A, seed, layer, head in B"]),
    "nothing in common": (
        each(lambda d: d.assign_coords(layer=d["layer"] + 100)), 4,
        ["not comparable: nothing that both have can be compared"]),
    "another result altogether": (
        whole(lambda data: {"/analyses/other": data[HEADS]}), 4, ["not comparable"]),
    "nothing but missing values": (
        whole(lambda data: {HEADS: data[HEADS].drop_vars("logit_diff")
                            .assign(effect=data[HEADS]["effect"].where(False))}), 1,
        ["missing on one side"]),
    "an expectation that is not met any more": (
        scale(DECODE, "accuracy", 0.9, layer=3), 1,
        ["1 conclusion changed",
         "expect decode/accuracy at layer=last ≥ 0.9: met (0.925 at layer=3) in A, "
         "not met (0.8325 at layer=3) in B"]),
    "another best layer": (
        put(DECODE, "accuracy", {"layer": 2}, 0.99), 1,
        ["largest analyses/decode/accuracy: at layer=3 (0.925) in A, at layer=2 (0.99) in B"]),
    "a p value on the other side of 0.05": (
        put(DECODE, "p", {"layer": 1}, 0.048), 1,
        ["analyses/decode/p at layer 1: not below 0.05 in A, below 0.05 in B"]),
    "a prediction": (
        put(DECODE, "predicted", {"stimulus": 2, "layer": 1}, "numerals"), 1,
        ["≠  analyses/decode/predicted", "only within stimulus s02; layer 1"]),
    "per-stimulus values": (
        scale(HEADS, "logit_diff", 1.05, layer=1), 1,
        ["paired over 40 stimuli in 20 groups: at layer=1, head=", "over all 12 cells"]),
    "correctness": (
        put(DECODE, "correct", {"layer": 3, "stimulus": slice(0, 20)}, 0), 1,
        ["right in A only 19, in B only 0: McNemar p < 0.0001",
         "which takes stimuli for independent"]),
}  # fmt: skip
"""What is planted -> how, the exit code, and what the report says."""


@pytest.mark.parametrize("name", PLANTED)
def test_planted(name: str, reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    plant, code, said = PLANTED[name]
    found, text = compared(reference, plant, capsys)
    assert found == code, text
    for sentence in said:
        assert sentence in text


@pytest.mark.parametrize("name", PLANTED)
def test_every_format_says_the_same(name: str, reference: str) -> None:
    plant, code, _ = PLANTED[name]
    data = groups()
    plant(data)
    found = compare(reference, write(Path(reference).with_name("b.nc"), data))
    texts = {format: load(reference)(found) for format, reference in FORMATS.items()}
    data_json = json.loads(texts["json"])
    assert data_json["exit_code"] == code
    assert data_json["verdict"] == {0: "equal", 1: "different", 4: "not comparable"}[code]
    heads = {0: "### ✅ equal", 1: "### ❌ different", 4: "### ⚠️ not"}
    assert texts["markdown"].startswith(heads[code])
    assert texts["github"].startswith("::notice" if code == 0 else "::error")
    assert texts["github"].count("::error") <= 10
    suite = ElementTree.fromstring(texts["junit"])
    wrong = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    assert (wrong > 0) == (code > 0)


def test_symmetry(reference: str, tmp_path: Path) -> None:
    """What differs does not depend on which side is named first."""
    data = groups()
    scale(HEADS, "effect", 1.1, layer=2, head=1)(data)
    other = str(write(tmp_path / "b.nc", data))
    assert cli.main(["compare", reference, other]) == cli.main(["compare", other, reference]) == 1


def test_only_what_differs_of_the_provenance_is_said(
    reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = json.loads(json.dumps(PROVENANCE))
    made["versions"]["transformers"] = "5.24.0"
    made["resolved"]["run"]["batch"]["tokens"] = 64
    made["model"]["weights_sha256"] = "a1b2c3d4" * 8
    made["guards"][0]["verdict"] = "failed"
    other = str(write(tmp_path / "b.nc", groups(), made))
    assert cli.main(["compare", reference, other]) == 0
    said = capsys.readouterr().out.split("what else differs between the runs\n")[1]
    assert said.splitlines() == [
        "  spec.run.batch.tokens: 8192 → 64",
        "  versions.transformers: 5.23.0 → 5.24.0",
        "  model.weights_sha256: — → a1b2c3d4",
        "  failed_guards: — → ['finite on resid']",
    ]


def test_an_entry_that_one_side_lacks_is_one_reason(
    reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = json.loads(json.dumps(PROVENANCE))
    made["resolved"]["analyses"] = {"more": {"kind": "probe", "of": "resid", "cv": {"folds": 5}}}
    made["resolved"]["interventions"] = {"noise": {"value": 1}}
    other = write(tmp_path / "b.nc", groups(), made)
    assert cli.main(["compare", reference, str(other)]) == 0
    said = capsys.readouterr().out.split("what else differs between the runs\n")[1].splitlines()
    assert said == ["  spec.analyses.more: — → probe", "  spec.interventions.noise: — → defined"]


def test_a_largest_value_keeps_its_sign(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    plant = put(HEADS, "effect", {"layer": 2, "head": 1}, 0.0)
    code, text = compared(reference, plant, capsys)
    assert code == 1
    assert "largest analyses/heads/effect: at layer=2, head=1 (-7.97" in text


def test_the_presets(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    noise = scale(RESID, "activation", 1 + 4e-6)
    assert compared(reference, noise, capsys)[0] == 0
    assert compared(reference, noise, capsys, "--preset", "exact")[0] == 1
    width = only(HEADS, lambda d: d.astype("f4", keep_attrs=True))
    assert compared(reference, width, capsys, "--preset", "exact")[0] == 1
    coarse = scale(RESID, "activation", 1.01)
    assert compared(reference, coarse, capsys)[0] == 1
    code, text = compared(reference, coarse, capsys, "--preset", "bf16")
    assert (code, "(preset bf16)" in text) == (0, True)


def test_the_precision_of_the_model_decides_the_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the two differ, the finer one does: the coarser would hide what changed."""
    coarse = json.loads(json.dumps(PROVENANCE))
    coarse["model"]["dtype"] = "bfloat16"
    data = groups()
    scale(RESID, "activation", 1.01)(data)
    a, b = (str(write(tmp_path / f"{n}.nc", d, coarse)) for n, d in (("a", groups()), ("b", data)))
    assert cli.main(["compare", a, b]) == 0
    assert "(preset bf16)" in capsys.readouterr().out
    fine = str(write(tmp_path / "fine.nc", groups()))
    assert cli.main(["compare", fine, b]) == 1
    assert "model.dtype: float32 → bfloat16" in capsys.readouterr().out


def test_a_tolerance_that_is_given_says_so(
    reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = scale(HEADS, "effect", 1.1, layer=2, head=1)
    code, text = compared(reference, planted, capsys, "--tol", "heads/effect=1")
    assert (code, "1 (--tol heads/effect=1)" in text) == (0, True)
    code, text = compared(reference, planted, capsys, "--tol", "effect=10%")
    assert (code, "(--tol effect=10%)" in text) == (0, True)
    prediction = put(DECODE, "predicted", {"stimulus": 2, "layer": 1}, "numerals")
    assert compared(reference, prediction, capsys, "--tol", "predicted=1%")[0] == 0
    assert compared(reference, prediction, capsys, "--tol", "predicted=0.1%")[0] == 1


def test_what_the_analysis_declares_is_a_tolerance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = groups(), groups()
    for data in (a, b):
        attr(DECODE, "accuracy", tolerance=1 / 40)(data)
    put(DECODE, "accuracy", {"layer": 0}, float(a[DECODE]["accuracy"][0]) + 1 / 40)(b)
    paths = [str(write(tmp_path / name, data)) for name, data in (("a.nc", a), ("b.nc", b))]
    assert cli.main(["compare", *paths]) == 0
    assert "0.025 (preset fp32, or 0.025 as the analysis says)" in capsys.readouterr().out
    assert cli.main(["compare", *paths, "--preset", "exact"]) == 1


@pytest.mark.parametrize(("steps", "code"), [(1, 0), (2, 1)])
def test_one_permutation_is_no_difference(
    steps: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = p_variables(("layer",), [0.02], [0.02], of="accuracy", permutations=99)["p"][2]
    sides = []
    for name, moved in (("a", 0), ("b", steps)):
        data = groups()
        p = data[DECODE]["p"]
        data[DECODE]["p"] = p.copy(data=p.to_numpy() + 0.01 * moved).assign_attrs(about)
        sides.append(str(write(tmp_path / f"{name}.nc", data)))
    noise = Tolerances(noise={"p": 0.0}, noise_source="noise")  # a few tries did not meet one
    assert noise.of("p", data[DECODE]["p"]).allowed(1.0) == 0.01
    assert cli.main(["compare", *sides, "--only", "decode/p"]) == code
    assert cli.main(["compare", *sides, "--only", "decode/p", "--preset", "exact"]) == 1
    assert about["of"] == "accuracy"
    assert "0.01 as the analysis says" in capsys.readouterr().out


def test_suggested_tolerances_are_the_least_that_pass(
    reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def planted(data: Groups) -> None:
        scale(HEADS, "effect", 1.1, layer=2, head=1)(data)
        put(DECODE, "predicted", {"stimulus": 2, "layer": 1}, "numerals")(data)

    code, text = compared(reference, planted, capsys, "--suggest-tol")
    lines = text.split("tolerances that would pass\n")[1].splitlines()
    assert lines == [
        "  --tol 'analyses/decode/predicted=0.63%'",
        "  --tol 'analyses/heads/effect=0.8'",
    ]
    options = [word.strip("'") for line in lines for word in line.split()]
    assert compared(reference, planted, capsys, *options)[0] == 0
    tight = [option.replace("=0.8", "=0.79").replace("0.63%", "0.6%") for option in options]
    assert code == compared(reference, planted, capsys, *tight)[0] == 1


def test_a_margin_judges_by_equivalence(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    planted = scale(HEADS, "logit_diff", 1.001)
    wide = ("--only", "logit_diff", "--margin", "logit_diff=0.05")
    code, text = compared(reference, planted, capsys, *wide)
    assert code == 0
    assert "equivalent within ±0.05: 90 % intervals reach [" in text
    narrow = ("--only", "logit_diff", "--margin", "logit_diff=0.001")
    code, text = compared(reference, planted, capsys, *narrow)
    assert (code, "not shown to be equivalent within ±0.001" in text) == (1, True)


def test_selecting(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    planted = scale(HEADS, "effect", 1.1, layer=2, head=1)
    assert compared(reference, planted, capsys, "--only", "decode")[0] == 0
    assert compared(reference, planted, capsys, "--skip", "heads/eff*")[0] == 0
    code, text = compared(reference, planted, capsys, "--only", "heads", "--only", "resid")
    assert (code, "1 of 3 variables" in text) == (1, True)


def test_an_overlap_is_enough_where_asked_for(
    reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = each(lambda d: d.isel(layer=[0, 1]))
    code, text = compared(reference, fewer, capsys, "--overlap")
    assert (code, "· analyses/decode: only in A: layer 2–3" in text) == (0, True)
    nothing = each(lambda d: d.assign_coords(layer=d["layer"] + 100))
    assert compared(reference, nothing, capsys, "--overlap")[0] == 4


def test_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for digest in ("1a", "2b"):
        write(tmp_path / "runs" / digest / "result.nc", groups())
    one = str(tmp_path / "runs" / "1a")
    assert cli.main(["compare", one, str(tmp_path / "runs" / "2b" / "result.nc")]) == 0
    assert cli.main(["compare", one, str(tmp_path / "runs")]) == 3
    assert "holds 2 runs; name one of them: 1a, 2b" in capsys.readouterr().err


REFUSED = [
    (["--only", "decode/acuracy"], 2, "--only 'decode/acuracy' means no variable (there are those "
     "of analyses/decode, analyses/heads, captures/resid); did you mean 'decode/accuracy'?"),
    (["--tol", "effect=1"], 2, None),
    (["--tol", "efect=1"], 2, "--tol 'efect' means no variable"),
    (["--tol", "effect"], 2, "--tol takes PATTERN=VALUE, a number in the variable's units"),
    (["--tol", "effect=-1"], 2, "got 'effect=-1'"),
    (["--tol", "effect=x%"], 2, "got 'effect=x%'"),
    (["--tol", "predicted=2"], 2, "analyses/decode/predicted is text; allow a share of it"),
    (["--margin", "correct=1%"], 2, "--margin takes a number in the variable's units"),
    (["--margin", "accuracy=0.1"], 2, "analyses/decode/accuracy has no number for each stimulus"),
    (["--preset", "fp23"], 2, "unknown preset 'fp23' (known: exact, fp32, bf16); did you mean "
     "'fp32'?"),
    (["--format", "yaml"], 2, "unknown format 'yaml' (known: human, json, markdown, github, "
     "junit)"),
    (["--update"], 2, "--update needs --because TEXT: why the new result is right"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "code", "message"), REFUSED)
def test_refused(
    options: list[str],
    code: int,
    message: str | None,
    reference: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, text = compared(reference, lambda data: None, capsys, *options)
    if message is None:
        assert found == 0
    else:
        assert (found, message in text) == (code, True), text


def test_what_cannot_be_read(
    reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.nc"
    broken.write_bytes(Path(reference).read_bytes()[:5000])
    empty = tmp_path / "empty"
    empty.mkdir()
    for other, message in (
        (tmp_path / "gone.nc", "there is no result"),
        (broken, "as a result:"),
        (empty, "there is no result.nc in the folder"),
    ):
        assert cli.main(["compare", reference, str(other)]) == 3
        assert message in capsys.readouterr().err


def test_a_baseline_is_blessed_and_remembers(
    reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = str(tmp_path / "baselines" / "small.nc")
    bless = ["--update", "--by", "Ada", "--because", "first run", "--only", "analyses"]
    assert cli.main(["compare", baseline, reference, *bless]) == 0
    assert "as Ada says: first run" in capsys.readouterr().out
    # What was not kept is not missed.
    assert cli.main(["compare", baseline, reference]) == 0
    assert "all 8 variables within tolerance" in capsys.readouterr().out

    data = groups()
    scale(HEADS, "effect", 1.1, layer=2, head=1)(data)
    other = str(write(tmp_path / "b.nc", data))
    assert cli.main(["compare", baseline, other]) == 1
    again = ["--update", "--by", "Ben", "--because", "the bug of last week"]
    assert cli.main(["compare", baseline, other, *again]) == 0
    assert "different: 1 of 8 variables" in capsys.readouterr().out
    assert cli.main(["compare", baseline, other]) == 0
    with xr.open_datatree(baseline, engine="netcdf4") as tree:
        kept = json.loads(tree.attrs["baseline"])
        assert set(tree.children) == {"analyses"}
    assert [(one["by"], one["because"], one["verdict"]) for one in kept] == [
        ("Ben", "the bug of last week", "different"),
        ("Ada", "first run", "the first"),
    ]
    assert kept[0]["only"] == ["analyses"]
    assert cli.main(["compare", baseline, baseline, *again]) == 3
    assert "are the same file" in capsys.readouterr().err


def test_a_report_in_a_file(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = Path(reference).with_name("report.md")
    code, text = compared(
        reference, lambda d: None, capsys, "--format", "markdown", "--output", str(report)
    )
    assert (code, text.startswith("equal: all 9 variables")) == (0, True)
    assert report.read_text(encoding="utf-8").startswith("### ✅ equal")
    code, text = compared(reference, lambda d: None, capsys, "--output", str(report / "x"))
    assert (code, "cannot write" in text) == (3, True)


def test_the_page_lists_presets_formats_and_exit_codes() -> None:
    text = (Path(__file__).parents[1] / "docs" / "compare.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `?(\w+)`? \|", text, re.MULTILINE)
    assert [row for row in rows if row.isdigit()] == ["0", "1", "2", "3", "4"]
    assert [row for row in rows if row in PRESETS] == list(PRESETS)
    assert [row for row in rows if row in FORMATS] == list(FORMATS)
