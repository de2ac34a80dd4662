"""Sources: the captures that interventions take their values from, and the stimuli that stand in.

A mean is a capture that is reduced over stimuli; what a patch or a resampling puts in place is the
whole capture of another set, whose stimuli stand in for one another as partners do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from patchclamp.analyses.readings import Aside, Change
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.positions import choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.sets import SetPlan
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.captures import Capture, Reduction
from patchclamp.specs.interventions import (
    Ablate,
    Acting,
    Add,
    Mean,
    Patch,
    Resample,
    Together,
    Vector,
    vector_of,
)
from patchclamp.specs.load import Loaded
from patchclamp.specs.positions import ALL, Positions
from patchclamp.specs.stimuli import Corrupt


@dataclass(frozen=True)
class Source:
    """What a change takes its value from: clean activations of a set, their mean or their size."""

    stimuli: str
    site: str
    positions: Positions
    mean: Mean | None = None
    size: bool = False

    @property
    def summed(self) -> bool:
        """Whether it is of all stimuli together, and none stands in for another."""
        return self.size or self.mean is not None

    @property
    def name(self) -> str:
        """What its capture is called."""
        what = "activations" if self.mean is None else f"mean per {self.mean.per}"
        what = "norms" if self.size else what
        where = "" if self.positions == ALL else f" at {self.positions.model_dump_json()}"
        return f"{what} of {self.stimuli} in {self.site}{where}"


def entry_of(loaded: Loaded, change: Change) -> Acting | Aside:
    """Return what a change puts in place: an entry of the spec, or one an analysis made."""
    if isinstance(change.intervention, str):
        entry = loaded.spec.interventions[change.intervention]
        assert not isinstance(entry, Together), "checked by the planner"
        return entry
    return change.intervention


def source_of(loaded: Loaded, change: Change) -> Source | None:
    """Return what a change takes its value from; None where that needs no activations."""
    entry = entry_of(loaded, change)
    if isinstance(entry, Patch):
        return Source(str(entry.source), change.site, change.positions)
    if isinstance(entry, Ablate) and isinstance(entry.value, Resample):
        return Source(str(entry.value.resample), change.site, change.positions)
    if isinstance(entry, Ablate) and isinstance(entry.value, Mean):
        return Source(str(entry.value.mean_over), change.site, ALL, entry.value)
    if isinstance(entry, Add) and entry.vector.normalise == "residual":
        capture = _found_in(loaded, entry.vector)
        return Source(str(capture.of), change.site, capture.positions, size=True)
    return None


def _found_in(loaded: Loaded, vector: Vector) -> Capture:
    """Return the capture that a direction was found in."""
    name: str = loaded.spec.analyses[vector.of].of
    return loaded.spec.captures[name]


def lacking(
    loaded: Loaded,
    sets: Mapping[str, SetPlan],
    changes: Iterable[Change],
    held: Sequence[CapturePlan] = (),
) -> list[CapturePlan]:
    """Return the captures that changes need and that are not among those held."""
    layers: dict[Source, set[int]] = {}
    for change in changes:
        source = source_of(loaded, change)
        if source is not None and find(source, change.layer, held) is None:
            layers.setdefault(source, set()).add(change.layer)
    return [
        _capture(source, tuple(sorted(of)), (sets[source.stimuli], Problems(loaded)))
        for source, of in layers.items()
        if source.stimuli in sets
    ]


def find(source: Source, layer: int, captures: Sequence[CapturePlan]) -> CapturePlan | None:
    """Return the capture of a source that has a layer."""
    return next((c for c in captures if c.of_source == source and layer in c.layers), None)


def _capture(
    source: Source, layers: tuple[int, ...], context: tuple[SetPlan, Problems]
) -> CapturePlan:
    of_set, problems = context
    chosen = choose(source.positions, of_set, (), problems)
    if chosen is None:
        raise AnalysisError(f"{source.name}: not every stimulus has these positions")
    codes, classes = {}, {}
    reduce: tuple[Reduction, ...] = ()
    if source.size:
        reduce = (Reduction(kind="norm"),)
    if source.mean is not None:
        by = "group" if source.mean.per == "group" else None
        reduce = (Reduction(kind="mean", over="stimulus", by=by),)
        if by is not None:
            groups = of_set.table.groups or ()
            kinds = tuple(sorted(set(groups)))
            classes[by], codes[by] = kinds, np.array([kinds.index(group) for group in groups])
    where = f"{layers[0]}..{layers[-1]}" if len(layers) > 1 else f"{layers[0]}"
    return CapturePlan(
        f"{source.name}, layers {where}",
        source.stimuli,
        source.site,
        layers,
        chosen,
        reduce=reduce,
        codes=codes,
        classes=classes,
        internal=True,
        of_source=source,
    )


def origin_of(loaded: Loaded, name: str) -> tuple[str, str]:
    """Return the set that a set is a version of, itself if none, and how partners are told."""
    entry = loaded.spec.stimuli[name]
    if isinstance(entry, Corrupt):
        return str(entry.of), "order"
    partners = entry.partners
    return (name, "order") if partners is None else (str(partners.of), partners.by)


def partners_of(
    loaded: Loaded, sets: Mapping[str, SetPlan], name: str, other: str
) -> list[int] | None:
    """Return the row in another set of each stimulus's partner; None where they are no partners.

    Versions of one set are partners of it and of one another; a set is its own partner. Where
    they match by order they have as many stimuli, which is checked before.
    """
    name = name.rpartition("|")[
        2
    ]  # stimuli that are scored by others' answers stand in their order
    (base, by), (other_base, other_by) = origin_of(loaded, name), origin_of(loaded, other)
    if base != other_base:
        return None
    ids, others = sets[name].table.ids, sets[other].table.ids
    if name == other or "id" not in (by, other_by):
        return list(range(len(ids))) if len(ids) == len(others) else None
    rows = {id_: row for row, id_ in enumerate(others)}
    return [rows[id_] for id_ in ids] if rows.keys() >= set(ids) else None


def stand_ins(
    loaded: Loaded, sets: Mapping[str, SetPlan], name: str, change: Change
) -> list[int] | None:
    """Return the row in the source of what stands in for each stimulus; None if none can.

    Partners where the sets are partners. Otherwise, for a resampling, a stimulus is drawn, seeded
    by the name of its source, among those of equal length, and never the stimulus itself.
    """
    entry, source = entry_of(loaded, change), source_of(loaded, change)
    assert source is not None, "asked of changes that have one"
    own = name.partition("|")[0] == source.stimuli
    if isinstance(entry, Patch) or not own:
        partners = partners_of(loaded, sets, name, source.stimuli)
        if partners is not None or isinstance(entry, Patch):
            return partners
    of, given = sets[name], sets[source.stimuli]
    rng = Seeds(loaded.spec.seed, "interventions").generator(f"resample.{source.stimuli}")
    drawn: list[int] = []
    for row, length in enumerate(of.lengths):
        fits = np.flatnonzero(given.lengths == length)
        fits = fits[[not own or given.table.ids[int(i)] != of.table.ids[row] for i in fits]]
        if not len(fits):
            return None
        drawn.append(int(rng.choice(fits)))
    return drawn


def known(
    loaded: Loaded, conditions: Mapping[str, Iterable[tuple[Change, ...]]]
) -> dict[str, tuple[tuple[Change, ...], ...]]:
    """Return the conditions that do not wait for what an analysis finds."""

    def waits(change: Change) -> bool:
        return vector_of(entry_of(loaded, change)) is not None

    return {
        name: tuple(changes for changes in of if not any(map(waits, changes)))
        for name, of in conditions.items()
    }
