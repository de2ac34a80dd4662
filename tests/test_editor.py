"""What an editor says of specs: yaml-language-server, the one that VS Code and others run.

It is no Python package: `npm install --prefix .patchclamp yaml-language-server` puts it where it is
found, or PATCHCLAMP_YAML_LANGUAGE_SERVER names it. Without it these tests are skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from language_server import Server, command

from patchclamp.registry import SITES
from patchclamp.registry.errors import SpecError
from patchclamp.specs.codes import LINTS
from patchclamp.specs.diagnostics import Diagnostic
from patchclamp.specs.json_schema import json_schema
from patchclamp.specs.load import load

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted([*ROOT.glob("specs/*.yaml"), *ROOT.glob("specs/projects/*.yaml")])
PLANTED = ROOT / "tests" / "specs" / "planted.yaml"

FLAGGED = {
    (4, 1): "Property discription is not allowed.",
    (5, 7): 'Incorrect type. Expected "integer | array".',
    (6, 1): "Property batch is not allowed.",
    (8, 26): 'Value is not accepted. Valid values: "float32", "float16", "bfloat16".',
    # An entry is compared with the kind that is most like it.
    (12, 11): 'Value must be "builtin".',
    (15, 3): 'Missing property "path".',
    (18, 15): "Value is below the minimum of 1.",
    (21, 27): "Value is not accepted. Valid values: ",
    (22, 29): "Property layer is not allowed.",
    (23, 3): "Map keys must be unique",
    (30, 5): "Property folds is not allowed.",
    (31, 15): 'Incorrect type. Expected "array".',
    (32, 30): "Property C is not allowed.",
    (36, 5): "Property model.revison is not allowed.",
    (38, 22): 'Incorrect type. Expected "string | null".',
}
"""Line and column of each planted mistake -> how what the editor says of it begins."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    start = command()
    if start is None:
        pytest.skip("yaml-language-server is not installed")
    schema = tmp_path_factory.mktemp("schema") / "schema.json"
    schema.write_text(json.dumps(json_schema()))
    with Server(start, schema) as server:
        server.check("first.yaml", "patchclamp: 1\n")  # it has read the schema when it answers
        yield server


def test_fifteen_mistakes_are_found_at_once() -> None:
    """What the editor is compared with: the lines that say so, each with one problem."""
    with pytest.raises(SpecError) as caught:
        load(PLANTED)
    found = [(d.line, d.column) for d in caught.value.diagnostics if isinstance(d, Diagnostic)]
    assert sorted(found) == sorted(FLAGGED)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_an_editor_has_nothing_against_shipped_specs(server: Server, path: Path) -> None:
    assert server.check(path.name, path.read_text()) == []


def test_an_editor_flags_the_mistakes(server: Server) -> None:
    found = {}
    for diagnostic in server.check("planted.yaml", PLANTED.read_text()):
        start = diagnostic["range"]["start"]
        found[start["line"] + 1, start["character"] + 1] = diagnostic["message"]
    assert found.keys() == FLAGGED.keys()
    assert {at: said for at, said in found.items() if not said.startswith(FLAGGED[at])} == {}


def test_sites_are_proposed(server: Server) -> None:
    proposed = server.complete("captures:\n  a:\n    site: |\n")
    assert list(proposed) == list(SITES)
    assert proposed["z"].startswith(SITES["z"].summary)


def test_kinds_are_proposed_with_what_they_are(server: Server) -> None:
    proposed = server.complete("stimuli:\n  a:\n    kind: |\n")
    assert list(proposed) == ["builtin", "csv", "jsonl", "items", "hub", "template", "corrupt"]
    assert proposed["csv"].startswith("A CSV file with a header line, UTF-8")


def test_keys_of_the_chosen_kind_alone_are_proposed(server: Server) -> None:
    proposed = server.complete("analyses:\n  a:\n    kind: probe\n    |\n")
    assert {"target", "cv", "controls"} <= proposed.keys()
    assert not {"rdm", "against", "circuits", "kind"} & proposed.keys()
    assert proposed["cv"].startswith("How stimuli are held out.")
    later = server.complete("extends: base.yaml\nanalyses:\n  a:\n    kind: probe\n    |\n")
    assert later.keys() <= proposed.keys()


def test_paths_of_a_matrix_are_proposed(server: Server) -> None:
    proposed = server.complete("matrix:\n  grid:\n    |\n")
    assert {"seed", "model.id", "model.revision", "model.dtype"} <= proposed.keys()
    assert not {"name", "run.device", "matrix"} & proposed.keys()


def test_lints_are_proposed_with_what_they_are(server: Server) -> None:
    proposed = server.complete("allow:\n  |\n")
    assert list(proposed) == list(LINTS)
    assert proposed["P607"].startswith("an effect without a control")


def quickstart_with(text: str) -> str:
    """The quick start with something else in the place of its seed."""
    changed, number = re.subn(
        r"^seed: .*$", text, (ROOT / "specs" / "quickstart.yaml").read_text(), flags=re.MULTILINE
    )
    assert number == 1
    return changed


@pytest.mark.parametrize("text", ["seed: [0, 1]", "seed: 3", "allow: {P605: it was done so}"])
def test_seeds_and_allowed_lints_are_accepted(server: Server, text: str) -> None:
    assert server.check("good.yaml", quickstart_with(text)) == []


@pytest.mark.parametrize("text", ["seed: []", "seed: [0, x]", "seed: [1, 1]", "allow: {P66: x}"])
def test_other_seeds_and_lints_are_flagged(server: Server, text: str) -> None:
    assert len(server.check("bad.yaml", quickstart_with(text))) == 1


def test_a_key_says_what_it_means(server: Server) -> None:
    said = server.hover("analyses:\n  a:\n    kind: probe\n    target: x\n    s|huffles: 30\n")
    assert said.startswith("Number of label shuffles")
