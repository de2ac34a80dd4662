"""Lints over the claims of a spec, `expect`: what may hold by luck, and what can never hold."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor

from pydantic import BaseModel

from patchclamp.specs.analyses_representation import Probe
from patchclamp.specs.diagnostics import Problem
from patchclamp.specs.subject import Subject

P_VALUES = ("p", "p_max")
"""Variables that hold the p of a permutation test."""


def spread(subject: Subject) -> Iterator[Problem]:
    """P604: a bound on one number says nothing of how far that number moves."""
    for i, claim in subject.expect.items():
        name = claim.var.split("/")[1]
        settled = name in P_VALUES or name.endswith(("_low", "_high"))
        if settled or claim.interval or claim.near is not None or "seed" in subject.swept:
            continue
        message = (
            f"{claim.var} comes from one seed and has no spread here, so the claim may hold or "
            "fail by luck; write 'interval: true', or give several seeds, 'seed: [0, 1, 2]'"
        )
        yield Problem(("expect", i), "P604", message)


def reach(subject: Subject) -> Iterator[Problem]:
    """P609: with n permutations p is 1 / (n + 1) at the least."""
    for i, claim in subject.expect.items():
        analysis, name = claim.var.split("/")
        n = _permutations(subject.sections.get("analyses", analysis))
        for key, bound in (("le", claim.le), ("lt", claim.lt)):
            if n is None or name not in P_VALUES or bound is None:
                continue
            needed = _needed(bound, strict=key == "lt")
            if needed is not None and needed <= n:
                continue
            more = f"at least {needed:,} are needed" if needed else "p is never 0"
            message = (
                f"with {n:,} permutations p is {1 / (n + 1):.2g} at the least, so this never "
                f"holds; {more}"
            )
            yield Problem(("expect", i, key), "P609", message)


def _permutations(entry: BaseModel | None) -> int | None:
    if isinstance(entry, Probe):
        return entry.shuffles if "shuffled_labels" in entry.controls else None
    test = getattr(entry, "test", None)
    return getattr(test, "n", None)


def _needed(bound: float, *, strict: bool) -> int | None:
    """Return the fewest permutations whose least p meets a bound; None if none does."""
    if not 0 < bound < 1:
        return None if bound <= 0 else 0
    # As it is written: in binary 0.05 is a little more, and 1 / 0.05 - 1 would come out below 19.
    least = 1 / Fraction(str(bound)) - 1
    return floor(least) + 1 if strict else ceil(least)
