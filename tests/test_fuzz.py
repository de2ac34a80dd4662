"""Whatever text is loaded, it is a spec or it has located problems; never a traceback or a hang.

`PATCHCLAMP_FUZZ=10000` sets the number of examples of each property.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchclamp.registry.errors import SpecError
from patchclamp.specs.diagnostics import Diagnostic, Span, report, split_lines
from patchclamp.specs.digest import digest, resolved
from patchclamp.specs.document import parse
from patchclamp.specs.fixes import apply_fixes, with_fixes
from patchclamp.specs.library import FOLDER
from patchclamp.specs.load import loads
from patchclamp.specs.scalars import dump
from patchclamp.specs.spec import SCIENCE_KEYS

EXAMPLES = int(os.environ.get("PATCHCLAMP_FUZZ", "25"))
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLOW)

SPECS = {
    path.name: path.read_text(encoding="utf-8")
    for path in (*sorted(FOLDER.glob("*.yaml")), *sorted((FOLDER / "projects").glob("*.yaml")))
}
ALONE = sorted(name for name, text in SPECS.items() if "\nextends:" not in text)


def told(text: str) -> list[Diagnostic]:
    """Return what is said of a text, after looking that each place is one of the text."""
    found: list[Any] = []
    try:
        found += loads(text, "a.yaml", FOLDER / "projects").warnings
    except SpecError as error:
        found += error.diagnostics
        assert {"error"} <= {d.severity for d in found}
    lines = split_lines(text.removeprefix("\ufeff"))
    for d in found:
        assert isinstance(d, Diagnostic)
        if d.source == "a.yaml":
            # A value over several lines ends where the next line would begin.
            assert 1 <= d.line <= len(lines)
            assert d.line <= d.end_line <= len(lines) + 1
            assert 1 <= d.column <= len(lines[d.line - 1]) + 1
            assert (d.line, d.column) <= (d.end_line, d.end_column)
        assert d.message.strip() == d.message != ""
    report(found, {"a.yaml": text})
    assert isinstance(apply_fixes(text, with_fixes(found, text, "a.yaml")), str)
    return found


@FUZZ
@given(st.text(max_size=400))
def test_any_text_is_a_spec_or_has_located_problems(text: str) -> None:
    assert told(text)


SHAPED = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["stimuli", "kind", "a", "- x", "&a", "*a", "? x", "|", ">-", "#", '"', "{",
                         "[a,", "}", "<<", "!t", "---", "1e999", "0x", "\t", "é", "%", "@", "''"]),
        st.sampled_from([":", ": ", ": 1", ": {", ": [", "", " #", ": |", ": *a", ": &a", ": no"]),
    ),
    max_size=20,
).map(lambda rows: "\n".join("  " * depth + key + tail for depth, key, tail in rows))  # fmt: skip


@FUZZ
@given(SHAPED)
def test_text_in_the_shape_of_yaml_has_located_problems(text: str) -> None:
    assert told(text)
    assert told("patchclamp: 1\n" + text)


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A shipped spec with some lines deleted, doubled, moved, cut, indented or typed over."""
    lines = SPECS[draw(st.sampled_from(sorted(SPECS)))].splitlines()
    other = SPECS[draw(st.sampled_from(sorted(SPECS)))].splitlines()
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        what = draw(st.sampled_from(["delete", "double", "move", "cut", "indent", "type", "take"]))
        line = lines.pop(at) if lines else ""
        column = draw(st.integers(0, len(line)))
        made = {
            "delete": [],
            "double": [line, line],
            "cut": [line[:column]],
            "indent": [" " * draw(st.integers(1, 3)) + line],
            "type": [line[:column] + draw(st.text(max_size=3)) + line[column + 1 :]],
            "take": [line, draw(st.sampled_from(other))],
            "move": [],
        }[what]
        lines[at:at] = made
        if what == "move":
            lines.insert(draw(st.integers(0, len(lines))), line)
    return "\n".join(lines)


@FUZZ
@given(mangled())
def test_a_mangled_spec_is_a_spec_or_has_located_problems(text: str) -> None:
    told(text)


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
MAPPING = st.dictionaries(
    TEXT,
    st.recursive(
        SCALAR, lambda inner: st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=3), max_leaves=10,
    ),
    max_size=5,
)  # fmt: skip


@FUZZ
@given(MAPPING)
def test_any_mapping_reads_back_as_it_was_dumped(value: dict[str, Any]) -> None:
    text = dump(value)
    document, problems = parse(text)
    if value:
        assert document is not None
        assert problems == ()
        assert document.value == value


@FUZZ
@given(st.sampled_from(ALONE), st.integers(0, 2**63 - 1), TEXT, st.randoms())
def test_a_spec_dumped_and_loaded_again_has_its_digest(
    name: str, seed: int, description: str, random: Any
) -> None:
    cell = random.choice(loads(SPECS[name], "a.yaml").cells)
    spec = cell.spec.model_copy(update={"seed": seed, "description": description})
    plain = resolved(spec)
    keys = list(plain)
    random.shuffle(keys)
    [again] = loads(dump({key: plain[key] for key in keys}), "a.yaml").cells
    assert again.spec == spec
    assert again.digest == digest(spec)
    assert set(SCIENCE_KEYS) <= set(plain)


@dataclass(frozen=True)
class Key:
    """A key of a shipped spec, and where it stands."""

    spec: str
    path: tuple[str | int, ...]
    span: Span

    @property
    def start(self) -> int:
        starts = [0, *(m.end() for m in re.finditer("\n", SPECS[self.spec]))]
        return starts[self.span.line - 1] + self.span.column - 1


def keys_of(name: str) -> list[Key]:
    """The keys of the grammar in a spec: no names of the user's, nothing under `matrix`."""
    document, _ = parse(SPECS[name])
    assert document is not None
    return [
        Key(name, path, span)
        for path, span in document.keys.items()
        if path
        and path[0] != "matrix"
        and (len(path) != 2 or path[0] in ("model", "run"))
        and not OWN & {str(part) for part in path[:-1]}
    ]


OWN = {"columns", "vocabularies", "words", "for", "draw", "spans", "items", "answer", "against",
       "circuits", "methods", "parts", "sel", "split"}  # fmt: skip
"""Keys under which the user's own names stand, or whose members other entries depend on."""

KEYS = [key for name in ("quickstart.yaml", "untrained.yaml") for key in keys_of(name)]


def slip(word: str, at: int, sort: int, letter: str) -> str:
    at %= len(word)
    after = word[at + 1 :]
    return [word[:at] + after, word[:at] + letter + word[at:], word[:at] + letter + after][sort]


@FUZZ
@given(
    st.sampled_from(KEYS), st.integers(0, 30), st.integers(0, 2),
    st.sampled_from("abcdefghijklmnopqrstuvwxyz_"),
)  # fmt: skip
def test_a_slip_in_a_key_is_one_error_there_and_its_fix_mends_it(
    key: Key, at: int, sort: int, letter: str
) -> None:
    text, word = SPECS[key.spec], str(key.path[-1])
    typed = slip(word, at, sort, letter)
    if typed in ("", word):
        return
    wrong = text[: key.start] + typed + text[key.start + len(word) :]
    errors = [d for d in told(wrong) if d.severity == "error"]
    here = [d for d in errors if (d.line, d.column) == (key.span.line, key.span.column)]
    if not errors:  # another key of the grammar
        return
    assert len(here) == 1, (typed, [d.headline for d in errors])
    fixed = with_fixes(errors, wrong, "a.yaml")
    if any(d.fix for d in fixed):
        assert apply_fixes(wrong, fixed) == text
    # `id` is too short to be told from other words, and is missed as well.
    assert len(errors) == 1 or word == "id", [d.headline for d in errors]


@pytest.mark.parametrize("bomb", ["[" * 5000, "{a: " * 5000, "- " * 5000, "a: &a [*a]", "? " * 500])
def test_deep_texts_end_in_a_problem(bomb: str) -> None:
    assert told(bomb)


def test_a_large_text_ends_soon(tmp_path: Path) -> None:
    text = "patchclamp: 1\nstimuli:\n" + "".join(f"  s{i}: {{kind: x{i}}}\n" for i in range(2000))
    assert len(told(text)) >= 2000
