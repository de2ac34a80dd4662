"""Dotted paths as people write them, and what is no path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.specs.diagnostics import dotted
from patchclamp.specs.paths import PathError, read_path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model", [("model", 0, 5)]),
        ("a.b-c.d e", [("a", 0, 1), ("b-c", 2, 5), ("d e", 6, 9)]),
        ("a[0][12].b", [("a", 0, 1), ("0", 2, 3), ("12", 5, 7), ("b", 9, 10)]),
        ("a.0", [("a", 0, 1), ("0", 2, 3)]),
    ],
)
def test_parts_and_where_they_stand(text: str, parts: list[tuple[str, int, int]]) -> None:
    assert [(part.text, part.start, part.end) for part in read_path(text)] == parts


@pytest.mark.parametrize(
    "text", ["", ".", ".a", "a.", "a..b", " a", "a ", "a .b", "[0]", "a[0]b", "a[x]", "a]", "a=b"]
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(PathError) as caught:
        read_path(text)
    assert str(caught.value) == (
        f"{text!r} is not a path; write keys with dots between, such as model.dtype"
    )


NAMES = st.text("abz_0-", min_size=1, max_size=4)


@given(NAMES.filter(lambda name: not name.isdigit()), st.lists(NAMES | st.integers(0, 99)))
def test_a_path_reads_back(first: str, rest: list[str | int]) -> None:
    path = (first, *rest)
    assert [part.text for part in read_path(dotted(path))] == [str(part) for part in path]
