"""How diagnostics read: caret under the mistake, windows around it, order and count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.specs.codes import CODES
from patchclamp.specs.diagnostics import (
    WINDOW,
    Diagnostic,
    Problem,
    Span,
    dotted,
    in_order,
    locate,
    one_line,
    render,
    report,
)

TEXT = "captures:\n" * 9 + "  resid: {site: resid_pst, layers: all}\n"
SITE = Diagnostic(
    code="P204",
    message="unknown site 'resid_pst'",
    source="bad.yaml",
    line=10,
    column=17,
    end_line=10,
    end_column=26,
    path=("captures", "resid", "site"),
    allowed=("resid_pre", "resid_post"),
    suggestion="resid_post",
)


def test_a_diagnostic_shows_the_line_and_a_caret_below_the_mistake() -> None:
    assert (
        render(SITE, TEXT)
        == """\
error[P204]: captures.resid.site: unknown site 'resid_pst'
  --> bad.yaml:10:17
   |
10 |   resid: {site: resid_pst, layers: all}
   |                 ^^^^^^^^^
   = allowed: resid_pre, resid_post
   = help: did you mean 'resid_post'?"""
    )


def test_the_form_for_editors_is_one_line() -> None:
    assert one_line(SITE) == (
        "bad.yaml:10:17: error[P204]: captures.resid.site: unknown site 'resid_pst'; "
        "did you mean 'resid_post'?"
    )


def test_wide_characters_and_tabs_do_not_move_the_caret() -> None:
    text = "a\u0301:\t{日本: x}"
    found = SITE._replace(line=1, end_line=1, column=10, end_column=11, allowed=(), suggestion=None)
    assert render(found, text).splitlines()[-2:] == ["1 | a\u0301: {日本: x}", "  |           ^"]


def test_a_long_line_is_cut_around_the_caret() -> None:
    text = "x" * 500 + "HERE" + "y" * 500
    found = SITE._replace(line=1, end_line=1, column=501, end_column=505)
    shown, caret = render(found, text).splitlines()[3:5]
    assert len(shown) == len("1 | ") + WINDOW + len("...") * 2
    assert shown[caret.index("^") : caret.index("^") + 4] == "HERE"
    assert caret.count("^") == 4


def test_a_value_over_several_lines_is_underlined_to_the_end_of_its_first() -> None:
    found = SITE._replace(line=1, end_line=3, column=4, end_column=2, allowed=(), suggestion=None)
    assert render(found, "a: [1,\n2,\n]").splitlines()[-1] == "  |    ^^^"


def test_many_allowed_names_are_wrapped() -> None:
    found = SITE._replace(allowed=tuple(f"name_number_{i}" for i in range(30)))
    lines = render(found, TEXT).splitlines()
    assert max(map(len, lines)) <= WINDOW + 5
    assert lines[6].startswith("     name_number_")


def test_control_characters_are_shown_as_one_visible_character() -> None:
    found = SITE._replace(line=1, end_line=1, column=4, end_column=5, message="\x1b[31m")
    assert "\x1b" not in render(found, "a: \x1b[0m")


def test_a_report_is_in_order_without_repetition_and_counted() -> None:
    first = SITE._replace(line=2, code="P301")
    text = report([SITE, first, SITE], TEXT)
    assert in_order([SITE, first, SITE]) == (first, SITE)
    assert text.index("P301") < text.index("P204")
    assert text.endswith("\n\nbad.yaml: 2 errors")
    assert report([SITE], TEXT).endswith("\n\nbad.yaml: 1 error")


def test_a_report_over_several_texts_quotes_each_and_begins_with_the_spec() -> None:
    base = SITE._replace(source="base.yaml", line=1, end_line=1, column=1, end_column=2)
    warning = SITE._replace(line=1, end_line=1, severity="warning")
    text = report([base, SITE, warning], {"bad.yaml": TEXT, "base.yaml": "nothing else"})
    assert text.index("--> bad.yaml:10") < text.index("--> base") < text.index("--> bad.yaml:1:")
    assert "1 | nothing else" in text
    assert text.endswith("\n\nbad.yaml: 2 errors, 1 warning")


def test_paths_are_written_with_dots_and_brackets() -> None:
    assert dotted(("a", "b", 0, "c", 12)) == "a.b[0].c[12]"
    assert dotted(()) == ""


def test_codes_are_grouped_and_titled() -> None:
    assert list(CODES) == sorted(CODES)
    assert {code[:2] for code in CODES} == {"P1", "P2", "P3", "P4", "P5", "P6"}
    assert len(set(CODES.values())) == len(CODES)
    with pytest.raises(AssertionError):
        locate(Problem((), "P999", "m"), "a.yaml", Span(1, 1, 1, 2))


@given(st.text(), st.integers(1, 5), st.integers(1, 300), st.integers(0, 5), st.integers(1, 300))
def test_any_place_in_any_text_renders(
    text: str, line: int, column: int, lines: int, end: int
) -> None:
    found = SITE._replace(line=line, column=column, end_line=line + lines, end_column=end)
    assert render(found, text).startswith("error[P204]")
