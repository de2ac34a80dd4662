"""What pydantic finds wrong, in our words: one sentence for each type of error.

Each function here is handed the document, the place, and every error that pydantic has there
(several where a value may be of several types), and returns one problem, or None where the
mistake has been told already.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

from pydantic_core import ErrorDetails

from patchclamp.registry.errors import nearest
from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path, Problem
from patchclamp.specs.document import Document
from patchclamp.specs.fields import PATTERNS, NotAmongError
from patchclamp.specs.grammar import KIND, Place
from patchclamp.specs.scalars import NumberError, read_plain

VERSION = 1
"""The grammar version that this patchclamp reads."""

QUOTED = 60
"""Longest piece of a given text that a message repeats."""


def tell(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    """Return the problem behind the errors at one place."""
    return _TELLERS.get(group[0]["type"], _wrong_type)(document, place, group)


def of_kind(place: Place) -> str:
    """Return the tail of a message that names the kind of the entry at a place."""
    kind = grammar.kind_of(place.model) if place.model else None
    return f" (kind: {kind})" if kind else ""


def describe(document: Document, path: Path) -> str:
    """Return what a document gives at a path, as a message says it."""
    value = document.get(path)
    if isinstance(value, str):
        return f"the text {_shortened(value)!r}"
    if isinstance(value, dict | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    raw = document.raw.get(path, "")
    if value is None:
        return f"nothing ({raw})" if raw else "nothing"
    return raw if isinstance(value, bool) else f"the number {_shortened(raw)}"


def _given(document: Document, path: Path) -> str:
    """Return a given scalar as it was written, text in quotes."""
    value = document.get(path)
    if isinstance(value, str):
        return repr(_shortened(value))
    return document.raw.get(path) or describe(document, path)


def _shortened(text: str) -> str:
    return text if len(text) <= QUOTED else text[:QUOTED] + "..."


def bad_key(place: Place, details: ErrorDetails) -> Problem:
    """Return the problem of a name that a mapping does not accept as a key."""
    name = str(place.path[-1])
    if details["type"] == "string_too_long":
        longest = details["ctx"]["max_length"]
        message = f"the name {_shortened(name)!r} is longer than {longest} characters"
        return Problem(place.path, "P206", message, key=True)
    error = details.get("ctx", {}).get("error")
    if isinstance(error, NotAmongError):
        return _not_among(place, error)._replace(key=True)
    message, suggestion = _in_words(name, details)
    return Problem(place.path, "P206", message, suggestion=suggestion, key=True)


def _in_words(name: str, details: ErrorDetails) -> tuple[str, str | None]:
    """Say what a pattern asks of a name, and propose the nearest name that fits."""
    pattern = details["ctx"]["pattern"]
    words = PATTERNS.get(pattern, "it is badly formed")
    proposal = re.sub(r"\W+", "_", name.strip(), flags=re.ASCII).strip("_")
    fits = [p for p in (proposal, proposal.lower()) if re.search(pattern, p)]
    return f"{words}; got {_shortened(name)!r}", fits[0] if fits else None


Teller = Callable[[Document, Place, list[ErrorDetails]], Problem | None]


def _missing(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    if isinstance(place.path[-1], int):
        return _wrong_length(document, place, group)
    if place.path == ("patchclamp",):
        message = f"the grammar version is missing; begin the file with 'patchclamp: {VERSION}'"
        return Problem(place.path, "P209", message)
    if place.path[-1] == KIND and place.model:
        kind = grammar.kind_of(place.model)
        return Problem(place.path, "P207", f"the kind is missing; write 'kind: {kind}'")
    return Problem(place.path, "P201", f"this key is required and missing{of_kind(place)}")


def _wrong_length(document: Document, place: Place, group: list[ErrorDetails]) -> Problem:
    """A list of fixed length; a missing member stands for the list."""
    path = place.path[:-1] if isinstance(place.path[-1], int) else place.path
    given, wanted = group[0]["input"], place.length
    return Problem(path, "P205", f"expected exactly {wanted} items, got {len(given)}")


def _no_kind(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    """A mapping without a kind, or with a key that was meant to be `kind`."""
    given = dict(group[0]["input"])
    kinds = grammar.tagged(place.annotation)
    if len(place.path) == 2 and _made(document, place.path):
        return _no_entry(document, place.path)
    known = grammar.keys_of(place.annotation)
    meant = nearest(KIND, [key for key in given if key not in known])
    if meant is not None:
        message = f"unknown key {meant!r}; {KIND!r} is required here and missing"
        return Problem((*place.path, meant), "P207", message, tuple(kinds), KIND, key=True)
    fitting = [kind for kind, m in kinds.items() if given and set(given) <= set(grammar.fields(m))]
    suggestion = f"kind: {fitting[0]}" if len(fitting) == 1 else None
    return Problem((*place.path, KIND), "P207", "the kind is missing", tuple(kinds), suggestion)


def _no_entry(document: Document, path: Path) -> Problem:
    """A path of a matrix or an override that leads into an entry that is not there."""
    section, name = path
    others = document.get((section,), {})
    known = tuple(other for other in others if not _made(document, (section, other)))
    message = f"no entry {name!r} in {section!r}; a new one needs a 'kind'"
    return Problem(path, "P301", message, known, nearest(str(name), known), key=True)


def _made(document: Document, path: Path) -> bool:
    """Return whether a path of a matrix or an override made a mapping on its way."""
    # Such a mapping stands nowhere in a text, and so where the path names it (`merge.graft`).
    return path in document.keys and document.values.get(path) == document.keys[path]


def _unknown_kind(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    kinds, path = tuple(grammar.tagged(place.annotation)), (*place.path, KIND)
    message = f"unknown kind {_given(document, path)}"
    return Problem(path, "P207", message, kinds, nearest(str(document.get(path)), kinds))


def _not_a_choice(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    allowed = tuple(str(value) for value in grammar.choices(place.annotation))
    code, sort = ("P207", "kind") if place.path[-1] == KIND else ("P204", "value")
    message = f"unknown {sort} {_given(document, place.path)}"
    suggestion = nearest(str(document.get(place.path)), allowed)
    return Problem(place.path, code, message, allowed, suggestion)


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _wrong_type(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    """A value of the wrong type; branches of a union are told as one list of what is expected."""
    wanted = dict.fromkeys(_EXPECTED.get(details["type"], "another value") for details in group)
    if "a number" in wanted:
        wanted.pop("a whole number", None)
    short = _short_forms(place)
    wanted = {**dict.fromkeys(repr(s) for s in short), **wanted}
    if place.field is not None and not short and _takes_text(place):
        wanted = {"text": None, **wanted}
    given, value = describe(document, place.path), document.get(place.path)
    message = f"expected {_either(list(wanted))}, got {given}"
    raw = document.raw.get(place.path)
    if "text" in wanted and raw:
        message += f'; quote it: "{_shortened(raw)}"'
    elif isinstance(value, str) and _unquoted(value) & wanted.keys():
        message += "; drop the quotes"
    if value is None and wanted.keys() & {"a mapping", "a list"}:
        message += "; leave the key out if there is nothing to say"
    suggestion = nearest(value, short) if isinstance(value, str) else None
    return Problem(place.path, "P203", message, suggestion=suggestion)


def _unquoted(text: str) -> set[str]:
    """Return what a text in quotes would be without them."""
    try:
        value = read_plain(text)
    except NumberError:
        return set()
    if isinstance(value, bool):
        return {"true or false"}
    return {"a whole number", "a number"} if isinstance(value, int) else set()


def _inputs(place: Place) -> Any:
    """Return the annotation of a field's short forms, where its validator declares them."""
    metadata = place.field.metadata if place.field else []
    declared = (getattr(item, "json_schema_input_type", None) for item in metadata)
    return next((d for d in declared if isinstance(d, type) or get_args(d)), None)


def _short_forms(place: Place) -> tuple[str, ...]:
    return tuple(str(value) for value in grammar.choices(_inputs(place)))


def _takes_text(place: Place) -> bool:
    return any(grammar.bare(choice) is str for choice in get_args(_inputs(place)))


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _out_of_range(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    bounds = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    context = group[0].get("ctx", {})
    said = [
        f"{words} {_number(context[bound])}" for bound, words in bounds.items() if bound in context
    ]
    message = (
        f"expected {said[0] if said else 'a finite number'}, got {describe(document, place.path)}"
    )
    return Problem(place.path, "P205", message)


def _number(bound: float) -> str:
    return str(int(bound) if bound == int(bound) else bound)


def _badly_formed(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    given = str(document.get(place.path))
    words, suggestion = _in_words(given, group[0])
    return Problem(place.path, "P206", words, suggestion=suggestion)


def _too_short(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    # Pydantic counts members after validation: what failed its own check, and is told there, too.
    given = document.get(place.path)
    if isinstance(group[0]["input"], str):
        return Problem(place.path, "P205", "this text may not be empty")
    if given:
        return None
    return Problem(place.path, "P205", "expected at least one entry, got none")


def _too_long(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    given, most = group[0]["input"], group[0]["ctx"]["max_length"]
    if isinstance(given, str):
        message = f"expected at most {most} characters, got {len(given)}"
        return Problem(place.path, "P205", message)
    return _wrong_length(document, place, group)


def _refused(document: Document, place: Place, group: list[ErrorDetails]) -> Problem | None:
    """What a validator of ours refused; its message is ours already."""
    error = group[0].get("ctx", {}).get("error")
    if isinstance(error, NotAmongError):
        return _not_among(place, error)
    return Problem(place.path, "P208", str(error))


def _not_among(place: Place, error: NotAmongError) -> Problem:
    message = f"unknown {error.sort} {_shortened(str(error.given))!r}"
    suggestion = nearest(str(error.given), error.allowed)
    return Problem(place.path, "P204", message, error.allowed, suggestion)


_TELLERS: dict[str, Teller] = {
    "missing": _missing,
    "union_tag_not_found": _no_kind,
    "union_tag_invalid": _unknown_kind,
    "literal_error": _not_a_choice,
    "greater_than": _out_of_range,
    "greater_than_equal": _out_of_range,
    "less_than": _out_of_range,
    "less_than_equal": _out_of_range,
    "finite_number": _out_of_range,
    "string_pattern_mismatch": _badly_formed,
    "string_too_short": _too_short,
    "string_too_long": _too_long,
    "too_short": _too_short,
    "too_long": _too_long,
    "value_error": _refused,
}
