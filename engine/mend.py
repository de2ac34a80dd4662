"""The safe fixes of `validate --fix`, made in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchclamp.engine.validate import check, text_of
from patchclamp.engine.whole import write_whole
from patchclamp.specs.diagnostics import Diagnostic
from patchclamp.specs.document import parse
from patchclamp.specs.fixes import applicable, apply_fixes

ROUNDS = 10
"""Most times that a file is mended and read again: a key put right may show a wrong value."""


def mend(spec: str, overrides: Sequence[str] = ()) -> list[str]:
    """Make every safe fix in a spec's own file, in place, and return a line for each."""
    path = Path(spec)
    done: list[str] = []
    for _ in range(ROUNDS):
        before = text_of(spec)
        diagnostics = check(spec, overrides).diagnostics
        fixes = applicable(d for d in diagnostics if d.source == str(path))
        if before is None or not fixes or not _Rewrite(path, before, fixes).done():
            break
        done += [f"fixed {d.source}:{d.line}:{d.column}: {d.fix.title}\n" for d in fixes if d.fix]
    return done


@dataclass(frozen=True)
class _Rewrite:
    """A file with its text as it was checked, and the fixes to make in it."""

    path: Path
    before: str
    fixes: Sequence[Diagnostic]

    def done(self) -> bool:
        """Make the fixes; False leaves the file alone, which has changed or would break."""
        after = apply_fixes(self.before, self.fixes)
        broken = len(parse(after)[1]) > len(parse(self.before)[1])
        if broken or text_of(str(self.path)) != self.before:
            return False
        write_whole(self.path.resolve(), after.encode("utf-8"))
        return True
