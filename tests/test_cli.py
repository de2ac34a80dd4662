"""The command line: what it prints, its exit codes, and what it does not import."""

import subprocess
import sys
from pathlib import Path

import pytest

from patchclamp.engine import cli
from patchclamp.registry.errors import ModelError

GOOD = "patchclamp: 1\nname: x\nmodel: m\nstimuli: {a: {kind: csv, path: x.csv, text: '{t}'}}\n"
BAD = GOOD.replace("csv, path", "cvs, path").replace("name: x", "name: a b")
HEAVY = ("torch", "numpy", "xarray", "transformers", "nnsight", "sklearn", "scipy", "rich")


def test_valid_specs_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("no spec")
    assert cli.main(["validate", str(tmp_path), "quickstart"]) == 0
    assert capsys.readouterr().out == "3 specs, 3 valid, 0 errors\n"


def test_every_problem_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    bad = tmp_path / "b.yaml"
    bad.write_text(BAD)
    assert cli.main(["validate", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert f"--> {bad}:2:7" in out
    assert "error[P207]: stimuli.a.kind: unknown kind 'cvs'" in out
    assert out.endswith(f"{bad}: 2 errors\n\n2 specs, 1 valid, 2 errors\n")


def test_what_cannot_be_read_weighs_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "b.yaml"
    bad.write_text(BAD)
    assert cli.main(["validate", "quikstart", str(bad), "quickstart"]) == 3
    out = capsys.readouterr().out
    assert "did you mean 'quickstart'?" in out
    assert out.endswith("3 specs, 1 valid, 3 errors\n")


def test_a_folder_without_specs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(tmp_path)]) == 3
    assert capsys.readouterr().err == f"no *.yaml file in the folder {str(tmp_path)!r}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["validat"], "unknown command 'validat' (known: run, validate, list); "
         "did you mean 'validate'?"),
        (["list", "site"], "did you mean 'sites'?"),
        (["list", "sites", "more"], "unexpected argument 'more' after 'list'"),
        (["run", "x", "--ot=y"], "unknown option '--ot' (known: --help, --out); "
         "did you mean '--out'?"),
        (["run", "x", "--ou", "y"], "unknown option '--ou'"),
        (["validate"], "the following arguments are required: PATH"),
        ([], "the following arguments are required: COMMAND"),
    ],
)  # fmt: skip
def test_usage_errors_propose_what_was_meant(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("sort", [*cli.TABLES, "specs"])
def test_lists_are_aligned(sort: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", sort]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = list(cli.TABLES.get(sort, cli.shipped()))
    assert [line.split()[0] for line in lines] == names
    width = max(map(len, names))
    assert all(line[width : width + 2] == "  " and line[width + 2] != " " for line in lines)


def test_list_without_a_sort_lists_the_sorts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [*cli.TABLES, "specs"]
    assert "resid_post" in out


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["run", "--help"]])
def test_help_is_fine(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    assert "patchclamp" in capsys.readouterr().out


def raises(error: BaseException) -> object:
    def command(args: object) -> int:
        raise error

    return lambda reference: command


def test_run_is_handed_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(cli, "load", lambda reference: lambda args: given.append(args) or 5)
    assert cli.main(["run", "a.yaml", "b", "--out", "there"]) == 5
    assert (given[0].spec, given[0].out) == (["a.yaml", "b"], "there")


def test_errors_of_ours_are_messages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "load", raises(ModelError("no weights in 'x'")))
    assert cli.main(["run", "a.yaml"]) == 3
    assert capsys.readouterr().err == "no weights in 'x'\n"


def test_an_interrupt_has_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "load", raises(KeyboardInterrupt()))
    assert cli.main(["run", "a.yaml"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("argv", [["validate", "quickstart"], ["validate", "nowhere"], ["list"]])
def test_checking_imports_nothing_heavy(argv: list[str]) -> None:
    code = (
        "import sys; from patchclamp.engine.cli import main\n"
        f"main({argv!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_specs_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, patchclamp.specs, patchclamp.registry\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
