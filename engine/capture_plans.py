"""Planning captures: their layers, heads and tokens as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.readings import CaptureReading, Readings
from patchclamp.engine.captures import CapturePlan, split_heads
from patchclamp.engine.model import ModelSource
from patchclamp.engine.positions import choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.screen import screened_sets
from patchclamp.engine.sets import SetPlan
from patchclamp.registry import SITES
from patchclamp.specs.captures import Capture
from patchclamp.specs.selections import resolve_layers


def plan_capture(
    name: str, entry: Capture, model: ModelSource, context: tuple[SetPlan, Problems]
) -> CapturePlan | None:
    """Resolve a capture's layers, heads and tokens; None after reporting what is wrong with it."""
    of_set, problems = context
    here = ("captures", name)
    before = len(problems)
    chosen = choose(entry.positions, of_set, (*here, "positions"), problems)
    keys = None if entry.keys is None else choose(entry.keys, of_set, (*here, "keys"), problems)
    layers = resolve_layers(entry.layers, model.shape.layers)
    if "layer" not in SITES[entry.site].dims:
        layers = (0,)
    layers, heads, named = split_heads(entry.heads, layers)
    _check_kept(entry, (*here, "reduce"), model, problems)
    for how in entry.reduce:
        if how.by is not None:
            _check_label(how.by, (*here, "reduce"), of_set, problems)
    if chosen is None or len(problems) > before or (entry.keys is not None and keys is None):
        return None
    if keys is not None:
        both = sorted({*chosen.rows} & {*keys.rows})
        if not both:
            message = f"no stimulus of {entry.of!r} has both the positions and the keys"
            problems.add((*here, "keys"), "P417", message)
            return None
        chosen, keys = chosen.only(both), keys.only(both)
    codes, classes = {}, {}
    for how in entry.reduce:
        if how.by is not None:
            values = _label(of_set, how.by)
            kinds = tuple(sorted(set(values)))
            classes[how.by] = kinds
            codes[how.by] = np.array([kinds.index(value) for value in values])
    return CapturePlan(
        name,
        str(entry.of),
        entry.site,
        layers,
        chosen,
        keys,
        heads,
        named,
        entry.reduce,
        entry.gradient,
        codes,
        classes,
    )


def _label(of_set: SetPlan, label: str) -> Sequence[str]:
    """Return a label, or the groups, of each stimulus."""
    if label == "group" and of_set.table.groups is not None:
        return of_set.table.groups
    return of_set.table.labels[label]


def _check_label(
    label: str, path: tuple[str | int, ...], of_set: SetPlan, problems: Problems
) -> None:
    """P416: every stimulus has a value of a label that stimuli are put together by."""
    for id_, value in zip(of_set.table.ids, _label(of_set, label), strict=True):
        if not value.strip():
            message = f"stimulus {id_!r} of {of_set.table.name!r} has no {label}"
            problems.add(path, "P416", f"{message}: leave it out by 'where'")
            return


def _check_kept(
    entry: Capture, path: tuple[str | int, ...], model: ModelSource, problems: Problems
) -> None:
    """P421: `topk` keeps no more units than there are."""
    last, size = SITES[entry.site].dims[-1], int(model.config.hidden_size)
    if last == "channel":
        size = int(getattr(model.config, "head_dim", None) or size // model.shape.heads)
    for how in entry.reduce:
        if how.kind == "topk" and how.k > size:
            message = f"{model.choice.id!r} has {size} {last}s at {entry.site!r}; k is {how.k}"
            problems.add(path, "P421", message)


def elsewhere(
    readings: Mapping[str, Readings],
    model: ModelSource,
    sets: Mapping[str, SetPlan],
    problems: Problems,
) -> Iterator[CapturePlan]:
    """Yield the captures that analyses want of other sets than their own, or make themselves."""
    asked = {
        reading
        for parts in readings.values()
        for reading in parts.values()
        if isinstance(reading, CaptureReading)
        and (reading.stimuli in sets or reading.entry is not None)
    }
    for reading in sorted(asked, key=lambda reading: reading.name):
        if reading.entry is not None:
            entry = reading.entry
        else:
            entry = problems.loaded.spec.captures[reading.capture]
            entry = entry.model_copy(update={"of": reading.stimuli})
        if str(entry.of) not in sets:
            continue  # told as what it is: no partners
        planned = plan_capture(reading.name, entry, model, (sets[str(entry.of)], problems))
        if planned is not None:
            yield replace(planned, internal=True)


def check_complete(
    readings: Mapping[str, Readings],
    captures: Sequence[CapturePlan | None],
    sets: Mapping[str, SetPlan],
    problems: Problems,
) -> None:
    """P418: where an analysis compares patterns, every stimulus has all tokens of its capture.

    While it is not known yet what stays of some set, it is not asked.
    """
    if any(not sets[name].table.screened for name in screened_sets(problems)):
        return
    of_name = {one.name: one for one in captures if one is not None}
    for name, parts in readings.items():
        for part, reading in parts.items():
            if not isinstance(reading, CaptureReading) or not reading.complete:
                continue
            capture = of_name.get(reading.name)
            if capture is None:
                continue
            found = _missing(capture, sets[capture.stimuli])
            if found is not None:
                path: tuple[str | int, ...] = ("analyses", name, *part.split("."))
                if path not in problems.loaded.document.values:
                    path = path[:2]
                problems.add(path, "P418", f"in capture {reading.name!r} {found}")


def _missing(capture: CapturePlan, of_set: SetPlan) -> str | None:
    """Say which token the first stimulus lacks that lacks one in what a capture gives of each."""
    dims = {dim for variable in capture.variables() for dim in variable.dims}
    if "stimulus" not in dims:
        return None
    chosen, keys = capture.chosen, capture.keys
    asked = {"position": chosen.mask, "query": chosen.mask}
    asked["key"] = _every_key(of_set.lengths[list(chosen.rows)]) if keys is None else keys.mask
    for dim, mask in asked.items():
        lacking = np.argwhere(~mask)
        if dim in dims and lacking.size:
            row, column = lacking[0]
            labels = {"key": range(mask.shape[1]) if keys is None else keys.labels}
            label = labels.get(dim, chosen.labels)[column]
            return (
                f"stimulus {of_set.table.ids[chosen.rows[row]]!r} has no token at {dim} {label} "
                f"({len(lacking)} of {mask.size} tokens are missing): choose "
                f"{'keys' if dim == 'key' else 'positions'!r} that every stimulus has"
            )
    return None


def _every_key(lengths: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which keys there are (row, key) where every token is one."""
    return np.asarray(np.arange(lengths.max())[None] < lengths[:, None])
