"""The JSON Schema passes every good spec and finds mistakes of form in bad ones."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from test_explain import completed

from patchclamp.engine import cli
from patchclamp.registry import ANALYSES, SITES
from patchclamp.specs import grammar
from patchclamp.specs.digest import resolved
from patchclamp.specs.document import parse
from patchclamp.specs.explanations import EXPLANATIONS
from patchclamp.specs.json_schema import json_schema
from patchclamp.specs.load import load
from patchclamp.specs.snippets import snippet
from patchclamp.specs.spec import spec_model

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted([*ROOT.glob("specs/*.yaml"), *ROOT.glob("specs/projects/*.yaml")])
GOOD = ROOT / "specs" / "quickstart.yaml"


@cache
def schema() -> dict[str, Any]:
    return json_schema()


def wrong(value: Any) -> list[str]:
    """Where a document differs from the schema: the key path of each mistake, or ''."""
    found = Draft7Validator(schema()).iter_errors(json.loads(json.dumps(value)))
    return [error.json_path for error in found]


def read(text: str) -> Any:
    document, problems = parse(text)
    assert document is not None, problems
    return document.value


def schemas(inside: Any) -> list[dict[str, Any]]:
    """Every schema in the schema; what only looks like one is among them."""
    if isinstance(inside, list):
        return [found for item in inside for found in schemas(item)]
    if not isinstance(inside, dict):
        return []
    return [inside, *(found for item in inside.values() for found in schemas(item))]


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(schema())
    references = {s["$ref"] for s in schemas(schema()) if isinstance(s.get("$ref"), str)}
    for reference in references:
        place: Any = schema()
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_specs_pass(path: Path) -> None:
    assert len(SHIPPED) >= 12
    assert wrong(read(path.read_text())) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_resolved_specs_pass(path: Path) -> None:
    for cell in load(path).cells[:3]:
        assert wrong(resolved(cell.spec)) == []


def test_whatever_the_explanations_show_as_right_passes() -> None:
    for explanation in EXPLANATIONS.values():
        assert wrong(read(completed(explanation.right))) == [], explanation.code
    for path, model in grammar.models_by_path(spec_model()):
        if grammar.kind_of(model) and len(path) == 2:
            assert wrong(read(completed(snippet(path, model)))) == [], model


def test_what_one_place_alone_gets_wrong_is_found() -> None:
    found = {
        code
        for code, explanation in EXPLANATIONS.items()
        if code.startswith("P2") and wrong(read(completed(explanation.wrong)))
    }
    # What goes together with what (P208) is no matter of form.
    assert found == {f"P20{n}" for n in (1, 2, 3, 4, 5, 6, 7, 9)}


def test_nothing_is_left_that_editors_stumble_over() -> None:
    for found in schemas(schema()["$defs"]):
        assert "discriminator" not in found
        assert not isinstance(found.get("title"), str)
        assert found.get("default", "") is not None
        assert "prefixItems" not in found


def test_every_key_says_what_it_means() -> None:
    silent = {
        (model.__name__, key)
        for _, model in grammar.models_by_path(spec_model())
        for key in grammar.fields(model)
        if not schema()["$defs"][model.__name__]["properties"][key].get("description")
    }
    assert silent == set()


def test_names_are_spelled_out() -> None:
    site = schema()["$defs"]["Capture"]["properties"]["site"]
    assert site["enum"] == list(SITES)
    assert site["enumDescriptions"][0] == SITES["embed"].summary
    members = schema()["$defs"]["Spec"]["properties"]["analyses"]["patternProperties"]
    (entry,) = members.values()
    kinds = [schema()["$defs"][ref["$ref"].split("/")[-1]] for ref in entry["oneOf"]]
    assert [kind["properties"]["kind"]["const"] for kind in kinds] == list(ANALYSES)


SHORT = """
patchclamp: 1
name: short
model: gpt2@main
stimuli:
  words:
    kind: template
    for: {i: 0..7, w: [a, b]}
    words: {objects: [cup, pen]}
    text: "{i}"
    keep_if: correct
    spans: {s: "{i}"}
    answer: {correct: " x"}
captures:
  a: {site: resid_post, positions: [first, -1, s.last], layers: [0, 50%, last], reduce: norm}
  b: {site: z, positions: {align: left, size: 3}, heads: [L4H10], layers: 0..3}
  c: {site: z, positions: s, heads: 0..3, reduce: [mean, {kind: topk, k: 2}]}
interventions:
  m: {kind: ablate, value: {mean_over: words, per: all}}
  r: {kind: ablate, value: {resample: words}}
analyses:
  p: {kind: probe, target: topic, estimator: {kind: ridge, alpha: 3}}
  l: {kind: ablation, units: {site: z}, metric: kl}
  c: {kind: circuit, units: {site: z}, metric: kl, circuits: {g: {kind: given, nodes: [MLP3]}}}
matrix:
  grid:
    seed: [0, 1]
    captures.a.positions: [last, {align: left, size: 3}]
    analyses.p.estimator: [{kind: ridge}, {kind: logistic}]
  zip:
    stimuli.words.labels[0]: [a, b]
    captures.a.layers.0: [0, 1]
"""


def test_short_forms_pass() -> None:
    assert wrong(read(SHORT)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("layers: 0..3", "layers: 0-3"),
        ("heads: [L4H10]", "heads: [4.10]"),
        ("s.last", "s.lst"),
        ("mean_over: words, per: all", "mean_over: words"),
        ("reduce: norm", "reduce: nrm"),
        ("metric: kl,", "metric: lk,"),
        ("alpha: 3", "C: 3"),
        ("seed: [0, 1]", "seed: 0"),
        ("seed: [0, 1]", "seed: [0, a]"),
        ("{align: left, size: 3}]", "{algin: left, size: 3}]"),
        ("captures.a.positions:", "captures.a.position:"),
        ("stimuli.words.labels[0]:", "stimuli.words.label[0]:"),
        ("seed: [0, 1]", "name: [a, b]"),
        ("  words:\n", "  Words:\n"),
    ],
)
def test_mistakes_of_form_are_found(old: str, new: str) -> None:
    assert old in SHORT
    assert wrong(read(SHORT.replace(old, new))) != []


def test_what_extends_another_may_leave_out_and_take_away() -> None:
    part = "extends: base.yaml\nanalyses: {probe_one: null, other: {cv: {folds: 3}, erase: null}}\n"
    assert wrong(read(part)) == []
    assert wrong(read(part.replace("folds", "fold"))) != []
    assert wrong(read(part.replace("erase", "earse"))) != []
    assert wrong(read(part.replace("extends: base.yaml\n", ""))) != []


def test_a_matrix_may_give_what_is_required() -> None:
    text = """
        patchclamp: 1
        name: swept
        model: m
        stimuli: {a: {kind: csv, text: "{t}"}}
        matrix: {grid: {stimuli.a.path: [x.csv, y.csv]}}
    """
    assert wrong(read(text)) == []
    assert wrong(read(text.replace("a.path: [x.csv, y.csv]", "a.groups: [x, y]"))) != []
    assert wrong(read(text.replace("a.path", "a.pth"))) != []


def test_null_is_for_what_may_be_left_out() -> None:
    text = GOOD.read_text()
    assert wrong(read(text.replace("seed: 0", "matrix: null"))) == []
    assert wrong(read(text.replace("set: sequences", "set: null"))) != []


def test_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_the_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert cli.main(["schema", "--write", str(tmp_path)]) == 0
        said = capsys.readouterr().out
    assert said.startswith(f"wrote {tmp_path / '.patchclamp' / 'schema.json'}\n")
    assert "# yaml-language-server: $schema=.patchclamp/schema.json" in said
    assert '"yaml.schemas": {".patchclamp/schema.json": "specs/**/*.yaml"}' in said
    assert json.loads((tmp_path / ".patchclamp" / "schema.json").read_text()) == schema()
    assert [path.name for path in (tmp_path / ".patchclamp").iterdir()] == ["schema.json"]


def test_the_command_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "--write", str(tmp_path / "absent")]) == 3
    place = tmp_path / "absent" / ".patchclamp" / "schema.json"
    assert capsys.readouterr().err == f"cannot write {str(place)!r}: No such file or directory\n"
