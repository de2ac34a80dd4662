"""The command line: what it prints, its exit codes, and what it does not import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from patchclamp.engine import cli, commands, mend, validate
from patchclamp.registry.errors import ModelError, SpecError
from patchclamp.specs.load import load

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
    tail = f"{bad}: 2 errors\n\n2 specs, 1 valid, 2 errors (1 can be fixed with --fix)\n"
    assert out.endswith(tail)


def test_what_nobody_has_heard_is_not_fine(tmp_path: Path) -> None:
    """Behind `| head`, a check that found something must not end as one that found nothing."""
    bad = tmp_path / "b.yaml"
    bad.write_text(BAD)
    heard, said = os.pipe()
    os.close(heard)
    program = "import sys; from patchclamp.engine.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "validate", str(bad)]
    with os.fdopen(said, "wb") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_cannot_be_read_weighs_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "b.yaml"
    bad.write_text(BAD)
    assert cli.main(["validate", "quikstart", str(bad), "quickstart"]) == 3
    out = capsys.readouterr().out
    assert "did you mean 'quickstart'?" in out
    assert out.endswith("3 specs, 1 valid, 3 errors (1 can be fixed with --fix)\n")


def test_a_folder_without_specs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(tmp_path)]) == 3
    assert capsys.readouterr().err == f"no *.yaml or *.yml file in the folder {str(tmp_path)!r}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["validat"], f"unknown command 'validat' (known: {', '.join(cli.COMMANDS)}); "
         "did you mean 'validate'?"),
        (["validate", "x", "--format", "jsn"], "unknown format 'jsn' (known: human, line, json, "
         "github, sarif, junit); did you mean 'json'?"),
        (["validate", "x", "--formt", "json"], "did you mean '--format'?"),
        (["explain", "spearmn"], "nothing is known by the name 'spearmn'; did you mean "
         "'spearman'?"),
        (["explain", "qqqqqq"], "nothing is known by the name 'qqqqqq'\n"),
        (["explain"], "the following arguments are required: NAME"),
        (["init", "a b"], "begins with a letter or a digit; got 'a b'"),
        (["list", "site"], "did you mean 'sites'?"),
        (["list", "sites", "more"], "unexpected argument 'more' after 'list'"),
        (["run", "x", "--ot=y"], "--out, --plugin, --report, --set); did you mean '--out'?"),
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


@pytest.mark.parametrize("sort", [*commands.TABLES, "specs"])
def test_lists_are_aligned(sort: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", sort]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = list(commands.TABLES.get(sort, commands.shipped()))
    assert [line.split()[0] for line in lines] == names
    width = max(map(len, names))
    assert all(line[width : width + 2] == "  " and line[width + 2] != " " for line in lines)


def test_list_without_a_sort_lists_the_sorts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [*commands.TABLES, "specs"]
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


@pytest.mark.parametrize(
    "argv",
    [
        ["validate", "quickstart"],
        ["validate", "nowhere"],
        ["validate", "bad.yaml", "--fix"],
        *(["validate", "bad.yaml", "--format", name] for name in validate.FORMATS),
        ["list"],
        ["explain", "probe"],
        ["explain", "P104"],
        ["show", "quickstart", "--resolved"],
        ["show", "quickstart", "--origin"],
        ["init", "new"],
    ],
    ids=" ".join,
)
def test_checking_imports_nothing_heavy(argv: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD.replace("model:", "modle:"))
    code = (
        "import sys; from patchclamp.engine.cli import main\n"
        f"main({argv!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_checking_needs_two_packages_alone(tmp_path: Path) -> None:
    """What docs/ci.md installs for it, and what comes with them."""
    code = (
        "import sys; before = set(sys.modules); from patchclamp.engine.cli import main\n"
        "for argv in (['validate', 'quickstart'], ['schema'], ['list'], ['explain', 'rsa'],\n"
        "             ['show', 'quickstart', '--origin'], ['init', 'new']):\n"
        "    assert main(argv) == 0\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(tops - sys.stdlib_module_names), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    imported = {name for name in done.stderr.split() if not name.startswith("_")}
    assert imported - {"cython_runtime"} == {
        "patchclamp", "yaml", "pydantic", "pydantic_core", "annotated_types", "typing_extensions",
        "typing_inspection",
    }  # fmt: skip


def test_pydantic_looks_for_no_plugins_and_its_own_search_can_still_be_had() -> None:
    """What pydantic would search with is not imported; a name that we do not know is its own."""
    code = (
        "import sys; from patchclamp.engine.cli import main\n"
        "assert main(['validate', 'quickstart']) == 0\n"
        "searched = 'importlib.metadata' in sys.modules\n"
        "from pydantic.plugin._loader import get_plugins, PYDANTIC_ENTRY_POINT_GROUP as group\n"
        "from pydantic import BaseModel, create_model\n"
        "print(searched, get_plugins(), group, create_model('M', a=(int, 1))().a)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False () pydantic 1"


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['numpy'] = None; from patchclamp.engine.cli import main\n"
        "sys.exit(main(['validate', 'quickstart', '--deep']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == (
        "this needs the package 'numpy', which is not installed; install patchclamp with its "
        "dependencies\n"
    )


def test_the_specs_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, patchclamp.specs, patchclamp.registry\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hidden_files_of_a_folder_are_no_specs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / "ci.yml").write_text("on: push")
    (tmp_path / ".hook.yaml").write_text("repos: []")
    (tmp_path / "a.yml").write_text(GOOD)
    assert cli.main(["validate", str(tmp_path), str(tmp_path / "a.yml")]) == 0
    assert capsys.readouterr().out == "1 spec, 1 valid, 0 errors\n"


def test_a_report_goes_to_a_file_and_people_get_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "b.yaml", tmp_path / "o.json"
    bad.write_text(BAD)
    assert cli.main(["validate", str(bad), "--format", "json", "--output", str(out)]) == 1
    assert len(json.loads(out.read_text())["diagnostics"]) == 2
    assert capsys.readouterr().out.startswith("error[P206]")
    assert cli.main(["validate", str(bad), "--output", str(tmp_path / "no" / "o")]) == 3
    assert "cannot write" in capsys.readouterr().err


def test_github_names_files_from_the_workspace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yaml").write_text(BAD)
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert cli.main(["validate", "b.yaml", "--format", "github"]) == 1
    assert capsys.readouterr().out.startswith("::error file=sub/b.yaml,line=2,")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "elsewhere"))
    assert cli.main(["validate", "b.yaml", "--format", "github"]) == 1
    assert capsys.readouterr().out.startswith("::error file=b.yaml,line=2,")


SLIPS = (
    "\ufeff# \u00e9\r\npatchclamp: 1\r\nname: x  # kept\r\nmodle: m\r\nstimuli: {a: {kind: cvx, "
    "path: p, text: t}}\r\n"
).encode()


def test_fix_mends_in_place_and_says_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "target.yaml"
    path.write_bytes(SLIPS)
    path.chmod(0o640)
    (tmp_path / "link.yaml").symlink_to(path)
    # `cvx` is too short to be surely a slip for `csv`.
    assert cli.main(["validate", "link.yaml", "--fix"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("fixed link.yaml:4:1: replace 'modle' by 'model'\n\nerror[P207]")
    assert path.read_bytes() == SLIPS.replace(b"modle", b"model")
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.yaml", "target.yaml"]
    assert (tmp_path / "link.yaml").is_symlink()


def test_fix_leaves_a_base_alone_that_was_not_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, spec = tmp_path / "base.yaml", tmp_path / "spec.yaml"
    base.write_text(GOOD.replace("text:", "txet:"))
    spec.write_text("extends: [base.yaml]\nsede: 1\n")
    assert cli.main(["validate", str(spec), "--fix"]) == 1
    assert base.read_text() == GOOD.replace("text:", "txet:")
    assert spec.read_text() == "extends: [base.yaml]\nseed: 1\n"
    assert cli.main(["validate", str(spec), str(base), "--fix"]) == 0
    assert base.read_text() == GOOD


def test_overrides_are_checked_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", "quickstart", "--set", "seed=-1"]) == 1
    assert "--> --set seed=-1:1:6" in capsys.readouterr().out
    assert cli.main(["validate", "quickstart", "--set", "seed=7"]) == 0
    assert cli.main(["show", "quickstart", "--set", "seed=7", "--resolved"]) == 0
    assert "\nseed: 7\n" in capsys.readouterr().out


def test_show_says_where_each_value_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(GOOD + "matrix: {grid: {model.dtype: [float16, bfloat16]}}\n")
    assert cli.main(["show", str(path), "--origin", "--set", "seed=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# the first of 2 cells: model.dtype=float16"
    found = dict(line.split("  # ") for line in lines[1:])
    origins = {value.strip(): origin for value, origin in found.items()}
    assert origins["name: x"] == f"{path}:2"
    assert origins["seed: 7"] == "--set seed=7"
    assert origins["model.weights: trained"] == "default"
    assert origins["model.dtype: float16"] == f"{path}:5 (matrix)"
    assert origins["stimuli.a.path: x.csv"] == f"{path}:4"


def test_fix_leaves_a_machine_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(GOOD.replace("model", "modle").replace("path", "paht"))
    assert cli.main(["validate", str(path), "--fix", "--format", "json"]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out)["diagnostics"] == []
    assert len(done.err.splitlines()) == 2
    assert path.read_text() == GOOD


def test_fix_changes_nothing_that_needs_no_mending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(GOOD.replace("kind: csv", "kind: quux"))
    before = [(p.stat().st_mtime_ns, p.read_bytes()) for p in (good, bad)]
    assert cli.main(["validate", str(tmp_path), "quickstart", "nowhere", "--fix"]) == 3
    assert [(p.stat().st_mtime_ns, p.read_bytes()) for p in (good, bad)] == before


def test_a_file_that_cannot_be_written_is_left_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(SLIPS)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(validate.os, "fsync", full)
    assert cli.main(["validate", str(path), "--fix"]) == 3
    assert capsys.readouterr().err == f"cannot write {str(path)!r}: No space left on device\n"
    assert path.read_bytes() == SLIPS
    assert [p.name for p in tmp_path.iterdir()] == ["a.yaml"]


def test_a_file_that_changes_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(SLIPS)
    real = validate.check

    def slow(*given: object) -> object:
        found = real(*given)  # type: ignore[arg-type]
        path.write_bytes(SLIPS + b"# mine\r\n")
        return found

    monkeypatch.setattr(mend, "check", slow)
    assert mend.mend(str(path)) == []
    assert path.read_bytes() == SLIPS + b"# mine\r\n"


def test_show_prints_a_spec_as_written_or_resolved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(GOOD.rstrip())
    assert cli.main(["show", str(path)]) == 0
    assert capsys.readouterr().out == GOOD
    assert cli.main(["show", str(path), "--resolved"]) == 0
    out = capsys.readouterr().out
    assert "dtype: float32\n" in out
    path.write_text(out)
    assert load(path).spec == load(path).spec.model_copy()
    assert cli.main(["show", str(path), "--resolved"]) == 0
    assert capsys.readouterr().out == out
    path.write_text(BAD)
    assert cli.main(["show", str(path)]) == 1
    assert "error[P206]" in capsys.readouterr().err


def test_init_writes_a_spec_that_is_valid_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init"]) == 0
    assert cli.main(["init", "my-study"]) == 0
    assert cli.main(["init", "other.yml"]) == 0
    assert cli.main(["validate", "."]) == 0
    assert capsys.readouterr().out.endswith("3 specs, 3 valid, 0 errors\n")
    assert load(tmp_path / "my-study.yaml").spec.name == "my-study"
    before = (tmp_path / "my-study.yaml").read_bytes()
    assert cli.main(["init", "my-study.yaml"]) == 2
    assert "'my-study.yaml' is there already" in capsys.readouterr().err
    assert (tmp_path / "my-study.yaml").read_bytes() == before
    assert cli.main(["init", "no/folder"]) == 3


def test_names_that_no_console_can_hold_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a\udcff.yaml"
    path.write_text(BAD)
    for name in validate.FORMATS:
        assert cli.main(["validate", str(path), "--format", name]) == 1
    assert "a\\udcff.yaml" in capsys.readouterr().out
    with pytest.raises(SpecError):
        load(path)
