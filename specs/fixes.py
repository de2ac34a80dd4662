"""Mistakes that a machine may mend: near misses with one clear candidate, and missing quotes.

A fix never chooses for the user. A name is replaced only where it differs from exactly one known
name by a slip of the fingers, a number is quoted only where text is wanted; everything else stays
a suggestion. Each fix keeps the quotes of what it replaces and touches nothing beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from patchclamp.specs import grammar
from patchclamp.specs.diagnostics import Diagnostic, Fix, Path, Span, line_starts
from patchclamp.specs.document import Document, parse
from patchclamp.specs.scalars import NumberError, read_plain
from patchclamp.specs.slips import clear_name
from patchclamp.specs.spec import spec_model

NAMES = frozenset({"P202", "P203", "P204", "P207", "P301", "P307", "P311"})
"""Codes whose suggestion is a known name, near to the one given. P308 is not among them: which
column a test permutes is a question of science."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PLACEHOLDER = re.compile(r"(?<!\{)\{([^{}]+)\}(?!\})")


@dataclass(frozen=True)
class _Slot:
    """A key or a value of a file: its path, and what it says."""

    path: Path
    key: bool
    given: object


@dataclass(frozen=True)
class _File:
    """A file in which to look up what stands at a place."""

    text: str
    document: Document | None

    @cached_property
    def starts(self) -> list[int]:
        return line_starts(self.text)

    @cached_property
    def slots(self) -> dict[Span, list[_Slot]]:
        found: dict[Span, list[_Slot]] = {}
        if self.document is not None:
            keys = {path: span for path, span in self.document.keys.items() if path}
            for path, span in keys.items():
                found.setdefault(span, []).append(_Slot(path, True, path[-1]))
            for path, span in self.document.values.items():
                found.setdefault(span, []).append(_Slot(path, False, self.document.get(path)))
        return found

    def written(self, span: Span) -> str:
        """Return the text at a place; empty where it goes over several lines."""
        if span.line != span.end_line or not 1 <= span.line <= len(self.starts):
            return ""
        start = self.starts[span.line - 1]
        return self.text[start + span.column - 1 : start + span.end_column - 1]

    def slot(self, diagnostic: Diagnostic) -> _Slot | None:
        """Return the key or value that a diagnostic is about, if that is all it points at."""
        found = self.slots.get(_span(diagnostic), [])
        if len(found) != 1:
            return None  # nothing, or a value that aliases repeat elsewhere
        (slot,) = found
        # A key may be pointed at for want of its value; then it is not what is wrong.
        about_key = slot.path[:-1] == diagnostic.path
        return slot if about_key or not slot.key else None

    def holds(self, slot: _Slot, name: str) -> bool:
        """Return whether the mapping or list of a slot has this key or item already."""
        if self.document is None:
            return False
        if slot.key:
            return (*slot.path[:-1], name) in self.document.keys
        beside = self.document.get(slot.path[:-1])
        return isinstance(beside, tuple) and name in beside


def with_fixes(diagnostics: Iterable[Diagnostic], text: str, source: str) -> tuple[Diagnostic, ...]:
    """Return diagnostics, those of `source` with a fix where there is a safe one.

    >>> from patchclamp.registry.errors import SpecError
    >>> from patchclamp.specs.load import loads
    >>> text = "patchclamp: 1\\nname: x\\nmodl: m\\nstimuli: {a: {kind: csv, path: p, text: t}}\\n"
    >>> try:
    ...     loads(text, "a.yaml")
    ... except SpecError as error:
    ...     (found,) = with_fixes(error.diagnostics, text, "a.yaml")
    >>> found.fix.title
    "replace 'modl' by 'model'"
    """
    diagnostics = tuple(diagnostics)
    text = text.removeprefix("\ufeff")
    file = _File(text, parse(text, source)[0])
    found = [
        d._replace(fix=_fix(d, file)) if d.source == source and d.fix is None else d
        for d in diagnostics
    ]
    # Two keys of one mapping that would become the same one: neither is clear.
    keys = Counter((d.path, d.fix.replacement) for d in found if d.fix and _at_key(d, file))
    return tuple(
        d._replace(fix=None)
        if d.fix and _at_key(d, file) and keys[d.path, d.fix.replacement] > 1
        else d
        for d in found
    )


def apply_fixes(text: str, diagnostics: Iterable[Diagnostic]) -> str:
    """Return a text with the fixes of its diagnostics made; all else stays byte for byte."""
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    starts = line_starts(text)
    for diagnostic in reversed(applicable(diagnostics)):
        assert diagnostic.fix is not None
        start, end = _offsets(diagnostic.fix.span, starts)
        text = text[:start] + diagnostic.fix.replacement + text[end:]
    return mark + text


def applicable(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return the diagnostics whose fixes can be made together, from the top of the file down.

    Where two fixes want different things of one place, neither is made.
    """
    fixes: dict[Fix, Diagnostic] = {}
    for diagnostic in diagnostics:
        if diagnostic.fix is not None:
            fixes.setdefault(diagnostic.fix, diagnostic)
    return tuple(
        diagnostic
        for fix, diagnostic in sorted(fixes.items(), key=lambda item: _begin(item[0].span))
        if not any(_overlap(fix.span, other.span) for other in fixes if other != fix)
    )


def _begin(span: Span) -> tuple[int, int]:
    return span.line, span.column


def _overlap(a: Span, b: Span) -> bool:
    return _begin(a) < (b.end_line, b.end_column) and _begin(b) < (a.end_line, a.end_column)


def _offsets(span: Span, starts: Sequence[int]) -> tuple[int, int]:
    return (
        starts[span.line - 1] + span.column - 1,
        starts[span.end_line - 1] + span.end_column - 1,
    )


def _span(d: Diagnostic) -> Span:
    return Span(d.line, d.column, d.end_line, d.end_column)


def _at_key(diagnostic: Diagnostic, file: _File) -> bool:
    slot = file.slot(diagnostic)
    return slot is not None and slot.key


def _fix(diagnostic: Diagnostic, file: _File) -> Fix | None:
    """Return the fix of a diagnostic, or None where there is no safe one."""
    written = file.written(_span(diagnostic))
    if not written or written[0] in "|>&*!{[":
        return None  # block text, anchors, aliases and collections are left to people
    found = (rule(diagnostic, file, written) for rule in _RULES)
    return next((fix for fix in found if fix is not None), None)


def _rename(diagnostic: Diagnostic, file: _File, written: str) -> Fix | None:
    """A key or value that is a near miss of one known name."""
    slot, suggestion = file.slot(diagnostic), diagnostic.suggestion
    if slot is None or suggestion is None or not isinstance(slot.given, str):
        return None
    if diagnostic.code == "P206":
        clear = suggestion.casefold() == slot.given.casefold()
    elif diagnostic.code == "P301" and not _NAME.fullmatch(suggestion):
        return None  # that name is wrong itself, and is mended where it is given
    else:
        known = diagnostic.allowed if suggestion in diagnostic.allowed else (suggestion,)
        clear = diagnostic.code in NAMES and clear_name(slot.given, known) == suggestion
    if not clear or file.holds(slot, suggestion):
        return None
    title = f"replace {slot.given!r} by {suggestion!r}"
    return Fix(_span(diagnostic), _quoted_like(written, suggestion), title)


def _rename_column(diagnostic: Diagnostic, file: _File, written: str) -> Fix | None:
    """A near miss within a template, such as `"{promt}"`: only the name in braces is replaced."""
    suggestion, span = diagnostic.suggestion, _span(diagnostic)
    if diagnostic.code != "P311" or suggestion is None or "\\" in written:
        return None
    wrong = [
        found
        for found in _PLACEHOLDER.finditer(written)
        if found[1] not in diagnostic.allowed
        and clear_name(found[1], diagnostic.allowed) == suggestion
    ]
    if len(wrong) != 1 or repr(wrong[0][1]) not in diagnostic.message:
        return None
    start, end = (span.column + offset for offset in wrong[0].span(1))
    title = f"replace {wrong[0][1]!r} by {suggestion!r}"
    return Fix(Span(span.line, start, span.line, end), suggestion, title)


def _quote(diagnostic: Diagnostic, file: _File, written: str) -> Fix | None:
    """A number or a word of YAML's where text is wanted, such as a hash `12e4567`."""
    if "quote it" not in diagnostic.message or re.search(r"[\"'\\]", written):
        return None
    slot = file.slot(diagnostic)
    if diagnostic.code == "P113":
        wanted = slot is None  # a key that is no text is not among the keys
    else:
        wanted = slot is not None and slot.given is not None and _takes_text(slot.path)
    if not wanted:
        return None
    return Fix(_span(diagnostic), f'"{written}"', f"quote {written}")


def _unquote(diagnostic: Diagnostic, file: _File, written: str) -> Fix | None:
    """A number, `true` or `false` in quotes where it is wanted without them."""
    slot = file.slot(diagnostic)
    if "drop the quotes" not in diagnostic.message or slot is None or written[0] not in "\"'":
        return None
    value = str(slot.given)
    try:
        plain = not isinstance(read_plain(value), str | None)
    except NumberError:
        plain = False
    return Fix(_span(diagnostic), value, f"drop the quotes of {written}") if plain else None


Rule = Callable[[Diagnostic, _File, str], Fix | None]

_RULES: tuple[Rule, ...] = (_rename, _rename_column, _quote, _unquote)


def _takes_text(path: Path) -> bool:
    """Return whether the grammar wants text at a path, and nothing else."""
    return grammar.bare(grammar.follow(spec_model(), path).annotation) is str


def _quoted_like(written: str, name: str) -> str:
    """Return a name in the quotes of what it replaces, or in quotes where it needs them."""
    if written[0] == "'":
        return "'" + name.replace("'", "''") + "'"
    if written[0] != '"' and _UNQUOTED.fullmatch(name) and isinstance(read_plain(name), str):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
