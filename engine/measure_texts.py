"""Measure texts: what the model writes, from the records there are or by letting it write."""

from __future__ import annotations

from collections.abc import Iterable

from patchclamp.analyses.readings import GenerationReading, Reading
from patchclamp.engine.generating import Writing, write_all, writing
from patchclamp.engine.measure import Measured, measure_clean, origin_of
from patchclamp.engine.rig import Rig
from patchclamp.engine.sources import lacking
from patchclamp.engine.values import Values
from patchclamp.engine.written import (
    check_alone,
    check_written,
    collect_written,
    finish_written,
    read_written,
)


def measure_written(rig: Rig, measured: Measured, readings: Iterable[Reading]) -> None:
    """Let the model write what readings ask for and no record has."""
    for reading in readings:
        if not isinstance(reading, GenerationReading) or reading in measured.written:
            continue
        plan, cache = rig.plan, rig.cache
        changes = dict.fromkeys(change for c in reading.conditions for change in c.changes)
        held = measured.internal or [capture for capture in plan.captures if capture.internal]
        measure_clean(rig, measured, (), lacking(plan.loaded, plan.sets, changes, held))
        values = Values(plan, measured.internal, measured.captures, measured.results)
        asked = writing(plan, reading, values)
        if cache.find(asked.record) is None:
            with cache.locked([asked.record], rig.wait):
                if cache.find(asked.record) is None:
                    write_all(rig.open(), asked, cache)
                    _finish_written(rig, asked)
        made = cache.find(asked.record)
        assert made is not None, "it was finished before"
        cache.tidy(asked.record)
        cache.refuse_damaged(asked.record)
        measured.written[reading] = read_written(asked, cache.folder(asked.record) / made["file"])
        what = f"what is written after {reading.stimuli} ({asked.record.key[:8]})"
        measured.origins[what] = origin_of(made)


def _finish_written(rig: Rig, asked: Writing) -> None:
    """Make one file of the shards of what was written, if guards let them pass."""
    cache = rig.cache
    with cache.distrusted([asked.record]):
        found = collect_written(asked, cache)
        verdicts = [*check_written(asked, found), check_alone(rig.checked(), asked, found)]
    cache.finish(asked.record, finish_written(asked, cache, found), rig.made(verdicts))
