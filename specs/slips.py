"""Slips of the fingers: which known name a mistyped one must have meant, if that is clear.

`registry.errors.nearest` proposes a name to a person; this decides whether a machine may take it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORTEST, LONG = 4, 8
"""In names shorter than `SHORTEST` only case and a swap are mended (`q` is no slip for `z`); two
slips are forgiven in names of `LONG` letters and more."""


def clear_name(given: str, known: Iterable[str]) -> str | None:
    """Return the one known name that a mistyped one must have meant, or None.

    It differs in case only, or: it begins with the same letter and holds the same digits, it is
    one slip away (two in long names; a slip is a letter more, less, other or swapped with its
    neighbour), and every other name is at least twice as far.

    >>> clear_name("resid_pst", ["resid_pre", "resid_post"])
    'resid_post'
    >>> clear_name("spearson", ["spearman", "pearson"]), clear_name("step1001", ["step1000"])
    (None, None)
    """
    known = list(dict.fromkeys(known))
    folded = given.casefold()
    same = [name for name in known if name.casefold() == folded]
    if same:
        return same[0] if len(same) == 1 and same[0] != given else None
    ranked = sorted((_slips(folded, name.casefold()), name) for name in known)
    if not ranked or not folded:
        return None
    (slips, best), others = ranked[0], ranked[1:]
    swapped = sorted(folded) == sorted(best.casefold())
    forgiven = 2 if len(best) >= LONG else int(swapped or len(best) >= SHORTEST)
    alike = best[:1].casefold() == folded[0] and _digits(best) == _digits(given)
    alone = not others or others[0][0] >= 2 * slips
    return best if alike and alone and slips <= forgiven else None


def _digits(name: str) -> str:
    return re.sub(r"\D", "", name)


def _slips(a: str, b: str) -> int:
    """Return the optimal string alignment distance of two words (Damerau 1964, Boytsov 2011)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        now = [i]
        for j, y in enumerate(b, start=1):
            cost = min(row[j] + 1, now[j - 1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
        before, row = row, now
    return row[-1]
