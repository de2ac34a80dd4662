"""Spec files on disk: finding the one that is meant, and its text."""

from __future__ import annotations

from pathlib import Path as FilePath

from patchclamp.registry.errors import UnreadableSpecError, nearest
from patchclamp.specs.diagnostics import Diagnostic, Problem, Span, locate, split_lines
from patchclamp.specs.library import shipped


def find(spec: str | FilePath) -> FilePath:
    """Return the file that a path or the name of a shipped spec means."""
    path = FilePath(spec)
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


def decode(data: bytes, source: str) -> tuple[str, tuple[Diagnostic, ...]]:
    """Return the text of UTF-8 data, with a problem at the first byte that is none."""
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            message, line, column = "this is UTF-16 text; save the file as UTF-8", 1, 1
        else:
            before = split_lines(data[: error.start].decode("utf-8"))
            line, column = len(before), len(before[-1]) + 1
            byte = f"0x{data[error.start]:02x}"
            message = f"byte {error.start} ({byte}) is not UTF-8 text; save the file as UTF-8"
        found = locate(Problem((), "P101", message), source, Span(line, column, line, column + 1))
        return data.decode("utf-8", errors="replace"), (found,)
