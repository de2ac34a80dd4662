"""Cells: each as if written by hand, with its own digest; common problems are told once."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_load import GOOD

from patchclamp.registry.errors import SpecError
from patchclamp.specs import Loaded, digest, loads
from patchclamp.specs.cells import FAILING, name_of
from patchclamp.specs.diagnostics import Diagnostic


def refused(matrix: str, text: str = GOOD) -> list[tuple[str, int, int, str]]:
    with pytest.raises(SpecError) as caught:
        loads(f"matrix: {matrix}\n{text}")
    found = caught.value.diagnostics
    assert all(isinstance(d, Diagnostic) for d in found)
    return [(d.code, d.line, d.column, d.message) for d in found]  # type: ignore[attr-defined]


def swept(matrix: str) -> Loaded:
    return loads(f"matrix: {matrix}\n{GOOD}")


def test_a_spec_without_a_matrix_is_one_cell() -> None:
    loaded = loads(GOOD)
    [cell] = loaded.cells
    assert (cell.label, cell.spec, cell.digest) == ({}, loaded.spec, digest(loaded.spec))
    assert loaded.dims == {}


def test_a_cell_is_the_spec_that_one_would_write() -> None:
    loaded = swept("{grid: {model.revision: [step0, main], analyses.decode.cv.folds: [3, 4]}}")
    assert loaded.dims == {"model.revision": "revision", "analyses.decode.cv.folds": "cv_folds"}
    for cell in loaded.cells:
        revision, folds = cell.label.values()
        text = GOOD.replace("bundled:sequences", f"bundled:sequences@{revision}")
        by_hand = loads(
            text.replace("target: category", f"target: category, cv: {{folds: {folds}}}")
        )
        assert cell.spec == by_hand.spec
        assert cell.digest == digest(by_hand.spec)
    assert len({cell.digest for cell in loaded.cells}) == 4
    assert loaded.spec == loaded.cells[0].spec


def test_what_is_loaded_can_stand_at_any_cell() -> None:
    loaded = swept("{grid: {seed: [1, 2]}}")
    second = loaded.at(loaded.cells[1])
    assert (second.spec.seed, second.label, second.document.value["seed"]) == (2, {"seed": 2}, 2)
    assert second.document.text == loaded.document.text
    found = second.diagnose(("seed",), "P405", "not this seed")
    assert (found.line, found.column) == (1, 27)
    assert found.message == "not this seed (matrix value)"


def test_a_list_of_seeds_is_a_matrix_over_them() -> None:
    listed = loads(f"seed: [3, 1]\n{GOOD}")
    matrix = swept("{grid: {seed: [3, 1]}}")
    assert (
        (listed.dims, listed.label) == (matrix.dims, {"seed": 3}) == ({"seed": "seed"}, {"seed": 3})
    )
    for one, other in zip(listed.cells, matrix.cells, strict=True):
        assert (one.label, one.spec, one.digest) == (other.label, other.spec, other.digest)
    assert listed.cells[1].digest == loads(f"seed: 1\n{GOOD}").cells[0].digest
    found = listed.at(listed.cells[1]).diagnose(("seed",), "P405", "not this seed")
    assert (found.line, found.column, found.message) == (1, 11, "not this seed")


def test_seeds_go_with_every_cell_of_a_matrix_and_can_be_excluded() -> None:
    matrix = "{grid: {model.revision: [step0, main]}, exclude: [{seed: 1, model.revision: main}]}"
    loaded = loads(f"seed: [0, 1]\nmatrix: {matrix}\n{GOOD}")
    assert [tuple(cell.label.values()) for cell in loaded.cells] == [
        (0, "step0"), (0, "main"), (1, "step0"),
    ]  # fmt: skip
    assert loaded.dims == {"seed": "seed", "model.revision": "revision"}


SEEDS = [
    ("[]", "P205", 7, "expected at least one seed, got none"),
    ("[0, 1, 0]", "P508", 14, "this value is given twice"),
    ("[0, x]", "P203", 11, "expected a whole number, got the text 'x'"),
    ("[0, -1]", "P205", 11, "expected at least 0, got the number -1"),
    ("[[0, 1]]", "P203", 8, "expected a whole number, got a list"),
]


@pytest.mark.parametrize(("seeds", "code", "column", "message"), SEEDS)
def test_a_seed_that_is_none_is_pointed_at(
    seeds: str, code: str, column: int, message: str
) -> None:
    assert _of(f"seed: {seeds}\n{GOOD}") == [(code, 1, column, message)]


def test_seeds_are_given_in_one_place() -> None:
    message = "'seed' has a list of its own; give the seeds there or here"
    assert refused("{grid: {seed: [2]}}", f"seed: [0, 1]\n{GOOD}") == [("P506", 1, 17, message)]
    assert len(loads(f"seed: [0, 1]\n{GOOD}", overrides=["seed=3"]).cells) == 1
    given = loads(GOOD, overrides=["seed=[3, 4]"])
    assert [cell.spec.seed for cell in given.cells] == [3, 4]
    with pytest.raises(SpecError, match="this value is given twice") as caught:
        loads(GOOD, overrides=["seed=[3, 3]"])
    assert caught.value.diagnostics[0].source == "--set seed=[3, 3]"  # type: ignore[attr-defined]


def test_one_seed_in_a_list_is_no_spread() -> None:
    claim = "expect: [{var: decode/accuracy, ge: 0.5}]"
    for seeds, codes in (("[0]", ["P604"]), ("[0, 1]", [])):
        loaded = loads(f"seed: {seeds}\n{GOOD}{claim}\n")
        assert [warning.code for warning in loaded.warnings] == codes


def test_null_in_a_matrix_is_the_default() -> None:
    loaded = swept("{grid: {'captures.resid.layers': [null, [0]]}}")
    assert [cell.spec.captures["resid"].layers for cell in loaded.cells] == ["all", (0,)]


def test_a_list_is_swept_by_index() -> None:
    loaded = swept("{grid: {'stimuli.words.labels[1]': [form, step]}}")
    labels = [cell.spec.stimuli["words"].labels for cell in loaded.cells]  # type: ignore[union-attr]
    assert labels == [("category", "form"), ("category", "step")]


PLACED = [
    ("{grid: {model.dtype: [float32, flot16]}}", "P204", 40,
     "unknown value 'flot16' (matrix value)"),
    ("{grid: {model.dtpe: [float32, float16]}}", "P202", 17, "unknown key 'dtpe' (matrix path)"),
    ("{grid: {modl.dtype: [float32]}}", "P202", 17, "unknown key 'modl' (matrix path)"),
    ("{grid: {model: [{id: a}, {dtype: float32}]}}", "P201", 34,
     "this key is required and missing (matrix value)"),
    ("{grid: {model: [{id: a}, {id: b, dtpe: x}]}}", "P202", 42,
     "unknown key 'dtpe' (matrix value)"),
    ("{grid: {captures.resid.site: [z, resid_pst]}}", "P204", 42,
     "unknown site 'resid_pst' (matrix value)"),
    ("{grid: {name.x: [1]}}", "P505", 17, "'name' is the same in every cell of a matrix"),
    ("{grid: {name: [a, b]}}", "P505", 17, "'name' is the same in every cell of a matrix"),
    ("{grid: {'stimuli.words.labels[5]': [a]}}", "P505", 17,
     "'stimuli.words.labels' is a list of 2 items; it has no [5]"),
    ("{grid: {run.device: [cpu, cuda]}}", "P511", 35,
     "the cells run.device=cpu and run.device=cuda compute the same; "
     "only what decides the numbers tells cells apart"),
]  # fmt: skip


@pytest.mark.parametrize(("matrix", "code", "column", "message"), PLACED)
def test_a_problem_of_a_cell_points_at_the_matrix(
    matrix: str, code: str, column: int, message: str
) -> None:
    assert refused(matrix) == [(code, 1, column, message)]


def test_every_bad_value_is_told_once_however_many_cells_have_it() -> None:
    matrix = "{grid: {seed: [1, -1, 2, -2], model.dtype: [float32, x, y]}}"
    assert [(code, column) for code, _, column, _ in refused(matrix)] == [
        ("P205", 27), ("P205", 34), ("P204", 62), ("P204", 65),
    ]  # fmt: skip


def test_what_all_cells_have_is_told_once_and_as_if_there_were_no_matrix() -> None:
    text = GOOD.replace("site: resid_post", "site: resid_pst")
    plain = [(code, line + 1, column, message) for code, line, column, message in _of(text)]
    assert refused("{grid: {seed: [1, 2, 3]}}", text) == plain


def _of(text: str) -> list[tuple[str, int, int, str]]:
    with pytest.raises(SpecError) as caught:
        loads(text)
    return [(d.code, d.line, d.column, d.message) for d in caught.value.diagnostics]  # type: ignore[attr-defined]


def test_what_only_some_cells_have_names_the_first_of_them() -> None:
    matrix = "{grid: {seed: [1, 2], stimuli.words.labels: [[category, form], [form]]}}"
    [(code, line, _, message)] = refused(matrix)
    assert (code, line) == ("P307", 19)
    assert message.endswith(" (in the cell seed=1, stimuli.words.labels=[form])")


def test_what_cannot_be_read_is_not_told_of_every_cell() -> None:
    found = refused("{grid: {seed: [1, 2]}}", GOOD.replace("name: good", "name: 12e4567"))
    assert [(code, line) for code, line, _, _ in found] == [("P114", 3)]


HIDING = [
    ("{grid: {seed: [1, 2]}, exclude: [{sed: 1}]}", {"P509"}),
    ("{grid: {seed: [1, 1]}}", {"P508"}),
    ("{gird: {seed: [1, 2]}}", {"P202"}),
    ("{grid: {seed: 1}}", {"P203"}),
    ("{grid: {name: [a, b]}}", {"P505"}),
    ("{grid: {'stimuli.words.labels[5]': [a]}}", {"P505"}),
    ("{grid: {a..b: [1]}}", {"P505"}),
    ("{zip: {seed: [1, 2], model.revision: [main]}}", {"P507"}),
    ("{grid: {model: [a], model.id: [b]}}", {"P506"}),
    ("{grid: {seed: [1, x, 1]}}", {"P508", "P203"}),
    ("3", {"P203"}),
]


@pytest.mark.parametrize(("matrix", "codes"), HIDING)
def test_what_is_wrong_with_a_matrix_hides_nothing_else(matrix: str, codes: set[str]) -> None:
    text = GOOD.replace("site: resid_post", "site: resid_pst")
    found = refused(matrix, text)
    assert {code for code, *_ in found} == codes | {"P204"}
    assert ("P204", 15, 17) in [(code, line, column) for code, line, column, _ in found]
    # And what may stand in the part that cannot be read is not missed.
    lacking = GOOD.replace("model: bundled:sequences\n", "")
    assert {code for code, *_ in refused(matrix, lacking)} >= codes
    if "model" not in matrix:
        assert "P201" not in {code for code, *_ in refused(matrix, lacking)}


def test_every_value_is_judged_though_others_are_wrong() -> None:
    matrix = "{grid: {model.dtype: [float32, flot16], analyses.decode.cv.folds: [3, 1, 3]}}"
    assert {(code, column) for code, _, column, _ in refused(matrix)} == {
        ("P204", 40), ("P205", 79), ("P508", 82),
    }  # fmt: skip


def test_a_bound_on_what_is_told_is_said() -> None:
    matrix = f"{{grid: {{seed: {list(range(-50, 50))}}}}}"
    found = refused(matrix)
    assert [code for code, *_ in found].count("P205") == FAILING
    assert ("P512", 1, 1, f"{FAILING} cells have problems; 80 more were not looked at") in found


def test_names_of_cells_are_written_as_in_a_spec() -> None:
    label = {"a": None, "b": True, "c": (1, "x"), "d": {"k": 2.5}, "e": "y" * 70}
    assert name_of(label) == f"a=null, b=true, c=[1, x], d={{k: 2.5}}, e={'y' * 60}..."


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=3, unique=True),
)
def test_a_cell_is_the_same_however_it_is_asked_for(seeds: list[int], folds: list[int]) -> None:
    both = swept(f"{{grid: {{seed: {seeds}, analyses.decode.cv.folds: {folds}}}}}")
    assert len(both.cells) == len(seeds) * len(folds)
    for cell in both.cells:
        seed, fold = cell.label.values()
        alone = loads(GOOD, overrides=[f"seed={seed}", f"analyses.decode.cv={{folds: {fold}}}"])
        assert cell.spec == alone.spec
        assert cell.digest == digest(alone.spec)


MORE = GOOD.replace(
    "run: {device: cpu}",
    """\
  geometry: {kind: rsa, of: resid, contrast: {kind: discriminative, column: category},
    test: {permute: category}}
  choose: {kind: selection, column: form, target: category,
    methods: {welch: {kind: contrast, of: resid}}}
expect:
- {var: decode/accuracy, ge: 0.5}
- {var: geometry/p, le: 0.01}
""",
)
AXES = {
    "model": ["bundled:sequences", '{id: "bundled:sequences", dtype: bfloat16}'],
    "model.dtype": ["float32", "bfloat16"],
    "captures": ["{resid: {site: resid_post, layers: 1}}", "{other: {site: z}}", "null"],
    "interventions": ["{mean: {kind: ablate, value: zero}}", "{}", "null"],
    "analyses.heads": ["{kind: probe, of: resid, target: form}", "{kind: prob}", "null"],
    "stimuli.words.groups": ["template", "none", "category", "null"],
    "stimuli.words.labels": ["[category, form]", "[form]"],
    "stimuli.words.answer": ['{correct: " {next}", foil: " {last}"}', '{correct: "x"}', "null"],
    "stimuli.scrambled.of": ["words", "scrambled"],
    "captures.resid.of": ["words", "scrambled", "wrods"],
    "captures.resid.layers": ["all", "[0]"],
    "captures.other": ["{of: words, site: z}", "{of: words, site: zz}", "null"],
    "interventions.mean.value.mean_over": ["words", "nothing"],
    "analyses.decode.target": ["category", "form"],
    "analyses.decode.controls": ["[]", "[majority]"],
    "analyses.decode.shuffles": ["20", "40"],
    "analyses.heads.share": ["true", "false"],
    "analyses.heads.metric.kind": ["logit_diff", "logprob"],
    "analyses.geometry.features": ["choose", "decode", "geometry", "null"],
    "analyses.geometry.test.n": ["20", "1000"],
    "expect[0].var": ["decode/accuracy", "decde/accuracy"],
}  # fmt: skip


def test_the_spec_of_the_axes_is_valid() -> None:
    assert [warning.code for warning in loads(MORE).warnings] == ["P604"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_cells_that_share_entries_are_judged_as_if_each_stood_alone(data: st.DataObject) -> None:
    some = st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=2, unique=True)
    paths = data.draw(some.filter(lambda p: not any(b.startswith(f"{a}.") for a in p for b in p)))
    axes = {
        path: data.draw(st.lists(st.sampled_from(AXES[path]), min_size=1, unique=True))
        for path in paths
    }
    grid = ", ".join(f"'{path}': [{', '.join(values)}]" for path, values in axes.items())
    told, specs = set(), []
    for values in product(*axes.values()):
        try:
            alone = loads(MORE, overrides=[f"{p}={v}" for p, v in zip(axes, values, strict=True)])
        except SpecError as error:
            told |= {(d.code, d.severity) for d in error.diagnostics}  # type: ignore[attr-defined]
        else:
            specs.append(alone.spec)
            told |= {(d.code, d.severity) for d in alone.warnings}
    try:
        loaded = loads(f"{MORE}matrix: {{grid: {{{grid}}}}}\n")
    except SpecError as error:
        found = {(d.code, d.severity) for d in error.diagnostics}  # type: ignore[attr-defined]
        # Cells that are told of their errors are not told of the others' warnings.
        assert found - told <= {("P511", "error")}
        assert {one for one in told if one[1] == "error"} <= found
    else:
        assert [cell.spec for cell in loaded.cells] == specs
        assert [cell.digest for cell in loaded.cells] == list(map(digest, specs))
        assert {(d.code, d.severity) for d in loaded.warnings} == told
