"""What is valid and not implemented yet is refused by name before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchclamp.engine.implemented import DONE, VALUES, check_implemented
from patchclamp.engine.plan import make_plan
from patchclamp.engine.problems import Problems
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import load, loads

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = sorted((ROOT / "specs" / "projects").glob("*.yaml"))

BASE = """\
patchclamp: 1
name: t
model: bundled:sequences
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", labels: [category], groups: template,
    answer: {correct: " {next}", foil: " {last}"}}
  scrambled: {kind: corrupt, of: words}
captures: {resid: {of: words, site: resid_post}}
interventions: {mean: {kind: ablate, value: {mean_over: scrambled, per: position}}}
analyses:
  decode: {kind: probe, of: resid, target: category}
  heads: {kind: ablation, stimuli: words, with: mean, units: {site: z}, metric: logit_diff}
"""


def missing(text: str) -> list[tuple[int, str]]:
    problems = Problems(loads(text))
    check_implemented(problems)
    assert {found.code for found in problems.found} <= {"P415"}
    return [
        (found.line, found.message.partition("not implemented yet: ")[2])
        for found in problems.found
    ]


@pytest.mark.parametrize("name", ["quickstart", "untrained"])
def test_what_ships_to_be_run_is_implemented(name: str) -> None:
    problems = Problems(load(name))
    check_implemented(problems)
    assert len(problems) == 0


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.stem)
def test_the_projects_specs_are_valid_and_say_plainly_what_they_lack(path: Path) -> None:
    """What is not implemented, or where all is, the models and files, which are not here."""
    with pytest.raises(SpecError) as caught:
        make_plan(load(path))
    codes = {found.code for found in caught.value.diagnostics}  # type: ignore[attr-defined]
    assert codes in ({"P415"}, {"P401", "P408"}, {"P408"})


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        (
            "kind: ablation, stimuli: words, with: mean, units: {site: z},",
            "kind: steering, with: [mean], controls: [random_features],",
            12,
            "this value of 'controls'",
        ),
        (
            "model: bundled:sequences",
            "model: {id: gpt2, fold: [layer_norm]}",
            3,
            "this value of 'fold'",
        ),
    ],
)
def test_each_gap_is_named_where_it_stands(old: str, new: str, line: int, what: str) -> None:
    assert old in BASE
    assert missing(BASE.replace(old, new, 1)) == [(line, what)]


def test_what_is_implemented_is_told_from_what_is_not() -> None:
    assert missing(BASE) == []
    assert missing(BASE.replace("C: 1", "C: 2")) == []
    assert missing(BASE.replace("controls: [majority]", "controls: []")) == []


def test_the_tables_name_only_what_the_grammar_has() -> None:
    for model, keys in DONE.items():
        known = {field.alias or name for name, field in model.model_fields.items()}
        assert keys <= known, model
    for model, key in VALUES:
        assert model in DONE
        assert key not in DONE[model]
