"""SARIF 2.1.0 against strict models of the standard, its rules that no schema says, and its schema.

The schema's licence keeps it out of this repository. A package of npm has it: where
`npm install --prefix .patchclamp @microsoft/jest-sarif` has put it, or PATCHCLAMP_SARIF_SCHEMA
names a copy, such as that of OASIS, every report is checked against it, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote

import pytest
from jsonschema.validators import validator_for
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from test_formats import BAD, ONE, ROOT, WARNING, checked
from test_planted import MISTAKES, NAMES, planted

from patchclamp.engine.validate import check
from patchclamp.specs.diagnostics import Diagnostic
from patchclamp.specs.formats import Checked, render_as

VARIABLE = "PATCHCLAMP_SARIF_SCHEMA"
PACKAGE = Path(__file__).resolve().parents[1] / ".patchclamp/node_modules/@microsoft/jest-sarif"


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    monkeypatch.chdir(tmp_path)
    path = Path("é 日本/bad.yaml")
    path.parent.mkdir()
    path.write_text(BAD, encoding="utf-8")
    return check(str(path))


def sarif(*files: Checked, root: Path = ROOT) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(render_as("sarif", files, root))["runs"][0]
    return run


class Sarif(BaseModel):
    """What the standard (SARIF 2.1.0, section 3) says of the objects that are written here."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Text(Sarif):
    text: str = Field(min_length=1)
    markdown: str | None = None


class ArtifactLocation(Sarif):  # 3.4
    uri: str = Field(pattern=r"^(?:[A-Za-z0-9._~:/?#@!$&'()*+,;=\[\]-]|%[0-9A-F]{2})+$")
    uriBaseId: str | None = None  # noqa: N815

    @model_validator(mode="after")
    def _base(self) -> Self:
        # 3.4.3, 3.4.4: an absolute URI has no base; a relative one neither climbs nor is a path.
        absolute = re.match(r"[a-z][a-z0-9+.-]*:", self.uri) is not None
        assert absolute != (self.uriBaseId is not None)
        assert absolute or not self.uri.startswith("/")
        assert ".." not in self.uri.split("/")
        return self


class Region(Sarif):  # 3.30
    startLine: int = Field(ge=1)  # noqa: N815
    startColumn: int = Field(ge=1)  # noqa: N815
    endLine: int = Field(ge=1)  # noqa: N815
    endColumn: int = Field(ge=1)  # noqa: N815

    @model_validator(mode="after")
    def _forward(self) -> Self:
        assert (self.startLine, self.startColumn) <= (self.endLine, self.endColumn)
        return self


class Physical(Sarif):  # 3.29
    artifactLocation: ArtifactLocation  # noqa: N815
    region: Region | None = None


class Logical(Sarif):  # 3.33
    fullyQualifiedName: str = Field(min_length=1)  # noqa: N815
    kind: Literal["member"]


class Location(Sarif):  # 3.28
    physicalLocation: Physical  # noqa: N815
    logicalLocations: list[Logical] | None = None  # noqa: N815


class Replacement(Sarif):  # 3.57
    deletedRegion: Region  # noqa: N815
    insertedContent: Text  # noqa: N815


class Change(Sarif):  # 3.56
    artifactLocation: ArtifactLocation  # noqa: N815
    replacements: list[Replacement] = Field(min_length=1)


class SarifFix(Sarif):  # 3.55
    description: Text
    artifactChanges: list[Change] = Field(min_length=1)  # noqa: N815


class Result(Sarif):  # 3.27
    ruleId: str = Field(pattern=r"^P[1-6][0-9]{2}$")  # noqa: N815
    ruleIndex: int = Field(ge=0)  # noqa: N815
    level: Literal["none", "note", "warning", "error"]
    message: Text
    locations: list[Location] = Field(min_length=1, max_length=1)  # 3.27.12: one, of one problem
    partialFingerprints: dict[str, str] = Field(min_length=1)  # noqa: N815
    fixes: list[SarifFix] | None = Field(default=None, min_length=1)


class Configuration(Sarif):  # 3.50
    level: Literal["none", "note", "warning", "error"]


class Rule(Sarif):  # 3.49
    id: str
    shortDescription: Text  # noqa: N815
    fullDescription: Text  # noqa: N815
    help: Text
    defaultConfiguration: Configuration  # noqa: N815


class Driver(Sarif):  # 3.19
    name: str
    version: str
    rules: list[Rule]


class Tool(Sarif):  # 3.18
    driver: Driver


class Notification(Sarif):  # 3.58
    level: Literal["none", "note", "warning", "error"]
    message: Text
    locations: list[Location]


class Invocation(Sarif):  # 3.20
    executionSuccessful: bool  # noqa: N815
    toolExecutionNotifications: list[Notification]  # noqa: N815


class Artifact(Sarif):  # 3.24
    location: ArtifactLocation


class BaseUri(Sarif):  # 3.14.14
    description: Text


class Run(Sarif):  # 3.14
    tool: Tool
    columnKind: Literal["utf16CodeUnits", "unicodeCodePoints"]  # noqa: N815
    originalUriBaseIds: dict[str, BaseUri]  # noqa: N815
    invocations: list[Invocation] = Field(min_length=1)
    artifacts: list[Artifact]
    results: list[Result]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        rules = [rule.id for rule in self.tool.driver.rules]
        for result in self.results:
            assert rules[result.ruleIndex] == result.ruleId  # 3.52.4
        for unique in (
            rules,
            [str(artifact) for artifact in self.artifacts],  # 3.14.15
            [tuple(result.partialFingerprints.items()) for result in self.results],  # 3.27.17
        ):
            assert len(set(unique)) == len(unique)
        used = set(re.findall(r'"uriBaseId":"([^"]*)"', self.model_dump_json()))
        assert used <= self.originalUriBaseIds.keys()
        assert set(rules) == {result.ruleId for result in self.results}
        return self


class Log(Sarif):  # 3.13
    schema_: Literal[
        "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
    ] = Field(alias="$schema")
    version: Literal["2.1.0"]
    runs: list[Run] = Field(min_length=1)


def mistakes(folder: Path) -> Iterator[Checked]:
    """Every planted mistake in a file of its own, with a matrix, bases and odd names."""
    for number, (name, mistake) in enumerate(zip(NAMES, MISTAKES, strict=True)):
        path = folder / f"{number} {'é 日本 %' if number % 2 else 'plain'}.yaml"
        path.write_text(planted(mistake), encoding="utf-8")
        yield check(str(path), [name] if "set" in mistake else [])


def reports(folder: Path, bad: Checked) -> Iterator[str]:
    """Reports of all sorts, as text."""
    unread = Checked("nope\udcff.yaml", unreadable="no", report="no")
    yield render_as("sarif", [bad, unread, checked(ONE, WARNING)], Path.cwd())
    yield render_as("sarif", [Checked("a.yaml")], ROOT)
    yield render_as("sarif", [], ROOT)
    yield render_as("sarif", [check("quickstart", ["seed=-1", "model.dtype=flot32"])], folder)
    yield render_as("sarif", list(mistakes(folder)), folder)
    yield render_as("sarif", list(mistakes(folder)), Path("/elsewhere"))


def test_sarif_keeps_to_the_standard(bad: Checked, tmp_path: Path) -> None:
    runs = []
    for text in reports(tmp_path, bad):
        text.encode("ascii")
        runs += Log.model_validate_json(text).runs
    assert len(runs[4].results) > 100
    assert sum(bool(result.fixes) for result in runs[4].results) > 15
    run = runs[0]
    rules = run.tool.driver.rules
    assert [rule.id for rule in rules] == ["P202", "P204", "P205", "P207", "P309"]
    assert all("To mend it" in rule.help.text for rule in rules)
    assert not run.invocations[0].executionSuccessful
    assert len(run.artifacts) == 3
    assert [bool(result.fixes) for result in run.results] == [True, True, False, True, False]


BROKEN = [
    ("ruleIndex", 7), ("ruleId", "P999"), ("level", "fatal"), ("locations", []), ("kinds", "fail"),
    ("message", {"text": ""}), ("partialFingerprints", {}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BROKEN)
def test_the_models_find_what_is_wrong(key: str, value: object) -> None:
    log = json.loads(render_as("sarif", [checked(ONE)], ROOT))
    Log.model_validate(log)
    log["runs"][0]["results"][0][key] = value
    with pytest.raises((ValidationError, IndexError)):
        Log.model_validate(log)


def schema() -> dict[str, Any] | None:
    named = os.environ.get(VARIABLE)
    found = [Path(named)] if named else sorted(PACKAGE.glob("lib/schemas/sarif-2.1.0*.json"))
    return json.loads(found[0].read_text(encoding="utf-8")) if found else None


def test_sarif_keeps_to_its_schema(bad: Checked, tmp_path: Path) -> None:
    rules = schema()
    if rules is None:
        pytest.skip("the schema of SARIF is not installed")
    validator = validator_for(rules)(rules)
    for text in reports(tmp_path, bad):
        assert [error.message for error in validator.iter_errors(json.loads(text))] == []
    log = json.loads(render_as("sarif", [checked(ONE)], ROOT))
    log["runs"][0]["results"][0]["level"] = "fatal"
    (error,) = validator.iter_errors(log)
    assert list(error.absolute_path) == ["runs", 0, "results", 0, "level"]


def test_sarif_names_files_relative_to_the_root(bad: Checked, tmp_path: Path) -> None:
    where = sarif(bad, root=tmp_path)["results"][0]["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uriBaseId"] == "%SRCROOT%"
    assert unquote(where["artifactLocation"]["uri"]) == "é 日本/bad.yaml"
    (artifact,) = sarif(Checked("/else/a.yaml"), root=tmp_path)["artifacts"]
    assert artifact["location"] == {"uri": "file:///else/a.yaml"}
    (artifact,) = sarif(Checked("../a.yaml"), root=tmp_path)["artifacts"]
    assert artifact["location"]["uri"].startswith("file:///")
    run = sarif(Checked("a.yaml"), Checked("./b/../a.yaml"), Checked(str(tmp_path / "a.yaml")))
    assert [a["location"]["uri"] for a in run["artifacts"]] == ["a.yaml"]


def prints(found: Sequence[Diagnostic]) -> list[str]:
    results = sarif(checked(*found))["results"]
    return [result["partialFingerprints"]["patchclamp/v1"] for result in results]


def test_a_fingerprint_stays_while_lines_move_and_tells_twins_apart() -> None:
    moved = ONE._replace(line=30, end_line=30, column=1)
    assert prints([ONE]) == prints([moved])
    assert len(set(prints([ONE, moved, WARNING, ONE._replace(message="m")]))) == 4
