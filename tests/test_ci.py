"""What docs/ci.md tells people to put into CI works as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from patchclamp.engine import cli

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
YAML: list[Any] = [yaml.safe_load(t) for t in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
HOOKS: list[Any] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


def steps() -> list[str]:
    jobs = [job for text in YAML for job in text.get("jobs", {}).values()]
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


COMMANDS = [
    line
    for line in [*"\n".join(SHELL).splitlines(), *steps()]
    if line.startswith("patchclamp ") and line.strip()
]


def test_the_page_shows_commands() -> None:
    assert len(COMMANDS) >= 6
    assert any("--format github" in line for line in COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "first"]) == 0
    (tmp_path / "studies").mkdir()
    (tmp_path / "first.yaml").rename("studies/first.yaml")
    assert cli.main(shlex.split(line)[1:]) == 0


def test_every_format_and_exit_code_is_on_the_page() -> None:
    from patchclamp.specs.formats import FORMATS

    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) == list(FORMATS)
    assert re.findall(r"^\| (\d) \|", TEXT, re.MULTILINE) == ["0", "1", "2", "3"]


def test_the_hook_is_the_one_that_the_page_names() -> None:
    (hook,) = HOOKS
    used = [h for text in YAML for repo in text.get("repos", []) for h in repo["hooks"]]
    assert {h["id"] for h in used} == {hook["id"]}
    for name in ("a.yaml", "studies/b.yml"):
        assert re.search(hook["files"], name)
    assert not re.search(hook["files"], "a.yaml.txt")
    for h in used:
        assert re.search(h["files"], "studies/deep/a.yaml")
        assert not re.search(h["files"], ".github/workflows/ci.yml")


def test_the_hook_is_a_command(tmp_path: Path) -> None:
    program, *arguments = shlex.split(HOOKS[0]["entry"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"][program].partition(":")
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("patchclamp: 1\nname: x\nmodel: m\nstimuli: {a: {kind: csv, path: p, text: t}}")
    bad.write_text("patchclamp: 1\n")
    for files, code in (([good], 0), ([good, bad], 1)):
        script = f"import sys; from {module} import {function}; sys.exit({function}(sys.argv[1:]))"
        command = [sys.executable, "-c", script, *arguments, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
