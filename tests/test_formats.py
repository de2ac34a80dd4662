"""What machines are told: each format by its own rules, and all of them the same findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.engine.validate import check
from patchclamp.specs.diagnostics import Diagnostic, Fix, Span
from patchclamp.specs.format_json import Report
from patchclamp.specs.formats import FORMATS, Checked, render_as

BAD = """\
patchclamp: 1
name: x
modle: "bundled:sequences"
stimuli: {words: {kind: builtn, set: sequences, text: "{prompt}"}}
seed: -1
"""
ONE = Diagnostic(
    code="P204",
    message="unknown site 'a, b: 100%'",
    source="studies/one, two: 50%.yaml",
    line=3,
    column=7,
    end_line=3,
    end_column=12,
    path=("captures", "resid", "site"),
    allowed=("resid_pre", "resid_post"),
    suggestion="resid_post",
    fix=Fix(Span(3, 7, 3, 12), "resid_post", "replace 'a' by 'resid_post'"),
)
WARNING = ONE._replace(severity="warning", code="P309", fix=None)
ROOT = Path()


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "é 日本").mkdir()
    Path("é 日本/bad.yaml").write_text(BAD, encoding="utf-8")
    return check("é 日本/bad.yaml")


def checked(*diagnostics: Diagnostic) -> Checked:
    return Checked("studies/a.yaml", diagnostics, "the report")


def github(*diagnostics: Diagnostic) -> list[str]:
    return render_as("github", [checked(*diagnostics)], ROOT).splitlines()


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_found_is_said_in_every_format(format: str) -> None:
    text = render_as(format, [Checked("a.yaml")], ROOT)
    assert text == "" or text.endswith("\n")
    assert "error" not in text.replace("errors", "") or format == "json"


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_tells_every_mistake(format: str, bad: Checked) -> None:
    text = render_as(format, [bad], Path.cwd())
    assert [d.code for d in bad.diagnostics] == ["P202", "P207", "P205"]
    for code in ("P202", "P207", "P205"):
        assert code in text


def test_people_get_reports_and_a_count(bad: Checked) -> None:
    text = render_as("human", [bad, Checked("b"), Checked("c", unreadable="no", report="no")], ROOT)
    assert text.startswith("error[P202]")
    assert text.endswith("\n\nno\n\n3 specs, 1 valid, 4 errors (2 can be fixed with --fix)\n")


def test_warnings_are_counted_and_leave_a_spec_valid() -> None:
    one = Checked("a", (WARNING,), "")
    assert one.valid
    assert render_as("human", [one], ROOT) == "1 spec, 1 valid, 0 errors, 1 warning\n"


def test_editors_get_one_line_each(bad: Checked) -> None:
    lines = render_as("line", [bad, Checked("b", unreadable="no\nfile")], ROOT).splitlines()
    assert [line.split(" error")[0] for line in lines] == [
        "é 日本/bad.yaml:3:1:",
        "é 日本/bad.yaml:4:25:",
        "é 日本/bad.yaml:5:7:",
        "b:1:1:",
    ]
    assert lines[-1] == "b:1:1: error: no file"


def conforms(value: Any, schema: Any) -> None:
    """Hold JSON data against a schema of typed dicts, lists and unions."""
    if is_typeddict(schema):
        assert value.keys() == get_type_hints(schema).keys()
        for key, inner in get_type_hints(schema).items():
            conforms(value[key], inner)
    elif get_origin(schema) is list:
        for item in value:
            conforms(item, get_args(schema)[0])
    elif get_args(schema) and any(map(is_typeddict, get_args(schema))):
        if value is not None:
            conforms(value, get_args(schema)[0])
    else:
        assert isinstance(value, schema)


def test_json_keeps_to_its_schema(bad: Checked) -> None:
    text = render_as("json", [bad, Checked("\udcff", unreadable="no", report="no")], ROOT)
    text.encode("ascii")
    report = json.loads(text)
    conforms(report, Report)
    assert report["version"] == 1
    assert [file["errors"] for file in report["files"]] == [3, 1]
    found = report["diagnostics"][0]
    assert found["fix"] == {
        "line": 3,
        "column": 1,
        "end_line": 3,
        "end_column": 6,
        "replacement": "model",
        "title": "replace 'modle' by 'model'",
    }
    assert (found["file"], found["path"], found["severity"]) == ("é 日本/bad.yaml", [], "error")
    assert report["diagnostics"][2]["fix"] is None


def test_github_properties_and_messages_are_escaped() -> None:
    (line,) = github(ONE)
    assert line == (
        "::error file=studies/one%2C two%3A 50%25.yaml,line=3,col=7,endLine=3,endColumn=12,"
        "title=P204%3A a value that is not among those allowed::error[P204]: "
        "captures.resid.site: unknown site 'a, b: 100%25'%0A"
        "allowed: resid_pre, resid_post%0Ahelp: did you mean 'resid_post'?"
    )


def test_github_reads_columns_within_one_line_only() -> None:
    (line,) = github(ONE._replace(end_line=5, end_column=2))
    assert ",line=3,endLine=5,title=" in line
    assert "col=" not in line


def test_github_puts_errors_first_and_counts_what_it_would_drop() -> None:
    many = [ONE._replace(line=n) for n in range(1, 15)]
    lines = github(WARNING, *many[:10])
    assert [line.split()[0] for line in lines] == ["::error"] * 10 + ["::warning"]
    assert "more" not in "".join(lines)
    lines = github(*[WARNING._replace(line=n) for n in range(1, 13)], *many)
    assert [line.split()[0] for line in lines] == ["::error"] * 10 + ["::warning"] * 10
    assert lines[9].startswith("::error title=patchclamp::5 more errors: ")
    assert lines[19].startswith("::warning title=patchclamp::3 more warnings: ")


def test_github_names_files_from_the_root_of_the_repository(bad: Checked, tmp_path: Path) -> None:
    text = render_as("github", [bad, Checked("/else/a.yaml", unreadable="no")], tmp_path.parent)
    first, second, *_ = text.splitlines()
    assert first == "::error file=/else/a.yaml,title=patchclamp::no"
    assert second.startswith(f"::error file={tmp_path.name}/é 日本/bad.yaml,line=3,")


def test_a_mistake_in_an_override_is_placed_at_the_spec(tmp_path: Path) -> None:
    one = check("quickstart", ["seed=-1"])
    (line,) = render_as("github", [one], tmp_path).splitlines()
    assert line.startswith("::error file=quickstart,line=1,col=1,")
    assert line.endswith("(in --set seed=-1)")
    (run,) = json.loads(render_as("sarif", [one], tmp_path))["runs"]
    where = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert "--set" not in where


def test_junit_has_a_case_for_each_file(bad: Checked) -> None:
    files = [bad, Checked("good.yaml"), Checked("w", (WARNING,)), Checked("n", unreadable="no")]
    suite = ElementTree.fromstring(render_as("junit", files, ROOT)).find("testsuite")
    assert suite is not None
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "1", "1", "0"]
    cases = suite.findall("testcase")
    assert [[child.tag for child in case] for case in cases] == [
        ["failure"],
        [],
        ["system-out"],
        ["error"],
    ]
    failure = cases[0][0]
    assert failure.get("message") == "3 errors: P202, P207, P205"
    assert failure.text == bad.report
    assert cases[0].get("file") == "é 日本/bad.yaml"


@given(st.text(), st.text(min_size=1))
def test_junit_and_github_hold_any_text(message: str, source: str) -> None:
    found = ONE._replace(message=message, source=source, path=())
    files = [Checked(source, (found,), message or "x"), Checked(source, unreadable=message)]
    root = ElementTree.fromstring(render_as("junit", files, ROOT))
    assert root.get("tests") == "2"
    lines = render_as("github", files, ROOT).rstrip("\n").split("\n")
    assert all(line.startswith("::error file=") and line.count("::") >= 2 for line in lines)
    assert len(lines) == 1 + bool(message)
