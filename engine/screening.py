"""Screening: the pass that asks which stimuli of a set stay, and what else it is good for.

1. Every set with `keep_if` goes through the model once. Its answers are kept under the key of the
   whole set, so that another condition, or another spec, asks nothing again.
2. That pass takes captures along, of the stimuli that meet the condition by themselves.
3. The spec is planned anew with what stays, and what has been measured of that becomes shards of
   its own records, where measuring finds it as if it had been interrupted.

Numbers that a pass gathers over stimuli, gradients, and what a server would have to send are not
taken along (`recording.taken_along`): they are measured of what stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.engine.answering import Answers, clean_asking
from patchclamp.engine.captures import CapturePlan, content_of
from patchclamp.engine.costs import disk_bytes, recorded_bytes
from patchclamp.engine.measure import Measured, measure_clean, read_answers
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.engine.positions import Chosen
from patchclamp.engine.problems import Problems
from patchclamp.engine.recording import SCREENED, Work, taken_along, to_screen
from patchclamp.engine.records import Cache, Record
from patchclamp.engine.rig import Rig
from patchclamp.engine.screen import met_alone, screen
from patchclamp.engine.shard_files import open_shard
from patchclamp.engine.shards import write_shard
from patchclamp.engine.sizes import most_rows
from patchclamp.specs.stimuli import KeepIf, Rows


def screen_stimuli(rig: Rig, measured: Measured) -> None:
    """Ask the model about sets with `keep_if`, and plan anew with what stays of the stimuli.

    Raises `SpecError` where nothing stays, or too little.
    """
    whole, cache = rig.plan, rig.cache
    names = to_screen(whole)
    if not names:
        return
    due = [name for name in names if cache.find(clean_asking(whole, name).record) is None]
    rig.turn_to(replace(whole, captures=()))
    rig.total = sum(whole.batches(name, most=most_rows(whole, (), name)) for name in due)
    asked = Measured()
    measure_clean(rig, asked, names, also=partial(_with_captures, whole, cache))
    answers = {name: asked.answers[name, ()] for name in names}
    left = _narrowed(whole, answers, cache)
    if whole.loaded.spec.run.optimise:
        for name in names:
            _hand_on(whole, left, (name, answers[name]), rig)
    rig.turn_to(left)
    measured.origins |= {f"{name}, to screen it": made for name, made in asked.origins.items()}


def as_screened(plan: Plan, cache: Cache) -> Plan:
    """Return a plan with what stays of its stimuli, if the model has said that before."""
    asked = [clean_asking(plan, name) for name in to_screen(plan)]
    if not asked or any(cache.find(one.record) is None for one in asked):
        return plan
    found = Measured()
    for one in asked:
        read_answers(cache, found, one)
    return _narrowed(plan, {one.stimuli: found.answers[one.stimuli, ()] for one in asked}, cache)


def _narrowed(plan: Plan, answers: Mapping[str, Answers], cache: Cache) -> Plan:
    """Return the plan of what stays by these answers; raises `SpecError` where too little does."""
    problems = Problems(plan.loaded)
    tables = screen({name: of.table for name, of in plan.given.items()}, answers, problems)
    problems.raise_if_any()
    return make_plan(plan.loaded, cache, tables)


def _with_captures(whole: Plan, cache: Cache, work: Work) -> Work:
    """Return a pass that also gives captures, where the disk has room for all of them."""
    entry, captures = whole.loaded.spec.stimuli[work.stimuli], taken_along(whole, work.stimuli)
    assert isinstance(entry, Rows)
    assert entry.keep_if is not None
    budget = whole.loaded.spec.run.budget.disk
    if not captures or recorded_bytes(whole, cache) > shutil.disk_usage(cache.root).free:
        return work
    if budget is not None and disk_bytes(whole, cache) > budget:
        return work

    return replace(work, captures=captures, holds=partial(_holds, entry.keep_if))


def _holds(keep: KeepIf, answers: Mapping[str, torch.Tensor]) -> NDArray[np.bool_]:
    return met_alone(keep, {name: value.numpy() for name, value in answers.items()})


def _hand_on(whole: Plan, left: Plan, screened: tuple[str, Answers], rig: Rig) -> None:
    """Make what is known of a set that stays shards of its own records, which lack it."""
    (name, answers), cache = screened, rig.cache
    number = {id_: row for row, id_ in enumerate(whole.sets[name].table.ids)}
    kept = [number[id_] for id_ in left.sets[name].table.ids]
    before, after = clean_asking(whole, name), clean_asking(left, name)
    if name in left.answered() and before.reads == after.reads:
        with cache.locked([after.record], rig.wait):
            if cache.find(after.record) is None:
                tensors = {key: torch.from_numpy(value[kept]) for key, value in answers.items()}
                write_shard(cache.shards(after.record), range(len(kept)), tensors, cache.intact)
    for capture in taken_along(whole, name):
        source = replace(whole.record(capture), sort=SCREENED)
        if not cache.folder(source).exists():
            continue
        own = next((c for c in left.captures if c.name == capture.name), None)
        targets = [left.record(own)] if own is not None and _same(capture, own, kept) else []
        with cache.locked([source, *targets], rig.wait):
            for target in targets:
                if own is not None and cache.find(target) is None:
                    _move(cache, (source, target), own, kept, left.sets[name].tokens.longest)
            cache.discard(source)


def _same(before: CapturePlan, after: CapturePlan, kept: Sequence[int]) -> bool:
    """Return whether a capture of what stays, by its rows, asks of that what one of all asked."""
    content = (content_of(capture) for capture in (before, after))
    chosen = {"positions": None, "keys": None, "classes": None}
    first, second = ({**of, **chosen} for of in content)
    tokens = [(before.chosen, after.chosen)]
    if before.keys is not None and after.keys is not None:
        tokens.append((before.keys, after.keys))
    return first == second and all(_same_tokens(*pair, kept) for pair in tokens)


def _same_tokens(before: Chosen, after: Chosen, kept: Sequence[int]) -> bool:
    place_of = {row: place for place, row in enumerate(before.rows)}
    places = [place_of.get(kept[row], -1) for row in after.rows]
    if -1 in places:
        return False
    index, width = before.index[places], after.index.shape[1]
    return np.array_equal(index[:, :width], after.index) and bool((index[:, width:] < 0).all())


def _move(
    cache: Cache,
    records: tuple[Record, Record],
    capture: CapturePlan,
    kept: Sequence[int],
    keys: int,
) -> None:
    """Write shards of one record as those of another, of the stimuli that are `kept`, by row.

    They are no wider than these are. Each goes once it has been taken over, so that the disk holds
    little twice.
    """
    place_of = {row: place for place, row in enumerate(kept)}
    width = capture.chosen.index.shape[1]
    most = {"position": width, "query": width, "key": capture.keys_of(keys)}
    shards = cache.open_shards(records[0])
    for file, rows in zip(shards.files, shards.rows, strict=True):
        held = [i for i, row in enumerate(rows) if int(row) in place_of]
        if held:
            tensors = {}
            with open_shard(file) as shard:
                for variable in capture.variables():
                    dims = [dim for dim in variable.dims[1:] if dim != "layer"]
                    within = (slice(None), *(slice(most.get(dim)) for dim in dims))
                    for stored in capture.stored(variable):
                        tensors[stored] = shard.read(stored, np.array(held))[within]
            own = [place_of[int(rows[i])] for i in held]
            write_shard(cache.shards(records[1]), own, tensors, cache.intact)
        file.unlink()
