"""Measure: what a plan needs, from the records there are or by running the model.

1. Captures and clean answers that no record has are recorded in one pass of each batch, and
   checked (`recording`, `guards`).
2. Their shards become files (`assemble`), and each record says how it was made.
3. Answers are read under every distinct intervention (`answering`).

The model is loaded when the first pass is due, and not at all where every record is there. The
records of a run are held against other runs, which wait and then find them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr
from safetensors.numpy import load_file, save

from patchclamp.analyses.asking import ScoreReading
from patchclamp.analyses.readings import (
    AnswerReading,
    CircuitReading,
    GenerationReading,
    MetricReading,
    RatingsReading,
    Reading,
    StimuliReading,
)
from patchclamp.engine.answering import (
    Answers,
    Asking,
    Changes,
    ask_all,
    asking,
    clean_asking,
    collect,
)
from patchclamp.engine.assemble import assemble
from patchclamp.engine.attributing import Scores, score_dataset, score_record, scores_of
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.circuits import circuit_dataset
from patchclamp.engine.costs import check_space
from patchclamp.engine.datasets import capture_dataset, stimuli_dataset
from patchclamp.engine.efforts import effort_of, score_passes
from patchclamp.engine.guards import check_answers, check_captures
from patchclamp.engine.metric_datasets import answers_dataset, metric_dataset
from patchclamp.engine.plan import Plan
from patchclamp.engine.ratings import ratings_dataset
from patchclamp.engine.recording import Work, distinct, outstanding, record_clean
from patchclamp.engine.records import Cache
from patchclamp.engine.rig import Rig, rig_of
from patchclamp.engine.sizes import most_rows
from patchclamp.engine.sources import lacking
from patchclamp.engine.values import Values
from patchclamp.engine.whole import write_whole
from patchclamp.engine.written import Written, written_dataset
from patchclamp.registry.errors import StoreError


@dataclass
class Measured:
    """What a rig has measured: a file for each capture, and the answers of each set."""

    captures: dict[str, Path] = field(default_factory=dict)
    internal: list[CapturePlan] = field(default_factory=list)
    """Captures that interventions take their values from."""
    results: dict[str, xr.Dataset] = field(default_factory=dict)
    """What analyses have found so far."""
    answers: dict[tuple[str, Changes], Answers] = field(default_factory=dict)
    twins: dict[str, Path] = field(default_factory=dict)
    """Files of captures of the untrained twin."""
    scores: dict[ScoreReading, Scores] = field(default_factory=dict)
    written: dict[GenerationReading, dict[Changes, Written]] = field(default_factory=dict)
    """What the model wrote."""
    origins: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """How each record was made, by its name."""


def measure_clean(
    rig: Rig,
    measured: Measured,
    answered: Iterable[str],
    more: Sequence[CapturePlan] = (),
    *,
    also: Callable[[Work], Work] = lambda work: work,
) -> None:
    """Record every capture of the plan, and the clean answers of sets, that no record has.

    `more` are captures that conditions need which were not known when the plan was made; `also`
    adds to a pass what it takes along (`engine.screening`).
    """
    plan, cache = rig.plan, rig.cache
    measured.internal += [
        c for c in (*plan.captures, *more) if c.internal and c.name not in measured.captures
    ]
    asked = [clean_asking(plan, name) for name in answered if (name, ()) not in measured.answers]
    captures = [c for c in (*plan.captures, *more) if c.name not in measured.captures]
    records = [plan.record(capture) for capture in captures] + [one.record for one in asked]
    if any(cache.find(record) is None for record in records):
        with cache.locked(records, rig.wait):
            work = outstanding(plan, cache, asked, captures)
            if work:
                check_space(plan, cache)
                record_clean(rig.open(), [also(part) for part in work], cache)
            once = distinct(plan, captures)
            _finish_captures(rig, [c for c in once if cache.find(plan.record(c)) is None])
            for one in asked:
                if cache.find(one.record) is None:
                    _finish_answers(rig, one, {})
    for capture in captures:
        record = plan.record(capture)
        made = cache.find(record)
        assert made is not None, "it was finished above"
        cache.tidy(record)
        measured.captures[capture.name] = cache.folder(record) / made["file"]
        measured.origins[f"captures.{capture.name}"] = origin_of(made)
    for one in asked:
        read_answers(cache, measured, one)


def measure_twin(rig: Rig, measured: Measured) -> None:
    """Record what analyses want of the untrained twin; its weights are gone when this is done."""
    plan = rig.plan.twin
    if plan is None:
        return
    found = Measured()
    with rig_of(plan, rig.cache, rig.progress) as twin:
        twin.total = passes_due(plan, rig.cache)
        measure_clean(twin, found, ())
        rig.aside += 0 if twin.passes is None else twin.passes.run_so_far
    measured.twins = found.captures
    measured.origins |= {f"{n} of the untrained twin": made for n, made in found.origins.items()}


def _finish_captures(rig: Rig, captures: Sequence[CapturePlan]) -> None:
    """Make the files of captures of their shards, if guards let them pass."""
    plan, cache = rig.plan, rig.cache
    if not captures:
        return
    with cache.distrusted([plan.record(capture) for capture in captures]):
        verdicts = check_captures(rig.checked(), captures, cache)
    for capture in captures:
        record = plan.record(capture)
        path = cache.folder(record) / "data.nc"
        keys = capture.keys_of(plan.sets[capture.stimuli].tokens.longest)
        precision = plan.model.choice.dtype
        assemble(capture, cache.open_shards(record), path, keys=keys, precision=precision)
        cache.finish(record, path, rig.made(verdicts))


def measure_answers(
    rig: Rig, measured: Measured, conditions: Mapping[str, tuple[Changes, ...]]
) -> None:
    """Read the answers of sets under conditions that have not been measured yet."""
    plan, cache = rig.plan, rig.cache
    changes = dict.fromkeys(c for of in conditions.values() for some in of for c in some)
    held = measured.internal or [capture for capture in plan.captures if capture.internal]
    measure_clean(rig, measured, conditions, lacking(plan.loaded, plan.sets, changes, held))
    values = Values(plan, measured.internal, measured.captures, measured.results)
    for name, wanted in conditions.items():
        new = tuple(c for c in wanted if (name, c) not in measured.answers)
        if not new:
            continue
        asked = asking(rig.plan, name, new, values)
        if cache.find(asked.record) is None:
            with cache.locked([asked.record], rig.wait):
                if cache.find(asked.record) is None:
                    ask_all(rig.open(), asked, cache)
                    _finish_answers(rig, asked, measured.answers[name, ()])
        read_answers(cache, measured, asked)


def _finish_answers(rig: Rig, asked: Asking, clean: Answers) -> None:
    """Make one file of the shards of answers, if guards let them pass."""
    cache = rig.cache
    with cache.distrusted([asked.record]):
        found = collect(rig.plan, asked, cache)
        verdicts = check_answers(rig.checked(), asked, found, clean)
    flat = {
        f"{number}/{name}": array
        for number, changes in enumerate(asked.conditions)
        for name, array in found[changes].items()
    }
    path = cache.folder(asked.record) / "data.safetensors"
    write_whole(path, save(flat))
    cache.finish(asked.record, path, rig.made(verdicts))


def measure_scores(rig: Rig, measured: Measured, readings: Iterable[Reading]) -> None:
    """Attribute what readings ask for and has not been attributed yet."""
    for reading in readings:
        if isinstance(reading, ScoreReading) and reading not in measured.scores:
            record, made = scores_of(rig, reading)
            measured.scores[reading] = load_file(rig.cache.folder(record) / made["file"])
            measured.origins[f"{record.name} ({record.key[:8]})"] = origin_of(made)


def read_answers(cache: Cache, measured: Measured, asked: Asking) -> None:
    """Add answers that have been recorded to what is measured."""
    made = cache.finished(asked.record)
    for key, array in load_file(cache.folder(asked.record) / made["file"]).items():
        number, _, name = key.partition("/")
        changes = asked.conditions[int(number)]
        measured.answers.setdefault((asked.stimuli, changes), {})[name] = array
    what = "clean answers" if asked.conditions == ((),) else "answers"
    measured.origins[f"{what} of {asked.stimuli} ({asked.record.key[:8]})"] = origin_of(made)


def passes_due(plan: Plan, cache: Cache) -> int:
    """Return how many batches a run has left to put through the model."""
    work = outstanding(plan, cache, [clean_asking(plan, name) for name in plan.answered()])
    tokens = plan.loaded.spec.run.batch.tokens
    clean = sum(
        len(plan.sets[w.stimuli].batches(w.rows, tokens, most_rows(plan, w.captures, w.stimuli)))
        for w in work
    )
    changed = 0
    for name, conditions in plan.conditions().items():
        internal = [capture for capture in plan.captures if capture.internal]
        asked = asking(plan, name, conditions, Values(plan, internal))
        if conditions and cache.find(asked.record) is None:
            optimise = plan.loaded.spec.run.optimise
            changed += effort_of(plan, name, conditions, optimise=optimise).passes
    scored = sum(
        score_passes(plan, reading)
        for reading in plan.score_readings()
        if cache.find(score_record(plan, reading)) is None
    )
    return clean + changed + scored + plan.written_passes()


def origin_of(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the provenance says of a record."""
    kept = ("at", "backend", "device", "threads", "versions", "guards", "sha256", "server")
    return {name: made[name] for name in kept if name in made}


@contextmanager
def damage_named(cache: Cache, plan: Callable[[], Plan]) -> Iterator[None]:
    """Say which capture's file is damaged, where that is why something cannot be read.

    Its checksums let no wrong number through, but the library's error only says "HDF error".
    """
    try:
        yield
    except (OSError, RuntimeError, StoreError) as error:
        for one in filter(None, (plan(), plan().twin)):
            for record in map(one.record, one.captures):
                if cache.find(record) is not None:
                    cache.refuse_damaged(record, error)
        raise


def dataset_of(rig: Rig, measured: Measured, reading: Reading) -> xr.Dataset:
    """Return the labelled dataset that answers a reading."""
    if isinstance(reading, MetricReading):
        return metric_dataset(reading, measured.answers, Values(rig.plan))
    if isinstance(reading, ScoreReading):
        return score_dataset(rig.plan, reading, measured.scores[reading])
    if isinstance(reading, GenerationReading):
        return written_dataset(rig.plan, reading, measured.written[reading])
    if isinstance(reading, AnswerReading):
        return answers_dataset(rig.plan, reading, measured.answers[reading.stimuli, ()])
    if isinstance(reading, StimuliReading):
        return stimuli_dataset(rig.plan, reading.stimuli)
    if isinstance(reading, CircuitReading):
        return circuit_dataset(rig.plan.loaded, reading)
    if isinstance(reading, RatingsReading):
        return ratings_dataset(rig.plan.loaded, reading.ratings)
    plan, files = rig.plan, measured.captures
    if reading.twin:
        assert plan.twin is not None, "it is asked for"
        plan, files = plan.twin, measured.twins
    capture = next(c for c in plan.captures if c.name == reading.name)
    return capture_dataset(plan, capture, files[capture.name])
