"""The shortest piece of a spec that uses a kind or a name, made from the models themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.scalars import dump

TEXTS: Mapping[str, str] = {
    "text": "{prompt}",
    "path": "stimuli.csv",
    "set": "sequences",
    "correct": " {next}",
    "foil": " {last}",
    "column": "category",
    "target": "category",
    "permute": "category",
    "label": "category",
    "of": "words",
    "id": "bundled:sequences",
    "name": "my-experiment",
}
"""Key -> a value that a reader will recognise, for keys that take any text."""

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "rsa": {"contrast": {"kind": "discriminative", "column": "category"}},
    "items": {"text": "{word}", "items": [{"word": "one"}, {"word": "two"}]},
    "ablation": {"metric": {"kind": "logit_diff"}},
    "categorical": {"classes": ["weekdays", "months"]},
}
"""Kind -> keys that it cannot do without, though each may be left out by itself."""

BY_TABLE: Mapping[str, str] = {
    "models": "model: {name}\n",
    "sites": "captures:\n  resid: {{site: {name}, layers: all}}\n",
    "stimuli": 'stimuli:\n  words: {{kind: builtin, set: {name}, text: "{{prompt}}"}}\n',
    "metrics": (
        "analyses:\n  heads: {{kind: ablation, units: {{site: z}}, metric: {{kind: {name}}}}}\n"
    ),
    "backends": "run: {{backend: {name}}}\n",
}
"""Sort of name -> how a spec says it."""


def snippet(path: Path, model: type[BaseModel]) -> str:
    """Return the shortest YAML that puts a model where a spec has it; `*` is any name.

    >>> from patchclamp.specs.analyses import Probe
    >>> print(snippet(("analyses", "*"), Probe), end="")
    analyses:
      probe:
        kind: probe
        target: category
    """
    value: Any = example(model)
    for part in reversed(path):
        name = grammar.kind_of(model) or "name"
        value = {name if part == "*" else part: value}
    return dump(value)


def example(model: type[BaseModel]) -> dict[str, Any]:
    """Return the required keys of a model, each with a value it takes."""
    needed = NEEDED.get(grammar.kind_of(model) or "", {})
    required = {
        key: _value(key, field.annotation, field)
        for key, field in grammar.fields(model).items()
        if field.is_required() and key not in needed
    }
    return {**required, **needed}


def _value(key: str, annotation: Any, field: FieldInfo | None = None) -> Any:
    declared = [getattr(m, "json_schema_input_type", None) for m in field.metadata] if field else []
    for choice in (annotation, *declared):
        if grammar.choices(choice):
            return grammar.choices(choice)[0]
    annotation = grammar.bare(annotation)
    models = [grammar.as_model(annotation), *grammar.tagged(annotation).values()]
    model = next((found for found in models if found is not None), None)
    if model is not None:
        return example(model)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return {TEXTS.get(key, key): _value(key, arguments[1])}
    if origin is tuple:
        return [_value(key, inner) for inner in arguments if inner is not Ellipsis]
    if arguments:  # a union: its first branch will do
        return _value(key, arguments[0])
    return {str: TEXTS.get(key, key), bool: True}.get(annotation, _number(field))


def _number(field: FieldInfo | None) -> int:
    bounds = [getattr(item, "ge", None) for item in field.metadata] if field else []
    return int(next((bound for bound in bounds if bound is not None), 1))
