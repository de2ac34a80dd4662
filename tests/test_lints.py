"""Lints that a spec allows are counted and not shown; allowing one in vain is told."""

from pathlib import Path

import pytest
from test_load import GOOD

from patchclamp.engine import cli
from patchclamp.engine.validate import check
from patchclamp.registry.errors import SpecError
from patchclamp.specs import digest, loads, resolved

WARNED = GOOD.replace("target: category", "target: category, controls: []")
WHY = "the controls are in another study"
ALLOWED = f"{WARNED}allow: {{P607: {WHY}}}\n"


def test_a_lint_that_is_allowed_is_kept_and_not_shown() -> None:
    loaded = loads(ALLOWED)
    assert loaded.warnings == ()
    assert [lint.code for lint in loaded.allowed] == ["P607"]
    assert loads(WARNED).allowed == ()
    assert resolved(loaded.spec)["allow"] == {"P607": WHY}


def test_what_is_allowed_decides_no_number() -> None:
    assert digest(loads(ALLOWED).spec) == digest(loads(WARNED).spec)


def test_other_lints_are_shown_as_ever() -> None:
    text = f"{ALLOWED}expect: [{{var: decode/accuracy, ge: 0.5}}]\n"
    assert [warning.code for warning in loads(text).warnings] == ["P604"]


def test_a_lint_that_is_allowed_in_vain_is_told_at_its_line() -> None:
    [warning] = loads(f"{GOOD}allow:\n  P607: {WHY}\n").warnings
    assert (warning.code, warning.line, warning.column) == ("P600", 22, 3)
    assert warning.headline == (
        "warning[P600]: allow: P607 does not fire here, so nothing is allowed; take the line out"
    )


def test_it_is_not_in_vain_where_one_cell_has_it() -> None:
    matrix = "matrix: {grid: {analyses.decode.controls: [[majority], []]}}\n"
    loaded = loads(f"{GOOD}allow: {{P607: {WHY}}}\n{matrix}")
    assert (loaded.warnings, len(loaded.allowed)) == ((), 1)


def test_beside_errors_it_is_not_shown_either() -> None:
    with pytest.raises(SpecError) as caught:
        loads(ALLOWED.replace("layers: 0..2", "layers: 2..0"))
    assert [d.code for d in caught.value.diagnostics] == ["P208"]  # type: ignore[attr-defined]


BAD = [
    ("{P66: x}", "P204", "unknown lint 'P66'", "P606"),
    ("{P301: x}", "P204", "unknown lint 'P301'", "P601"),
    ("{P600: x}", "P204", "unknown lint 'P600'", None),
    ("{P607: null}", "P203", 'expected text, got nothing (null); quote it: "null"', None),
    ('{P607: ""}', "P205", "this text may not be empty", None),
    ("[P607]", "P203", "expected a mapping, got a list", None),
]


@pytest.mark.parametrize(("allow", "code", "message", "suggestion"), BAD)
def test_only_lints_can_be_allowed_and_only_with_a_reason(
    allow: str, code: str, message: str, suggestion: str | None
) -> None:
    with pytest.raises(SpecError) as caught:
        loads(f"{WARNED.replace('controls: []', 'controls: [majority]')}allow: {allow}\n")
    [found] = caught.value.diagnostics
    assert (found.code, found.message) == (code, message)  # type: ignore[attr-defined]
    assert suggestion in (None, found.suggestion)  # type: ignore[attr-defined]


def test_what_is_allowed_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(ALLOWED)
    assert check(str(path)).allowed == 1
    assert cli.main(["validate", str(path)]) == 0
    assert capsys.readouterr().out == "1 spec, 1 valid, 0 errors, 1 warning allowed\n"
    assert cli.main(["validate", str(path), "--format", "json"]) == 0
    assert '"allowed": 1' in capsys.readouterr().out


def test_an_explanation_says_how_a_lint_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "P607"]) == 0
    assert "If it is meant: write the reason into the spec, `allow: {P607: ...}`" in (
        capsys.readouterr().out
    )
    assert cli.main(["explain", "P204"]) == 0
    assert "If it is meant" not in capsys.readouterr().out
