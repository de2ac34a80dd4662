"""What a spec may say and a careful reader would still ask about: lints, which are warnings.

A lint leaves a spec valid. Each is one function over the resolved entries or the claims; it fires
only where there is something to do about it, and points at the key to change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from patchclamp.specs import lints_claims, lints_entries
from patchclamp.specs.diagnostics import Problem
from patchclamp.specs.subject import Subject


def lint(subject: Subject) -> tuple[Problem, ...]:
    """Return everything in a spec that may be said and is worth a second look."""
    return tuple(problem for find in LINTS for problem in find(subject))


def lint_again(subject: Subject, seen: dict[Hashable, tuple[Problem, ...]]) -> Iterator[Problem]:
    """Yield what `lint` finds, entry by entry and claim by claim; what was seen is looked up."""
    same = subject.sections.identities
    dtype = subject.model.dtype if subject.model else None
    for path, entry in subject.entries.items():
        key: Hashable = (path, same[path], dtype)
        if key not in seen:
            seen[key] = lint(subject._replace(entries={path: entry}, expect={}))
        yield from seen[key]
    for i, claim in subject.expect.items():
        key = (i, repr(claim), same.get(("analyses", claim.var.partition("/")[0])))
        if key not in seen:
            seen[key] = lint(subject._replace(entries={}, expect={i: claim}))
        yield from seen[key]


Lint = Callable[[Subject], Iterator[Problem]]

LINTS: tuple[Lint, ...] = (
    lints_entries.averages,
    lints_entries.heads,
    lints_entries.choice_of_units,
    lints_claims.spread,
    lints_entries.precision,
    lints_entries.zero,
    lints_entries.ties,
    lints_entries.controls,
    lints_entries.ceilings,
    lints_claims.reach,
    lints_entries.pins,
)
"""Every lint; each is independent of the others."""
