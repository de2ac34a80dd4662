"""Partners: stimuli that stand for one another, and whether each has the other's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable
from patchclamp.engine.tokens import TokenTable
from patchclamp.specs.interventions import Mean
from patchclamp.specs.stimuli import Corrupt, Partners

Path = tuple[str | int, ...]

_Told = tuple[Path, str, str, Literal["error", "warn", "any"]]
"""Where unequal lengths are told, with which code and words, and how bad they are."""


class Tokenised(Protocol):
    """A stimulus set with its tokens."""

    @property
    def table(self) -> StimulusTable:
        """The texts and ids."""

    @property
    def tokens(self) -> TokenTable:
        """Their tokens."""


def check_partners(sets: Mapping[str, Tokenised], problems: Problems) -> None:
    """P405, P422: sets that are versions of another match it, in length too if that is asked."""
    for name, entry in problems.loaded.spec.stimuli.items():
        partners = None if isinstance(entry, Corrupt) else entry.partners
        of = str(entry.of) if isinstance(entry, Corrupt) else partners.of if partners else ""
        if of not in sets or name not in sets:
            continue  # none, or one of the two is told about as it is
        clean, changed = sets[of], sets[name]
        if isinstance(entry, Corrupt):
            order: Sequence[int] | None = range(len(clean.table))
            told: _Told = (("stimuli", name), "P405", "corrupted, stimulus", entry.equal_length)
        else:
            assert partners is not None
            order = _order(partners, clean.table, changed.table, problems)
            path = ("stimuli", name, "partners", "equal_length")
            told = (path, "P422", "the partner of stimulus", partners.equal_length)
        if order is not None:
            _check_lengths(clean, changed, order, (told, problems))


def _order(
    partners: Partners, clean: StimulusTable, changed: StimulusTable, problems: Problems
) -> list[int] | None:
    """Return the row of each clean stimulus's partner, or None after P422."""
    here = ("stimuli", changed.name, "partners")
    if partners.by == "order":
        if len(changed) == len(clean):
            return list(range(len(clean)))
        message = f"{changed.name!r} has {len(changed)} stimuli, {clean.name!r} has {len(clean)}"
        problems.add((*here, "by"), "P422", f"{message}: in order, they cannot be partners")
        return None
    rows = {id_: row for row, id_ in enumerate(changed.ids)}
    lone = [id_ for id_ in clean.ids if id_ not in rows]
    odd = sorted(set(rows) - set(clean.ids))
    for left, has, lacks in ((lone, clean, changed), (odd, changed, clean)):
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            problems.add(
                (*here, "by"),
                "P422",
                f"{lacks.name!r} has no partner for stimulus {left[0]!r}{more} of {has.name!r}",
            )
    return None if lone or odd else [rows[id_] for id_ in clean.ids]


def _check_lengths(
    clean: Tokenised,
    changed: Tokenised,
    order: Sequence[int],
    context: tuple[_Told, Problems],
) -> None:
    """A changed stimulus has as many tokens as the clean one, unless the spec says otherwise."""
    (path, code, what, wanted), problems = context
    if wanted == "any":
        return
    for row, id_ in enumerate(clean.table.ids):
        before, after = len(clean.tokens.ids[row]), len(changed.tokens.ids[order[row]])
        if before != after:
            problems.add(
                path,
                code,
                f"{what} {id_!r} has {after} tokens instead of {before}; write "
                "'equal_length: any' if lengths may differ",
                severity="error" if wanted == "error" else "warning",
            )
            return


def check_mean(
    analysis: str,
    value: Mean,
    context: tuple[str, Mapping[str, Tokenised]],
    problems: Problems,
) -> None:
    """P414: a mean per position or group exists at every position of a set that it replaces."""
    stimuli, sets = context
    if value.per == "all":
        return
    of, given = sets[stimuli], sets[value.mean_over]
    need, have = of.tokens.reach, given.tokens.longest
    if need > have:
        problems.add(
            ("analyses", analysis),
            "P414",
            f"{stimuli!r} reaches {need} tokens{_beyond(of)}, but {value.mean_over!r}, whose mean "
            f"per position stands in, only {have}: positions {have}..{need - 1} have no mean",
        )
    lone = sorted(set(of.table.groups or ()) - set(given.table.groups or ()))
    if value.per == "group" and (lone or of.table.groups is None):
        which = f"group {lone[0]!r} of {stimuli!r}" if lone else f"{stimuli!r}, without groups,"
        message = f"{which} has no mean per group in {value.mean_over!r}"
        problems.add(("analyses", analysis), "P414", message)


def _beyond(of_set: Tokenised) -> str:
    return " with its answers" if of_set.tokens.reach > of_set.tokens.longest else ""
