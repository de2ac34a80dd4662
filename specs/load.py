"""A spec file or text to a checked, resolved spec, or to every problem in it at once.

1. The text becomes a document (`document`), put together with its bases, the overrides and the
   paths of its matrix (`compose`).
2. Each cell, one if there is no matrix, becomes a `Spec`: its entries are validated, what they
   leave out is spelled out (`sharing`), and what they say of one another is checked (`check`).
3. Where a spec is not valid, the entries that are valid by themselves are checked all the same
   (`cells`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from patchclamp.registry.errors import PluginError, SpecError, UnreadableSpecError
from patchclamp.specs.cells import Cell, judge, warnings_of
from patchclamp.specs.codes import DEEP
from patchclamp.specs.compose import OVERRIDE, Composer
from patchclamp.specs.diagnostics import Diagnostic, Problem, Texts, in_order, report
from patchclamp.specs.diagnostics import Path as KeyPath
from patchclamp.specs.document import Document, parse
from patchclamp.specs.files import decode, find
from patchclamp.specs.spec import Spec

UNKNOWN = ("P204", "P207")
"""Codes of names and kinds that are not known, which a plugin may bring."""


@dataclass(frozen=True)
class Loaded:
    """A spec with the file it came from; `folder` is what its relative paths are relative to.

    `spec` and `document` are those of its first cell; most specs have one. `at` gives the others.
    """

    spec: Spec
    document: Document
    folder: Path
    cells: tuple[Cell, ...] = ()
    dims: Mapping[str, str] = field(default_factory=dict)
    """A name for the dim along each path that a matrix sets."""
    label: Mapping[str, Any] = field(default_factory=dict)
    """What a matrix sets in this cell: path -> value."""

    @cached_property
    def lints(self) -> tuple[Diagnostic, ...]:
        """What is valid and worth a second look (P6xx), in all cells; found when asked for."""
        return in_order(warnings_of(self.cells), self.document.texts)

    @property
    def allowed(self) -> tuple[Diagnostic, ...]:
        """Lints that the spec allows, with its reasons, and that are not shown."""
        return tuple(lint for lint in self.lints if lint.code in self.spec.allow)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Lints that the spec does not allow, and what it allows in vain."""
        shown = [lint for lint in self.lints if lint.code not in self.spec.allow]
        for code in self.spec.allow:
            if code not in DEEP and all(lint.code != code for lint in self.lints):
                shown.append(never_fires(self, code))
        return in_order(shown, self.document.texts)

    @property
    def overrides(self) -> tuple[str, ...]:
        """What was put over the file, each as `path=value`, in order."""
        names = (name for name in self.document.sources if name.startswith(OVERRIDE))
        return tuple(name.removeprefix(OVERRIDE) for name in names)

    def at(self, cell: Cell) -> Loaded:
        """Return what is loaded with another of its cells in the place of the first."""
        return replace(self, spec=cell.spec, document=cell.document, label=cell.label)

    def folder_of(self, path: KeyPath) -> Path:
        """Return what a relative path in a value is relative to: the folder of its own file."""
        span = self.document.span(path)
        return self.document.sources[span.source or self.document.source].folder

    def diagnose(
        self,
        path: KeyPath,
        code: str,
        message: str,
        *,
        allowed: tuple[str, ...] = (),
        suggestion: str | None = None,
        key: bool = False,
    ) -> Diagnostic:
        """Return a problem found later, with its place in the file.

        A path that the file leaves out is placed at its nearest parent.
        """
        return self.document.locate(Problem(path, code, message, allowed, suggestion, key))


def never_fires(loaded: Loaded, code: str) -> Diagnostic:
    """P600: a lint that a spec allows in vain."""
    message = f"{code} does not fire here, so nothing is allowed; take the line out"
    found = loaded.diagnose(("allow", code), "P600", message, key=True)
    return found._replace(severity="warning")


def load(spec: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Load a spec from a file, or a shipped one by its name; overrides read `path=value`.

    Raises `UnreadableSpecError` where there is no such file, and `SpecError` with every problem
    in it.

    >>> load("quickstart", ["model.revision=step0"]).spec.model.revision
    'step0'
    """
    try:
        path = find(spec)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableSpecError(f"cannot read {str(spec)!r}: {reason}") from error
    text, undecodable = decode(data, str(path))
    if undecodable:
        raise _refusal(undecodable, {str(path): text})
    return _loads(text, str(path), path.parent, overrides, path)


def loads(
    text: str, source: str = "<text>", folder: Path = Path(), overrides: Sequence[str] = ()
) -> Loaded:
    """Load a spec from text; raises `SpecError` with every problem in it."""
    return _loads(text, source, folder, overrides, None)


def _loads(
    text: str, source: str, folder: Path, overrides: Sequence[str], file: Path | None
) -> Loaded:
    document, unreadable = parse(text, source, folder)
    if document is None:
        raise _refusal(unreadable, {source: text})
    composer = Composer(document)
    composed = composer.compose(file, overrides)
    texts = {name: of.text for name, of in composer.sources.items()}
    # What could not be read as YAML has been told; the same place is not told again.
    told = {diagnostic.path for diagnostic in unreadable if diagnostic.path}
    cells, found = judge(composed, told)
    problems = (*composer.problems, *found)
    if _plugins_added((*unreadable, *problems), texts):
        return _loads(text, source, folder, overrides, file)  # short forms may be theirs, too
    if unreadable or problems:
        raise _refusal((*unreadable, *problems), texts)
    assert cells, "a spec that is not valid has a problem"
    first = cells[0]
    return Loaded(first.spec, first.document, folder, cells, composed.dims, first.label)


def _plugins_added(problems: Sequence[Diagnostic], texts: Texts) -> bool:
    """Look for installed plugins where a name is unknown; return whether they added any.

    Raises `PluginError` where none did, and one that may bring the name is broken.
    """
    if not any(problem.code in UNKNOWN for problem in problems):
        return False
    # Looking for packages takes as long as checking a hundred specs, and few specs need one.
    from patchclamp.registry.plugins import rows, use_packages

    before = rows()
    broken = use_packages()
    if rows() > before:
        return True
    if broken:
        refusal = _refusal(tuple(problems), texts)
        said = "\n".join([str(refusal), *map(str, broken)])
        raise PluginError(f"{said}; a name that is unknown above may be its") from refusal
    return False


def _refusal(diagnostics: tuple[Diagnostic, ...], texts: Texts) -> SpecError:
    ordered = in_order(diagnostics, texts)
    return SpecError(report(ordered, texts), ordered)
