"""A spec file or text to a checked, resolved spec, or to every problem in it at once.

1. The text becomes a document (`document`), and the document a `Spec` (`schema`).
2. What entries say of one another is checked (`check`); where step 1 failed, the entries that are
   valid by themselves are checked all the same.
3. What was left out is spelled out (`check.resolve`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchclamp.registry.errors import SpecError, UnreadableSpecError, nearest
from patchclamp.specs.check import check, resolve
from patchclamp.specs.diagnostics import (
    Diagnostic,
    Problem,
    Span,
    in_order,
    locate,
    report,
    split_lines,
)
from patchclamp.specs.diagnostics import Path as KeyPath
from patchclamp.specs.document import Document, parse
from patchclamp.specs.library import shipped
from patchclamp.specs.references import sections_of, valid_sections
from patchclamp.specs.schema import check_version, validate
from patchclamp.specs.spec import Spec


@dataclass(frozen=True)
class Loaded:
    """A spec with the file it came from; `folder` is what its relative paths are relative to."""

    spec: Spec
    document: Document
    folder: Path

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


def load(spec: str | Path) -> Loaded:
    """Load a spec from a file, or a shipped one by its name.

    Raises `UnreadableSpecError` where there is no such file, and `SpecError` with every problem
    in it.

    >>> load("quickstart").spec.captures["resid"].site
    'resid_post'
    """
    try:
        path = _find(spec)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableSpecError(f"cannot read {str(spec)!r}: {reason}") from error
    return loads(_decode(data, str(path)), str(path), path.parent)


def loads(text: str, source: str = "<text>", folder: Path = Path()) -> Loaded:
    """Load a spec from text; raises `SpecError` with every problem in it."""
    document, unreadable = parse(text, source)
    if document is None:
        raise _refusal(unreadable, text)
    spec, problems = _judge(document)
    # What could not be read as YAML has been told; the same place is not told again.
    told = {diagnostic.path for diagnostic in unreadable if diagnostic.path}
    rest = [document.locate(problem) for problem in problems if problem.path not in told]
    if unreadable or rest:
        raise _refusal((*unreadable, *rest), document.text)
    assert spec is not None
    return Loaded(resolve(spec), document, folder)


def _judge(document: Document) -> tuple[Spec | None, tuple[Problem, ...]]:
    """Return the spec, valid by itself, and everything wrong in it or between its entries."""
    version = check_version(document)
    if version is not None:
        return None, (version,)
    spec, problems = validate(Spec, document)
    sections = sections_of(spec) if spec is not None else valid_sections(document.value)
    return spec, (*problems, *check(sections))


def _refusal(diagnostics: tuple[Diagnostic, ...], text: str) -> SpecError:
    ordered = in_order(diagnostics)
    return SpecError(report(ordered, text), ordered)


def _find(spec: str | Path) -> Path:
    """Return the file that a path or the name of a shipped spec means."""
    path = Path(spec)
    known = shipped()
    if isinstance(spec, str) and spec in known and not path.is_file():
        return known[spec]
    if not path.exists() and path.suffix == "" and path.name == str(spec):
        close = nearest(str(spec), known)
        raise UnreadableSpecError(
            f"no spec {str(spec)!r}: neither a file nor one that ships with patchclamp "
            f"({', '.join(known)})" + (f"; did you mean {close!r}?" if close else "")
        )
    return path


def _decode(data: bytes, source: str) -> str:
    """Return UTF-8 text, or refuse with the place of the first byte that is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            message, line, column = "this is UTF-16 text; save the file as UTF-8", 1, 1
        else:
            before = split_lines(data[: error.start].decode("utf-8"))
            line, column = len(before), len(before[-1]) + 1
            byte = f"0x{data[error.start]:02x}"
            message = f"byte {error.start} ({byte}) is not UTF-8 text; save the file as UTF-8"
        text = data.decode("utf-8", errors="replace")
        problem = Problem((), "P101", message)
        span = Span(line, column, line, column + 1)
        raise _refusal((locate(problem, source, span),), text) from error
