"""Excerpts: the lines of a spec that made a part of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from patchclamp.engine.results import StoredResult
from patchclamp.specs.scalars import dump

REFERENCES = ("of", "with", "stimuli", "clean", "corrupt", "input", "features", "test_on")
"""Keys of an analysis whose values name other entries of the spec."""

SECTIONS = ("stimuli", "captures", "interventions", "analyses")


@dataclass(frozen=True)
class Excerpt:
    """Lines of a spec, with the number of the first; 0 where they come from a base or a default."""

    path: str
    line: int
    text: str


def excerpts(result: StoredResult, analysis: str) -> list[Excerpt]:
    """Return the lines that made an analysis: its own, and those of the entries that it names."""
    entries = result.spec.get("analyses", {})
    if analysis not in entries:
        return []
    found = [_excerpt(result, "analyses", analysis)]
    for section, name in _named(entries[analysis], result.spec):
        found.append(_excerpt(result, section, name))
    return found


def _named(entry: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the section and name of every entry that an analysis names."""
    for key in REFERENCES:
        values = entry.get(key)
        for value in values if isinstance(values, list) else [values]:
            for section in SECTIONS:
                if isinstance(value, str) and value in spec.get(section, {}):
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
