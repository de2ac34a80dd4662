"""What was found as workflow commands, which GitHub Actions shows beside the lines of a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from patchclamp.specs.codes import CODES
from patchclamp.specs.diagnostics import Diagnostic
from patchclamp.specs.formats import Checked, count, in_files, relative

SHOWN = 10
"""Annotations of one severity that GitHub shows of a step; it drops the rest without a word."""

REST = "run 'patchclamp validate' to see them"
"""What to do about those that are not shown."""


def render(checked: Sequence[Checked], root: Path) -> str:
    """Return one command for each mistake, errors first; beyond ten, the tenth counts the rest."""
    diagnostics = [d for one in checked for d in in_files(one)]
    errors = [_unreadable(one, root) for one in checked if one.unreadable]
    errors += [_annotation(d, root) for d in diagnostics if d.severity == "error"]
    warnings = [_annotation(d, root) for d in diagnostics if d.severity == "warning"]
    return "\n".join(
        [*at_most(errors, "error", rest=REST), *at_most(warnings, "warning", rest=REST)]
    )


def at_most(commands: list[str], severity: str, *, rest: str, room: int = 0) -> list[str]:
    """Return what GitHub will show: nothing is dropped without being counted.

    `rest` says how to see the others; `room` is left for other commands of that severity.
    """
    most = SHOWN - room
    if len(commands) <= most:
        return commands
    more = count(len(commands) - (most - 1), f"more {severity}")
    return [*commands[: most - 1], command(severity, {"title": "patchclamp"}, f"{more}: {rest}")]


def _unreadable(one: Checked, root: Path) -> str:
    return command(
        "error", {"file": _file(one.source, root), "title": "patchclamp"}, one.unreadable
    )


def _annotation(d: Diagnostic, root: Path) -> str:
    where = {"file": _file(d.source, root), "line": d.line}
    if d.line == d.end_line:  # columns mean something to GitHub within one line only
        where |= {"col": d.column, "endLine": d.end_line, "endColumn": d.end_column}
    else:
        where |= {"endLine": d.end_line}
    lines = [d.headline]
    if d.allowed:
        lines.append("allowed: " + ", ".join(d.allowed))
    if d.suggestion:
        lines.append(f"help: did you mean {d.suggestion!r}?")
    return command(d.severity, {**where, "title": f"{d.code}: {CODES[d.code]}"}, "\n".join(lines))


def _file(source: str, root: Path) -> str:
    below = relative(source, root)
    return (below or Path(source)).as_posix()


def command(severity: str, properties: Mapping[str, object], message: str) -> str:
    """Return a workflow command, with what GitHub gives a meaning escaped."""
    given = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{severity} {given}::{_data(message)}"


def _data(text: str) -> str:
    # The escapes of actions/toolkit, `command.ts`.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
