"""The identity of a spec: what changes it, what does not, and that it survives being written."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from patchclamp.specs import digest, load, loads, resolved
from patchclamp.specs.digest import ALGORITHM
from patchclamp.specs.grammar import KIND, fields, kind_of, models_by_path
from patchclamp.specs.library import shipped
from patchclamp.specs.scalars import dump
from patchclamp.specs.spec import SCIENCE_KEYS, spec_model

DEFAULTS = Path(__file__).parent / "defaults.yaml"
"""The defaults of the grammar when the digest's algorithm was last raised."""

SHORT = """\
patchclamp: 1
name: short
model: bundled:sequences@step0
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", labels: [category], groups: template,
    answer: {correct: " {next}", foil: " {last}"}}
  scrambled: {kind: corrupt}
captures: {resid: {site: resid_post, layers: 0..2}}
interventions: {mean: {kind: ablate, value: {mean_over: scrambled, per: all}}}
analyses:
  decode: {kind: probe, target: category, estimator: {kind: ridge, alpha: 1}}
  g: {kind: rsa, against: {m: {kind: category, column: category}}, test: {permute: category}}
  heads: {kind: ablation, units: {site: z}, metric: {kind: logit_diff}}
"""

LONG = """\
run: {batch: {tokens: 4096}, device: cpu, backend: hooks}
analyses:
  heads:
    metric: {kind: logit_diff}
    share: false
    units: {heads: all, layers: all, site: z}
    with: mean
    stimuli: words
    kind: ablation
  g:
    test: {n: 1000, permute: category}
    compare: spearman
    against: {m: {column: category, kind: category}}
    contrast: ~
    rdm: {metric: correlation}
    of: resid
    kind: rsa
  decode: {kind: probe, target: category, of: resid, cv: {folds: 5}, shuffles: 200,
    estimator: {alpha: 1.0e+0, kind: ridge}, controls: [majority, shuffled_labels]}
interventions:
  mean: {kind: ablate, value: {kind: mean, per: all, mean_over: scrambled}}
captures: {resid: {layers: [0, 1, 2], site: resid_post, of: words, positions: last}}
stimuli:
  scrambled: {slots: shuffle, of: words, kind: corrupt}
  words:
    kind: builtin
    set: sequences
    text: '{prompt}'
    id: null
    labels: [category]
    groups: template
    answer: {foil: ' {last}', correct: ' {next}'}
    slots: []
model: {id: "bundled:sequences", revision: step0, dtype: float32, weights: trained}
seed: 0
description: something else
name: long
patchclamp: 1
"""


def test_ways_of_writing_make_no_difference() -> None:
    assert digest(loads(SHORT).spec) == digest(loads(LONG).spec)


def test_a_field_at_its_default_is_not_hashed() -> None:
    text = "patchclamp: 1\nname: x\nmodel: m\nstimuli: {a: {kind: csv, path: b.csv, text: '{t}'}}\n"
    canonical = (
        '3\n{"model":{"id":"m"},"patchclamp":1,'
        '"stimuli":{"a":{"kind":"csv","path":"b.csv","text":"{t}"}}}'
    )
    assert digest(loads(text).spec) == hashlib.sha256(canonical.encode()).hexdigest()


def test_no_kind_has_a_default_that_would_leave_it_out() -> None:
    for _, model in models_by_path(spec_model()):
        field = fields(model).get(KIND)
        assert field is None or field.is_required(), model


def defaults() -> dict[str, str]:
    """Every default of the grammar that decides a number, in words; of a model, which it is."""
    found = {}
    for path, model in models_by_path(spec_model()):
        if path and path[0] not in SCIENCE_KEYS:
            continue
        for key, field in fields(model).items():
            if not field.is_required() and (path or key in SCIENCE_KEYS):
                default = field.get_default(call_default_factory=True)
                if isinstance(default, BaseModel):
                    default = kind_of(type(default)) or type(default).__name__
                owner = kind_of(model) or model.__name__
                found[".".join([*map(str, path), f"{owner}.{key}"])] = repr(default)
    return dict(sorted(found.items()))


def test_a_default_that_changes_makes_other_digests() -> None:
    """What equals its default is not hashed, so another default is another algorithm.

    Where this fails, raise `ALGORITHM` in specs/digest.py, and note the defaults anew with
    `python tests/test_digest.py`.
    """
    noted = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    now = defaults()
    changed = {key for key, was in noted["defaults"].items() if now.get(key, was) != was}
    assert noted["algorithm"] == ALGORITHM
    assert changed == set()
    # A key that is new changes no digest; note its default, so that it is held from here on.
    assert now.keys() - noted["defaults"].keys() == set()


def test_a_digest_is_the_same_on_every_machine() -> None:
    # Changes only with the grammar: results found under an older digest are found no more.
    text = "patchclamp: 1\nname: x\nmodel: m\nstimuli: {a: {kind: csv, path: é.csv, text: '{t}'}}\n"
    expected = "189d56f3bdcc392a6ab94ae44cc0c19a8d3aa972a1c8603681fe956b335c66d2"
    assert digest(loads(text).spec) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@step0", "@main"),
        ("name: short", "name: short\nseed: 1"),
        ("labels: [category]", "labels: [category, form]"),
        ("0..2", "0..1"),
        ("0..2", "[2, 1, 0]"),
        ("per: all", "per: position"),
        ("alpha: 1", "alpha: 1.0000001"),
        ("  decode:", "  decode2:"),
        ('" {next}"', '"{next}"'),
    ],
)
def test_science_makes_a_difference(old: str, new: str) -> None:
    assert SHORT.count(old) == 1
    assert digest(loads(SHORT).spec) != digest(loads(SHORT.replace(old, new)).spec)


@pytest.mark.parametrize("name", shipped())
def test_a_resolved_spec_is_a_spec_with_the_same_digest(name: str) -> None:
    spec = load(name).spec
    again = loads(dump(resolved(spec))).spec
    assert again == spec
    assert digest(again) == digest(spec)


def test_a_resolved_spec_spells_every_default_out() -> None:
    plain = resolved(loads(SHORT).spec)
    assert plain["model"]["dtype"] == "float32"
    assert plain["analyses"]["heads"]["with"] == "mean"
    assert plain["captures"]["resid"]["of"] == "words"
    assert plain["captures"]["resid"]["layers"] == [0, 1, 2]
    assert plain["captures"]["resid"]["positions"] == {"kind": "named", "at": ["last"]}
    assert plain["run"]["batch"] == {"tokens": 8192, "result": "64MiB"}


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
SCALAR = TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_items_of_any_kind_survive(data: st.DataObject) -> None:
    columns = data.draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))
    items = data.draw(
        st.lists(st.fixed_dictionaries(dict.fromkeys(columns, SCALAR)), min_size=1, max_size=3)
    )
    value: dict[str, Any] = {
        "patchclamp": 1, "name": "x", "model": data.draw(st.just("m") | TEXT.map("m{}".format)),
        "stimuli": {"a": {"kind": "items", "text": "x", "items": items}},
    }  # fmt: skip
    spec = loads(dump(value)).spec
    assert [dict(item) for item in spec.stimuli["a"].items] == items  # type: ignore[union-attr]
    again = loads(dump(resolved(spec))).spec
    assert again == spec
    assert digest(again) == digest(spec)


if __name__ == "__main__":
    said = {"algorithm": ALGORITHM, "defaults": defaults()}
    DEFAULTS.write_text(f"# Written by tests/test_digest.py.\n{dump(said)}", encoding="utf-8")
