"""What was found as SARIF 2.1.0, which code-scanning services and editors read.

Standard: https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/sarif-v2.1.0-errata01-os.html
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from patchclamp.specs.codes import CODES
from patchclamp.specs.diagnostics import Diagnostic, Span, dotted
from patchclamp.specs.explanations import EXPLANATIONS
from patchclamp.specs.formats import Checked, in_files, uri

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

ROOT, ROOT_MEANS = "%SRCROOT%", "The root of the checked-out repository."
"""What a relative URI is relative to. Where that is, who reads the report knows."""

LINTS = "P6"
"""What the codes begin with that are always warnings."""

FINGERPRINT = "patchclamp/v1"
"""The fingerprint's name and version; a change of what enters it raises the version."""


def render(checked: Sequence[Checked], root: Path) -> str:
    """Return a SARIF log of one run as JSON text in ASCII."""
    diagnostics = [d for one in checked for d in in_files(one)]
    codes = sorted({d.code for d in diagnostics})
    run = {
        "tool": {"driver": _driver(codes)},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": ROOT_MEANS}}},
        "invocations": [_invocation(checked, root)],
        "artifacts": _artifacts(checked, root),
        "results": _results(diagnostics, codes, root),
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _driver(codes: Sequence[str]) -> dict[str, Any]:
    try:
        release = version("patchclamp")
    except PackageNotFoundError:  # run from a source tree
        release = "0"
    return {"name": "patchclamp", "version": release, "rules": [_rule(code) for code in codes]}


def _rule(code: str) -> dict[str, Any]:
    explanation = EXPLANATIONS[code]
    return {
        "id": code,
        "shortDescription": {"text": CODES[code]},
        "fullDescription": {"text": explanation.why},
        "help": {"text": explanation.text(), "markdown": explanation.markdown()},
        "defaultConfiguration": {"level": "warning" if code.startswith(LINTS) else "error"},
    }


def _invocation(checked: Sequence[Checked], root: Path) -> dict[str, Any]:
    unread = [one for one in checked if one.unreadable]
    return {
        "executionSuccessful": not unread,
        "toolExecutionNotifications": [
            {
                "level": "error",
                "message": {"text": one.unreadable},
                "locations": [
                    {"physicalLocation": {"artifactLocation": _artifact(one.source, root)}}
                ],
            }
            for one in unread
        ],
    }


def _results(
    diagnostics: Sequence[Diagnostic], codes: Sequence[str], root: Path
) -> list[dict[str, Any]]:
    seen: Counter[str] = Counter()
    results = []
    for d in diagnostics:
        print_ = _fingerprint(d, root)
        seen[print_] += 1
        results.append(
            {
                "ruleId": d.code,
                "ruleIndex": codes.index(d.code),
                "level": d.severity,
                "message": {"text": _message(d)},
                "locations": [_location(d, root)],
                "partialFingerprints": {FINGERPRINT: f"{print_}:{seen[print_]}"},
                **_fixes(d, root),
            }
        )
    return results


def _message(d: Diagnostic) -> str:
    where = f"{dotted(d.path)}: " if d.path else ""
    allowed = f" (allowed: {', '.join(d.allowed)})" if d.allowed else ""
    help_ = f"; did you mean {d.suggestion!r}?" if d.suggestion else ""
    return f"{where}{d.message}{allowed}{help_}"


def _fingerprint(d: Diagnostic, root: Path) -> str:
    """Return what stays the same while a file grows above a mistake: no line, no column."""
    parts = [uri(d.source, root), d.code, dotted(d.path), d.message]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _location(d: Diagnostic, root: Path) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": _artifact(d.source, root),
            "region": _region(Span(d.line, d.column, d.end_line, d.end_column)),
        }
    }
    if d.path:
        location["logicalLocations"] = [{"fullyQualifiedName": dotted(d.path), "kind": "member"}]
    return location


def _fixes(d: Diagnostic, root: Path) -> Mapping[str, Any]:
    if d.fix is None:
        return {}
    replacement = {
        "deletedRegion": _region(d.fix.span),
        "insertedContent": {"text": d.fix.replacement},
    }
    change = {"artifactLocation": _artifact(d.source, root), "replacements": [replacement]}
    return {"fixes": [{"description": {"text": d.fix.title}, "artifactChanges": [change]}]}


def _artifacts(checked: Sequence[Checked], root: Path) -> list[dict[str, Any]]:
    """Return every file once; the standard wants them unique."""
    sources = {uri(one.source, root): one.source for one in checked}
    return [{"location": _artifact(source, root)} for source in sources.values()]


def _artifact(source: str, root: Path) -> dict[str, str]:
    where = uri(source, root)
    return {"uri": where} if where.startswith("file:") else {"uri": where, "uriBaseId": ROOT}


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
