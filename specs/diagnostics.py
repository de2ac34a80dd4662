"""What is wrong in a spec, where, and what to do about it: diagnostics and how they read."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from patchclamp.specs.codes import CODES

Path = tuple[str | int, ...]
"""Keys and indexes from the root of a spec to a value."""

Texts = str | Mapping[str, str]
"""The text that diagnostics are about, or several by the name of their source, the spec first."""

WINDOW = 100
"""Columns of a source line that are shown around the caret."""

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
"""What libyaml counts as the end of a line."""


class Problem(NamedTuple):
    """Something wrong at a key path, not yet located in a file.

    With `key` the key itself is at fault rather than its value.
    """

    path: Path
    code: str
    message: str
    allowed: tuple[str, ...] = ()
    suggestion: str | None = None
    key: bool = False


@dataclass(frozen=True)
class Span:
    """A stretch of text; lines and columns count code points from 1, the end is exclusive.

    `source` names the text; empty means the one at hand.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    source: str = field(default="", compare=False)


class Fix(NamedTuple):
    """A replacement of a stretch of text that mends a mistake without a choice of anybody's."""

    span: Span
    replacement: str
    title: str
    """What it does, as a sentence without its dot."""


class Diagnostic(NamedTuple):
    """One mistake: where it is, what was given, what is allowed, the nearest name."""

    code: str
    message: str
    source: str
    line: int
    column: int
    end_line: int
    end_column: int
    path: Path = ()
    allowed: tuple[str, ...] = ()
    suggestion: str | None = None
    severity: Literal["error", "warning"] = "error"
    fix: Fix | None = None
    """Filled in by `fixes.with_fixes`, where a mistake can be mended by machine."""

    @property
    def headline(self) -> str:
        """Severity, code, key path and message on one line."""
        where = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.severity}[{self.code}]: {where}{self.message}"


def locate(problem: Problem, source: str, span: Span) -> Diagnostic:
    """Return a problem as a diagnostic at a place; a faulty key is named within its parent."""
    assert problem.code in CODES, problem.code
    return Diagnostic(
        code=problem.code,
        message=problem.message,
        source=span.source or source,
        line=span.line,
        column=span.column,
        end_line=span.end_line,
        end_column=span.end_column,
        path=problem.path[:-1] if problem.key else problem.path,
        allowed=problem.allowed,
        suggestion=problem.suggestion,
    )


def dotted(path: Path) -> str:
    """Return a key path as people write it.

    >>> dotted(("stimuli", "words", "labels", 0))
    'stimuli.words.labels[0]'
    """
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text as YAML counts them."""
    return _BREAK.split(text)


def line_starts(text: str) -> list[int]:
    """Return the offset at which each line of a text begins.

    >>> line_starts("a: 1\\r\\nb: 2\\n")
    [0, 6, 11]
    """
    return [0, *(found.end() for found in _BREAK.finditer(text))]


def in_order(
    diagnostics: Iterable[Diagnostic], sources: Iterable[str] = ()
) -> tuple[Diagnostic, ...]:
    """Return diagnostics, each once: errors before warnings, of each source from its top on."""
    rank = {source: i for i, source in enumerate(sources)}

    def place(d: Diagnostic) -> tuple[object, ...]:
        where = (rank.get(d.source, len(rank)), d.source if rank else "")
        return (d.severity, *where, d.line, d.column, d.code, d.message)

    return tuple(sorted(dict.fromkeys(diagnostics), key=place))


def one_line(diagnostic: Diagnostic) -> str:
    """Return the form that editors and grep read: `path:line:column: error[P204]: message`."""
    d = diagnostic
    help_ = f"; did you mean {d.suggestion!r}?" if d.suggestion else ""
    return f"{d.source}:{d.line}:{d.column}: {d.headline}{help_}"


def report(diagnostics: Sequence[Diagnostic], texts: Texts) -> str:
    """Return all diagnostics of one spec, rendered, and a line that counts them."""
    sources = () if isinstance(texts, str) else tuple(texts)
    diagnostics = in_order(diagnostics, sources)
    rendered = [render(diagnostic, texts) for diagnostic in diagnostics]
    spec = sources[0] if sources else diagnostics[0].source
    counts = Counter(d.severity for d in diagnostics)
    total = ", ".join(f"{n} {sort}{'s' if n != 1 else ''}" for sort, n in sorted(counts.items()))
    return "\n\n".join([*rendered, f"{spec}: {total}"])


def render(diagnostic: Diagnostic, texts: Texts) -> str:
    """Return a diagnostic with its source line and a caret below what is wrong."""
    d = diagnostic
    lines = split_lines(texts if isinstance(texts, str) else texts.get(d.source, ""))
    gutter = " " * len(str(d.line))
    out = [_printable(d.headline), f"{gutter}--> {d.source}:{d.line}:{d.column}"]
    if 1 <= d.line <= len(lines):
        last = d.end_column if d.end_line == d.line else len(lines[d.line - 1]) + 1
        shown, caret = _snippet(lines[d.line - 1], d.column - 1, last - 1)
        out += [f"{gutter} |", f"{d.line} | {shown}", f"{gutter} | {caret}"]
    notes = []
    if d.allowed:
        notes.append("allowed: " + ", ".join(d.allowed))
    if d.suggestion:
        notes.append(f"help: did you mean {d.suggestion!r}?")
    for note in notes:
        first, *rest = textwrap.wrap(_printable(note), WINDOW, break_long_words=False)
        out.append(f"{gutter} = {first}")
        out += [f"{gutter}   {line}" for line in rest]
    return "\n".join(line.rstrip() for line in out)


def _snippet(line: str, start: int, end: int) -> tuple[str, str]:
    """Return a source line, cut to a window if long, and the carets below `[start, end)`."""
    start = min(start, len(line))
    end = max(min(end, len(line.rstrip())), start + 1)
    before, after = 0, len(line)
    if len(line) > WINDOW:
        # A third of the window stands before the caret, so that what comes before can be read.
        before = max(0, min(start - WINDOW // 3, len(line) - WINDOW))
        after = before + WINDOW
    head, tail = "..." if before else "", "..." if after < len(line) else ""
    shown = _printable(line[before:after])
    indent = len(head) + _width(_printable(line[before:start]))
    carets = max(1, _width(_printable(line[start : min(end, after)])))
    return head + shown + tail, " " * indent + "^" * carets


def _printable(text: str) -> str:
    """Return text with every control character replaced by one visible character."""
    return "".join(
        " "
        if c == "\t"
        else "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(c) in _HIDDEN
        else c
        for c in text
    )


_HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _width(text: str) -> int:
    """Return the columns a terminal gives to a text: wide characters take two, marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
