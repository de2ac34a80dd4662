"""Spans, positions and windows, found in every stimulus that they are asked of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import BaseModel

from patchclamp.engine.deep_labels import sets_of
from patchclamp.engine.problems import Problems
from patchclamp.engine.sets import SetPlan
from patchclamp.engine.spans import PositionError, Stimulus, lay, meant
from patchclamp.registry.errors import nearest
from patchclamp.specs.analyses_causal import Units
from patchclamp.specs.analyses_descriptive import Attention
from patchclamp.specs.interventions import Together
from patchclamp.specs.positions import FIXED, Positions, Window
from patchclamp.specs.stimuli import Corrupt, Rows
from patchclamp.specs.walk import models_in

Path = tuple[str | int, ...]


def check_positions(sets: Mapping[str, SetPlan], problems: Problems) -> None:
    """P418: every span, number and window that is named is there, in every stimulus of its set."""
    for path, positions, names in _asked(problems):
        for name in names:
            if isinstance(positions, Window):
                _check_window(positions, path, (name, sets), problems)
            else:
                for i, anchor in enumerate(positions.at):
                    _check_anchor(anchor, _place(path, i, problems), (name, sets), problems)
    for key, entry in problems.loaded.spec.analyses.items():
        if not isinstance(entry, Attention):
            continue
        for i, pair in enumerate(entry.pairs):
            for j, anchor in enumerate(pair):
                for name in sets_of(entry, problems):
                    at = ("analyses", key, "pairs", i, j)
                    _check_anchor(anchor, at, (name, sets), problems)


def _asked(problems: Problems) -> Iterator[tuple[Path, Positions, tuple[str, ...]]]:
    """Yield every choice of positions, with its path and the sets that it is about."""
    spec = problems.loaded.spec
    for name, capture in spec.captures.items():
        yield ("captures", name, "positions"), capture.positions, (str(capture.of),)
        if capture.keys is not None:
            yield ("captures", name, "keys"), capture.keys, (str(capture.of),)
    used: dict[str, dict[str, None]] = {}
    for name, entry in spec.analyses.items():
        sets = sets_of(entry, problems)
        for path, model in models_in(entry, ("analyses", name)):
            if isinstance(model, Units):
                yield (*path, "positions"), model.positions, sets
        for intervention in interventions_of(entry):
            whole = spec.interventions.get(intervention)
            members = whole.of if isinstance(whole, Together) else ()
            for each in (intervention, *members):
                used.setdefault(each, {}).update(dict.fromkeys(sets))
    for name, place in spec.interventions.items():
        if isinstance(place, Together):
            continue
        yield ("interventions", name, "positions"), place.positions, tuple(used.get(name, ()))


def interventions_of(entry: BaseModel) -> tuple[str, ...]:
    """Return the interventions that an analysis names in `with`."""
    given = getattr(entry, "with_", None)
    return (given,) if isinstance(given, str) else tuple(given or ())


def _place(path: Path, i: int, problems: Problems) -> Path:
    """Return where a spec says one of several positions: `at` may be left out."""
    for found in ((*path, "at", i), (*path, i)):
        if found in problems.loaded.document.values:
            return found
    return path


def _check_anchor(
    anchor: str | int, path: Path, of: tuple[str, Mapping[str, SetPlan]], problems: Problems
) -> None:
    if not (anchor in FIXED or isinstance(anchor, int) or _known(anchor, path, of[0], problems)):
        return
    name, sets = of
    if name not in sets or not (isinstance(anchor, int) or sets[name].odd):
        return
    # A corrupt set's spans stand where its partner's do; they are looked for there.
    spans = sets[name].table.spans
    if isinstance(anchor, int) or anchor in FIXED or anchor.partition(".")[0] in spans:
        _first_failing(lambda stimulus: meant(anchor, stimulus), path, of, problems)


def _known(anchor: str, path: Path, name: str, problems: Problems) -> bool:
    """P418: a set has a span of that name; one that is corrupt has its origin's."""
    entries = problems.loaded.spec.stimuli
    entry = entries[name]
    source = entries[str(entry.of)] if isinstance(entry, Corrupt) else entry
    spans = tuple(source.spans) if isinstance(source, Rows) else ()
    span = anchor.partition(".")[0]
    if span in spans:
        return True
    message = f"the stimulus set {name!r} has no span {span!r}"
    known = (*FIXED, *spans)
    problems.add(path, "P418", message, allowed=known, suggestion=nearest(span, known))
    return False


def _first_failing(
    look: Callable[[Stimulus], Sequence[int]],
    path: Path,
    of: tuple[str, Mapping[str, SetPlan]],
    problems: Problems,
) -> None:
    """P418: tell the first stimulus that lacks a position, and how many do."""
    name, sets = of
    stimuli = sets[name].stimuli if name in sets else None
    failing = _failing(look, stimuli or ())
    if failing:
        row, why = failing[0]
        more = f" ({len(failing)} of {len(stimuli or ())} stimuli)" if len(failing) > 1 else ""
        problems.add(path, "P418", f"stimulus {sets[name].table.ids[row]!r} {why}{more}")


def _failing(
    look: Callable[[Stimulus], Sequence[int]], stimuli: Sequence[Stimulus]
) -> list[tuple[int, str]]:
    found = []
    for row, stimulus in enumerate(stimuli):
        try:
            look(stimulus)
        except PositionError as error:
            found.append((row, str(error)))
    return found


def _check_window(
    window: Window, path: Path, of: tuple[str, Mapping[str, SetPlan]], problems: Problems
) -> None:
    """P417, P418: a window fits its texts, or as many of them as is asked for."""
    name, sets = of
    align, before = window.align, len(problems)
    spanned = isinstance(align, str) and align not in ("left", "centre", *FIXED)
    if align not in ("left", "centre"):
        _check_anchor(align, (*path, "align"), of, problems)
    if len(problems) > before:
        return
    stimuli = sets[name].stimuli if name in sets else None
    # A corrupt set's spans stand where its partner's do; they are looked for there.
    if stimuli is None or window.short == "mask" or (spanned and not sets[name].table.spans):
        return
    if window.short == "error":
        _first_failing(lambda stimulus: lay(window, stimulus), path, of, problems)
        return
    failing = _failing(lambda stimulus: lay(window, stimulus), stimuli)
    left = 1 - len(failing) / len(stimuli)
    if left < window.at_least:
        row, why = failing[0]
        message = (
            f"the window leaves {left:.0%} of the stimuli of {name!r}, and 'at_least' asks for "
            f"{window.at_least:.0%}; stimulus {sets[name].table.ids[row]!r} {why}"
        )
        problems.add(path, "P417", message)
