"""What the README shows is what the project does."""

from __future__ import annotations

import re
from pathlib import Path

from patchclamp.specs.digest import digest
from patchclamp.specs.load import load, loads

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_spec_in_one_screen_is_the_quick_start() -> None:
    (shown,) = blocks("yaml")
    assert digest(loads(shown).spec) == digest(load("quickstart").spec)
    assert len(shown.splitlines()) <= 50


def test_the_result_path_is_the_one_that_the_quick_start_writes() -> None:
    paths = set(re.findall(r"runs/quickstart/(\w+)/result\.nc", README))
    assert paths == {digest(load("quickstart").spec)[:8]}


def test_the_quick_start_has_one_screen_too() -> None:
    text = load("quickstart").document.text
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 110


def test_the_commands_are_those_of_the_continuous_check() -> None:
    ci = (Path(__file__).resolve().parents[1] / ".ci" / "run").read_text()
    assert "python -m pytest -n auto --dist loadfile" in "".join(blocks("sh"))
    assert '"$bin/python" -m pytest -n auto --dist loadfile' in ci
