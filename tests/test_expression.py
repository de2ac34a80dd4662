"""Expressions: what they give, what they refuse and in which words; nothing is executed."""

import ast
import operator
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.specs import expression, operations, parser, syntax
from patchclamp.specs.expression import ExpressionError, parse
from patchclamp.specs.operations import FUNCTIONS, described, held

ROW: dict[str, object] = {
    "n": 3,
    "x": 1.5,
    "i": 1,
    "length": "142",
    "category": "months",
    "subject": "Abstract_algebra",
    "seq": ("one", "two_b", "three"),
    "numbers": [4, 2, 9],
    "nested": ((1, 2), (3, 4)),
    "empty": (),
    "yes": True,
    "no": False,
    "class": "a",
    "from": 2,
    "words": 143,
    "len": 5,
    "first name": "Anna",
    "größe": 7,
    "most": 2**63 - 1,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n", 3),
        ("42", 42),
        ("007", 7),
        ("1.50", 1.5),
        ("2e-1", 0.2),
        ("'it is'", "it is"),
        ('"it\'s"', "it's"),
        ("true", True),
        ("[1, 'a', [true]]", (1, "a", (True,))),
        ("[]", ()),
        ("n + 2 * 3", 9),
        ("(n + 2) * 3", 15),
        ("10 - 3 - 2", 5),
        ("7 // 2 % 2", 1),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("7 / 2", 3.5),
        ("--n", 3),
        ("2 - -n", 5),
        ("'a' + category + 'z'", "amonthsz"),
        ("1 < n <= 3", True),
        ("1 < n < 3", False),
        ("n == 3.0", True),
        ("n != 4", True),
        ("'b' > category", False),
        ("category in ['months', 'days']", True),
        ("category not in ['months', 'days']", False),
        ("'mon' in category", True),
        ("n in numbers", False),
        ("9 in numbers", True),
        ("n in []", False),
        ("words in 142..143", True),
        ("words in 142 .. 142", False),
        ("x in 1..2", True),
        ("-n in -3..0", True),
        ("i in n - 2..n + 1", True),
        ("n not in 1..3", False),
        ("n in 1..3 and not no", True),
        ("no or yes and no", False),
        ("not no and no", False),
        ("not (no and no)", True),
        ("not n == 4", True),
        ("seq[0]", "one"),
        ("seq[i + 1]", "three"),
        ("seq[len(seq) - 1]", "three"),
        ("nested[1][0]", 3),
        ("[5, 6][i]", 6),
        ("nested[0] == [1, 2]", True),
        ("nested[0] == [1]", False),
        ("[1, 2] in nested", True),
        ("len(seq)", 3),
        ("len(category)", 6),
        ("len(empty)", 0),
        ("len + len(seq)", 8),
        ("words(subject)", "Abstract algebra"),
        ("lower(subject)", "abstract_algebra"),
        ("upper('straße')", "STRASSE"),
        ("capital('mONTHS')", "MONTHS"),
        ("capital('')", ""),
        ("abs(-x)", 1.5),
        ("min(n, x, 2)", 1.5),
        ("max(numbers)", 9),
        ("max(1, 2.5)", 2.5),
        ("number(length)", 142),
        ("number('1e-4')", 0.0001),
        ("number(n)", 3),
        ("number(length) in 142..143", True),
        ("class == 'a' and from == 2", True),
        ("`first name` + '!'", "Anna!"),
        ("größe", 7),
        ("n\n  +\t1", 4),
        ("yes or wrong", True),
    ],
)
def test_values(text: str, value: object) -> None:
    given = parse(text).evaluate({**ROW, "wrong": None})
    assert given == value
    assert type(given) is type(value)


@pytest.mark.parametrize(
    ("text", "names", "indexed"),
    [
        ("1 + 2", (), ()),
        ("b + a * b", ("b", "a"), ()),
        ("seq[i + 1] in other", ("seq", "i", "other"), ()),
        ("len(words) + words(len)", ("words", "len"), ()),
        ("index(slot) + n", ("slot", "n"), ("slot",)),
        ("`first name` == 'true'", ("first name",), ()),
        ("trueish and not_ and index", ("trueish", "not_", "index"), ()),
    ],
)
def test_names_are_known_before_any_row(text: str, names: object, indexed: object) -> None:
    assert (parse(text).names, parse(text).indexed) == (names, indexed)


def test_index_is_where_an_item_stands_in_its_vocabulary() -> None:
    assert parse("index(month) + 1").evaluate({"month": "March"}, indexes={"month": 2}) == 3
    message = "index(x) takes an item drawn from a vocabulary; 'n' is none"
    for indexes, drawn in (({}, "none is drawn here"), ({"month": 2}, "drawn: month")):
        with pytest.raises(ExpressionError, match=re.escape(f"{message} ({drawn})")):
            parse("index(n)").evaluate(ROW, indexes=indexes)


KNOWN = "(known: abs, capital, index, len, lower, max, min, number, upper, words)"
QUOTES = "text in quotes ends with the same quote and has no backslash"


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("", 0, "expected a value, got the end"),
        ("  ", 2, "expected a value, got the end"),
        ("n +", 3, "expected a value, got the end"),
        ("n + + 1", 4, "expected a value, got '+'"),
        ("()", 1, "expected a value, got ')'"),
        ("[1,,2]", 3, "expected a value, got ','"),
        ("and", 0, "expected a value, got 'and'"),
        ("a b", 2, "expected an operator or the end, got 'b'"),
        ("f'x'", 1, "expected an operator or the end, got \"'x'\""),
        ("n if yes else i", 2, "expected an operator or the end, got 'if'"),
        ("1 2", 2, "expected an operator or the end, got '2'"),
        ("(n", 2, "expected ')', got the end"),
        ("n)", 1, "expected an operator or the end, got ')'"),
        ("seq[1", 5, "expected ']', got the end"),
        ("seq[0, 1]", 5, "expected ']', got ','"),
        ("[1, 2", 5, "expected ',' or ']', got the end"),
        ("[x for x in y]", 3, "expected ',' or ']', got 'for'"),
        ("max(1 2)", 6, "expected ',' or ')', got '2'"),
        ("n not 3", 6, "expected 'in', got '3'"),
        ("1..3", 1, "a range such as 1..3 stands after 'in' and nowhere else"),
        ("n in 1..2..3", 9, "a range such as 1..3 stands after 'in' and nowhere else"),
        ("n < 4 in [3]", 6, "'in' cannot follow a comparison; join two with 'and'"),
        ("n in [3] == yes", 9, "'==' cannot follow a comparison; join two with 'and'"),
        ("n in [3] not in [4]", 9, "'not' cannot follow a comparison; join two with 'and'"),
        ("9**9**9", 1, "'**' cannot stand here: there are no powers"),
        ("'a'*10**9", 6, "'**' cannot stand here: there are no powers"),
        ("x = 3", 2, "'=' cannot stand here: write '==' to compare"),
        ("a && b", 2, "'&&' cannot stand here: write 'and'"),
        ("a | b", 2, "'|' cannot stand here: write 'or'"),
        ("!a", 0, "'!' cannot stand here: write 'not'"),
        ("a <> b", 2, "'<>' cannot stand here: write '!='"),
        ("().__class__", 2, "'.' cannot stand here: a name has no parts, and a number has digits "
         "on both sides of its point"),
        (".5", 0, "'.' cannot stand here"),
        ("1.", 1, "'.' cannot stand here"),
        ("seq[0:2]", 5, "':' cannot stand here: there are no slices and no formats"),
        ("lambda: 1", 6, "':' cannot stand here"),
        ("(n := 1)", 3, "':=' cannot stand here: it means nothing in an expression"),
        ("'abc", 0, f"\"'\" cannot stand here: {QUOTES}"),
        (r'"a\n"', 0, f"'\"' cannot stand here: {QUOTES}"),
        ("`a", 0, "'`' cannot stand here: a name in backquotes ends with a backquote"),
        ("a @ b", 2, "'@' cannot stand here: it means nothing in an expression"),
        ("{a}", 0, "'{' cannot stand here"),
        ("a\x00", 1, r"'\x00' cannot stand here"),
        ("\ud800", 0, r"'\ud800' cannot stand here"),
        ("größe.x", 5, "'.' cannot stand here"),
        ("1_000", 0, "'1_000' is neither a number nor a name"),
        ("0x1F", 0, "'0x1F' is neither a number nor a name"),
        ("1j", 0, "'1j' is neither a number nor a name"),
        ("12.5x", 0, "'12.5x' is neither a number nor a name"),
        ("True", 0, "write 'true', not 'True'"),
        ("n == FALSE", 5, "write 'false', not 'FALSE'"),
        ("__import__('os')", 0, f"unknown function '__import__' {KNOWN}"),
        ("leng(seq)", 0, f"unknown function 'leng' {KNOWN}; did you mean 'len'?"),
        ("lower()", 0, "expected lower(x), got 0 values"),
        ("abs(1, 2)", 0, "expected abs(x), got 2 values"),
        ("max()", 0, "expected max(x, y), got 0 values"),
        ("index(seq[0])", 0, "index(x) takes the name of an item that is drawn"),
        ("index(a, b)", 0, "index(x) takes the name of an item that is drawn"),
        ("9223372036854775808", 0, "a whole number of more than 64 bits cannot be held"),
        ("n < 1e999", 4, "inf is not a finite number"),
        ("(" * 300, 20, "more than 20 brackets or signs within one another"),
        ("-" * 300 + "n", 20, "more than 20 brackets or signs within one another"),
        ("not " * 200 + "n", 80, "more than 20 brackets or signs within one another"),
        ("[" * 300, 20, "more than 20 brackets or signs within one another"),
        ("abs(" * 200, 83, "more than 20 brackets or signs within one another"),
        ("a[" * 200, 41, "more than 20 brackets or signs within one another"),
        ("a+" * 501, 1000, "an expression has at most 1000 characters; this one has 1002"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str, offset: int, message: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(message)) as caught:
        parse(text)
    assert caught.value.offset == offset
    assert caught.value.message.startswith(message)
    assert str(caught.value).startswith(f"{caught.value.message} (column {offset + 1} of ")


NUMBER = "; write number(length)"


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("categry", 0, "unknown name 'categry' (known: n, x, i, length, category, subject, seq, "),
        ("n + wrods", 4, "; did you mean 'words'?"),
        ("length == 142", 7, f"the text '142' and the number 142 cannot be compared{NUMBER}"),
        ("142 != length", 4, f"the number 142 and the text '142' cannot be compared{NUMBER}"),
        ("category == 3", 9, "the text 'months' and the number 3 cannot be compared"),
        ("category < 3", 9, "the text 'months' and the number 3 cannot be compared"),
        ("yes == 1", 4, "true and the number 1 cannot be compared"),
        ("seq == 'one'", 4, "a list of 3 and the text 'one' cannot be compared"),
        ("seq < seq", 4, "a list of 3 and a list of 3 cannot be compared"),
        ("no < yes", 3, "false and true cannot be compared"),
        ("length < '9'", 7, "'<' would put the text '142' and the text '9' in the order of their "
         f"characters, not as numbers{NUMBER}"),
        ("length in 142..143", 7, f"a range takes numbers; got the text '142'{NUMBER}"),
        ("length in [1, 2]", 7, f"the text '142' and the number 1 cannot be compared{NUMBER}"),
        ("n in [3, 'a']", 2, "the number 3 and the text 'a' cannot be compared"),
        ("n in 3..1", 2, "a range goes upwards; got 3..1"),
        ("n in 'abc'", 2, "a text has only text within it; got the number 3"),
        ("n in n", 2, "'in' looks in a list, a text or a range such as 1..3; got the number 3"),
        ("length + 1", 7, "'+' takes two numbers or two texts; got the text '142' and the number "
         f"1{NUMBER}"),
        ("1 + 2 + length", 6, "'+' takes two numbers or two texts; got the number 3 and the text"),
        ("'a' * 3", 4, "'*' takes two numbers; got the text 'a' and the number 3"),
        ("3 * seq", 2, "'*' takes two numbers; got the number 3 and a list of 3"),
        ("yes + 1", 4, "'+' takes two numbers or two texts; got true and the number 1"),
        ("-length", 0, f"'-' takes numbers; got the text '142'{NUMBER}"),
        ("n / 0", 2, "3 is divided by zero"),
        ("n // 0.0", 2, "3 is divided by zero"),
        ("n % (1 - 1)", 2, "3 is divided by zero"),
        ("most + 1", 5, "a whole number of more than 64 bits cannot be held"),
        ("most * most * most", 5, "a whole number of more than 64 bits cannot be held"),
        ("1e308 * 10", 6, "inf is not a finite number"),
        ("seq[3]", 4, "there is no item 3 in a list of 3"),
        ("seq[i + 5]", 4, "there is no item 6 in a list of 3"),
        ("empty[0]", 6, "there is no item 0 in a list of 0"),
        ("seq[-1]", 4, "there is no item -1 in a list of 3; items count from 0, and none from the "
         "end"),
        ("seq[x]", 4, "an item is chosen by a whole number; got the number 1.5"),
        ("seq[length]", 4, f"an item is chosen by a whole number; got the text '142'{NUMBER}"),
        ("seq[yes]", 4, "an item is chosen by a whole number; got true"),
        ("category[0]", 9, "only a list has items to choose by number; got the text 'months'"),
        ("seq[0][0]", 7, "only a list has items to choose by number; got the text 'one'"),
        ("not n", 4, "expected true or false, got the number 3"),
        ("yes and category", 8, "expected true or false, got the text 'months'"),
        ("empty or yes", 0, "expected true or false, got a list of 0"),
        ("len(n)", 0, "len(x) takes a list or text; got the number 3"),
        ("lower(n)", 0, "lower(x) takes text; got the number 3"),
        ("words(seq)", 0, "words(x) takes text; got a list of 3"),
        ("abs(length)", 0, f"abs(x) takes numbers; got the text '142'{NUMBER}"),
        ("max(seq)", 0, "max(x) takes numbers; got the text 'one'"),
        ("min(empty)", 0, "min(x) of an empty list has no value"),
        ("number(category)", 0, "the text 'months' is not a number"),
        ("number('')", 0, "the text '' is not a number"),
        ("number('.nan')", 0, "the text '.nan' is not a number"),
        ("number('1e999')", 0, "the text '1e999' is not a number"),
        ("number(yes)", 0, "true is not a number"),
        ("nothing", 0, "'nothing': None is neither text, a number, true, false nor a "
         "list of these"),
        ("nan", 0, "'nan': nan is not a finite number"),
        ("huge", 0, "'huge': a whole number of more than 64 bits cannot be held"),
        ("deep[0]", 0, "'deep': None is neither text, a number, true, false nor a list of these"),
    ],
)  # fmt: skip
def test_what_has_no_value_is_refused(text: str, offset: int, message: str) -> None:
    odd = {"nothing": None, "nan": float("nan"), "huge": 2**63, "deep": [[None]]}
    with pytest.raises(ExpressionError, match=re.escape(message)) as caught:
        parse(text).evaluate({**ROW, **odd})
    assert caught.value.offset == offset


def test_a_condition_is_true_or_false() -> None:
    assert parse("n in 1..3").evaluate_bool(ROW) is True
    assert parse("category == 'days'").evaluate_bool(ROW) is False
    for text, value in (
        ("n", "the number 3"),
        ("seq", "a list of 3"),
        ("'true'", "the text 'true'"),
    ):
        with pytest.raises(ExpressionError, match=f"expected true or false, got {value}"):
            parse(text).evaluate_bool(ROW)


def test_a_long_expression_is_shown_where_it_is_wrong() -> None:
    text = "a + " * 50 + "b c" + " + a" * 50
    with pytest.raises(ExpressionError, match=re.escape("got 'c' (column 203 of '")) as caught:
        parse(text)
    assert "b c + a" in str(caught.value)
    assert len(str(caught.value)) < 120


def test_an_expression_is_shown_as_it_was_written() -> None:
    assert repr(parse("n + 1")) == "Expression(text='n + 1', names=('n',), indexed=())"
    assert parse("n + 1") == parse("n + 1")


@pytest.mark.parametrize(
    "text",
    ["9**9**9", "'a'*10**9", "().__class__", "__import__('os')", "exec('1')", "(" * 10**6,
     "a" * 10**6, "1" * 10**6, "[" * 999, "-" * 999, "a<" * 499 + "a", "a[0]" * 250, "'" * 999,
     "not " * 249 + "a", "9" * 999, "1e" + "9" * 900, "max(" + "a," * 490 + "a)",
     "([-" * 300, "a+" * 499 + "a", "`" + "a" * 998 + "`"],
)  # fmt: skip
def test_hostile_texts_are_quick(text: str) -> None:
    began, message = time.perf_counter(), ""
    try:
        parse(text).evaluate({"a": 1})
    except ExpressionError as error:
        message = str(error)
    assert len(message) < 400
    assert time.perf_counter() - began < 0.5  # milliseconds in truth; slow machines get room


def test_nothing_is_executed() -> None:
    """No module of the language names Python's own evaluation, nor reaches into attributes."""
    for module in (expression, operations, parser, syntax):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        called = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert not called & {"eval", "exec", "compile", "__import__", "getattr", "globals"}


def test_every_function_stands_in_a_message_as_it_is_written() -> None:
    for name, function in FUNCTIONS.items():
        assert function.usage.startswith(f"{name}(x")


TOKENS = ["a", "seq", "1", "2.5", "'t'", "true", "+", "-", "*", "/", "//", "%", "<", "==", "in",
          "not", "and", "or", "(", ")", "[", "]", ",", "..", "len(", "index(a)", " "]  # fmt: skip


@given(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(TOKENS), max_size=14).map(" ".join))
)
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    offset, value = 0, None
    try:
        value = parse(text).evaluate({"a": 2, "seq": (1, "t")}, indexes={"a": 0})
    except ExpressionError as error:
        offset = error.offset
    assert 0 <= offset <= len(text)
    assert value is None or held(value) == value


_PYTHON: dict[str, Any] = {"+": operator.add, "-": operator.sub, "*": operator.mul,
                           "/": operator.truediv, "//": operator.floordiv,
                           "%": operator.mod}  # fmt: skip


def _python(node: ast.expr, values: dict[str, int]) -> Any:
    """The value of a tree of Python's own parser, independent of ours."""
    code = compile(ast.Expression(node), "expression", "eval")
    return eval(code, {"__builtins__": {}, "true": True, "false": False}, values)


_ATOMS = st.one_of(st.integers(0, 50).map(str), st.sampled_from(["a", "b"]))
_NUMBERS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(sorted(_PYTHON)), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=8,
)
_CONDITIONS = st.recursive(
    st.one_of(
        st.tuples(_NUMBERS, st.sampled_from(["<", "<=", "==", "!=", ">"]), _NUMBERS).map(" ".join),
        st.tuples(_NUMBERS, st.sampled_from(["<", "=="]), _NUMBERS, st.just("<="), _NUMBERS)
        .map(" ".join),
        st.tuples(_NUMBERS, st.sampled_from(["in", "not in"]), st.just("[a, 3, b - 1]"))
        .map(" ".join),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map("not {}".format),
        inner.map("({})".format),
    ),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=300)
@given(st.one_of(_NUMBERS, _CONDITIONS), st.integers(-9, 9), st.integers(-9, 9))
def test_arithmetic_and_logic_agree_with_python(text: str, a: int, b: int) -> None:
    try:
        expected = _python(ast.parse(text, mode="eval").body, {"a": a, "b": b})
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match="is divided by zero"):
            parse(text).evaluate({"a": a, "b": b})
        return
    given_ = parse(text).evaluate({"a": a, "b": b})
    assert (given_, type(given_)) == (expected, type(expected))


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.binary()))
def test_any_value_can_be_said(value: object) -> None:
    assert described(value)
