"""What a name means: a code, a key of the grammar, a kind, or an entry of the registry."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from patchclamp.registry import (
    ANALYSES,
    ARCHITECTURES,
    BACKENDS,
    FIGURES,
    METRICS,
    MODELS,
    SITES,
    STIMULI,
)
from patchclamp.registry.errors import UnknownNameError
from patchclamp.registry.table import Entry
from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path, dotted
from patchclamp.specs.explanations import EXPLANATIONS
from patchclamp.specs.matrix import Composition
from patchclamp.specs.snippets import BY_TABLE, snippet
from patchclamp.specs.spec import spec_model
from patchclamp.specs.wording import (
    WIDTH,
    describe_field,
    describe_fields,
    field_docs,
    model_doc,
)

TABLES: Mapping[str, Mapping[str, Entry]] = {
    "models": MODELS,
    "architectures": ARCHITECTURES,
    "sites": SITES,
    "stimuli": STIMULI,
    "metrics": METRICS,
    "analyses": ANALYSES,
    "backends": BACKENDS,
    "figures": FIGURES,
}
"""Sort of name -> the table that holds what such names mean."""


UNDONE = "Not implemented yet: a spec that asks for it is valid and is not run (P415)."


def _roots() -> tuple[type[BaseModel], ...]:
    """Return the models that the keys of a spec file belong to."""
    return (spec_model(), Composition)


def explain(name: str) -> str:
    """Return all that a name means, as text for a terminal.

    A name is a code (`P104`), a kind (`probe`), an entry of a table (`resid_post`), a key
    (`positions`), or a path of keys (`analyses.probe.cv`, `captures.site`), in which a kind may
    stand for the name of an entry. Anything else raises `UnknownNameError`.

    >>> print(explain("backends.hooks").splitlines()[0])
    hooks (backends): plain PyTorch hooks: the independent second opinion
    """
    code = name.upper()
    if code in EXPLANATIONS:
        return EXPLANATIONS[code].text()
    found = [*_entries(name), *_kinds(name), *_paths(name)] or [*_keys(name), *_values(name)]
    if not found:
        raise UnknownNameError("name", name, sorted(names()))
    return "\n\n\n".join(_together(found))


def _together(found: Iterable[str]) -> Iterator[str]:
    """Yield texts that differ in their first line only as one; what kinds share is told once."""
    heads: dict[str, list[str]] = {}
    for text in dict.fromkeys(found):
        head, _, rest = text.partition("\n")
        heads.setdefault(rest, []).append(head)
    yield from ("\n".join([*lines, rest]) for rest, lines in heads.items())


def _models() -> Iterator[tuple[Path, type[BaseModel]]]:
    for root in _roots():
        yield from grammar.models_by_path(root)


def names() -> frozenset[str]:
    """Return every name that can be explained, but for paths."""
    models = {model for _, model in _models()}
    kinds = {kind for model in models if (kind := grammar.kind_of(model))}
    keys = {key for model in models for key in grammar.fields(model)}
    values = {
        value
        for model in models
        for field in grammar.fields(model).values()
        for value in grammar.choices(field.annotation)
        if isinstance(value, str)
    }
    entries = {name for table in TABLES.values() for name in table}
    return frozenset(kinds | keys | values | entries | set(EXPLANATIONS))


def _entries(name: str) -> Iterator[str]:
    """Yield an entry of each table that knows the name; `sites.z` asks one table."""
    sort, dot, rest = name.partition(".")
    asked = [(sort, rest)] if dot and sort in TABLES else [(table, name) for table in TABLES]
    for table, entry in asked:
        if entry in TABLES[table] and table != "analyses":
            yield _entry(table, TABLES[table][entry])


def implemented(entry: Entry) -> bool:
    """Return whether an entry of a table has the code that does it, where it needs any."""
    return all(getattr(entry, work, "") is not None for work in ("analyse", "function", "factory"))


def _entry(table: str, entry: Entry) -> str:
    parts = [textwrap.fill(f"{entry.name} ({table}): {entry.summary}", WIDTH)]
    parts += [UNDONE] if not implemented(entry) else []
    facts = list(_facts(entry))
    parts += ["\n".join(facts)] if facts else []
    if table in BY_TABLE:
        parts.append(_as_spec(BY_TABLE[table].format(name=entry.name)))
    return "\n\n".join(parts)


def _facts(entry: Any) -> Iterator[str]:
    """Yield what a table row says beside its name and summary; references to code are left out."""
    for name in type(entry).__annotations__:
        value = getattr(entry, name)
        if isinstance(value, Mapping):
            yield from [f"  {name.replace('_', ' ')}:"] if value else []
            yield from (f"    {key}: {told}" for key, told in value.items())
            continue
        said = _fact(value)
        if name not in ("name", "summary") and said and "patchclamp." not in said:
            yield f"  {name.replace('_', ' ')}: {said}"


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return ""


def _kinds(name: str) -> Iterator[str]:
    """Yield the models that a kind names, wherever the grammar has one of that kind."""
    told: set[type[BaseModel]] = set()
    for path, model in _models():
        if grammar.kind_of(model) == name and model not in told:
            told.add(model)
            yield _model(path, model)


def _model(path: Path, model: type[BaseModel]) -> str:
    kind = grammar.kind_of(model)
    where = dotted(path).removesuffix(".*") or "a spec"
    head = f"{where}, kind: {kind}" if kind else where
    parts = [f"{head}\n\n{textwrap.indent(model_doc(model), '  ')}"]
    if kind and path[:1] == ("analyses",) and len(path) == 2 and kind in ANALYSES:
        headline = ", ".join(ANALYSES[kind].headline)
        parts += [f"Headline results: {headline}"] if headline else []
        parts += [UNDONE] if not implemented(ANALYSES[kind]) else []
    keys = list(describe_fields(model))
    parts += ["Keys:\n\n" + "\n".join(keys)] if keys else []
    if kind and len(path) == 2:
        parts.append(_as_spec(snippet(path, model)))
    return "\n\n".join(parts)


def _as_spec(text: str) -> str:
    return "In a spec:\n\n" + textwrap.indent(text.rstrip("\n"), "    ")


def _paths(name: str) -> Iterator[str]:
    """Yield what stands at a path of keys, in every kind that has such a path."""
    first, *rest = name.split(".")
    found = [step for root in _roots() for step in _walk(root, (first, *rest), ())]
    if not found and rest:  # from a kind on: `probe.cv`
        for path, model in _models():
            if grammar.kind_of(model) == first:
                found += _walk(model, tuple(rest), path)
    for path, annotation, owner, field in found:
        if field is None or owner is None:
            whole = grammar.as_model(annotation)
            if whole is not None:
                yield _model(path, whole)
        else:
            yield _field(path, owner, field)


Step = tuple[Path, Any, type[BaseModel] | None, FieldInfo | None]


def _walk(
    annotation: Any,
    parts: tuple[str, ...],
    path: Path,
    owner: type[BaseModel] | None = None,
    field: FieldInfo | None = None,
) -> Iterator[Step]:
    """Follow keys along the models; entries' own names may be left out or be kinds."""
    annotation = grammar.bare(annotation)
    if not parts:
        yield path, annotation, owner, field
        return
    first, rest = parts[0], parts[1:]
    model, kinds = grammar.as_model(annotation), grammar.tagged(annotation)
    if model is not None:
        fields = grammar.fields(model)
        if first in fields:
            found = fields[first]
            yield from _walk(found.annotation, rest, (*path, first), model, found)
    elif first in kinds:
        yield from _walk(kinds[first], rest, path)
    elif kinds:
        for kind in kinds.values():
            yield from _walk(kind, parts, path)
    elif get_origin(annotation) is dict:
        inner = get_args(annotation)[1]
        within = list(_walk(inner, parts, (*path, "*")))
        yield from within or _walk(inner, rest, (*path, "*"))
    elif get_origin(annotation) is tuple:
        yield from _walk(get_args(annotation)[0], parts, path)


def _keys(name: str) -> Iterator[str]:
    """Yield what a key means, wherever the grammar has it."""
    for path, model in _models():
        if name in grammar.fields(model):
            yield _field((*path, name), model, grammar.fields(model)[name])


def _values(name: str) -> Iterator[str]:
    """Yield the keys that have a value among those they allow."""
    for path, model in _models():
        for key, field in grammar.fields(model).items():
            # A kind that stands for a model has been told as such.
            chosen = key == grammar.KIND and grammar.kind_of(model) is not None
            if not chosen and name in grammar.choices(field.annotation):
                yield _field((*path, key), model, field)


def _field(path: Path, owner: type[BaseModel], field: FieldInfo) -> str:
    """Return a key's place, type and description, and what may stand below it."""
    kind = grammar.kind_of(owner)
    attribute = next(
        name for name, f in owner.model_fields.items() if (f.alias or name) == path[-1]
    )
    where = dotted(path).replace(".*", "") + (f" (kind: {kind})" if kind else "")
    parts = [where, describe_field(str(path[-1]), field, field_docs(owner).get(attribute, ""))]
    below = grammar.member_of(field.annotation) or field.annotation
    inner = grammar.as_model(grammar.bare(below))
    if inner is not None:
        parts.append("Keys:\n\n" + "\n".join(describe_fields(inner)))
    for name, model in grammar.tagged(below).items():
        summary = model_doc(model).partition("\n\n")[0]
        text = textwrap.fill(f"kind: {name}. {summary}", WIDTH - 4)
        parts.append(textwrap.indent(text, "  "))
    return "\n\n".join(parts)
