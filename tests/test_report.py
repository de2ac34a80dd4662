"""The page of a run is whole, offline and true to the result; what is hostile in it stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import drawable
import pytest
import xarray as xr
from results import PROVENANCE, groups, write

from patchclamp.engine import cli, open_result
from patchclamp.engine.reporting.command import report
from patchclamp.engine.reporting.excerpts import excerpts
from patchclamp.engine.reporting.methods import _found, methods
from patchclamp.engine.reporting.page import page
from patchclamp.registry.errors import StoreError

SPEC = """\
patchclamp: 1
name: small
stimuli: {words: {kind: builtin, set: sequences, text: "{prompt}"}}
captures:
  resid: {of: words, site: resid_post}   # the stream
analyses:
  # a comment above
  decode:
    kind: probe
    of: resid
    target: category

  heads: {kind: ablation, stimuli: words, with: mean}
interventions: {mean: {kind: ablate, value: zero}}
"""

VOID = {"meta", "br", "path", "use", "image", "rect", "circle", "line", "stop"}


class Balanced(HTMLParser):
    """Checks that tags close in order, and keeps what a page loads and says."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def provenance(**changed: Any) -> dict[str, Any]:
    made = json.loads(json.dumps(PROVENANCE))
    made["spec"] = SPEC
    made["seed"] = 0
    made["forward_passes"] = 21
    made["resolved"] |= {
        "stimuli": {"words": {"kind": "builtin", "set": "sequences"}},
        "captures": {"resid": {"of": "words", "site": "resid_post", "layers": "all",
                               "positions": {"kind": "named", "at": ["last"]}}},
        "interventions": {"mean": {"kind": "ablate", "value": {"kind": "zero"}}},
        "analyses": {
            "decode": {"kind": "probe", "of": "resid", "target": {"column": "category"},
                       "estimator": {"kind": "logistic"}, "controls": ["majority"]},
            "heads": {"kind": "ablation", "stimuli": "words", "with": "mean",
                      "units": {"site": "z"}, "metric": {"kind": "logit_diff"}},
        },
    }  # fmt: skip
    return made | changed


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    words = xr.Dataset(
        {"text": ("stimulus", ["a <b>bold</b> & $x$", "b"], drawable.about("text", "text"))},
        coords={"stimulus": ["s0", "s1"], "category": ("stimulus", ["</td><script>", "ok"])},
    )
    return write(tmp_path / "result.nc", {"/stimuli/words": words, **groups()}, provenance())


def read(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    return parser


def test_a_page_needs_nothing_else(stored: Path) -> None:
    with open_result(stored) as result:
        text = page(result)
    parser = read(text)
    assert all(link.startswith(("#", "data:")) for link in parser.loaded)
    assert "script" not in parser.tags
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org|purl|creativecommons)", text)
    said = " ".join(parser.text)
    assert "a <b>bold</b> & $x$" in said
    assert "</td><script>" in said
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_what_a_reader_must_know_stands_on_top(stored: Path, tmp_path: Path) -> None:
    with open_result(stored) as result:
        top = page(result).split("<nav>")[0]
    sentences = (
        "✓ 1 passed", "✓ 1 of 1 met", "decode/accuracy at layer=last ≥ 0.9", "0.925 at layer=3",
        "21 forward passes", "torch 2.9.0", "device cpu",
    )  # fmt: skip
    for sentence in sentences:
        assert sentence in top
    made = provenance()
    made["guards"][0]["verdict"] = "failed"
    made["resolved"]["expect"][0]["ge"] = 0.99
    with open_result(write(tmp_path / "bad.nc", groups(), made)) as result:
        top = page(result).split("<nav>")[0]
    assert "1 of 1 failed" in top
    assert "✗ 0 of 1 met" in top
    with open_result(write(tmp_path / "silent.nc", groups(), {})) as result:
        top = page(result).split("<nav>")[0]
    assert "none: nothing was checked" in top
    assert "The spec expects nothing." in top


def test_each_figure_has_its_sentence_its_facts_and_its_spec_lines(stored: Path) -> None:
    with open_result(stored) as result:
        text = page(result)
        figures = [one for name in result.analyses for one in result.figures(name)]
    assert text.count("<figure>") == len(figures) == 3
    said = " ".join(read(text).text)
    for one in figures:
        assert one.sentence in said
        for name, fact in one.facts.items():
            assert f"<dt>{name}</dt>" in text
            assert fact in said
    section = text.split('id="decode"')[1].split("</section>")[0]
    assert '<span class="no">   8</span>    decode:' in section
    assert '<span class="no">   5</span>    resid: {of: words, site: resid_post}' in section
    assert "heads:" not in section


def test_excerpts_are_the_lines_of_an_entry_and_of_what_it_names(stored: Path) -> None:
    with open_result(stored) as result:
        found = excerpts(result, "analyses", "decode")
        assert [(one.path, one.line, len(one.text.splitlines())) for one in found] == [
            ("analyses.decode", 8, 4),
            ("captures.resid", 5, 1),
            ("stimuli.words", 3, 1),
        ]
        heads = excerpts(result, "analyses", "heads")
        assert [one.path for one in heads] == ["analyses.heads", "stimuli.words",
                                               "interventions.mean"]  # fmt: skip
        assert heads[0].text == "  heads: {kind: ablation, stimuli: words, with: mean}"


def test_what_a_base_says_is_shown_resolved(tmp_path: Path) -> None:
    made = provenance(spec="patchclamp: 1\nextends: [base.yaml]\n")
    with open_result(write(tmp_path / "r.nc", groups(), made)) as result:
        (first, *_) = excerpts(result, "analyses", "decode")
    assert first.line == 0
    assert first.text.startswith("decode:")


def test_methods_say_what_was_done_and_found(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cite", str(stored)]) == 0
    text = capsys.readouterr().out
    for sentence in (
        "We studied bundled:sequences (revision main, float32, weights with sha256 not stated), "
        "run on cpu with seed 0.",
        "Set 'words' has 2 stimuli (the bundled set sequences).",
        "Capture 'resid' recorded resid_post for 'words', all layers, at the last token of each",
        "Intervention 'mean': activations are set to 0.",
        "decode: logistic read-out of category by cross-validation",
        "controls: majority",
        "Accuracy: 0.475 to 0.925 over 4 places; no test knows of a choice among them, so none is",
        "heads: each unit (z) was ablated alone by the intervention 'mean'; the effect is the mean "
        "change of logit_diff",
        "at layer 2, head 1.",
        "torch 2.9.0",
        "1 check of the measurement passed.",
    ):
        assert sentence in text, sentence


def test_the_best_of_layers_is_named_with_the_p_that_knows_of_the_choice(tmp_path: Path) -> None:
    data = drawable.probe()
    data["base_rate"] = ((), 1 / 3, drawable.about("share of the largest class"))
    data["balanced_accuracy"] = data["accuracy"] - 0.01
    data["p_max"].attrs["of"] = "balanced_accuracy"
    data.attrs["n_groups"] = 48
    (told,) = _found(data)
    assert told == (
        "Largest balanced accuracy: 0.94 at layer 4 (p_max = 0.01, base rate 0.333, 48 groups)."
    )
    (told,) = _found(data.drop_vars("p_max"))
    assert told == (
        "Accuracy: 0.35 to 0.95 over 6 places (base rate 0.333, 48 groups); no test knows of a "
        "choice among them, so none is named."
    )
    (told,) = _found(data.drop_vars("p_max").isel(layer=[2]))
    assert told.startswith("Largest accuracy: 0.8 [0.72, 0.84] (base rate")


DID: dict[str, tuple[dict[str, Any], str]] = {
    "contrast": (
        {"column": "category", "classes": ["months", "numerals"]},
        "t test of months against numerals (category) and Cohen's d, per unit."),
    "selection": (
        {"k": 8, "target": "months", "column": "category", "methods": {"a": {"kind": "contrast"}}},
        "8 units for months (category) were chosen by each of a (contrast), and compared by what "
        "a linear model reads out of held-out stimuli; units were chosen anew inside each of 5 "),
    "patching": (
        {"direction": "denoising", "units": {"site": "z"}, "metric": {"kind": "logit_diff"}},
        "activation patching, denoising: activations (z) of 'clean' were put into 'corrupt'; the "
        "effect is the mean change of logit_diff, and what is recovered is 0 at 'corrupt' and 1"),
    "paths": (
        {"direction": "noising", "metric": {"kind": "logit_diff"},
         "path": {"senders": [{"site": "z"}], "receivers": [{"site": "q"}, {"site": "k"}]}},
        "paths from z to q, k of 'clean' were put into 'corrupt'"),
    "attribution": (
        {"metric": "logit_diff", "of": "nodes", "gradient_at": "clean", "verify": 6},
        "were estimated from the gradient at the clean run; the 6 largest and as many random nodes "
        "were patched."),
    "circuit": (
        {"circuits": {"pruned": {"kind": "prune", "keep_above": 0.8}, "known": {"kind": "given"}},
         "units": [{"site": "z"}], "with": "mean", "metric": {"kind": "logit_diff"}, "random": 12},
        "circuits pruned (pruned to keep 0.8 of the metric), known (given) of z, all other nodes "
        "ablated by 'mean'; faithfulness is logit_diff of the circuit over that of the model, "
        "beside 12 random circuits of the same size."),
    "choice": ({"stimuli": "mmlu", "by": "topic"},
               "multiple choice among the answers of 'mmlu', by topic."),
}  # fmt: skip


@pytest.mark.parametrize("name", DID)
def test_methods_of_every_kind_of_analysis(name: str, tmp_path: Path) -> None:
    entry, sentence = DID[name]
    made = provenance()
    made["resolved"]["analyses"] = {"it": entry}
    data = getattr(drawable, name)().assign_attrs(patched="corrupt", source="clean")
    with open_result(write(tmp_path / "r.nc", {"/analyses/it": data}, made)) as result:
        assert sentence in methods(result)


def test_methods_say_along_what_gradients_were_integrated(tmp_path: Path) -> None:
    made = provenance()
    made["resolved"]["analyses"] = {"it": {
        "kind": "attribution", "metric": "logit_diff", "of": "edges", "gradient_at": "integrated",
        "along": "inputs", "quadrature": "gauss_legendre", "steps": 8}}  # fmt: skip
    data = drawable.attribution().assign_attrs(into="words", source="others")
    with open_result(write(tmp_path / "r.nc", {"/analyses/it": data}, made)) as result:
        assert (
            "of putting edges of 'others' into 'words' were estimated from gradients integrated "
            "along the inputs from 'words' to 'others' (gauss-legendre, 8 points)."
        ) in methods(result)


@pytest.mark.parametrize(("changed", "sentence"), [
    ({"stimuli": {"words": {"kind": "csv", "path": "a.csv", "where": "n > 3",
                            "take": {"n": 5, "by": "topic", "draw": "random"}}}},
     "(the file a.csv; where n > 3; 5 of each topic taken (random))"),
    ({"captures": {"r": {"of": "words", "site": "z", "layers": [0, 2], "positions": {
        "kind": "named", "at": ["first", "last"]}, "reduce": [{"kind": "mean", "over": "stimulus"}],
        "gradient": {"of": "cross_entropy"}}}},
     "Capture 'r' recorded the gradient of cross_entropy with respect to z for 'words', layers "
     "[0, 2], at the positions first, last of each stimulus, reduced to mean over stimulus."),
    ({"interventions": {"m": {"kind": "ablate", "value": {
        "kind": "mean", "mean_over": "words", "per": "position"}}}},
     "activations are replaced by their mean over 'words', position by position."),
])  # fmt: skip
def test_methods_say_which_stimuli_what_was_recorded_and_put_in_place(
    changed: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    made = provenance()
    made["resolved"] |= changed
    words = xr.Dataset({"text": ("stimulus", ["a", "b"])}, coords={"stimulus": ["s0", "s1"]})
    path = write(tmp_path / "r.nc", {"/stimuli/words": words, **groups()}, made)
    with open_result(path) as result:
        assert sentence in methods(result)


def test_a_run_that_found_all_in_the_cache_says_so(tmp_path: Path) -> None:
    made = provenance(forward_passes=0, seconds=1.26)
    with open_result(write(tmp_path / "r.nc", groups(), made)) as result:
        top = page(result).split("<nav>")[0]
    assert "no forward pass: all had been measured before" in top
    assert "1.3 s to measure and analyse" in top


def test_a_check_that_failed_has_not_passed(tmp_path: Path) -> None:
    made = provenance()
    made["guards"] = [*made["guards"], {**made["guards"][0], "verdict": "failed"}]
    with open_result(write(tmp_path / "r.nc", groups(), made)) as result:
        assert "1 check of the measurement passed, 1 failed." in methods(result)


def test_cells_of_a_matrix_are_told(tmp_path: Path) -> None:
    whole = provenance()
    parts = []
    for seed in (0, 1):
        part = provenance(seed=seed)
        parts.append({"label": {"seed": seed}, "digest": str(seed), "provenance": part})
    parts.append({"label": {"seed": 2}, "digest": "2", "failed": "a NaN"})
    made = {"spec": SPEC, "resolved": whole["resolved"], "cells": parts, "guards": whole["guards"]}
    data = groups()
    data["/analyses/decode"] = xr.concat(
        [data["/analyses/decode"]] * 2, xr.DataArray([0, 1], dims="seed", name="seed")
    )
    with open_result(write(tmp_path / "r.nc", data, made)) as result:
        assert result.made["device"] == "cpu"
        assert "seed" not in result.made
        text = methods(result)
        assert (
            "We studied bundled:sequences (revision main, float32, weights that differ by cell"
            in text
        )
        assert "A matrix of 3 cells varied seed (0, 1, 2); 1 of them failed." in text
        top = page(result).split("<nav>")[0]
    assert "2 of 3 have a result" in top
    assert "42 forward passes" in top  # of both cells that have a result
    assert "a NaN" in top
    assert "at all 2 places" in top


@pytest.mark.parametrize("make", drawable.ALL)
def test_every_analysis_has_methods_and_a_page(make: Any, tmp_path: Path) -> None:
    data = make()
    path = write(tmp_path / "r.nc", {f"/analyses/{make.__name__}": data}, provenance())
    with open_result(path) as result:
        assert f"{make.__name__}: " in methods(result)
        if make.__name__ in ("circuit", "choice"):
            assert "<figure>" in page(result)


def test_the_command_writes_a_page_and_figures(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(stored)]) == 0
    assert "report.html and " in capsys.readouterr().out
    names = {path.name for path in (stored.parent / "figures").iterdir()}
    assert {"decode-layer_curves.png", "decode-layer_curves.svg", "heads-head_maps-effect.png",
            "heads-effect_bars-effect.svg"} <= names  # fmt: skip
    other = stored.parent / "deep" / "page.html"
    written, number = report(stored, other)
    assert written == other
    assert number == len(list((other.parent / "figures").iterdir())) // 2
    assert cli.main(["report", str(stored), str(stored), "--out", str(other)]) == 3
    assert "--out is one page, and there are 2 results" in capsys.readouterr().err


def test_an_open_result_shows_what_it_holds(stored: Path) -> None:
    with open_result(stored) as result:
        text = str(result)
        assert text.startswith("small\n")
        assert "analyses/decode: accuracy(layer), " in text
        assert "<code>captures/resid</code>" in result._repr_html_()
        assert result.figures("decode")[0]._repr_svg_().startswith("<svg")
        assert result.stimuli("words").sizes["stimulus"] == 2
        with pytest.raises(StoreError, match=r"has no analyses/decod \(known: decode, heads\)"):
            result.analysis("decod")
