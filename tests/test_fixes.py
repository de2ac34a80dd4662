"""Fixes mend what is no matter of choice, keep all else byte for byte, and never break a file."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patchclamp.registry.errors import SpecError
from patchclamp.specs.diagnostics import Diagnostic, Fix, Span
from patchclamp.specs.document import parse
from patchclamp.specs.fixes import applicable, apply_fixes, with_fixes
from patchclamp.specs.library import shipped
from patchclamp.specs.load import loads
from patchclamp.specs.slips import clear_name

HEAD = "patchclamp: 1\nname: x\nmodel: m\n"
STIMULI = (
    'stimuli: {words: {kind: builtin, set: sequences, text: "{prompt}", '
    "labels: [category, form], groups: template}}\n"
)
CAPTURES = "captures: {resid: {site: resid_post}}\n"
QUICKSTART = shipped()["quickstart"].read_text(encoding="utf-8")


def problems(text: str) -> tuple[Diagnostic, ...]:
    try:
        loads(text.removeprefix("\ufeff"), "a.yaml")
    except SpecError as error:
        return with_fixes(error.diagnostics, text, "a.yaml")  # type: ignore[arg-type]
    return ()


def mended(text: str) -> str:
    """The text after as many rounds as it takes."""
    for _ in range(10):
        fixed = apply_fixes(text, problems(text))
        if fixed == text:
            break
        text = fixed
    return text


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("site: resid_post", "sitee: resid_post"),  # a key, doubled letter
        ("site: resid_post", "stie: resid_post"),  # swapped
        ("site: resid_post", "Site: resid_post"),  # case
        ("site: resid_post", "'sitte': resid_post"),  # keeps its quotes, see below
        ("site: resid_post", "site: resid_pst"),
        ("site: resid_post", "site: Resid_Post"),
    ],
)
def test_near_misses_are_mended(right: str, wrong: str) -> None:
    text = HEAD + STIMULI + CAPTURES.replace(right, wrong)
    right = right.replace("site", "'site'") if "'" in wrong else right
    assert mended(text) == HEAD + STIMULI + CAPTURES.replace("site: resid_post", right)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("kind: builtin", "kind: builtn"),
        ("kind: builtin", "knd: builtin"),
        ("set: sequences", 'set: "sequnces"'),
        ("[category, form]", "[categry, form]"),
        ("[category, form]", "['catgory', form]"),
        ("groups: template", "groups: tmplate"),
        ('"{prompt}"', '"{promt}"'),
        ('"{prompt}"', "'{prompt} {lst}'"),
        ("name: x", "name: 2024"),
        ("model: m", "model: {id: m, revision: 12e4567}"),
        ("model: m", "model: {id: m, revision: 1234567}"),
        ("model: m", "modle: m"),
        ("name: x", 'name: x\nseed: "3"'),
        ("{words:", "{Words:"),
    ],
)
def test_what_is_mended_becomes_valid_and_nothing_else_moves(right: str, wrong: str) -> None:
    text = (HEAD + STIMULI).replace(wrong, right)
    after = mended(text)
    assert problems(after) == ()
    for changed, kept in zip(after.splitlines(), text.splitlines(), strict=True):
        assert changed == kept or right.splitlines()[-1] in kept
    assert len(after) - len(text) in range(-2, 3)


def test_quotes_stay_as_they_are() -> None:
    text = HEAD + STIMULI.replace("set: sequences", 'set: "sequnces"') + CAPTURES
    assert 'set: "sequences"' in mended(text)
    text = HEAD + STIMULI.replace("[category, form]", "['catgory', form]")
    assert "['category', form]" in mended(text)


@pytest.mark.parametrize(
    "wrong",
    [
        "captures: {resid: {site: resid_p}}",  # three sites are as near
        "captures: {resid: {site: y}}",  # too short to be a slip for z
        "captures: {resid: {site: resid_post, layer: all, layers: all}}",  # there already
        "captures: {resid: {sit: resid_post, sitte: resid_post}}",  # both mean site
        "captures: {resid: {site: |\n  resid_pst\n}}",
        "captures: {resid: {of: &a wrods, site: z}, other: {of: *a, site: z}}",  # an alias
        "captures: {resid: {of: words1, site: z}}",  # a digit is another name
        "run: {backend: nnsight, device: gpu}",
        "analyses: {a: {kind: probe, target: category, estimator: {kind: logistic, C: 1e9999}}}\n"
        + CAPTURES.strip(),
    ],
)
def test_what_is_not_clear_is_left_alone(wrong: str) -> None:
    text = HEAD + STIMULI + wrong + "\n"
    assert problems(text)
    assert mended(text) == text


def test_a_value_of_a_matrix_is_mended_where_it_stands() -> None:
    sweep = "matrix: {grid: {captures.resid.site: [resid_pst, z]}}\n"
    text = HEAD + STIMULI + CAPTURES + sweep
    assert mended(text) == text.replace("resid_pst", "resid_post")


def test_which_column_is_permuted_is_never_chosen() -> None:
    text = (
        HEAD
        + STIMULI
        + CAPTURES
        + "analyses: {a: {kind: rsa, contrast: {kind: discriminative, column: category}, "
        "test: {permute: form}}}\n"
    )
    (found,) = problems(text)
    assert (found.code, found.suggestion, found.fix) == ("P308", "category", None)


def test_comments_line_ends_and_byte_order_mark_stay() -> None:
    text = "\ufeff" + (HEAD + STIMULI).replace("\n", "   # \u65e5\u672c é\r\n")
    text = text.replace("kind: builtin", "kind:   builtn").replace("model: m", "modle:\t m")
    assert mended(text) == text.replace("builtn", "builtin").replace("modle", "model")


def test_characters_beyond_the_basic_plane_do_not_shift_a_fix() -> None:
    text = HEAD + 'description: "😀😀" \n' + STIMULI.replace("{kind:", '{id: "😀", knd:')
    assert "knd" not in apply_fixes(text, problems(text))


def test_a_fix_says_what_it_does() -> None:
    found = problems(HEAD.replace("model", "modle").replace("name: x", "name: 5") + STIMULI)
    assert [d.fix.title for d in found if d.fix] == ["quote 5", "replace 'modle' by 'model'"]
    (found,) = problems(HEAD + 'seed: "3"\n' + STIMULI)
    assert found.fix is not None
    assert found.fix.title == 'drop the quotes of "3"'


def test_only_the_file_that_was_asked_about_gets_fixes() -> None:
    (found,) = problems(HEAD.replace("model", "modle") + STIMULI)
    bare = found._replace(fix=None)
    assert with_fixes([bare], HEAD, "other.yaml") == (bare,)
    assert with_fixes([found], "not: the same", "a.yaml") == (found,)


def planned(start: int, end: int, replacement: str) -> Diagnostic:
    span = Span(1, start, 1, end)
    return Diagnostic("P202", "m", "a", 1, start, 1, end, fix=Fix(span, replacement, "t"))


def test_fixes_that_disagree_are_not_made() -> None:
    one, two, three = planned(1, 4, "x"), planned(2, 5, "y"), planned(6, 7, "zz")
    assert apply_fixes("abcdefg", [one, two, three]) == "abcdezzg"
    assert apply_fixes("abcdefg", [three, one, one]) == "xdezzg"
    assert apply_fixes("abcdefg", [planned(1, 4, "x"), planned(4, 5, "y")]) == "xyefg"
    assert applicable([three, one, one, one._replace(message="n")]) == (one, three)
    assert applicable([one._replace(fix=None)]) == ()


@pytest.mark.parametrize(
    ("given", "known", "meant"),
    [
        ("site", ["site"], None),  # nothing to mend
        ("SITE", ["site", "set"], "site"),
        ("Ab", ["ab", "AB"], None),
        ("discriminativ", ["discriminative", "categorical"], "discriminative"),
        ("spearson", ["spearman", "pearson"], None),
        ("step100", ["step1000", "step400"], None),
        ("bloat16", ["float16", "bfloat16"], None),
        ("cvs", ["csv", "items"], "csv"),
        ("cv", ["csv"], None),
        ("", ["a"], None),
        ("x", [], None),
    ],
)
def test_a_clear_name_is_one_slip_from_one_name(
    given: str, known: list[str], meant: str | None
) -> None:
    assert clear_name(given, known) == meant


def slipped(word: str, place: int, sort: int) -> str:
    place %= len(word)
    one, two = word[place], word[place + 1 : place + 2]
    swap = {"delete": "", "double": one * 2, "swap": two + one, "other": "q", "upper": one.upper()}
    new = list(swap.values())[sort]
    return word[:place] + new + word[place + (2 if sort == 2 else 1) :]


_DOCUMENT = parse(QUICKSTART)[0]
assert _DOCUMENT is not None
KEYS = sorted(
    {
        (span, path[-1])
        for path, span in _DOCUMENT.keys.items()
        if path
        and isinstance(path[-1], str)
        # What the user may name is nobody's slip.
        and (len(path) != 2 or path[0] in ("run", "model"))
        and path[-2:-1] != ("against",)
    },
    key=str,
)
WORDS = sorted({found.span() for found in re.finditer(r"[A-Za-z_]{2,}", QUICKSTART)})
LINES = [0, *(found.end() for found in re.finditer("\n", QUICKSTART))]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KEYS), st.integers(0, 20), st.integers(0, 4))
def test_a_slip_in_a_key_is_mended_or_left_never_made_another(
    spot: tuple[Span, str], place: int, sort: int
) -> None:
    span, key = spot
    start = LINES[span.line - 1] + span.column - 1
    wrong = QUICKSTART[:start] + slipped(key, place, sort) + QUICKSTART[start + len(key) :]
    assert mended(wrong) in (QUICKSTART, wrong)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(WORDS), st.integers(0, 20), st.integers(0, 4)),
        min_size=1,
        max_size=3,
        unique_by=lambda slip: slip[0],
    )
)
@example([((QUICKSTART.index("resid:"), QUICKSTART.index("resid:") + 5), 0, 4)])
def test_slips_anywhere_leave_no_more_problems_than_there_were(
    slips: list[tuple[tuple[int, int], int, int]],
) -> None:
    text = QUICKSTART
    for (start, end), place, sort in sorted(slips, reverse=True):
        text = text[:start] + slipped(text[start:end], place, sort) + text[end:]
    before, after = problems(text), problems(mended(text))
    assert {d.code for d in after if d.code < "P2"} <= {d.code for d in before}
    assert not [d for d in after if d.fix]
    if not [d for d in before if d.fix]:
        assert mended(text) == text


@given(st.text(alphabet="abc: {}[]\n'\"#&*|>é\r\t", max_size=60))
def test_any_text_survives(text: str) -> None:
    found = problems(text)
    assert isinstance(apply_fixes(text, found), str)
