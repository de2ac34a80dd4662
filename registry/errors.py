"""The exception tree: everything patchclamp raises on purpose.

PatchclampError              anything a user can meet; carries the exit code of the command line
├── UsageError               a command line that cannot be understood (exit 2)
├── UnknownNameError         a name that no table knows; lists what is known and the nearest
├── SpecError                a spec that cannot be run; carries its diagnostics (exit 1)
│   └── UnreadableSpecError  a spec file that is not there or cannot be opened (exit 3)
├── AnalysisError            a number that would be wrong is refused (exit 1)
│   └── UndefinedError       a statistic has no value for these data
├── GuardError               a check on the measurement itself failed (exit 1)
├── BudgetError              a run takes longer than it may; run again, it goes on (exit 1)
├── PluginError              a plugin cannot be loaded, or adds what cannot be added (exit 3)
├── RemoteError              a server is out of reach, refuses or fails; run again goes on (exit 3)
│   └── DetachedError        a server has work that is not waited for; run again collects (exit 0)
├── ModelError               a model or tokenizer cannot be read, or lacks what is asked (exit 3)
└── StoreError               a result cannot be written or read (exit 3)
"""

from __future__ import annotations

from collections.abc import Iterable


class PatchclampError(Exception):
    """Base of every error that patchclamp raises on purpose."""

    exit_code = 1


class UsageError(PatchclampError):
    """A command line that cannot be understood."""

    exit_code = 2


class UnknownNameError(PatchclampError, KeyError):
    """A name that the table of its sort does not hold."""

    def __init__(self, sort: str, name: str, known: Iterable[str]) -> None:
        self.sort, self.name, self.known = sort, name, tuple(known)
        super().__init__(f"unknown {sort} {name!r}{hint(name, self.known)}")

    def __str__(self) -> str:
        return str(self.args[0])


class SpecError(PatchclampError):
    """A spec that cannot be run; `diagnostics` holds every problem found."""

    def __init__(self, message: str, diagnostics: tuple[object, ...] = ()) -> None:
        self.diagnostics = diagnostics
        super().__init__(message)


class UnreadableSpecError(SpecError):
    """A spec file that is not there or cannot be opened."""

    exit_code = 3


class AnalysisError(PatchclampError):
    """An analysis refuses to give a number that would be wrong."""


class UndefinedError(AnalysisError):
    """A statistic has no value for these data; `where` holds the offending row numbers."""

    def __init__(self, message: str, where: tuple[int, ...] = ()) -> None:
        self.where = where
        super().__init__(message)


class GuardError(PatchclampError):
    """A check on the measurement itself failed: its numbers cannot be trusted."""


class BudgetError(PatchclampError):
    """A run takes longer than its budget allows; what it has measured is kept."""


class PluginError(PatchclampError):
    """A plugin cannot be loaded, or adds what cannot be added; the message names it."""

    exit_code = 3


class RemoteError(PatchclampError):
    """A server cannot be reached, refuses a request, or fails at it; what is measured is kept."""

    exit_code = 3


class DetachedError(RemoteError):
    """Work has been sent to a server and is not waited for: running again collects it."""

    exit_code = 0


class ModelError(PatchclampError):
    """A model or tokenizer cannot be read, or lacks what was asked of it."""

    exit_code = 3


class StoreError(PatchclampError):
    """A result cannot be written or read."""

    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a mistyped one, or None if none is close.

    >>> nearest("resid_pst", ["resid_pre", "resid_post"])
    'resid_post'
    """
    from difflib import get_close_matches  # only those who mistype a name wait for it

    known = list(known)
    folded = {k.casefold(): k for k in reversed(known)}
    # 0.6 is difflib's own default; below it the proposals read like noise.
    found = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """Return the tail of a message about an unknown name: the nearest one and what is known.

    >>> hint("z_out", ["z", "attn_out"])
    " (known: z, attn_out); did you mean 'attn_out'?"
    """
    known = list(known)
    close = nearest(name, known)
    listed = f" (known: {', '.join(known)})" if known else " (none is known)"
    return f"{listed}; did you mean {close!r}?" if close else listed
