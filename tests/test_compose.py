"""Bases and overrides: what they make of a spec, and every refusal with its place."""

import re
from pathlib import Path

import pytest

from patchclamp.registry.errors import SpecError
from patchclamp.specs import Loaded, digest, load, loads
from patchclamp.specs.compose import DEPTH
from patchclamp.specs.diagnostics import Diagnostic

BASE = """\
patchclamp: 1
name: base
model: bundled:sequences@step0
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
analyses:
  decode: {kind: probe, target: category, cv: {folds: 3}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(Path("base.yaml"), BASE)
    return Path()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def load_text(text: str, *overrides: str) -> Loaded:
    write(Path("x.yaml"), text)
    return load("x.yaml", overrides)


Told = tuple[str, str, int, int, str]


def refused(text: str, *overrides: str) -> list[Told]:
    with pytest.raises(SpecError) as caught:
        load_text(text, *overrides)
    found = caught.value.diagnostics
    assert all(isinstance(d, Diagnostic) for d in found)
    assert str(caught.value).count(" --> ") == len(found)
    return [(d.source, d.code, d.line, d.column, d.message) for d in found]  # type: ignore[attr-defined]


def test_extending_is_the_same_as_writing_out(folder: Path) -> None:
    text = "extends: base.yaml\nname: x\nmodel: {dtype: float16}\n"
    text += "analyses: {decode: {cv: {folds: 4}}}\n"
    written = BASE.replace(
        "bundled:sequences@step0", "{id: 'bundled:sequences', revision: step0, dtype: float16}"
    )
    written = written.replace("folds: 3", "folds: 4").replace("name: base", "name: x")
    extended = load_text(text)
    assert extended.spec == loads(written).spec
    assert digest(extended.spec) == digest(loads(written).spec)


def test_a_shipped_spec_is_a_base_by_its_name(folder: Path) -> None:
    assert load_text("extends: [quickstart]\nname: x\nseed: 3\n").spec.seed == 3


def test_the_spec_itself_is_last_and_its_bases_go_in_order(folder: Path) -> None:
    write(Path("a.yaml"), "seed: 1\ndescription: a\n")
    write(Path("b.yaml"), "seed: 2\nname: b\n")
    spec = load_text("extends: [base.yaml, a.yaml, b.yaml]\ndescription: x\n").spec
    assert (spec.seed, spec.name, spec.description) == (2, "b", "x")


def test_in_a_diamond_a_base_undoes_nothing(folder: Path) -> None:
    # Both extend the base; the second says nothing of the seed and must not set it back.
    write(Path("base.yaml"), BASE + "seed: 1\n")
    write(Path("left.yaml"), "extends: base.yaml\nseed: 2\n")
    write(Path("right.yaml"), "extends: [base.yaml]\ndescription: right\n")
    spec = load_text("extends: [left.yaml, right.yaml]\n").spec
    assert (spec.seed, spec.description) == (2, "right")


def test_bases_are_found_from_the_file_that_names_them(folder: Path) -> None:
    write(Path("common/model.yaml"), "extends: ../base.yaml\nseed: 5\n")
    write(
        Path("common/data/words.yaml"), "stimuli: {more: {kind: csv, path: m.csv, text: '{t}'}}\n"
    )
    text = "extends: [common/model.yaml, common/data/words.yaml]\ncaptures: {resid: {of: words}}\n"
    loaded = load_text(text + "stimuli: {scrambled: {of: words}}\n")
    assert loaded.spec.seed == 5
    assert loaded.folder == Path()
    assert loaded.folder_of(("stimuli", "more", "path")) == Path("common/data")
    assert loaded.folder_of(("model", "id")) == Path("common/..")
    assert loaded.folder_of(("captures", "resid", "of")) == Path()
    assert list(loaded.document.sources) == [
        "x.yaml",
        "common/data/words.yaml",
        "common/model.yaml",
        "base.yaml",
    ]


def test_null_resets_to_the_default(folder: Path) -> None:
    text = "extends: base.yaml\ncaptures: {resid: {layers: null}}\nanalyses: {decode: {cv: ~}}\n"
    spec = load_text(text).spec
    assert spec.captures["resid"].layers == "all"
    assert spec.analyses["decode"].cv.folds == 5  # type: ignore[union-attr]
    # Over nothing, null is a value like any other; nothing is ignored.
    [told] = refused("extends: base.yaml\ncaptures: {resid: {layer: null}}\n")
    assert told[1:4] == ("P202", 2, 20)


def test_another_kind_replaces_the_entry(folder: Path) -> None:
    text = """\
extends: base.yaml
analyses: {decode: {kind: rsa, against: {m: {kind: category, column: form}}, test: {permute: form}}}
"""
    assert load_text(text).spec.analyses["decode"].kind == "rsa"


def test_mistakes_in_a_base_are_told_of_the_base(folder: Path) -> None:
    write(Path("base.yaml"), BASE.replace("site: resid_post", "site: resid_pst"))
    assert refused("extends: base.yaml\nmodel: {dtype: flot16}\n") == [
        ("x.yaml", "P204", 2, 16, "unknown value 'flot16'"),
        ("base.yaml", "P204", 14, 17, "unknown site 'resid_pst'"),
    ]
    with pytest.raises(SpecError) as caught:
        load_text("extends: base.yaml\nmodel: {dtype: flot16}\n")
    assert "14 |   resid: {site: resid_pst, layers: 0..2}\n   |                 ^^^^^^^^^" in str(
        caught.value
    )
    assert str(caught.value).endswith("\n\nx.yaml: 2 errors")


EXTENDS = [
    ("extends: bse.yaml", [("x.yaml", "P501", 1, 10,
     "no base 'bse.yaml': neither a file, seen from this one, nor a shipped spec")]),
    ("extends: [base.yaml, quikstart]", [("x.yaml", "P501", 1, 22,
     "no base 'quikstart': neither a file, seen from this one, nor a shipped spec")]),
    ("extends: .", [("x.yaml", "P501", 1, 10, "the base '.' is no file")]),
    ("extends: [x.yaml]", [("x.yaml", "P502", 1, 11,
     "these specs extend each other in a circle: x.yaml -> x.yaml")]),
    ("extends: one.yaml", [("two.yaml", "P502", 2, 4,
     "these specs extend each other in a circle: one.yaml -> two.yaml -> one.yaml")]),
    ("extends: other.yaml", [("other.yaml", "P209", 1, 13,
     "expected grammar version 1, which this patchclamp reads; got the number 2")]),
    ("extends: broken.yaml", [("broken.yaml", "P103", 1, 4,
     "not YAML: found unexpected end of stream (a quote or a bracket is never closed)")]),
    ("extends: twice.yaml", [("twice.yaml", "P105", 2, 1,
     "duplicate key 'seed': first given in line 1, column 1")]),
    ("extends: latin.yaml", [("latin.yaml", "P101", 1, 7,
     "byte 6 (0xe9) is not UTF-8 text; save the file as UTF-8")]),
    ("extends: 3", [("x.yaml", "P203", 1, 10,
     'expected text or a list, got the number 3; quote it: "3"')]),
    ("extends: [base.yaml, 3]", [("x.yaml", "P203", 1, 22,
     'expected text, got the number 3; quote it: "3"')]),
    ("extends: {a: b}", [("x.yaml", "P203", 1, 10, "expected text or a list, got a mapping")]),
    ("extends: ['']", [("x.yaml", "P205", 1, 11, "this text may not be empty")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), EXTENDS, ids=[text for text, _ in EXTENDS])
def test_bases_that_cannot_be(text: str, expected: list[Told], folder: Path) -> None:
    write(Path("one.yaml"), "extends: two.yaml\n")
    write(Path("two.yaml"), "extends:\n - one.yaml\n")
    write(Path("other.yaml"), "patchclamp: 2\n")
    write(Path("broken.yaml"), "a: 'x")
    write(Path("twice.yaml"), "seed: 1\nseed: 2")
    Path("latin.yaml").write_bytes(b"name: \xe9")
    assert refused(text + "\n") == expected


def test_the_nearest_base_is_proposed(folder: Path) -> None:
    for name, near in (("bas.yaml", "base.yaml"), ("quikstart", "quickstart")):
        with pytest.raises(SpecError, match=re.escape(f"did you mean {near!r}?")):
            load_text(f"extends: {name}\n")


def test_a_long_row_of_bases_is_refused(folder: Path) -> None:
    for i in range(DEPTH - 2):
        write(Path(f"b{i}.yaml"), f"extends: b{i + 1}.yaml\n")
    write(Path(f"b{DEPTH - 2}.yaml"), "extends: base.yaml\n")
    assert load_text("extends: b1.yaml\n").spec.name == "base"
    told = (f"b{DEPTH - 2}.yaml", "P503", 1, 10, "more than 20 specs extend each other in a row")
    assert refused("extends: b0.yaml\n") == [told]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("model.dtype=float16", ("model", "dtype"), "float16"),
        ("seed=7", ("seed",), 7),
        ("analyses.decode.cv.folds=4", ("analyses", "decode", "cv", "folds"), 4),
        ("captures.resid.layers=[0, 1]", ("captures", "resid", "layers"), (0, 1)),
        ("stimuli.words.labels[1]=step", ("stimuli", "words", "labels", 1), "step"),
        ("stimuli.words.labels.1=step", ("stimuli", "words", "labels", 1), "step"),
        ("run.batch.tokens=64", ("run", "batch", "tokens"), 64),
        ("description=a=b: 'c'", ("description",), None),
        ("description='a=b: c'", ("description",), "a=b: c"),
        ("description=''", ("description",), ""),
        ("analyses.decode=null", ("analyses", "decode"), None),
        ("analyses.decode=", ("analyses", "decode"), None),
    ],
)
def test_an_override_sets_one_value(
    override: str, path: tuple[str | int, ...], value: object, folder: Path
) -> None:
    if override.startswith("description=a"):
        told = (f"--set {override}", "P504", 1, 13,
                "expected one value: text, a number, or a list or mapping in brackets")  # fmt: skip
        assert refused("extends: base.yaml\n", override) == [told]
        return
    loaded = load_text("extends: base.yaml\n", override)
    assert loaded.document.get(path) == value
    assert loaded.document.values[path].source == f"--set {override}"


def test_overrides_go_one_after_another(folder: Path) -> None:
    loaded = load_text(BASE, "analyses.more={kind: probe, target: form}", "analyses.more.of=resid",
                       "seed=1", "seed=2", "analyses.decode.cv.folds=null")  # fmt: skip
    assert loaded.spec.seed == 2
    assert list(loaded.spec.analyses) == ["decode", "more"]
    assert loaded.spec.analyses["decode"].cv.folds == 5  # type: ignore[union-attr]


OVERRIDES = [
    ("model.dtype=flot32", "P204", 13, "unknown value 'flot32'"),
    ("runn.device=cpu", "P202", 1, "unknown key 'runn'"),
    ("run.devise=cpu", "P202", 5, "unknown key 'devise'"),
    ("model.revision=12e4567", "P114", 16,
     "'12e4567' overflows to infinity (a commit hash?); quote it"),
    ("model.revision=1.0", "P203", 16, 'expected text, got the number 1.0; quote it: "1.0"'),
    ("seed", "P504", 1, "expected path=value, such as model.dtype=float16; got 'seed'"),
    ("", "P504", 1, "expected path=value, such as model.dtype=float16; got ''"),
    ("=3", "P505", 1, "'' is not a path; write keys with dots between, such as model.dtype"),
    ("a..b=3", "P505", 1,
     "'a..b' is not a path; write keys with dots between, such as model.dtype"),
    ("extends=a.yaml", "P504", 1, "'extends' is read before any override; write it into the spec"),
    ("seed.x=1", "P505", 6, "'seed' is a single value; it has no 'x'"),
    ("name.x=1", "P505", 6, "'name' is a single value; it has no 'x'"),
    ("stimuli.words.labels[2]=x", "P505", 22,
     "'stimuli.words.labels' is a list of 2 items; it has no [2]"),
    ("seed=a: 1", "P504", 6,
     "expected one value: text, a number, or a list or mapping in brackets"),
    ("seed=1\n", "P504", 6, "expected one value: text, a number, or a list or mapping in brackets"),
    ("seed=[1", "P103", 6,
     "not YAML: did not find expected ',' or ']' (a comma or a closing bracket is missing)"),
    ("seed=!!int 3", "P106", 6,
     "tags such as '!!int' are not part of a spec; nothing in a spec is executed"),
    ("captures.resid.site=null", "P201", 21, "this key is required and missing"),
]  # fmt: skip


def test_a_base_or_an_override_that_is_not_there_hides_nothing_that_is_sure() -> None:
    text = (
        "extends: [nowhere.yaml]\npatchclamp: 1\nname: a b\n"
        "analyses: {decode: {target: form, cv: {folds: 1}}, more: {kind: prob}}\n"
        "captures: {resid: {layers: 3..1}}\n"
    )
    with pytest.raises(SpecError) as caught:
        loads(text, overrides=["run.device=gpu", "bad"])
    # Nothing is said of what may stand in the base: kinds, required keys, what references mean.
    assert [(d.code, d.line) for d in caught.value.diagnostics] == [  # type: ignore[attr-defined]
        ("P501", 1), ("P206", 3), ("P207", 4), ("P208", 5), ("P204", 1), ("P504", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("override", "code", "column", "message"), OVERRIDES)
def test_overrides_that_cannot_be(
    override: str, code: str, column: int, message: str, folder: Path
) -> None:
    [(source, *told)] = refused(BASE + "seed: 3\n", override)
    assert source == f"--set {override}"
    assert told[0] == code
    assert (told[3], told[2]) == (message, column) or code == "P103"


def test_an_override_is_quoted_where_it_is_wrong(folder: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(BASE, "model.dtype=flot32")
    assert (
        str(caught.value)
        == """\
error[P204]: model.dtype: unknown value 'flot32'
 --> --set model.dtype=flot32:1:13
  |
1 | model.dtype=flot32
  |             ^^^^^^
  = allowed: float32, float16, bfloat16
  = help: did you mean 'float32'?

x.yaml: 1 error"""
    )


def test_every_bad_override_is_told(folder: Path) -> None:
    found = refused(BASE, "seed", "a..b=1", "name.x=2")
    assert [(source, code) for source, code, *_ in found] == [
        ("--set seed", "P504"), ("--set a..b=1", "P505"), ("--set name.x=2", "P505"),
    ]  # fmt: skip


def test_text_has_bases_and_overrides_as_well(folder: Path) -> None:
    text = "extends: base.yaml\nname: y\n"
    loaded = loads(text, overrides=["seed=4"])
    assert (loaded.spec.name, loaded.spec.seed) == ("y", 4)
    assert loaded.document.text == text
    with pytest.raises(SpecError, match=r"no base 'base.yaml'"):
        loads(text, folder=Path("elsewhere"))
