"""Which cells a matrix asks for, what its dims are called, and every refusal with its place."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.specs.axes import CELLS, Cells, dims_of, read_matrix
from patchclamp.specs.document import Document, parse
from patchclamp.specs.scalars import dump


def read(text: str) -> Document:
    document, problems = parse(text)
    assert document is not None
    assert not problems
    return document


def cells_of(text: str) -> Cells:
    cells, problems = read_matrix(read(text))
    assert not problems
    assert cells is not None
    return cells


def labels(text: str) -> list[dict[str, Any]]:
    cells = cells_of(text)
    return [cells.label(step) for step in cells.steps]


def test_a_spec_without_a_matrix_has_none() -> None:
    assert read_matrix(read("name: x")) == (None, ())
    assert read_matrix(read("matrix: null")) == (None, ())


def test_the_last_path_of_a_grid_varies_fastest() -> None:
    assert labels("matrix: {grid: {seed: [0, 1], model.dtype: [a, b]}}") == [
        {"seed": 0, "model.dtype": "a"}, {"seed": 0, "model.dtype": "b"},
        {"seed": 1, "model.dtype": "a"}, {"seed": 1, "model.dtype": "b"},
    ]  # fmt: skip


def test_a_zip_goes_value_by_value_and_with_every_cell_of_the_grid() -> None:
    text = "matrix: {zip: {seed: [0, 1], model.dtype: [a, b]}, grid: {model.id: [x, y]}}"
    assert labels(text) == [
        {"model.id": "x", "seed": 0, "model.dtype": "a"},
        {"model.id": "x", "seed": 1, "model.dtype": "b"},
        {"model.id": "y", "seed": 0, "model.dtype": "a"},
        {"model.id": "y", "seed": 1, "model.dtype": "b"},
    ]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("[{a: 1}]", ["2x", "2y"]),
        ("[{a: 1, b: y}]", ["1x", "2x", "2y"]),
        ("[{a: 1, b: y}, {a: 2, b: x}]", ["1x", "2y"]),
        ("[{b: [x, y], a: 2}]", ["1x", "1y"]),
        ("[{a: [1, 7], b: x}]", ["1y", "2x", "2y"]),
    ],
)
def test_what_is_excluded_is_left_out(exclude: str, left: list[str]) -> None:
    found = labels(f"matrix: {{grid: {{a: [1, 2], b: [x, y]}}, exclude: {exclude}}}")
    assert [f"{label['a']}{label['b']}" for label in found] == left


def test_a_list_among_the_values_is_excluded_as_a_whole() -> None:
    text = "matrix: {grid: {a: [[1, 2], [1], 3]}, exclude: [{a: [1, 2]}, {a: [[1], 4]}]}"
    assert labels(text) == [{"a": 3}]


def test_numbers_text_and_truth_are_not_alike() -> None:
    assert len(labels("matrix: {grid: {a: [1, 1.0, '1', true]}}")) == 4
    found = labels("matrix: {grid: {a: [1, '1', true]}, exclude: [{a: 1}]}")
    assert found == [{"a": "1"}, {"a": True}]


REFUSED = [
    ("{}", "P208", 1, 9, "a matrix needs 'grid' or 'zip': paths, each with a list of values"),
    ("3", "P203", 1, 9, "expected a mapping, got the number 3"),
    ("{gird: {a: [1]}}", "P202", 1, 10, "unknown key 'gird'"),
    ("{grid: {a: []}}", "P205", 1, 20, "expected at least one entry, got none"),
    ("{grid: {a: 1}}", "P203", 1, 20, "expected a list, got the number 1"),
    ("{grid: {a: [1]}, exclude: {a: 1}}", "P203", 1, 35, "expected a list, got a mapping"),
    ("{grid: {a: [1]}, exclude: [{}]}", "P205", 1, 36, "expected at least one entry, got none"),
    ("{grid: {a..b: [1]}}", "P505", 1, 17,
     "'a..b' is not a path; write keys with dots between, such as model.dtype"),
    ("{grid: {name: [a]}}", "P505", 1, 17, "'name' is the same in every cell of a matrix"),
    ("{grid: {extends: [a]}}", "P505", 1, 17, "'extends' is the same in every cell of a matrix"),
    ("{grid: {a: [1]}, zip: {a: [1]}}", "P506", 1, 32, "matrix.grid sets 'a' already"),
    ("{grid: {'a[0]': [1], a.0: [1]}}", "P506", 1, 30, "matrix.grid sets 'a.0' already"),
    ("{grid: {a: [1], a.b: [1]}}", "P506", 1, 25, "'a.b' crosses 'a', which matrix.grid sets"),
    ("{grid: {a.b: [1]}, zip: {a: [1]}}", "P506", 1, 34,
     "'a' crosses 'a.b', which matrix.grid sets"),
    ("{zip: {a: [1, 2], b: [1]}}", "P507", 1, 30,
     "the lists of a zip go together value by value: 'a' has 2, this one has 1"),
    ("{grid: {a: [1, 2, 1]}}", "P508", 1, 27, "this value is given twice"),
    ("{grid: {a: [{b: 1}, {b: 1}]}}", "P508", 1, 29, "this value is given twice"),
    ("{zip: {a: [1, 1], b: [2, 2]}}", "P508", 1, 23, "this row is given twice"),
    ("{grid: {a: [1]}, exclude: [{b: 1}]}", "P509", 1, 37, "the matrix sets no path 'b'"),
    ("{grid: {a: [1]}, exclude: [{a: '1'}]}", "P509", 1, 40, "the matrix gives 'a' no such value"),
    ("{zip: {a: [1, 2], b: [x, y]}, exclude: [{a: 1, b: y}]}", "P509", 1, 49,
     "no cell has all of these values"),
    ("{grid: {a: [1, 2]}, exclude: [{a: 1}, {a: 2}]}", "P510", 1, 29,
     "every cell of this matrix is excluded"),
]  # fmt: skip


@pytest.mark.parametrize(("matrix", "code", "line", "column", "message"), REFUSED)
def test_a_matrix_that_cannot_be(
    matrix: str, code: str, line: int, column: int, message: str
) -> None:
    document = read(f"matrix: {matrix}")
    cells, problems = read_matrix(document)
    assert cells is not None
    assert not cells.whole
    found = [document.locate(problem) for problem in problems]
    assert [(d.code, d.line, d.column, d.message) for d in found] == [(code, line, column, message)]


def test_two_values_of_a_zip_may_be_alike() -> None:
    assert len(labels("matrix: {zip: {a: [1, 1], b: [1, 2]}}")) == 2


def test_a_misspelt_path_of_an_exclude_has_its_nearest() -> None:
    _, (problem,) = read_matrix(read("matrix: {grid: {model.id: [1]}, exclude: [{model.di: 1}]}"))
    assert (problem.allowed, problem.suggestion) == (("model.id",), "model.id")


def test_a_matrix_has_at_most_so_many_cells() -> None:
    hundred = str(list(range(100)))
    assert len(labels(f"matrix: {{grid: {{a: {hundred}, b: {hundred}}}}}")) == CELLS
    document = read(f"matrix: {{grid: {{a: {hundred}, b: {hundred}, c: [1, 2]}}}}")
    cells, (problem,) = read_matrix(document)
    assert cells is not None
    assert not cells.whole
    assert (problem.code, problem.message) == (
        "P510", "this matrix has 20,000 cells; at most 10,000 are allowed",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "dims"),
    [
        ("a.b, c", ["b", "c"]),
        ("model.revision, tokenizer.revision", ["model_revision", "tokenizer_revision"]),
        ("a.x.n, b.x.n, n", ["a_x_n", "b_x_n", "n"]),
        ("'s.labels[0]', s.n", ["labels_0", "n"]),
        ("analyses.a.cv.folds, analyses.b.cv.folds, seed",
         ["a_cv_folds", "b_cv_folds", "seed"]),
    ],
)  # fmt: skip
def test_dims_are_called_by_as_little_of_a_path_as_tells_it(paths: str, dims: list[str]) -> None:
    grid = ", ".join(f"{path}: [1]" for path in paths.split(", "))
    assert list(dims_of(cells_of(f"matrix: {{grid: {{{grid}}}}}").swept).values()) == dims


AXES = st.dictionaries(
    st.sampled_from(["a", "b.c", "b.d", "e"]),
    st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
    min_size=1,
)


@settings(max_examples=80, deadline=None)
@given(AXES, st.data())
def test_cells_are_the_product_without_what_is_excluded(
    grid: dict[str, list[int]], data: st.DataObject
) -> None:
    every = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    gone = data.draw(st.lists(st.sampled_from(every), max_size=len(every) - 1))
    matrix = {"grid": grid, "exclude": gone}
    assert labels(dump({"matrix": matrix})) == [cell for cell in every if cell not in gone]
