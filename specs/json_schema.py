"""The grammar as JSON Schema, for editors: completion, descriptions, and mistakes while one types.

1. Pydantic exports the spec model and the keys it is put together from: short forms as they are
   declared, fields with what stands on the line below them, kinds with their docstrings.
2. What editors cannot use goes: titles, `discriminator`, defaults that say nothing.
3. A spec that extends another is checked with a second, looser copy: required keys may stand in
   its base, and null takes a value of the base away. So is one whose matrix sets a required key.
4. The paths that a matrix can set are read off the result, each with the type of its values.

What only the whole spec can tell (references, keys that go together) is left to `validate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from patchclamp.specs.fields import PATTERNS
from patchclamp.specs.grammar import KIND, kind_of
from patchclamp.specs.matrix import UNSWEPT, Composition
from patchclamp.specs.spec import SCIENCE_KEYS, spec_model
from patchclamp.specs.wording import field_docs, model_doc

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""Draft 7 is what every editor's YAML server reads; of what is newer, pydantic writes tuples."""

NAME = "[a-z][a-z0-9_]*"
INDEX = r"(\.[0-9]+|\[[0-9]+\])"
"""An item of a list, as a path writes it."""

REF = "#/$defs/"
PART, KINDLESS = "Part", "Short"
"""What the names of copies end in: of a spec that extends another, and with `kind` left out."""

_SHARED = (f"{REF}Paths", f"{REF}Matrix")
"""What extending specs say as others do: the cells of a matrix are whole specs."""


def json_schema() -> Schema:
    """Return the JSON Schema of a spec file, over all kinds and names that are known now.

    >>> json_schema()["$defs"]["Spec"]["required"]
    ['patchclamp', 'name', 'model', 'stimuli']
    """
    spec = spec_model()
    exported = spec.model_json_schema(by_alias=True, schema_generator=_Exporter)
    composed = Composition.model_json_schema(by_alias=True, schema_generator=_Exporter)
    defs = {**composed.pop("$defs", {}), **exported.pop("$defs"), "Spec": exported}
    exported["properties"] |= composed["properties"]
    defs = {name: _mapped(schema, _plain) for name, schema in sorted(defs.items())}
    defs |= {
        name + KINDLESS: {**defs[name], "required": [k for k in _required(defs[name]) if k != KIND]}
        for name in defs
        if f'"{REF}{name}{KINDLESS}"' in json.dumps(defs)
    }
    defs["Paths"] = _paths(defs)
    matrix = defs["Matrix"]["properties"]
    for key in ("grid", "zip"):
        matrix[key] = {"description": matrix[key]["description"], "$ref": f"{REF}Paths"}
    loose = {name + PART: _loose(schema) for name, schema in defs.items()}
    return {
        "$schema": DIALECT,
        "description": model_doc(spec),
        "type": "object",
        "if": {"anyOf": [{"required": ["extends"]}, _given_by_matrix(defs)]},
        "then": {"$ref": f"{REF}Spec{PART}"},
        "else": {"$ref": f"{REF}Spec"},
        "$defs": {**defs, **_reached(loose, f"Spec{PART}")},
    }


class _Exporter(GenerateJsonSchema):
    """Adds what stands below each field, and on a `kind` what the kind is."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        exported = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        said = field_docs(model)
        docs = {(f.alias or name): said.get(name) for name, f in model.model_fields.items()}
        if kind_of(model) is not None:
            docs[KIND] = " ".join(model_doc(model).split())
        for key, doc in docs.items():
            if doc:
                exported["properties"][key]["description"] = doc
        return exported


def _mapped(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """Return a schema with a change made in it and in every schema inside, innermost first."""
    if isinstance(schema, list):
        return [_mapped(item, change) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        key: {name: _mapped(member, change) for name, member in value.items()}
        if key in ("properties", "patternProperties")
        else value
        if key in ("default", "const", "enum", "required")
        else _mapped(value, change)
        for key, value in schema.items()
    }
    return change(inner)


def _plain(schema: Schema) -> Schema:
    """Return a schema without what editors stumble over, closed where pydantic leaves it open."""
    dropped = ("title", "discriminator", "kindless")
    plain = {key: value for key, value in schema.items() if key not in dropped}
    # An editor offers a default as what to insert; a mapping or list there is seldom wanted.
    if not isinstance(plain.get("default"), str | int | float):
        plain.pop("default", None)
    if "prefixItems" in plain:
        plain["items"] = plain.pop("prefixItems")
    if "enum" in schema.get("propertyNames", {}):
        names, value = plain.pop("propertyNames"), plain["additionalProperties"]
        said = zip(names["enum"], names["enumDescriptions"], strict=True)
        plain["properties"] = {name: {**value, "description": about} for name, about in said}
        plain["additionalProperties"] = False
    if "patternProperties" in plain:
        plain.setdefault("additionalProperties", False)
    if schema.get("pattern") in PATTERNS:
        plain["patternErrorMessage"] = PATTERNS[schema["pattern"]]
    if schema.get("kindless"):
        plain["$ref"] += KINDLESS
    return plain


def _required(schema: Schema) -> list[str]:
    return list(schema.get("required", ()))


def _loose(schema: Schema) -> Schema:
    """Return a schema for what extends a base: keys may be missing, and null takes one away.

    Lists are replaced as a whole, so what stands in one is checked as ever.
    """
    loose = {key: value for key, value in schema.items() if key != "required"}
    ref = loose.get("$ref")
    if ref is not None and ref not in _SHARED:
        loose["$ref"] = ref + PART
    for key in ("anyOf", "oneOf"):
        if key in schema:
            loose.pop(key)
            # Without its kind an entry may be of several: one of them is enough.
            loose["anyOf"] = [_loose(branch) for branch in schema[key]]
    for key in ("properties", "patternProperties"):
        if key in schema:
            loose[key] = {name: _or_null(_loose(inner)) for name, inner in schema[key].items()}
    return loose


def _or_null(schema: Schema) -> Schema:
    if "const" in schema or {"type": "null"} in schema.get("anyOf", ()):
        return schema
    outer = {key: schema[key] for key in ("description",) if key in schema}
    inner = {key: value for key, value in schema.items() if key not in outer}
    return {**outer, "anyOf": [*inner.get("anyOf", [inner]), {"type": "null"}]}


def _reached(defs: Mapping[str, Schema], name: str) -> dict[str, Schema]:
    """Return those definitions that one of them reaches."""
    reached: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        reached[name] = defs[name]
        waiting += {ref for ref in _refs(defs[name]) if ref in defs} - {*reached, *waiting}
    return dict(sorted(reached.items()))


def _refs(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(REF)
        schema = list(schema.values())
    for inner in schema if isinstance(schema, list) else ():
        yield from _refs(inner)


def _paths(defs: Mapping[str, Schema]) -> Schema:
    """Return what `matrix.grid` holds: paths, each with a list of what may stand there."""
    found: dict[str, list[Schema]] = {}
    for pattern, schema in _walk(defs, REF + "Spec", ""):
        choices = found.setdefault(pattern, [])
        if schema not in choices:
            choices.append(schema)
    fixed: dict[str, Schema] = {}
    named: dict[str, Schema] = {}
    for pattern, choices in found.items():
        values: Schema = choices[0] if len(choices) == 1 else {"anyOf": choices}
        values = {"type": "array", "minItems": 1, "items": values}
        # What is under `properties` is proposed: of paths without names in them, those that sweeps
        # are about.
        path = pattern.replace("\\", "")
        if "[" not in path and path.partition(".")[0] in SCIENCE_KEYS:
            fixed[path] = values
        else:
            named[f"^{pattern}$"] = values
    return {
        "description": "Path -> values, such as  model.revision: [step0, main]",
        "type": "object",
        "properties": fixed,
        "patternProperties": named,
        "additionalProperties": False,
    }


def _given_by_matrix(defs: Mapping[str, Schema]) -> Schema:
    """Return what holds of a spec whose matrix sets a key that is required elsewhere."""
    patterns = dict.fromkeys(path for path, _ in _walk(defs, f"{REF}Spec", "", required=True))
    lacks = {"propertyNames": {"not": {"pattern": f"^({'|'.join(patterns)})$"}}}
    sets: list[Schema] = [
        {"required": [key], "properties": {key: {"type": "object", "not": lacks}}}
        for key in ("grid", "zip")
    ]
    matrix = {"type": "object", "anyOf": sets}
    return {"required": ["matrix"], "properties": {"matrix": matrix}}


Found = Iterator[tuple[str, Schema]]


def _walk(defs: Mapping[str, Schema], ref: str, path: str, *, required: bool = False) -> Found:
    """Yield every path below a definition, as a regular expression, and what stands there.

    With `required`, only those of keys that may not be left out.
    """
    model = defs[ref.removeprefix(REF)]
    for key, schema in model.get("properties", {}).items():
        if not path and key in UNSWEPT:
            continue
        here = rf"{path}\.{key}" if path else key
        if not required or key in _required(model):
            yield here, {"$ref": f"{ref}/properties/{key}"}
        yield from _within(defs, schema, here, required)


def _within(defs: Mapping[str, Schema], schema: Any, path: str, required: bool) -> Found:
    if "$ref" in schema:
        yield from _walk(defs, schema["$ref"], path, required=required)
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _within(defs, branch, path, required)
    for member in schema.get("patternProperties", {}).values():
        here = rf"{path}\.{NAME}"
        if not required:
            yield here, member
        yield from _within(defs, member, here, required)
    items = schema.get("items", {})
    for item in items if isinstance(items, list) else [items] if items else []:
        here = f"{path}{INDEX}"
        if not required:
            yield here, item
        yield from _within(defs, item, here, required)
