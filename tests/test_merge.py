"""What goes over what: the algebra of merging, and that every value keeps its place."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.specs.diagnostics import Span
from patchclamp.specs.document import Document, parse
from patchclamp.specs.merge import follow, graft, merge, put
from patchclamp.specs.paths import PathError, read_path
from patchclamp.specs.scalars import dump


def read(text: str, source: str = "<text>") -> Document:
    document, problems = parse(text, source)
    assert document is not None
    assert not problems
    return document


MERGED = [
    ("a: {x: 1, y: 2}", "a: {y: 3, z: 4}", {"a": {"x": 1, "y": 3, "z": 4}}),
    ("a: [1, 2, 3]", "a: [4]", {"a": (4,)}),
    ("a: 1", "a: {x: 1}", {"a": {"x": 1}}),
    ("a: {x: 1}", "a: 1", {"a": 1}),
    ("a: 1\nb: 2", "a: null", {"b": 2}),
    ("a: {x: 1, y: {z: 1}}", "a: {y: ~, x: }", {"a": {}}),
    ("b: 2", "a: null", {"a": None, "b": 2}),
    ("e: {kind: rsa, n: 1, of: r}", "e: {n: 2}", {"e": {"kind": "rsa", "n": 2, "of": "r"}}),
    ("e: {kind: rsa, n: 1}", "e: {kind: rsa, m: 2}", {"e": {"kind": "rsa", "n": 1, "m": 2}}),
    ("e: {kind: rsa, n: 1}", "e: {kind: probe, m: 2}", {"e": {"kind": "probe", "m": 2}}),
    ("model: m@r", "model: {dtype: x}", {"model": {"id": "m", "revision": "r", "dtype": "x"}}),
    ("model: {id: m, dtype: x}", "model: n@s", {"model": "n@s"}),
]
ABLATE = "interventions: {m: {kind: ablate, value: %s}}"
MERGED += [
    (ABLATE % base, ABLATE % over, {"interventions": {"m": {"kind": "ablate", "value": value}}})
    for base, over, value in [
        ("zero", "{mean_over: s, per: all}", {"mean_over": "s", "per": "all"}),
        ("{mean_over: s, per: all}", "{per: group}", {"mean_over": "s", "per": "group"}),
        ("{mean_over: s, per: all}", "{resample: s}", {"resample": "s"}),
        ("{mean_over: s, per: all}", "zero", "zero"),
    ]
]


@pytest.mark.parametrize(
    ("base", "over", "value"), MERGED, ids=[f"{b} + {o}" for b, o, _ in MERGED]
)
def test_what_stands_in_the_end(base: str, over: str, value: dict[str, Any]) -> None:
    assert merge(read(base), read(over)).value == value


def test_every_value_keeps_its_place() -> None:
    base = read("a: {x: 1, y: 2}\nl: [1, 2]\nn: 7\nmodel: m\n", "base.yaml")
    over = read("# over\na: {y: 3}\nl: [4]\nn: ~\nmodel: {dtype: x}\n", "over.yaml")
    merged = merge(base, over)
    assert (merged.source, merged.text) == ("over.yaml", over.text)
    places = {path: (span.source, span.line) for path, span in merged.values.items() if path}
    assert places == {
        ("a",): ("over.yaml", 2), ("a", "x"): ("base.yaml", 1), ("a", "y"): ("over.yaml", 2),
        ("l",): ("over.yaml", 3), ("l", 0): ("over.yaml", 3),
        # What was taken away is placed where that is said, for messages about its absence.
        ("n",): ("over.yaml", 4),
        ("model",): ("over.yaml", 5), ("model", "dtype"): ("over.yaml", 5),
    }  # fmt: skip
    assert merged.span(("model", "id")) == merged.keys[("model",)]
    assert merged.raw == {("a", "x"): "1", ("a", "y"): "3", ("l", 0): "4"}
    assert merged.texts == {"over.yaml": over.text, "base.yaml": base.text}


# The first letter of a key says what stands there, so that values of one key are of one type.
LEAF = st.integers(0, 9) | st.text("xyz", max_size=2)
TREES = st.recursive(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), LEAF),
    lambda inner: st.dictionaries(st.sampled_from(["m", "n"]), inner).flatmap(
        lambda maps: st.dictionaries(st.sampled_from(["a", "b"]), LEAF).map(
            lambda leaves: {**maps, **leaves}
        )
    ),
    max_leaves=6,
)
DOCUMENTS = TREES.map(lambda tree: read(dump(tree)) if tree else read("{}"))


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_merging_is_associative(a: Document, b: Document, c: Document) -> None:
    assert merge(merge(a, b), c).value == merge(a, merge(b, c)).value


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS)
def test_nothing_changes_nothing_and_the_same_twice_is_the_same(a: Document) -> None:
    nothing = read("{}")
    assert merge(a, nothing).value == merge(nothing, a).value == merge(a, a).value == a.value
    assert dict(merge(a, a).values) == dict(a.values)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_the_extending_spec_has_the_last_word(a: Document, b: Document) -> None:
    merged = merge(a, b)
    for path in b.values:
        given = b.get(path)
        assert merged.get(path) == given or isinstance(given, dict)
    assert all(merged.get(path) is not None for path in merged.values)


def test_a_path_is_followed_through_lists_and_short_forms() -> None:
    document = read("model: m@r\nl: [{a: 1}, {a: 2}]\nempty:\n")
    through, path = follow(document, read_path("model.dtype"))
    assert path == ("model", "dtype")
    assert through.value["model"] == {"id": "m", "revision": "r"}
    assert follow(document, read_path("l[1].a"))[1] == ("l", 1, "a")
    assert follow(document, read_path("l.1.a"))[1] == ("l", 1, "a")
    assert follow(document, read_path("empty.x.y"))[1] == ("empty", "x", "y")
    assert follow(document, read_path("no.x"))[1] == ("no", "x")


@pytest.mark.parametrize(
    ("path", "part", "message"),
    [
        ("l[2].a", 1, "'l' is a list of 2 items; it has no [2]"),
        ("l.a", 1, "'l' is a list of 2 items; it has no [a]"),
        ("one[1]", 1, "'one' is a list of 1 item; it has no [1]"),
        ("n.x", 1, "'n' is a single value; it has no 'x'"),
        ("name.x.y", 1, "'name' is a single value; it has no 'x'"),
        ("l[0].a.x", 3, "'l.0.a' is a single value; it has no 'x'"),
    ],
)
def test_a_path_that_leads_nowhere(path: str, part: int, message: str) -> None:
    document = read("l: [{a: 1}, 2]\none: [1]\nn: 3\nname: text\n")
    with pytest.raises(PathError) as caught:
        follow(document, read_path(path))
    assert (str(caught.value), caught.value.part) == (message, part)


def test_putting_a_value_shares_what_it_does_not_touch() -> None:
    value = {"a": {"x": 1}, "b": ({"y": 1}, 2)}
    changed = put(value, ("b", 0, "y"), 5)
    assert changed == {"a": {"x": 1}, "b": ({"y": 5}, 2)}
    assert value == {"a": {"x": 1}, "b": ({"y": 1}, 2)}
    assert changed["a"] is value["a"]
    assert put(value, ("a", "x"), None) == {"a": {}, "b": ({"y": 1}, 2)}
    assert put(value, ("c", "d"), None) == {**value, "c": {"d": None}}


def test_a_graft_brings_its_places() -> None:
    document = read("a: {x: {old: 1}}\n", "a.yaml")
    given = read("v: {k: [1]}\n", "b.yaml")
    keys = (Span(1, 1, 1, 2, "c"), Span(1, 3, 1, 4, "c"), Span(1, 5, 1, 6, "c"))
    grafted = graft(document, ("a", "new", "x"), given, at=("v",), keys=keys)
    assert grafted.value == {"a": {"x": {"old": 1}, "new": {"x": {"k": (1,)}}}}
    assert grafted.keys[("a",)].source == "a.yaml"
    assert grafted.keys[("a", "new")].source == grafted.keys[("a", "new", "x")].source == "c"
    assert grafted.values[("a", "new", "x", "k", 0)] == given.values[("v", "k", 0)]
    replaced = graft(document, ("a", "x"), given, at=("v",), keys=keys[:2])
    assert ("a", "x", "old") not in replaced.values
    assert replaced.get(("a", "x", "k", 0)) == 1
