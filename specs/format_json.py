"""What was found as JSON, for scripts; `Report` is its schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from patchclamp.specs.diagnostics import Diagnostic, Fix, Span
from patchclamp.specs.formats import Checked

VERSION = 1
"""Version of this schema; a change that a reader could trip over raises it."""


class Place(TypedDict):
    """A stretch of a file; lines and columns count code points from 1, the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


class Replacement(Place):
    """A fix: what stands there is replaced by `replacement`."""

    replacement: str
    title: str


class Found(Place):
    """One mistake."""

    code: str
    severity: str
    message: str
    file: str
    path: list[str | int]
    allowed: list[str]
    suggestion: str | None
    fix: Replacement | None


class File(TypedDict):
    """One file that was checked.

    `allowed` counts the warnings that it allows; `unreadable` says why it could not be opened, or
    is null.
    """

    file: str
    valid: bool
    errors: int
    allowed: int
    unreadable: str | None


class Report(TypedDict):
    """The whole document."""

    version: int
    files: list[File]
    diagnostics: list[Found]


def render(checked: Sequence[Checked], root: Path) -> str:
    """Return a `Report` as JSON text in ASCII, so that no console can spoil it."""
    return json.dumps(report(checked), indent=2)


def report(checked: Sequence[Checked]) -> Report:
    """Return what was found as plain data."""
    return {
        "version": VERSION,
        "files": [
            {
                "file": one.source,
                "valid": one.valid,
                "errors": one.errors,
                "allowed": one.allowed,
                "unreadable": one.unreadable or None,
            }
            for one in checked
        ],
        "diagnostics": [_found(d) for one in checked for d in one.diagnostics],
    }


def _found(d: Diagnostic) -> Found:
    return {
        "code": d.code,
        "severity": d.severity,
        "message": d.message,
        "file": d.source,
        **_place(Span(d.line, d.column, d.end_line, d.end_column)),
        "path": list(d.path),
        "allowed": list(d.allowed),
        "suggestion": d.suggestion,
        "fix": _replacement(d.fix) if d.fix else None,
    }


def _replacement(fix: Fix) -> Replacement:
    return {**_place(fix.span), "replacement": fix.replacement, "title": fix.title}


def _place(span: Span) -> Place:
    return {
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }
