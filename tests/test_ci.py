"""What docs/ci.md tells people to put into CI works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
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
    """Return the commands of the workflows that only validate; the other is tested as a whole."""
    flows = [text for text in YAML if text.get("name") == "specs"]
    jobs = [job for text in flows for job in text["jobs"].values()]
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


STUDY = """\
patchclamp: 1
name: first
model: owner/large
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", labels: [category], groups: template,
          take: {n: 30}}
captures: {resid: {of: words, site: resid_post, layers: last, positions: last}}
analyses:
  coheres: {kind: rsa, of: resid, contrast: {kind: discriminative, column: category},
            test: {permute: category, n: 99}}
expect: [{var: coheres/contrast, ge: -5.0}]
"""


def shell(command: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does: `bash -e`, with patchclamp and a `gh` that notes its words."""
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    cache = str(folder / "cache")
    known = {**os.environ, "PATH": path, "PATCHCLAMP_CACHE": cache, "HF_HUB_OFFLINE": "1", **env}
    return subprocess.run(
        ["bash", "-e", "-c", command], cwd=folder, env=known, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def repository(folder: Path) -> None:
    """Make a repository whose branch `origin/main` has the study before it is changed."""
    (folder / "studies").mkdir()
    (folder / "studies" / "first.yaml").write_text(STUDY)
    (folder / "studies" / "other.yaml").write_text(STUDY.replace("first", "other"))
    (folder / "bin").mkdir()
    (folder / "bin" / "gh").write_text('#!/bin/sh\necho "$@" > said\n')
    (folder / "bin" / "gh").chmod(0o755)
    program = f"#!/bin/sh\nexec {sys.executable} -c 'import sys; from patchclamp.engine.cli import "
    program += 'main; sys.exit(main())\' "$@"\n'
    (folder / "bin" / "patchclamp").write_text(program)
    (folder / "bin" / "patchclamp").chmod(0o755)
    commands = [
        "git init -q -b work",
        "git config user.email a@example.org && git config user.name A",
        "git add studies && git commit -qm base",
        "git update-ref refs/remotes/origin/main HEAD",
        "echo '# changed' >> studies/first.yaml && git commit -qam change",
    ]
    for command in commands:
        done = shell(command, folder)
        assert done.returncode == 0, done.stderr


def test_studies_from_end_to_end(tmp_path: Path) -> None:
    """Bless, change nothing: fine. Change the numbers: the job fails, and the report says why."""
    repository(tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    bless = next(block for block in blocks if "--update" in block)
    done = shell(bless, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as Ada says: first run" in done.stdout
    (flow,) = (text for text in YAML if text.get("name") == "studies")
    named = {step.get("name", ""): step["run"] for step in flow["jobs"]["studies"]["steps"]
             if "run" in step and "pip install" not in step["run"]}  # fmt: skip
    validate, compare, say = named.values()
    env = {
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "NUMBER": "7",
    }
    assert shell(validate, tmp_path, **env).returncode == 0
    done = shell(compare, tmp_path, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "runs" / "other").exists()  # it has not changed
    assert list(tmp_path.glob("runs/first/*/report.html"))

    study = tmp_path / "studies" / "first.yaml"
    study.write_text(study.read_text().replace("n: 30", "n: 25").replace("-5.0", "5.0"))
    shutil.rmtree(tmp_path / "runs")
    done = shell(compare, tmp_path, **env)
    assert done.returncode == 1, done.stdout + done.stderr
    done = shell(say, tmp_path, **env)
    assert done.returncode == 0, done.stderr
    summary = (tmp_path / "summary").read_text(encoding="utf-8")
    assert "### ❌ different" in summary
    assert "stimuli.words.take.n: 30 → 25" in summary
    assert "| ✗ | coheres/contrast ≥ 5 |" in summary
    assert (tmp_path / "said").read_text() == "pr comment 7 --body-file report.md\n"
