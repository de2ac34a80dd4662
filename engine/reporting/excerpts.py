"""Excerpts: the lines of a spec that made a part of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from patchclamp.engine.results import StoredResult
from patchclamp.specs.scalars import dump

_ANY = ("stimuli", "captures", "interventions", "analyses")

REFERENCES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("of", "with", "input", "features", "test_on", "sae", "chosen_by"), _ANY),
    **dict.fromkeys(
        ("stimuli", "clean", "corrupt", "transfer", "mean_over", "resample", "source"), ("stimuli",)
    ),
}
"""Key of an entry whose value names other entries of the spec -> the sections they may be in."""


@dataclass(frozen=True)
class Excerpt:
    """Lines of a spec, with the number of the first; 0 where they come from a base or a default."""

    path: str
    line: int
    text: str


def excerpts(result: StoredResult, section: str, name: str) -> list[Excerpt]:
    """Return the lines that made an entry: its own, and those of all that it names, and so on."""
    spec = result.spec
    if name not in spec.get(section, {}):
        return []
    made = [(section, name)]
    for where, entry in made:  # it grows as it is read
        found = _named(spec[where][entry], spec)
        made += [one for one in dict.fromkeys(found) if one not in made]
    return [_excerpt(result, *one) for one in made]


def _named(value: Any, spec: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the section and name of every entry that a value names, however deep."""
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from _named(one, spec, inner)
    elif isinstance(value, list):
        for one in value:
            yield from _named(one, spec, key)
    elif isinstance(value, str):
        for section in REFERENCES.get(key, ()):
            if value in spec.get(section, {}):
                yield section, value


def _excerpt(result: StoredResult, section: str, name: str) -> Excerpt:
    """Return the lines of an entry as they were written, or as they were resolved."""
    text = str(result.provenance.get("spec", ""))
    found = _lines(text, (section, name))
    if found is not None:
        first, last = found
        lines = text.splitlines()[first:last]
        return Excerpt(f"{section}.{name}", first + 1, "\n".join(lines).rstrip())
    entry = dump({name: result.spec[section][name]})
    return Excerpt(f"{section}.{name}", 0, entry.rstrip())


def _lines(text: str, path: tuple[str, ...]) -> tuple[int, int] | None:
    """Return the first line of an entry, and the one after its last; None where it is not there."""
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return None
    first = None
    for part in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        match = next(((key, value) for key, value in pairs if key.value == part), None)
        if match is None:
            return None
        first, node = match[0].start_mark.line, match[1]
    if first is None or node is None:
        return None
    return first, max(_end(node), first + 1)


def _end(node: yaml.Node) -> int:
    """Return the line after a node: a block mapping ends where its last value does.

    PyYAML says that it ends where the next token begins, which is the next entry.
    """
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line) + (node.end_mark.column > 0)
