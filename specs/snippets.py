"""The shortest piece of a spec that uses a kind or a name, made from the models themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.fields import Label, Ref
from patchclamp.specs.scalars import dump
from patchclamp.specs.walk import marked

TEXTS: Mapping[str, str] = {
    "text": "{prompt}",
    "path": "stimuli.csv",
    "set": "sequences",
    "site": "resid_post",
    "correct": " {next}",
    "foil": " {last}",
    "column": "category",
    "target": "category",
    "permute": "category",
    "label": "category",
    "id": "bundled:sequences",
    "name": "my-experiment",
}
"""Key -> a value that a reader will recognise, for keys that take any text."""

ENTRIES: Mapping[str, str] = {
    "stimuli": "words",
    "captures": "resid",
    "interventions": "zeroed",
    "analyses": "decode",
}
"""Section -> the entry that a snippet refers to."""

PARTNERS = ("corrupt", "resample", "source")
"""Keys that name a set's partner, which is called `scrambled`."""

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "ablation": {"metric": {"kind": "logit_diff"}},
    "categorical": {"classes": ["weekdays", "months"]},
    "circuit": {"circuits": {"pruned": {"kind": "prune", "keep_above": 0.8}}},
    "clamp": {"site": "resid_post", "units": [0]},
    "contrast": {"column": "category", "classes": ["weekdays", "months"]},
    "items": {"text": "{word}", "items": [{"word": "one"}, {"word": "two"}]},
    "patching": {"units": {"site": "resid_post"}, "metric": {"kind": "logit_diff"}},
    "replace": {"by": "noise"},
    "rsa": {"contrast": {"kind": "discriminative", "column": "category"}},
    "sae": {"train": {"on": "resid", "features": 256}},
    "selection": {"methods": {"welch": {"kind": "contrast", "of": "resid"}}},
    "steering": {"with": ["zeroed"], "metric": {"kind": "logprob"}},
    "template": {"text": "{day} is", "for": {"day": ["Monday", "Tuesday"]}},
    "together": {"of": ["zeroed"]},
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

    >>> from patchclamp.specs.stimuli import Csv
    >>> print(snippet(("stimuli", "*"), Csv), end="")
    stimuli:
      csv:
        kind: csv
        text: '{prompt}'
        path: stimuli.csv
    """
    value: Any = example(model)
    for part in reversed(path):
        name = grammar.kind_of(model) or "name"
        value = {name if part == "*" else part: value}
    return dump(value)


def example(model: type[BaseModel]) -> dict[str, Any]:
    """Return the required keys of a model, each with a value it takes."""
    needed = NEEDED.get(grammar.kind_of(model) or "", {})
    marks = {key: mark for key, (_, mark) in marked(model).items()}
    required = {
        key: _value(key, field.annotation, field) if key not in marks else _name(key, marks, field)
        for key, field in grammar.fields(model).items()
        if field.is_required() and key not in needed
    }
    return {**required, **needed}


def _name(key: str, marks: Mapping[str, Ref | Label], field: FieldInfo) -> Any:
    """Return the name of an entry or a label, in a list where a list is wanted."""
    mark = marks[key]
    name = TEXTS["label"]
    if isinstance(mark, Ref):
        name = "scrambled" if key in PARTNERS else ENTRIES[mark.section]
    return [name] if get_origin(grammar.bare(field.annotation)) is tuple else name


def _value(key: str, annotation: Any, field: FieldInfo | None = None) -> Any:
    declared = [getattr(m, "json_schema_input_type", None) for m in field.metadata] if field else []
    for choice in (annotation, *declared):
        choices = grammar.choices(choice)
        if choices:
            return TEXTS[key] if TEXTS.get(key) in choices else choices[0]
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
