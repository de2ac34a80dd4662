"""One spec document out of several texts: its bases, itself, overrides, and a matrix over it.

1. `extends`: every base is read once, after the bases of its own, and merged in that order; the
   spec itself comes last (`merge`). So a base reached on two ways undoes nothing.
2. Overrides (`path=value`) are put at their paths, one after another.
3. `matrix`: the paths that its cells set are followed in the document (`matrix`).

Other files are read as data, and nothing in them is run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from patchclamp.registry.errors import nearest
from patchclamp.specs.axes import SEED, Cells, Swept, dims_of, every_value, only, read_matrix
from patchclamp.specs.diagnostics import Diagnostic, Path, Problem, Span, locate
from patchclamp.specs.document import Document, Source, parse, parse_value
from patchclamp.specs.files import decode
from patchclamp.specs.library import shipped
from patchclamp.specs.matrix import Composition
from patchclamp.specs.merge import follow, graft, merge, put
from patchclamp.specs.paths import Part, PathError, read_path
from patchclamp.specs.schema import check_version, validate

DEPTH = 20
"""Most specs that extend each other in a row."""

OVERRIDE = "--set "
"""What the source of an override begins with, as messages show it."""


class Composed(NamedTuple):
    """A spec put together: what its cells share, and what each of them sets."""

    document: Document
    cells: Cells
    paths: tuple[Path, ...]
    """Where in the document each path leads that the cells set."""
    dims: dict[str, str]
    """A name for the dim along each path."""
    made: dict[Any, Any]
    """Entries that cells have made, by place and by what is set in them."""
    whole: bool = True
    """Whether all bases and overrides are in it; what is wrong with them is told."""

    @property
    def sets(self) -> frozenset[Path]:
        """Where cells set something: in an entry, by its place, or in all of a section."""
        return frozenset(path[:2] for path in self.paths)

    def value(self, step: tuple[int, ...]) -> dict[str, Any]:
        """Return a cell as plain data; cells share what they do not set, and entries that they set
        to the same."""
        value: Any = self.document.value
        touched: dict[Path, tuple[int, ...]] = {}
        for path, (swept, i) in zip(self.paths, self._set(step), strict=True):
            value = put(value, path, swept.values[i])
            touched[path[:2]] = (*touched.get(path[:2], ()), i)
        for path, given in touched.items():
            if len(path) == 2 and isinstance(value[path[0]], dict) and path[1] in value[path[0]]:
                section, name = path
                value[section][name] = self.made.setdefault((path, given), value[section][name])
        return value  # type: ignore[no-any-return]

    def cell(self, step: tuple[int, ...]) -> Document:
        """Return a cell as a document, the values it sets placed where the matrix gives them."""
        document = matrix = self.document
        touched: set[Path] = set()
        for path, (swept, i) in zip(self.paths, self._set(step), strict=True):
            key = matrix.keys[swept.at]
            before = document.keys
            given = matrix._replace(value=put({}, swept.at, swept.values))
            document = graft(document, path, given, at=(*swept.at, i), keys=(key,) * len(path))
            if swept.at != SEED:  # which says so itself, where it stands
                made = (path[:n] for n in range(1, len(path)) if path[:n] not in before)
                touched |= {path, *made}
        return document._replace(swept=frozenset(touched))

    def _set(self, step: tuple[int, ...]) -> list[tuple[Swept, int]]:
        return [(swept, i) for i, axis in zip(step, self.cells.axes, strict=True) for swept in axis]


@dataclass
class Composer:
    """Puts a spec together and collects what is wrong on the way."""

    spec: Document
    problems: list[Diagnostic] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    """Every text that was read, whether or not the document could be put together."""

    def compose(self, file: FilePath | None, overrides: Sequence[str]) -> Composed:
        """Return the spec put together of what can be read; problems say of what cannot."""
        self.sources.update(self.spec.sources)
        documents = _Bases(self).read(self.spec, file)
        document = documents[0]
        for over in documents[1:]:
            document = merge(document, over)
        read = [given for text in overrides if (given := self.override(text))]
        for given in read:
            document = given.apply(document, self)
        whole = not self.problems
        return self.expand(document, read)._replace(whole=whole)

    def override(self, text: str) -> _Override | None:
        """Return an override `path=value` as it reads, or None with a problem."""
        source = Source(OVERRIDE + text, text, self.spec.sources[self.spec.source].folder)
        self.sources[source.name] = source
        path, equals, _ = text.partition("=")
        whole = Span(1, 1, 1, max(2, len(path) + 1), source.name)
        if not equals:
            message = f"expected path=value, such as model.dtype=float16; got {text!r}"
            self.report(Problem((), "P504", message), whole)
            return None
        try:
            parts = read_path(path)
        except PathError as error:
            self.report(Problem((), "P505", str(error)), whole)
            return None
        if parts[0].text == "extends":
            message = "'extends' is read before any override; write it into the spec"
            self.report(Problem((), "P504", message), whole)
            return None
        document, unreadable = parse_value(source, len(path) + 1)
        self.problems += unreadable
        return None if document is None or unreadable else _Override(path, parts, document)

    def expand(self, document: Document, overrides: Sequence[_Override]) -> Composed:
        """Return the document with the paths of its matrix followed, and the matrix taken out."""
        cells, problems = read_matrix(document)
        self.problems += [document.locate(problem) for problem in problems]
        apart = {*Composition.model_fields}
        apart |= {"seed"} if isinstance(document.value.get("seed"), tuple) else set()
        plain = {key: value for key, value in document.value.items() if key not in apart}
        document = document._replace(value=plain)
        if cells is None:
            return Composed(document, Cells((), ((),)), (), {}, made={})
        paths, kept = [], []
        for swept in cells.swept:
            for over in overrides:
                self.refuse_crossing(over, swept)
            try:
                document, path = follow(document, swept.parts)
                paths.append(path)
                kept.append(swept)
            except PathError as error:
                problem = Problem(swept.at, "P505", str(error), key=True)
                self.problems.append(document.locate(problem))
        if len(kept) < len(cells.swept):
            cells = every_value(only(cells.axes, kept))
        return Composed(document, cells, tuple(paths), dims_of(cells.swept), made={})

    def refuse_crossing(self, over: _Override, swept: Swept) -> None:
        """P506: an override that the matrix would undo, or that would undo the matrix."""
        texts = tuple(part.text for part in over.parts)
        if swept.at != SEED and all(a == b for a, b in zip(texts, swept.texts, strict=False)):
            message = (
                f"{over.name!r} is overridden, but the matrix sets {swept.name!r} in every cell; "
                "with --set matrix=null there is no matrix"
            )
            self.report(Problem((), "P506", message), over.spans[-1])

    def report(self, problem: Problem, span: Span) -> None:
        """Note a problem at a place of an override."""
        self.problems.append(locate(problem, span.source, span))


class _Override(NamedTuple):
    """A value to put at a path, and the text that says so."""

    name: str
    parts: tuple[Part, ...]
    given: Document

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where the text says each part of the path."""
        source = self.given.source
        return tuple(Span(1, part.start + 1, 1, part.end + 1, source) for part in self.parts)

    def apply(self, document: Document, composer: Composer) -> Document:
        """Return the document with the value put in; unchanged, with a problem, where it cannot."""
        try:
            document, path = follow(document, self.parts)
        except PathError as error:
            composer.report(Problem((), "P505", str(error)), self.spans[error.part])
            return document
        return graft(document, path, self.given, keys=self.spans)


@dataclass
class _Bases:
    """Reads what a spec extends, each file once."""

    composer: Composer
    done: set[str] = field(default_factory=set)
    open: list[tuple[str, str]] = field(default_factory=list)
    """The files on the way to the one being read: what each is on disk, and its name."""

    def read(self, document: Document, file: FilePath | None) -> list[Document]:
        """Return the bases of a document, and the document itself as the last."""
        if "extends" not in document.value and document is self.composer.spec:
            return [document]  # most specs; the models below take time to build
        composition, problems = validate(_Extending, document)
        version = check_version(document) if "patchclamp" in document.value else None
        if version is not None and document is not self.composer.spec:
            problems = (*problems, version)
        self.composer.problems += [document.locate(problem) for problem in problems]
        own = document.value.get("extends")
        plain = {key: value for key, value in document.value.items() if key != "extends"}
        alone = document._replace(value=plain)
        if composition is None or not composition.extends:
            return [alone]
        self.open.append((os.path.realpath(file) if file else "", document.source))
        found = []
        for i, name in enumerate(composition.extends):
            at: Path = ("extends",) if isinstance(own, str) else ("extends", i)
            found += self.base(document, at, name)
        self.open.pop()
        return [*found, alone]

    def base(self, document: Document, at: Path, name: str) -> list[Document]:
        """Return a base with its own bases before it; nothing where it was read already."""
        folder = document.sources[document.source].folder
        path = folder / name
        if name in shipped() and not path.is_file():
            path = shipped()[name]
        real, shown = os.path.realpath(path), os.path.normpath(path)
        try:
            problem = self.refusal(at, name, path, real)
            data = b"" if problem or real in self.done else path.read_bytes()
        except OSError as error:
            problem = Problem(at, "P501", f"cannot read the base {name!r}: {error.strerror}")
        if problem is not None:
            self.composer.problems.append(document.locate(problem))
            return []
        if real in self.done:
            return []
        self.done.add(real)
        text, undecodable = decode(data, shown)
        base, unreadable = (None, undecodable) if undecodable else parse(text, shown, path.parent)
        self.composer.problems += unreadable
        self.composer.sources[shown] = Source(shown, text.removeprefix("\ufeff"), path.parent)
        return self.read(base, path) if base is not None else []

    def refusal(self, at: Path, name: str, path: FilePath, real: str) -> Problem | None:
        """Return why a base is not to be read, if it is not."""
        way = [file for file, _ in self.open]
        if real in way:
            shown = [source for _, source in self.open[way.index(real) :]]
            circle = " -> ".join([*shown, shown[0]])
            return Problem(at, "P502", f"these specs extend each other in a circle: {circle}")
        if len(self.open) >= DEPTH:
            return Problem(at, "P503", f"more than {DEPTH} specs extend each other in a row")
        if path.is_file():
            return None
        if path.exists():
            return Problem(at, "P501", f"the base {name!r} is no file")
        near = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        close = nearest(path.name, near)
        close = str(FilePath(name).parent / close) if close else nearest(name, shipped())
        message = f"no base {name!r}: neither a file, seen from this one, nor a shipped spec"
        return Problem(at, "P501", message, tuple(shipped()), close)


class _Extending(Composition):
    """What is read of a document before it is merged; its matrix may be half of one."""

    matrix: Any = None  # judged once it is merged
