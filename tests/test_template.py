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
        ("{seq[0]}, {seq[i+1]}", ("seq", "i"), "one, twenty_two"),
        ("{words(seq[1])}", ("seq",), "twenty two"),
        ("{a + 1}{ a }", ("a",), "21"),
        ("{b + '!'}", ("b",), "x!"),
        ("{a - a}{a-a}", ("a", "a-a"), "0hyphen"),
        ("{`first name`}", ("first name",), "Anna"),
        ("{class} {in} {true}", ("class", "in", "true"), "c i t"),
        ("{a and b}", ("a and b",), "spaces"),
        ("{(yes and no)}", ("yes", "no"), "false"),
        ("{index(a)}", ("a",), "4"),
        ("{{{seq[0]}}}", ("seq",), "{one}"),
    ],
)
def test_columns_are_filled_from_a_row(template: str, columns: tuple[str, ...], text: str) -> None:
    row = {"a": 1, "b": "x", "first name": "Anna", "größe": 2.5, "yes": True, "no": False,
           "seq": ("one", "twenty_two"), "i": 0, "a-a": "hyphen", "a and b": "spaces",
           "class": "c", "in": "i", "true": "t"}  # fmt: skip
    assert columns_of(template) == columns
    assert render(template, row, indexes={"a": 4}) == text


def test_values_are_not_templates() -> None:
    assert render("{a}", {"a": "{b} }}"}) == "{b} }}"


EITHER = (
    " is neither a column in braces, such as {prompt}, nor an expression, such as {seq[i + 1]}: "
)


@pytest.mark.parametrize(
    ("template", "offset", "message"),
    [
        ("{a", 0, "a single '{' in '{a'; write '{{' for a brace"),
        ("a}", 1, "a single '}' in 'a}'; write '}}' for a brace"),
        ("{'}'}", 1, "\"{'}\" is neither a column in braces"),
        ("{}", 1, f"'{{}}'{EITHER}expected a value, got the end"),
        ("to {0}", 3, "'{0}' names no column; write it without braces"),
        ("{'a' + 'b'}", 0, "\"{'a' + 'b'}\" names no column; write it without braces"),
        ("{a.b}", 2, f"'{{a.b}}'{EITHER}'.' cannot stand here: a name has no parts"),
        ("x {a!r}", 4, f"'{{a!r}}'{EITHER}'!' cannot stand here: write 'not'"),
        ("{a:>3}", 2, f"'{{a:>3}}'{EITHER}':' cannot stand here: there are no slices and no "
         "formats"),
        ("{a[0}", 4, f"'{{a[0}}'{EITHER}expected ']', got the end"),
        ("{wrods(a)}", 1, f"'{{wrods(a)}}'{EITHER}unknown function 'wrods' (known: "),
        ("{first  name}", 8, f"'{{first  name}}'{EITHER}expected an operator or the end"),
        ("{" + "a" * 600 + "+" + "a" * 600 + "}", 1001, "an expression has at most 1000"),
    ],
)  # fmt: skip
def test_what_is_neither_a_column_nor_an_expression_is_refused(
    template: str, offset: int, message: str
) -> None:
    with pytest.raises(TemplateError, match=re.escape(message)) as caught:
        columns_of(template)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("template", "offset", "message"),
    [
        ("to {seq[i+1]}", 8, "'{seq[i+1]}' has no value: there is no item 1 in a list of 1"),
        ("{n + i}", 3, "'{n + i}' has no value: '+' takes two numbers or two texts; got the text "
         "'7' and the number 0; write number(n)"),
        ("{index(n)}", 1, "'{index(n)}' has no value: index(x) takes an item drawn from a "),
        ("{seq}", 0, "column 'seq' holds a list; choose an item, such as {seq[0]}"),
        ("a {[i, i]}", 2, "'{[i, i]}' gives a list; choose an item, such as {seq[0]}"),
    ],
)  # fmt: skip
def test_a_row_that_gives_no_text_is_refused(template: str, offset: int, message: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(message)) as caught:
        render(template, {"seq": ["one"], "i": 0, "n": "7"})
    assert caught.value.offset == offset


def test_a_row_without_the_column_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match=re.escape("unknown column 'promt' (known: prompt)")):
        render("{promt}", {"prompt": "x"})
    with pytest.raises(UnknownNameError, match=re.escape("unknown column 'j' (known: seq)")):
        render("{seq[j]}", {"seq": ()})
    with pytest.raises(TemplateError, match="column 'a' holds None, which has no text"):
        render("{a}", {"a": None})


@given(st.text())
def test_doubled_braces_write_any_text(text: str) -> None:
    template = text.replace("{", "{{").replace("}", "}}")
    assert (columns_of(template), render(template, {})) == ((), text)


@given(st.text("{}ab.0 +-[]'(),", max_size=12))
def test_any_text_is_a_template_or_refused(template: str) -> None:
    try:
        row = dict.fromkeys(columns_of(template), "x")
        text = render(template, row)
    except TemplateError:
        return
    assert isinstance(text, str)
