"""YAML text to plain data that remembers where every key and every value stands.

A document is read from one text, or put together from several (`compose`); each of its places
names the text that it stands in.

1. Characters that a spec cannot hold are refused, with their places.
2. The text is composed into a node graph of bounded depth (`nodes`).
3. The graph becomes dicts, tuples and scalars of the YAML 1.2 core schema (`scalars`). Duplicate
   keys, tags, merge keys and numbers that overflow are collected rather than stopping the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from patchclamp.specs.characters import NOT_HELD, UNHOLDABLE, unreadable
from patchclamp.specs.diagnostics import Diagnostic, Path, Problem, Span, locate, split_lines
from patchclamp.specs.nodes import DEPTH, PLAIN, NodeError, Spans, compose, span_of, spelled_tag
from patchclamp.specs.scalars import NumberError, read_plain

EXPANDED = 20_000
"""Most values that aliases may repeat; nine lines of YAML can ask for 387 million."""


class Source(NamedTuple):
    """A text that a document is made of; `folder` is what its relative paths are relative to."""

    name: str
    text: str
    folder: FilePath = FilePath()


class Document(NamedTuple):
    """A spec as plain data, with the place of every key and value by path.

    `source` and `text` are those of the spec file itself, which is also the first of `sources`.
    """

    source: str
    text: str
    value: dict[str, Any]
    keys: Mapping[Path, Span]
    values: Mapping[Path, Span]
    raw: Mapping[Path, str]
    """Plain scalars that are not text, as they were written."""
    sources: Mapping[str, Source]
    """Every text that the document is made of, by name."""
    swept: frozenset[Path] = frozenset()
    """The paths that a matrix sets in this document."""

    @property
    def texts(self) -> dict[str, str]:
        """The text of each source by its name, as `report` wants it."""
        return {name: source.text for name, source in self.sources.items()}

    def span(self, path: Path, *, key: bool = False) -> Span:
        """Return where a path stands, or else the key of its nearest parent that exists.

        A value over several lines is pointed at by its key, and what a value of a matrix lacks by
        that value.
        """
        found = path in self.values
        while path not in self.values:
            path = path[:-1]
        value = self.values[path]
        found = found or path in self.swept
        if found and not key and value.line == value.end_line:
            return value
        return self.keys.get(path, value)

    def get(self, path: Path, default: Any = None) -> Any:
        """Return the value at a path, or the default where there is none."""
        value: Any = self.value
        for part in path:
            in_mapping = isinstance(value, dict) and part in value
            in_list = isinstance(value, tuple) and isinstance(part, int) and part < len(value)
            if not (in_mapping or in_list):
                return default
            value = value[part]
        return value

    def written(self, path: Path) -> Path:
        """Return a path as far as the document can hold it: short forms have no keys inside."""
        for depth in range(len(path)):
            if not isinstance(self.get(path[:depth], {}), dict | tuple):
                return path[:depth]
        return path

    def locate(self, problem: Problem) -> Diagnostic:
        """Return a problem with its place; one that a matrix causes says so."""
        path = self.written(problem.path)
        problem = problem._replace(path=path)
        if any(path[:i] in self.swept for i in range(1, len(path) + 1)):
            what = "path" if problem.key and path in self.swept else "value"
            problem = problem._replace(message=f"{problem.message} (matrix {what})")
        return locate(problem, self.source, self.span(path, key=problem.key))


Read = tuple[Document | None, tuple[Diagnostic, ...]]
"""A document and what is wrong with its text; None where too little of it could be read."""


def parse(text: str, source: str = "<text>", folder: FilePath = FilePath()) -> Read:
    """Read YAML text; the document is None where too little of it could be read.

    >>> document, problems = parse("name: first\\nseed: 1e-4\\n")
    >>> document.value, document.values[("seed",)].column
    ({'name': 'first', 'seed': 0.0001}, 7)
    """
    text = text.removeprefix("\ufeff")
    return _read(_Builder(Source(source, text, folder), text), _Builder.build)


def parse_value(source: Source, start: int) -> Read:
    """Read the rest of a one-line text from an offset as one value, the value of the document.

    The value is a scalar, or a list or mapping in brackets; its columns are those of the text.
    """
    padded = " " * start + source.text[start:]
    return _read(_Builder(source, padded), _Builder.build_value)


def _read(builder: _Builder, build: Callable[[_Builder], Document | None]) -> Read:
    document = None
    builder.refuse_characters()
    if not builder.problems:
        try:
            document = build(builder)
        except NodeError as error:
            builder.report(error.code, error.message, error.span)
    return document, tuple(builder.problems)


@dataclass
class _Builder:
    """Turns a node graph into plain data and collects what is wrong with it."""

    source: Source
    text: str
    problems: list[Diagnostic] = field(default_factory=list)
    keys: dict[Path, yaml.Node] = field(default_factory=dict)
    values: dict[Path, yaml.Node] = field(default_factory=dict)
    raw: dict[Path, str] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    open: list[int] = field(default_factory=list)
    repeated: int = 0

    @cached_property
    def tags(self) -> bool:
        return "!" in self.text  # in most texts there is none, and no tag to look for

    def report(self, code: str, message: str, span: Span, path: Path = ()) -> None:
        self.problems.append(locate(Problem(path, code, message), self.source.name, span))

    def refuse_characters(self) -> None:
        for message, span in unreadable(self.text):
            self.report("P102", message, span)

    def build(self) -> Document | None:
        root, second = compose(self.text)
        if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
            self.report("P111", "the file holds no spec", Span(1, 1, 1, 2))
            return None
        if second is not None:
            self.report("P110", "a spec file holds one document; a second one begins here", second)
        if not isinstance(root, yaml.MappingNode):
            what = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            message = f"a spec is a mapping of keys to values; this is {what}"
            self.report("P112", message, self.span(root))
            return None
        value = self.node(root, ())
        self.keys[()] = root.value[0][0] if root.value else root
        return self.document(value, self.spans(self.values))

    def build_value(self) -> Document | None:
        root, second = compose(self.text)
        end = len(self.text)
        whole = self.span(root) if root else Span(1, end, 1, end + 1, self.source.name)
        block = isinstance(root, yaml.CollectionNode) and not root.flow_style
        if second is not None or block or len(split_lines(self.text)) > 1:
            message = "expected one value: text, a number, or a list or mapping in brackets"
            self.report("P504", message, whole)
            return None
        if root is None:
            return self.document(None, {(): whole})
        return self.document(self.node(root, ()), self.spans(self.values))

    def document(self, value: Any, values: Mapping[Path, Span]) -> Document:
        keys, sources = self.spans(self.keys), {self.source.name: self.source}
        name, text = self.source.name, self.source.text
        return Document(name, text, value, keys, values, self.raw, sources)

    def spans(self, nodes: Mapping[Path, yaml.Node]) -> Spans:
        return Spans(nodes, self.text, self.source.name)

    def span(self, node: yaml.Node) -> Span:
        return span_of(node, self.text, self.source.name)

    def node(self, node: yaml.Node, path: Path) -> Any:
        """Return the plain value of a node; its children are recorded on the way."""
        self.values[path] = node
        tagged = self.tags and self.refuse_tag(node, path)
        if isinstance(node, yaml.ScalarNode):
            return node.value if tagged else self.scalar(node, path)
        self.enter(node, path)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self.mapping(node, path)
        else:
            value = tuple([self.node(item, (*path, i)) for i, item in enumerate(node.value)])
        self.open.pop()
        return value

    def enter(self, node: yaml.Node, path: Path) -> None:
        """Refuse a node that holds itself, and aliases that expand beyond the limits."""
        if id(node) in self.open:
            message = "an alias refers to a value that it is part of"
            raise NodeError("P108", message, self.span(node))
        if len(path) >= DEPTH:
            raise NodeError("P109", f"nested more than {DEPTH} levels deep", self.span(node))
        if id(node) in self.seen:
            self.repeated += len(node.value) + 1
        if self.repeated > EXPANDED:
            message = f"aliases repeat more than {EXPANDED:,} values"
            raise NodeError("P108", message, self.span(node))
        self.seen.add(id(node))
        self.open.append(id(node))

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            if key is None:
                continue
            here = (*path, key)
            if key in value:
                first = self.span(self.keys[here])
                place = f"line {first.line}, column {first.column}"
                message = f"duplicate key {key!r}: first given in {place}"
                self.report("P105", message, self.span(key_node), path)
                continue
            self.keys[here] = key_node
            value[key] = self.node(value_node, here)
        return value

    def key(self, node: yaml.Node, path: Path) -> str | None:
        """Return the text of a key, or None (with a problem) where it is something else."""
        if not isinstance(node, yaml.ScalarNode):
            message = "a key must be text; this is a list or a mapping"
            self.report("P113", message, self.span(node), path)
            return None
        text: str = node.value
        tagged = self.tags and self.refuse_tag(node, path)
        if tagged or node.tag is not PLAIN:
            return text
        if text == "<<":
            message = "merge keys are not part of a spec; write the keys out"
            self.report("P107", message, self.span(node), path)
            return None
        try:
            plain = isinstance(read_plain(text), str)
        except NumberError:
            plain = False
        if not plain:
            message = f'a key must be text; quote it: "{text}"'
            self.report("P113", message, self.span(node), path)
            return None
        return text

    def scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if UNHOLDABLE.search(node.value):
            self.report("P102", NOT_HELD, self.span(node), path)
            return ""
        if node.tag is not PLAIN:
            return node.value
        try:
            value = read_plain(node.value)
        except NumberError as error:
            self.report("P114", str(error), self.span(node), path)
            return node.value
        if not isinstance(value, str):
            self.raw[path] = node.value
        return value

    def refuse_tag(self, node: yaml.Node, path: Path) -> bool:
        """Report a tag; return whether there is one."""
        tag = spelled_tag(node, self.text)
        if tag is not None:
            message = f"tags such as {tag!r} are not part of a spec; nothing in a spec is executed"
            self.report("P106", message, self.span(node), path)
        return tag is not None
