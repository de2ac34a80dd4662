"""Templates: columns, literal braces, and every refusal by text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.registry.errors import UnknownNameError
from patchclamp.specs.template import TemplateError, columns_of, render


@pytest.mark.parametrize(
    ("template", "columns", "text"),
    [
        ("", (), ""),
        ("no columns", (), "no columns"),
        ("{a}", ("a",), "1"),
        (" {b} and {a} and {b}", ("b", "a"), " x and 1 and x"),
        ("{{a}}", (), "{a}"),
        ("{{{a}}}", ("a",), "{1}"),
        ("}}{{", (), "}{"),
        ("{first name}: {größe}", ("first name", "größe"), "Anna: 2.5"),
        ("{yes} {no}", ("yes", "no"), "true false"),
    ],
)
def test_columns_are_filled_from_a_row(template: str, columns: tuple[str, ...], text: str) -> None:
    row = {"a": 1, "b": "x", "first name": "Anna", "größe": 2.5, "yes": True, "no": False}
    assert columns_of(template) == columns
    assert render(template, row) == text


def test_values_are_not_templates() -> None:
    assert render("{a}", {"a": "{b} }}"}) == "{b} }}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{a", "a single '{' in '{a'; write '{{' for a brace"),
        ("a}", "a single '}' in 'a}'; write '}}' for a brace"),
        ("{}", "'{}' is not a column in braces"),
        ("{0}", "'{0}' is not a column in braces"),
        ("{a.b}", "'{a.b}' is not a column in braces"),
        ("{a[0]}", "'{a[0]}' is not a column in braces"),
        ("{a!r}", "'{a!r}' is not a column in braces"),
        ("{a:>3}", "'{a:>3}' is not a column in braces: a name starts with a letter and has no "
         "dots, brackets, '!' or ':'"),
    ],
)  # fmt: skip
def test_what_is_not_a_plain_column_is_refused(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(message)):
        columns_of(template)


def test_a_row_without_the_column_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match=re.escape("unknown column 'promt' (known: prompt)")):
        render("{promt}", {"prompt": "x"})
    with pytest.raises(TemplateError, match="column 'a' holds None, which has no text"):
        render("{a}", {"a": None})


@given(st.text())
def test_doubled_braces_write_any_text(text: str) -> None:
    template = text.replace("{", "{{").replace("}", "}}")
    assert (columns_of(template), render(template, {})) == ((), text)


@given(st.text("{}ab.0 ", max_size=12))
def test_any_text_is_a_template_or_refused(template: str) -> None:
    try:
        columns = columns_of(template)
    except TemplateError:
        return
    assert isinstance(render(template, dict.fromkeys(columns, "x")), str)
