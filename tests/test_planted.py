"""A table of planted mistakes: one edit of a good spec each, and exactly what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from patchclamp.registry.errors import SpecError
from patchclamp.specs.diagnostics import Diagnostic, line_starts
from patchclamp.specs.document import parse
from patchclamp.specs.fixes import apply_fixes, with_fixes
from patchclamp.specs.library import FOLDER, shipped
from patchclamp.specs.load import load, loads

TABLE: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "mistakes.yaml").read_text(encoding="utf-8")
)
BASE: str = TABLE["base"]
MISTAKES: list[dict[str, Any]] = TABLE["mistakes"]
NAMES = [(mistake.get("set") or mistake.get("new") or "-" + mistake["old"])[:40]
         for mistake in MISTAKES]  # fmt: skip


def found(text: str, *overrides: str) -> tuple[Diagnostic, ...]:
    """Everything that is said of a spec, errors and warnings, with the fixes there are."""
    try:
        return loads(text, "a.yaml", Path("nowhere"), overrides).warnings
    except SpecError as error:
        return with_fixes(error.diagnostics, text, "a.yaml")  # type: ignore[arg-type]


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def planted(mistake: dict[str, Any]) -> str:
    edits = [(mistake["old"], mistake.get("new", ""))] if "old" in mistake else []
    edits += [tuple(mistake["also"])] if "also" in mistake else []
    return edited(BASE, *edits)


@pytest.mark.parametrize("mistake", MISTAKES, ids=NAMES)
def test_a_mistake_is_told_once_in_its_place(mistake: dict[str, Any]) -> None:
    overrides = [mistake["set"]] if "set" in mistake else []
    [one] = found(planted(mistake), *overrides)
    assert [one.line, one.column] == mistake["at"]
    assert one.headline == mistake["says"]
    assert one.suggestion == mistake.get("suggestion")
    assert (one.fix.title if one.fix else None) == mistake.get("fix")
    assert one.source == (f"--set {overrides[0]}" if overrides else "a.yaml")


@pytest.mark.parametrize(
    "mistake",
    [mistake for mistake in MISTAKES if "fix" in mistake],
    ids=[name for name, mistake in zip(NAMES, MISTAKES, strict=True) if "fix" in mistake],
)
def test_a_fix_leaves_nothing_to_say(mistake: dict[str, Any]) -> None:
    text = planted(mistake)
    mended = apply_fixes(text, found(text))
    if mistake["fix"].startswith("quote 3"):  # a key in quotes is one, and not one of the grammar
        assert {d.code for d in found(mended)} == {"P202"}
    else:
        assert found(mended) == ()


def test_the_table_covers_every_group_of_codes() -> None:
    codes = [mistake["says"].partition("[")[2][:4] for mistake in MISTAKES]
    assert len(codes) >= 60
    assert {code[:2] for code in codes} == {"P1", "P2", "P3", "P5", "P6"}
    assert sum("fix" in mistake for mistake in MISTAKES) >= 15


def test_the_unedited_specs_have_nothing_to_be_told() -> None:
    assert found(BASE) == ()
    for name in shipped():
        assert load(name).warnings == ()


PUBLISHED = {"09-six-methods": {"P605"}, "10-contrast-windows": {"P605", "P603"}}
"""Lints of studies that are repeated as they were done, each with its reason in `allow`."""


@pytest.mark.parametrize("path", sorted((FOLDER / "projects").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_published_study_says_why_it_does_what_lints_warn_of(path: Path) -> None:
    loaded = load(path)
    assert loaded.warnings == ()
    assert {lint.code for lint in loaded.allowed} == PUBLISHED.get(path.stem, set())


# What is replaced, by what, the code, and what stands where the mistake is pointed at.
AT_ONCE = [
    ("name: planted", "name: pla nted", "P206", "pla nted"),
    ("seed: 0", "sede: 0", "P202", "sede"),
    ("dtype: float32", "dtype: float", "P204", "float}"),
    ("set: sequences", "set: sequence", "P204", "sequence\n"),
    ("kind: items", "kind: item", "P207", "item\n"),
    ("layers: 0..2", "layers: 2..0", "P208", "2..0"),
    ("site: z, layers: all", "site: zz, layers: all", "P204", "zz"),
    ("per: position", "per: token", "P204", "token}"),
    ("permute: category", "permut: category", "P202", "permut:"),
    ("cv: {folds: 5}", "folds: 5", "P202", "folds: 5}"),
    ("with: mean", "with: means", "P301", "means"),
    ("    target: word\n", "    target: word\n    target: form\n", "P105", "target: form"),
    ("ge: 0.5", "above: 0.5", "P202", "above"),
    ("[step0, main]", "[step0, 7]", "P203", "7]"),
    ("device: cpu", "device: gpu", "P204", "gpu"),
    ("time: 20m", "time: 20", "P208", "20}"),
]


def test_sixteen_mistakes_are_told_at_once_each_in_its_place() -> None:
    text = edited(BASE, *(case[:2] for case in AT_ONCE))
    starts = line_starts(text)
    said = sorted((starts[d.line - 1] + d.column - 1, d.code) for d in found(text))
    for _, _, _, pointed_at in AT_ONCE:
        assert text.count(pointed_at) == 1, pointed_at
    assert said == sorted((text.index(at), code) for _, _, code, at in AT_ONCE)


def test_lints_are_told_beside_errors_of_other_entries() -> None:
    text = edited(BASE, ("device: cpu", "device: gpu"), ("folds: 5}", "folds: 5}, controls: []"))
    assert [(d.code, d.severity) for d in found(text)] == [("P204", "error"), ("P607", "warning")]


def test_the_base_of_the_table_is_yaml() -> None:
    document, problems = parse(BASE)
    assert document is not None
    assert problems == ()
