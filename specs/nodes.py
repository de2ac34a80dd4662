"""YAML text to a graph of nodes with places, bounded in depth, its scalars left as written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from patchclamp.specs.diagnostics import Path, Span, split_lines

DEPTH = 60
"""Deepest nesting; a spec of ours needs eight."""

_ANCHOR = re.compile(r"&\S+[ \t]+")

_HINTS = (
    ("mapping values are not allowed", "text with ': ' needs quotes; keys of one mapping align"),
    ("could not find expected ':'", "is there a key without ':'?"),
    ("did not find expected key", "the keys of one mapping start in the same column"),
    ("did not find expected '-'", "the items of one list start in the same column"),
    ("expected <block end>", "the keys or items of one level start in the same column"),
    ("expected ',' or", "a comma or a closing bracket is missing"),
    ("expected node content", "a value is missing, or a bracket is never closed"),
    ("unexpected end of stream", "a quote or a bracket is never closed"),
    ("cannot start any token", "text that begins with @, ` or % needs quotes"),
    ("unknown escape character", "a backslash in double quotes is an escape; use single quotes"),
    ("undefined alias", "text that begins with * needs quotes; an alias needs its anchor above"),
    ("duplicate anchor", "each anchor has a name of its own"),
)
_BEGUN_EARLIER = ("unexpected end of stream", "could not find expected ':'")
"""Complaints that are noticed far below what causes them."""


class NodeError(Exception):
    """Text that cannot be read on: a diagnostic's code and message, and the place."""

    def __init__(self, code: str, message: str, span: Span) -> None:
        self.code, self.message, self.span = code, message, span


class Tag(str):
    """A tag of ours, told by identity from one that the text spells."""


PLAIN, QUOTED, COLLECTION = Tag("plain"), Tag("quoted"), Tag("collection")


class _Limits:
    """Stands in for PyYAML's resolver: leaves scalars alone and bounds the nesting.

    The composer calls these for every node, so that depth is refused before it is reached.
    """

    depth = 0

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is not yaml.ScalarNode:
            return COLLECTION
        return PLAIN if implicit[0] else QUOTED

    def descend_resolver(self, parent: yaml.Node | None, index: Any) -> None:
        self.depth += 1
        if self.depth > DEPTH and parent is not None:
            raise NodeError(
                "P109", f"nested more than {DEPTH} levels deep", point(parent.start_mark)
            )

    def ascend_resolver(self) -> None:
        self.depth -= 1


class PureLoader(_Limits, Reader, Scanner, Parser, Composer):
    """PyYAML's own parser, for machines without libyaml; ten times slower."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)


LOADER: Any = PureLoader
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # its stub does not re-export it

    class FastLoader(_Limits, CParser):
        """The parser of libyaml."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)

    LOADER = FastLoader


def compose(text: str) -> tuple[yaml.Node | None, Span | None]:
    """Return the root node of the first document, and where a second one begins, if one does."""
    try:
        loader = LOADER(text)
        root = loader.get_node() if loader.check_node() else None
        return root, _second(text) if loader.check_node() else None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from error


def _second(text: str) -> Span | None:
    try:
        LOADER(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        return point(error.problem_mark)
    return None


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> NodeError:
    """Put PyYAML's complaint into our words, at the place that a person would look at."""
    problem = str(error.problem or error.context or "unreadable")
    if error.context and "duplicate anchor" in error.context:
        problem = "found duplicate anchor"
    mark = error.problem_mark or error.context_mark
    if error.context_mark and any(part in problem for part in _BEGUN_EARLIER):
        mark = error.context_mark
    span = point(mark)
    lines = split_lines(text)
    if not any(map(str.strip, lines[span.line - 1 :])):
        # What is missing at the end of a text is missing after its last line, not below it.
        last = max((i for i, line in enumerate(lines) if line.strip()), default=0)
        column = len(lines[last].rstrip()) + 1
        span = Span(last + 1, column, last + 1, column + 1)
    line = lines[span.line - 1]
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    if "\t" in indent and span.column <= len(indent) + 1:
        tab = Span(span.line, indent.index("\t") + 1, span.line, len(indent) + 1)
        return NodeError("P104", "a tab indents this line; YAML takes spaces only", tab)
    hint = next((words for part, words in _HINTS if part in problem), None)
    return NodeError("P103", f"not YAML: {problem}" + (f" ({hint})" if hint else ""), span)


def spelled_tag(node: yaml.Node, text: str) -> str | None:
    """Return the tag that the text gives a node, as written there, or None."""
    if isinstance(node.tag, Tag):
        # The tag `!` reaches us as no tag at all.
        bare = isinstance(node, yaml.ScalarNode) and node.tag is PLAIN
        return "!" if bare and text.startswith("!", node.start_mark.index) else None
    return str(node.tag).replace("tag:yaml.org,2002:", "!!")


def span_of(node: yaml.Node, text: str, source: str = "") -> Span:
    """Return where a node stands, without the anchor before it."""
    start, end = node.start_mark, node.end_mark
    anchor = _ANCHOR.match(text, start.index) if text.startswith("&", start.index) else None
    column = start.column + (len(anchor[0]) if anchor else 0)
    if start.line == end.line:  # an anchor with nothing but spaces behind it
        column = min(column, end.column)
    return Span(start.line + 1, column + 1, end.line + 1, end.column + 1, source)


def point(mark: Any) -> Span:
    """Return the place of one character."""
    return Span(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2)


@dataclass(frozen=True)
class Spans(Mapping[Path, Span]):
    """Where the nodes of a text stand, by path.

    A span is made when it is asked for: a valid spec is asked for few, and making them all takes
    as long as reading its text.
    """

    nodes: Mapping[Path, yaml.Node]
    text: str
    source: str

    def __getitem__(self, path: Path) -> Span:
        return span_of(self.nodes[path], self.text, self.source)

    def __contains__(self, path: object) -> bool:
        return path in self.nodes

    def __iter__(self) -> Iterator[Path]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)
