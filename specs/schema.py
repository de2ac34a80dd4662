"""A document against the models of the grammar: a valid spec, or everything wrong in our words.

Pydantic finds the errors; nothing that it says is shown. Each error's place is followed along the
models (`grammar`), and its message is written from what the document holds and the models allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from patchclamp.registry.errors import nearest
from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path, Problem, dotted
from patchclamp.specs.document import Document
from patchclamp.specs.grammar import Place
from patchclamp.specs.messages import VERSION, bad_key, describe, of_kind, tell
from patchclamp.specs.slips import clear_name

M = TypeVar("M", bound=BaseModel)


def check_version(document: Document) -> Problem | None:
    """Return a problem where a document is of another grammar version: nothing else is judged."""
    version = document.value.get("patchclamp", VERSION)
    if type(version) is int and version == VERSION:
        return None
    given = describe(document, ("patchclamp",))
    message = f"expected grammar version {VERSION}, which this patchclamp reads; got {given}"
    return Problem(("patchclamp",), "P209", message)


def validate(model: type[M], document: Document) -> tuple[M | None, tuple[Problem, ...]]:
    """Return the valid model and no problems, or None and every problem."""
    try:
        return model.model_validate(document.value), ()
    except ValidationError as error:
        return None, tuple(_problems(model, document, error))


def _problems(
    model: type[BaseModel], document: Document, error: ValidationError
) -> Iterator[Problem]:
    """Yield one problem for each mistake: errors are grouped by place, then told in words."""
    groups: dict[tuple[Path, bool], list[tuple[Place, ErrorDetails]]] = {}
    for details in error.errors(include_url=False):
        place = grammar.follow(model, details["loc"])
        # A short form has no keys inside: what is wrong there is wrong with the short form.
        place = place._replace(path=document.written(place.path))
        at_key = details["loc"][-1:] == ("[key]",) and details["type"] != "extra_forbidden"
        groups.setdefault((place.path, at_key), []).append((place, details))
    missing = {p for (p, _), g in groups.items() if g[0][1]["type"] == "missing"}
    told: set[Path] = set()
    # Unknown keys come first: one of them may be a missing key, misspelt.
    for (path, at_key), group in sorted(groups.items(), key=lambda item: _rank(item[1])):
        place, details = group[0]
        problem: Problem | None
        if path in told and not at_key:
            continue
        if details["type"] == "extra_forbidden":
            problem, instead = _unknown_key(model, place, missing - told)
            told |= {instead} if instead else set()
        elif at_key:
            problem = bad_key(place, details)
        else:
            problem = tell(document, place, [d for _, d in group])
        if problem is not None:
            yield problem


def _rank(group: list[tuple[Place, ErrorDetails]]) -> bool:
    return group[0][1]["type"] != "extra_forbidden"


def _unknown_key(
    root: type[BaseModel], place: Place, missing: set[Path]
) -> tuple[Problem, Path | None]:
    """Return the problem of an unknown key, and the missing key that it stands for, if any."""
    assert place.model is not None
    parent, key = place.path[:-1], str(place.path[-1])
    allowed = tuple(grammar.fields(place.model))
    message = f"unknown key {key!r}{of_kind(place)}"
    required = [str(path[-1]) for path in missing if path[:-1] == parent]
    close = nearest(key, required)
    if close is not None:
        message += f"; {close!r} is required here and missing"
        return Problem(place.path, "P202", message, allowed, close, key=True), (*parent, close)
    # A slip for a key of this entry is one, though another entry may have a key of that name.
    slip = clear_name(key, allowed)
    home = None if slip else _within(place.model, parent, key) or _home(root, parent, key)
    if home is not None:
        message += f"; {key!r} belongs {home}"
        return Problem(place.path, "P202", message, allowed, key=True), None
    close = slip or nearest(key, allowed)
    return Problem(place.path, "P202", message, allowed, close, key=True), None


def _within(model: type[BaseModel], parent: Path, key: str) -> str | None:
    """Say where inside the entry itself an unknown key is known, if anywhere."""
    inside = [home for home in grammar.homes(model, key) if home and "*" not in home]
    return f"under {dotted((*parent, *inside[0]))!r}" if inside else None


def _home(root: type[BaseModel], parent: Path, key: str) -> str | None:
    """Say where a key that is unknown here is known: further in, in another kind, elsewhere."""
    kinds = sorted(
        {
            kind
            for path, model in grammar.models_by_path(root)
            if _matches(path, parent) and key in grammar.fields(model)
            if (kind := grammar.kind_of(model))
        }
    )
    if kinds:
        return f"to kind {', '.join(kinds)}"
    for home in grammar.homes(root, key):
        if not home:
            return "at the top level"
        if len(home) > len(parent) and _matches(home[: len(parent)], parent):
            return f"under {dotted(parent + home[len(parent) :])!r}"
        if "*" not in home:
            return f"under {dotted(home)!r}"
    return None


def _matches(pattern: Path, path: Path) -> bool:
    return len(pattern) == len(path) and all(
        a in ("*", b) for a, b in zip(pattern, path, strict=True)
    )
