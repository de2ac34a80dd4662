"""What checking spec files found, as text: for people, editors, scripts and CI systems."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from patchclamp.registry.table import load
from patchclamp.specs.compose import OVERRIDE
from patchclamp.specs.diagnostics import Diagnostic, one_line


class Checked(NamedTuple):
    """What checking one spec file found.

    `report` is for people; `unreadable` says why a file could not be opened, where it could not;
    `allowed` counts the warnings that the spec allows.
    """

    source: str
    diagnostics: tuple[Diagnostic, ...] = ()
    report: str = ""
    unreadable: str = ""
    allowed: int = 0

    @property
    def errors(self) -> int:
        """How many errors there are; a file that cannot be opened is one."""
        found = sum(d.severity == "error" for d in self.diagnostics)
        return max(found, 1) if self.unreadable or (self.report and not self.diagnostics) else found

    @property
    def valid(self) -> bool:
        """Whether the file holds a spec that can be run."""
        return not self.errors


Format = Callable[[Sequence[Checked], Path], str]

FORMATS: Mapping[str, str] = {
    "human": "patchclamp.specs.formats:human",
    "line": "patchclamp.specs.formats:line",
    "json": "patchclamp.specs.format_json:render",
    "github": "patchclamp.specs.format_github:render",
    "sarif": "patchclamp.specs.format_sarif:render",
    "junit": "patchclamp.specs.format_junit:render",
}
"""Format -> the function that writes it, imported when the format is asked for."""


def render_as(format: str, checked: Sequence[Checked], root: Path) -> str:
    """Return what was found in a format; files below `root` are named relative to it.

    Only `github` and `sarif`, which a repository reads, name files so. The text ends in a line
    break, unless it is empty.

    >>> render_as("human", [Checked("a.yaml")], Path())
    '1 spec, 1 valid, 0 errors\\n'
    """
    write: Format = load(FORMATS[format])
    text = write(checked, root)
    return text if not text or text.endswith("\n") else text + "\n"


def human(checked: Sequence[Checked], root: Path) -> str:
    """Return the reports of all files, and a line that counts them."""
    reports = [one.report for one in checked if one.report]
    return "\n\n".join([*reports, summary(checked)])


def line(checked: Sequence[Checked], root: Path) -> str:
    """Return one line for each mistake, as editors and grep read it."""
    found = []
    for one in checked:
        found += [one_line(diagnostic) for diagnostic in one.diagnostics]
        if one.unreadable:
            found.append(f"{one.source}:1:1: error: {' '.join(one.unreadable.split())}")
    return "\n".join(found)


def summary(checked: Sequence[Checked]) -> str:
    """Return how many specs there are, how many are valid, and how many mistakes can be mended."""
    diagnostics = [d for one in checked for d in one.diagnostics]
    valid = sum(one.valid for one in checked)
    errors = sum(one.errors for one in checked)
    warnings = sum(d.severity == "warning" for d in diagnostics)
    parts = [count(len(checked), "spec"), f"{valid} valid", count(errors, "error")]
    parts += [count(warnings, "warning")] if warnings else []
    allowed = sum(one.allowed for one in checked)
    parts += [f"{count(allowed, 'warning')} allowed"] if allowed else []
    fixable = sum(d.fix is not None for d in diagnostics)
    tail = f" ({fixable} can be fixed with --fix)" if fixable else ""
    return ", ".join(parts) + tail


def in_files(one: Checked) -> Iterator[Diagnostic]:
    """Yield the diagnostics of a file; one in an override is placed at the head of the spec."""
    for d in one.diagnostics:
        if not d.source.startswith(OVERRIDE):
            yield d
            continue
        message = f"{d.message} (in {d.source})"
        head = d._replace(line=1, column=1, end_line=1, end_column=2)
        yield head._replace(source=one.source, message=message, fix=None)


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "error"), count(2, "error")
    ('1 error', '2 errors')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def relative(source: str, root: Path) -> Path | None:
    """Return a file's path from `root` on, or None where it lies elsewhere.

    Links are left as they are: a repository knows a file by the name it is checked in under.
    """
    try:
        return Path(os.path.normpath(Path(source).absolute())).relative_to(root.absolute())
    except ValueError:
        return None


def uri(source: str, root: Path) -> str:
    """Return the URI of a file: relative to `root` below it, with a scheme elsewhere.

    >>> uri("folder/ä b.yaml", Path())
    'folder/%C3%A4%20b.yaml'
    """
    below = relative(source, root)
    if below is None:
        return Path(os.path.normpath(Path(source).absolute())).as_uri()
    return quote(below.as_posix().encode("utf-8", "surrogateescape"))
