"""Planted mistakes: each gives one diagnostic, at its place, in our words."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.registry.errors import SpecError, UnreadableSpecError
from patchclamp.specs import Loaded, Spec, load, loads
from patchclamp.specs.diagnostics import Diagnostic
from patchclamp.specs.fields import PATTERNS
from patchclamp.specs.grammar import fields, models_by_path
from patchclamp.specs.spec import spec_model

GOOD = """\
patchclamp: 1
name: good
model: bundled:sequences
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category, form]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
  scrambled: {kind: corrupt}
captures:
  resid: {site: resid_post, layers: 0..2}
interventions:
  mean: {kind: ablate, value: {mean_over: scrambled, per: position}}
analyses:
  decode: {kind: probe, target: category}
  heads: {kind: ablation, units: {site: z}, metric: {kind: logit_diff}}
run: {device: cpu}
"""


def diagnostics(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        loads(text)
    found = caught.value.diagnostics
    assert all(isinstance(d, Diagnostic) for d in found)
    return found  # type: ignore[return-value]


def test_what_is_left_out_is_spelled_out() -> None:
    spec = loads(GOOD).spec
    assert spec.captures["resid"].of == "words"
    assert spec.captures["resid"].layers == (0, 1, 2)
    assert spec.stimuli["scrambled"].of == "words"  # type: ignore[union-attr]
    assert spec.analyses["decode"].of == "resid"  # type: ignore[union-attr]
    assert spec.analyses["heads"].with_ == "mean"  # type: ignore[union-attr]
    assert spec.analyses["heads"].stimuli == "words"  # type: ignore[union-attr]


# What is replaced in the good spec, by what; then line, column, code, message, suggestion.
PLANTED: list[tuple[str, str, int, int, str, str, str | None]] = [
    ("patchclamp: 1\n", "", 1, 1, "P209",
     "the grammar version is missing; begin the file with 'patchclamp: 1'", None),
    ("patchclamp: 1", "patchclamp: 2", 1, 13, "P209",
     "expected grammar version 1, which this patchclamp reads; got the number 2", None),
    ("patchclamp: 1", "patchclamp: true", 1, 13, "P209",
     "expected grammar version 1, which this patchclamp reads; got true", None),
    ("name: good", "nam: good", 2, 1, "P202",
     "unknown key 'nam'; 'name' is required here and missing", "name"),
    ("name: good", "name: a b", 2, 7, "P206",
     "a name has letters, digits, '.', '_' and '-', and begins with a letter or a digit; "
     "got 'a b'", "a_b"),
    ("name: good", "name: 12e4567", 2, 7, "P114",
     "'12e4567' overflows to infinity (a commit hash?); quote it", None),
    ("name: good", "name: 0123456", 2, 7, "P203",
     'expected text, got the number 0123456; quote it: "0123456"', None),
    ("name: good", f"name: {'x' * 65}", 2, 7, "P205",
     "expected at most 64 characters, got 65", None),
    ("model: bundled:sequences", "model: [a]", 3, 8, "P203",
     "expected text or a mapping, got a list", None),
    ("model: bundled:sequences", "model: {id: x, revision: 1.0}", 3, 26, "P203",
     'expected text, got the number 1.0; quote it: "1.0"', None),
    ("model: bundled:sequences", "model: {id: x, dtype: fp32}", 3, 23, "P204",
     "unknown value 'fp32'", None),
    ("model: bundled:sequences", "model: ''", 3, 8, "P205", "this text may not be empty", None),
    ("model: bundled:sequences", "model: x\nseed: -1", 4, 7, "P205",
     "expected at least 0, got the number -1", None),
    ("model: bundled:sequences", "model: x\nseed: '1'", 4, 7, "P203",
     "expected a whole number, got the text '1'; drop the quotes", None),
    ("model: bundled:sequences", "model: x\nseed: 1.5", 4, 7, "P203",
     "expected a whole number, got the number 1.5", None),
    ("model: bundled:sequences", "model: x\nbatch: {tokens: 3}", 4, 1, "P202",
     "unknown key 'batch'; 'batch' belongs under 'run'", None),
    ("model: bundled:sequences", "model: x\nanalysis: {}", 4, 1, "P202",
     "unknown key 'analysis'", "analyses"),
    ("kind: builtin", "kind: builtn", 6, 11, "P207", "unknown kind 'builtn'", "builtin"),
    ("kind: builtin", "kind: 3", 6, 11, "P207", "unknown kind 3", None),
    ("kind: builtin", "knd: builtin", 6, 5, "P207",
     "unknown key 'knd'; 'kind' is required here and missing", "kind"),
    ("    kind: builtin\n", "", 5, 3, "P207", "the kind is missing", "kind: builtin"),
    ("set: sequences", "set: sequence", 7, 10, "P204",
     "unknown stimulus set 'sequence'", "sequences"),
    ("set: sequences", "sett: sequences", 7, 5, "P202",
     "unknown key 'sett' (kind: builtin); 'set' is required here and missing", "set"),
    ("set: sequences", "set: sequences\n    path: x", 8, 5, "P202",
     "unknown key 'path' (kind: builtin); 'path' belongs to kind csv, jsonl", None),
    ("set: sequences", "set: sequences\n    lables: [x]", 8, 5, "P202",
     "unknown key 'lables' (kind: builtin)", "labels"),
    ("    set: sequences\n", "", 5, 3, "P201",
     "this key is required and missing (kind: builtin)", None),
    ("[category, form]", "category", 9, 13, "P203",
     "expected a list, got the text 'category'", None),
    ("[category, form]", "[category, 3]", 9, 24, "P203",
     'expected text, got the number 3; quote it: "3"', None),
    ("  words:\n", "  Words:\n", 5, 3, "P206",
     "a name has lower-case letters, digits and '_', and begins with a letter; got 'Words'",
     "words"),
    ("  words:\n", f"  {'w' * 65}:\n", 5, 3, "P206",
     f"the name '{'w' * 60}...' is longer than 64 characters", None),
    ("site: resid_post", "site: resid_pst", 14, 17, "P204",
     "unknown site 'resid_pst'", "resid_post"),
    ("layers: 0..2", "layers: 2..0", 14, 37, "P208",
     "a layer range goes upwards; got '2..0'", None),
    ("layers: 0..2", "layers: [1, 1]", 14, 37, "P208", "a layer is named twice; got [1, 1]", None),
    ("layers: 0..2", "layers: 0-2", 14, 37, "P208",
     "expected layers as all, last, a number, a range such as 0..11, a percentage such as 50%, a "
     "range such as 25%..75%, or a list of these; got '0-2'", None),
    ("layers: 0..2", "dtype: x", 14, 29, "P202",
     "unknown key 'dtype'; 'dtype' belongs under 'model'", None),
    ("per: position", "per: pos", 16, 59, "P204", "unknown value 'pos'", None),
    (", per: position", "", 16, 24, "P201",
     "this key is required and missing (kind: mean)", None),
    ("{mean_over: scrambled, per: position}", "zro", 16, 31, "P203",
     "expected 'zero' or a mapping, got the text 'zro'", "zero"),
    ("kind: ablate", "kind: abblate", 16, 16, "P207", "unknown kind 'abblate'", "ablate"),
    ("target: category", "target: category, folds: 3", 18, 43, "P202",
     "unknown key 'folds' (kind: probe); 'folds' belongs under 'analyses.decode.cv'", None),
    ("target: category", "target: category, cv: {folds: 1}", 18, 55, "P205",
     "expected at least 2, got the number 1", None),
    ("target: category", "target: category, seed: 1", 18, 43, "P202",
     "unknown key 'seed' (kind: probe); 'seed' belongs at the top level", None),
    ("target: category", "target: category, controls: [x]", 18, 54, "P204",
     "unknown value 'x'", None),
    ("target: category", "target: category, estimator: {kind: logistic, C: 0}", 18, 74, "P205",
     "expected more than 0, got the number 0", None),
    ("target: category", "target: category, estimator: {kind: logistic, C: .inf}", 18, 74, "P205",
     "expected a finite number, got the number .inf", None),
    ("target: category", "target: category, estimator: {kind: lgistic}", 18, 61, "P207",
     "unknown kind 'lgistic'", "logistic"),
    ("target: category", "target: category, estimator: {C: 1}", 18, 43, "P207",
     "the kind is missing", None),
    ("kind: logit_diff", "kind: logitdiff", 19, 60, "P204", "unknown metric 'logitdiff'",
     "logit_diff"),
    ("metric: {kind: logit_diff}", "metric: {kind: logit_diff}, share: 'yes'", 19, 80, "P203",
     "expected true or false, got the text 'yes'", None),
    ("run: {device: cpu}", "run: {device: gpu}", 20, 15, "P204", "unknown value 'gpu'", "cpu"),
    ("run: {device: cpu}", "run:", 20, 5, "P203",
     "expected a mapping, got nothing; leave the key out if there is nothing to say", None),
    ("run: {device: cpu}", "run: {device: cpu, device: cpu}", 20, 20, "P105",
     "duplicate key 'device': first given in line 20, column 7", None),
]  # fmt: skip


@pytest.mark.parametrize("case", PLANTED, ids=[f"{c[1][:30]!r}" for c in PLANTED])
def test_one_mistake_gives_one_diagnostic(
    case: tuple[str, str, int, int, str, str, str | None],
) -> None:
    old, new, line, column, code, message, suggestion = case
    assert GOOD.count(old) == 1
    [found] = diagnostics(GOOD.replace(old, new))
    assert (found.line, found.column, found.code) == (line, column, code)
    assert (found.message, found.suggestion) == (message, suggestion)


def test_a_set_whose_kind_is_unknown_is_not_missed_by_those_that_name_it() -> None:
    text = GOOD.replace("{kind: corrupt}", "{kind: corupt}").replace("target: c", "target: kc")
    text = text.replace("resid: {", "resid: {of: words, ")
    assert [(d.line, d.code) for d in diagnostics(text)] == [(12, "P207"), (18, "P307")]


def test_fixed_lists_have_their_length() -> None:
    for classes, count in (("[]", 0), ("[a]", 1), ("[a, b, c]", 3)):
        contrast = f"{{kind: categorical, column: category, classes: {classes}}}"
        rsa = f"rsa: {{kind: rsa, contrast: {contrast}, test: {{permute: category}}}}"
        [found] = diagnostics(GOOD.replace("analyses:\n", f"analyses:\n  {rsa}\n"))
        assert found.message == f"expected exactly 2 items, got {count}"
        assert (found.code, found.path) == ("P205", ("analyses", "rsa", "contrast", "classes"))


def test_a_value_of_several_types_is_told_once() -> None:
    items = "x: {kind: items, text: '{a}', items: [{a: [1]}]}"
    [found] = diagnostics(GOOD.replace("stimuli:\n", f"stimuli:\n  {items}\n"))
    assert found.message == "expected text, a number or true or false, got a list"


@pytest.mark.parametrize("value", ["{}", "null", "[]"])
def test_a_spec_needs_a_stimulus_set(value: str) -> None:
    text = f"patchclamp: 1\nname: x\nmodel: x\nstimuli: {value}\n"
    message = {
        "{}": "expected at least one entry, got none",
        "null": 'expected a mapping, got nothing (null); leave the key out if there is nothing '
        "to say",
        "[]": "expected a mapping, got a list",
    }[value]  # fmt: skip
    assert [d.message for d in diagnostics(text)] == [message]


def test_the_rules_of_an_entry_point_at_the_entry() -> None:
    rsa = "g: {kind: rsa, test: {permute: category}}"
    [found] = diagnostics(GOOD.replace("analyses:\n", f"analyses:\n  {rsa}\n"))
    assert found.message.startswith("an rsa needs either 'against' (model RDMs) or 'contrast'")
    assert (found.code, found.line, found.column) == ("P208", 18, 6)


def test_many_mistakes_are_all_told_and_none_twice() -> None:
    text = GOOD
    for old, new in [
        ("name: good", "name: 'a b'"),
        ("kind: corrupt", "kind: corupt"),
        ("site: resid_post", "site: resid_pst, lyers: 1"),
        (", per: position", ""),
        ("mean:", "Mean:"),
        ("target: category", "target: catgory, folds: 3"),
        ("kind: logit_diff", "kind: logitdiff"),
        ("device: cpu", "device: cpu, device: cuda"),
        ('text: "{prompt}"', 'text: "{promt}"'),
        ("[category, form]", "[category, form, layer]"),
    ]:
        assert text.count(old) == 1
        text = text.replace(old, new)
    with pytest.raises(SpecError) as caught:
        loads(text, "many.yaml")
    codes = [d.code for d in caught.value.diagnostics]  # type: ignore[attr-defined]
    # The target is not judged: whether it is a label cannot be told of a broken entry.
    assert codes == ["P206", "P311", "P310", "P207", "P204", "P202", "P206", "P201",
                     "P202", "P204", "P105"]  # fmt: skip
    assert str(caught.value).endswith("\n\nmany.yaml: 11 errors")
    assert str(caught.value).count("--> many.yaml:") == 11


JARGON = re.compile(
    r"pydantic|union|discriminat|Input should|Extra inputs|Field required|Value error|"
    r"string_|_type|dict\b|tuple|NoneType|strict|instance of|Literal",
)


@pytest.mark.parametrize("case", PLANTED, ids=[f"{c[1][:30]!r}" for c in PLANTED])
def test_no_message_speaks_of_the_machinery(
    case: tuple[str, str, int, int, str, str, str | None],
) -> None:
    with pytest.raises(SpecError) as caught:
        loads(GOOD.replace(case[0], case[1]))
    assert not JARGON.search(str(caught.value))


def test_every_pattern_of_the_grammar_has_words() -> None:
    patterns = {
        getattr(item, "pattern", None)
        for _, model in models_by_path(spec_model())
        for field in fields(model).values()
        for item in field.metadata
    }
    assert {p for p in patterns if p} <= PATTERNS.keys()


def test_problems_found_later_have_a_place() -> None:
    loaded = loads(GOOD, "good.yaml")
    found = loaded.diagnose(("stimuli", "words", "labels", 1), "P402", "no such column")
    assert (found.source, found.line, found.column) == ("good.yaml", 9, 24)
    left_out = loaded.diagnose(("analyses", "decode", "cv", "folds"), "P408", "too few groups")
    assert (left_out.line, left_out.column) == (18, 3)
    key = loaded.diagnose(("captures", "resid"), "P405", "no layer 2", key=True)
    assert (key.line, key.column, key.path) == (14, 3, ("captures",))


def test_a_shipped_spec_is_found_by_name() -> None:
    assert load("quickstart").spec.name == "quickstart"
    assert load("untrained").spec.model.weights == "random"


def test_a_file_is_found_by_path(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufeff" + GOOD.replace("\n", "\r\n"), encoding="utf-8", newline="")
    loaded = load(path)
    assert isinstance(loaded, Loaded)
    assert (loaded.document.source, loaded.folder) == (str(path), tmp_path)
    assert loaded.spec == loads(GOOD).spec


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("quikstart", "no spec 'quikstart': neither a file nor one that ships with patchclamp "
         "(quickstart, untrained"),
        ("nowhere/x.yaml", "cannot read 'nowhere/x.yaml': No such file or directory"),
        ("x" * 300, "cannot read 'xxx"),
        ("a\x00b", "no spec 'a\\x00b'"),
    ],
)  # fmt: skip
def test_a_spec_that_is_not_there(given: str, message: str) -> None:
    with pytest.raises(UnreadableSpecError, match=re.escape(message)) as caught:
        load(given)
    assert caught.value.exit_code == 3


def test_the_nearest_shipped_name_is_proposed() -> None:
    with pytest.raises(UnreadableSpecError, match=r"did you mean 'quickstart'\?"):
        load("quikstart")


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSpecError, match=r"cannot read .*: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("data", "line", "column", "message"),
    [
        (
            b"a: \xc3\xa9\nb: \xe9\n",
            2,
            4,
            "byte 9 (0xe9) is not UTF-8 text; save the file as UTF-8",
        ),
        ("a: 1".encode("utf-16"), 1, 1, "this is UTF-16 text; save the file as UTF-8"),
    ],
)
def test_bytes_that_are_no_text(
    data: bytes, line: int, column: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        load(path)
    [found] = caught.value.diagnostics
    assert isinstance(found, Diagnostic)
    assert (found.code, found.line, found.column) == ("P101", line, column)
    assert found.message == message


def loads_or_refuses(text: str) -> None:
    refusal = None
    try:
        loads(text)
    except SpecError as error:
        refusal = error
    assert refusal is None or (refusal.diagnostics and str(refusal))


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text("ab:{}[]&*!|>-'\"\n\t #,?%@", max_size=30))
def test_any_text_loads_or_is_refused(text: str) -> None:
    loads_or_refuses(text)


VALUES = ["{}", "[]", "[[a]]", "~", "1", "-1", "1.5", ".nan", "true", "x", "''", "{a: b}",
          "{kind: x}", "{kind: [a]}", "{kind: {a: b}}", "[1, x]", "'{'", "{k: [{}]}",
          "99999999999999999999999", "{kind: builtin}", "*undefined", "!t x"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_at_any_place_loads_or_is_refused(data: st.DataObject) -> None:
    places = [m.span() for m in re.finditer(r"(?<=: )[^\n{},]+|\{[^{}]*\}|(?<=\n) +\w+", GOOD)]
    chosen = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3, unique=True))
    text = GOOD
    for start, end in sorted(chosen, reverse=True):
        text = text[:start] + data.draw(st.sampled_from(VALUES)) + text[end:]
    loads_or_refuses(text)


@pytest.mark.parametrize("key", [*Spec.model_fields, "zz"])
def test_any_value_of_a_key_of_the_root_loads_or_is_refused(key: str) -> None:
    others = re.sub(rf"(?m)^{key}:.*\n(?:[ ].*\n)*", "", GOOD)
    for value in VALUES:
        loads_or_refuses(f"{others}{key}: {value}\n")
