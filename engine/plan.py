"""The plan: everything that will be measured, decided before any weight is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from patchclamp.analyses.asking import ScoreReading
from patchclamp.analyses.readings import (
    CaptureReading,
    Change,
    Changing,
    GenerationReading,
    MetricReading,
    Reading,
    Readings,
    answered_by,
)
from patchclamp.engine.alignment import check_scores
from patchclamp.engine.capture_plans import check_complete, elsewhere, plan_capture
from patchclamp.engine.captures import CapturePlan, content_of
from patchclamp.engine.circuits import check_circuits
from patchclamp.engine.deep_labels import check_classes
from patchclamp.engine.deep_model import check_parts
from patchclamp.engine.deep_positions import check_positions
from patchclamp.engine.encoding import check_tokenizer
from patchclamp.engine.implemented import check_implemented
from patchclamp.engine.marks import marks_of
from patchclamp.engine.model import ModelSource, find_model, served
from patchclamp.engine.partners import check_partners
from patchclamp.engine.problems import Problems
from patchclamp.engine.ratings import check_ratings
from patchclamp.engine.reading_plans import plan_readings
from patchclamp.engine.records import Cache, Record, digest_of, open_cache
from patchclamp.engine.sets import SetPlan, locate
from patchclamp.engine.source_checks import check_sources
from patchclamp.engine.sources import lacking
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.engine.tokens import tokenise
from patchclamp.registry import BACKENDS, METRICS
from patchclamp.registry.errors import ModelError
from patchclamp.registry.plugins import OURS, origin
from patchclamp.specs.diagnostics import Diagnostic
from patchclamp.specs.load import Loaded

VOCABULARY = "vocabulary"
"""What is read where a metric needs the logits of all tokens."""


@dataclass(frozen=True)
class Plan:
    """What will be run: sets, captures, and the readings of every analysis by name.

    Captures that only an intervention needs are among them; they are not in the result.
    """

    loaded: Loaded
    model: ModelSource
    weights: str
    sets: Mapping[str, SetPlan]
    captures: tuple[CapturePlan, ...]
    readings: Mapping[str, Readings]
    warnings: tuple[Diagnostic, ...] = ()
    """What stimuli and tokenizer give to think about, beside the lints of the spec."""
    allowed: tuple[Diagnostic, ...] = ()
    """The same, where the spec allows it."""

    @property
    def remote(self) -> bool:
        """Whether a server measures it."""
        return BACKENDS[self.loaded.spec.run.backend].remote

    def record(self, capture: CapturePlan) -> Record:
        """Return the record that a capture is kept as."""
        parts = {**self.identity(capture.stimuli), **content_of(capture)}
        if capture.gradient is not None:
            parts["answers"] = self.answers_digest(capture.stimuli)
        return Record("captures", capture.name, parts)

    def identity(self, name: str) -> dict[str, str]:
        """Return what decides every number that the model gives for a set."""
        of_set, row = self.sets[name], self.model.architecture
        # What our own rows say goes up with `records.ALGORITHM`; a plugin's may change any time.
        own = origin("architecture", row.name) == OURS
        return {
            **({} if own else {"architecture": digest_of(row)}),
            "weights": self.weights,
            "config": self.model.config_digest,
            "dtype": self.model.choice.dtype,
            "tokenizer": self.model.tokenizer_digest(),
            "texts": of_set.texts_digest,
            "tokens": of_set.tokens_digest,
        }

    def answers_digest(self, name: str) -> str:
        """Return what decides how the answers of a set are scored."""
        tokens = self.sets[name].tokens
        spellings = [(spelling.part, spelling.tokens) for spelling in tokens.spellings]
        return digest_of([spellings, tokens.key, tokens.combine])

    def reads(self, name: str) -> tuple[str, ...]:
        """What the metrics of a set read of the logits beyond those of its answers."""
        of_set = [r for r in self.metric_readings().values() if r.asked == name]
        metrics = [METRICS[reading.metric] for reading in of_set]
        asked = {read for metric in metrics for read in metric.reads}
        # What an adaptive analysis asks of a set that it did not name before may be anything.
        whole = not metrics or any(metric.whole for metric in metrics)
        return tuple(sorted(asked | {VOCABULARY} if whole else asked))

    def score_readings(self) -> tuple[ScoreReading, ...]:
        """Distinct attributions that are known before anything is measured."""
        return tuple(dict.fromkeys(of_kind(self.readings, ScoreReading).values()))

    def metric_readings(self) -> dict[tuple[str, str], MetricReading]:
        """Readings that need the answers of a set, by analysis and part."""
        return of_kind(self.readings, MetricReading)

    def generations(self) -> tuple[GenerationReading, ...]:
        """What is to be written after the texts of sets."""
        return tuple(of_kind(self.readings, GenerationReading).values())

    def written_passes(self) -> int:
        """Number of passes of a batch, each for a token, that continuing texts takes at most."""
        return sum(
            self.batches(r.stimuli) * r.tokens * len({(), *(c.changes for c in r.conditions)})
            for r in self.generations()
        )

    def conditions(self) -> dict[str, tuple[tuple[Change, ...], ...]]:
        """Distinct interventions to run, by stimulus set; analyses that share one share a pass."""
        return conditions_of(self.metric_readings().values())

    def answered(self) -> tuple[str, ...]:
        """Stimulus sets whose answers are read."""
        read = answered_by(r for parts in self.readings.values() for r in parts.values())
        return tuple(name for name in self.sets if name in read)

    def clean_sets(self) -> tuple[str, ...]:
        """Stimulus sets that are run clean, in the order of the spec."""
        needed = {c.stimuli for c in self.captures}
        needed |= set(self.answered())
        return tuple(name for name in self.sets if name in needed)

    @property
    def twin(self) -> Plan | None:
        """The captures that analyses want of the untrained twin too: same config, random weights.

        None where no analysis does.
        """
        captures = of_kind(self.readings, CaptureReading).values()
        names = {reading.name for reading in captures if reading.twin}
        if not names:
            return None
        choice = self.model.choice.model_copy(update={"weights": "random"})
        model = replace(self.model, choice=choice)
        own = tuple(capture for capture in self.captures if capture.name in names)
        return Plan(self.loaded, model, model.weights_digest(Path()), self.sets, own, {})

    @property
    def given(self) -> dict[str, SetPlan]:
        """The stimulus sets of the spec; the others are of partners, with another's answers."""
        return {name: of_set for name, of_set in self.sets.items() if "|" not in name}

    def batches(self, name: str, *, beside: int = 1, most: int | None = None) -> int:
        """Number of batches of a whole set, whose stimuli stand so many times in a pass.

        They have `most` stimuli.
        """
        of_set, tokens = self.sets[name], self.loaded.spec.run.batch.tokens
        return len(of_set.batches(range(len(of_set.table)), max(1, tokens // beside), most))


Kind = TypeVar("Kind", bound=Reading)


def of_kind(readings: Mapping[str, Readings], kind: type[Kind]) -> dict[tuple[str, str], Kind]:
    """Return the readings of a kind, by analysis and part."""
    return {
        (name, part): reading
        for name, parts in readings.items()
        for part, reading in parts.items()
        if isinstance(reading, kind)
    }


def conditions_of(readings: Iterable[Reading]) -> dict[str, tuple[tuple[Change, ...], ...]]:
    """Return the distinct interventions that readings are about, by stimulus set."""
    distinct: dict[str, dict[tuple[Change, ...], None]] = {}
    for reading in readings:
        if isinstance(reading, MetricReading):
            of_set = distinct.setdefault(reading.asked, {})
            of_set.update((c.changes, None) for c in reading.conditions if c.changes)
    return {name: tuple(changes) for name, changes in distinct.items()}


def make_plan(
    loaded: Loaded,
    cache: Cache | None = None,
    tables: Mapping[str, StimulusTable] | None = None,
) -> Plan:
    """Plan a spec, reading stimuli, tokenizer and model config; weights are hashed, not loaded.

    `tables` are the stimuli, where they have been read and screened already. Raises `SpecError`
    with every problem found.
    """
    problems = Problems(loaded)
    check_implemented(problems)
    problems.raise_if_any()
    remote = BACKENDS[loaded.spec.run.backend].remote
    model = find_model(problems, weights=not remote)
    if model is not None and not check_tokenizer(model, problems):
        problems.raise_if_any()
    if tables is None:
        tables = read_stimuli(problems, loaded.spec.seed, model)
    if model is None:
        problems.raise_if_any()
        # Without weights, a model out of reach is only a warning to those who check.
        raise ModelError(problems.found[-1].message)
    sets = {}
    for name, table in tables.items():
        tokens = tokenise(table, model, problems)
        if tokens is not None:
            sets[name] = locate(table, tokens, marks_of(model), problems)
    check_parts(model, problems)
    check_classes(tables, problems)
    check_positions(sets, problems)
    check_partners(sets, problems)
    check_ratings(problems)
    check_circuits(problems)
    problems.raise_if_any()
    captures = [
        plan_capture(name, entry, model, (sets[str(entry.of)], problems))
        for name, entry in loaded.spec.captures.items()
    ]
    problems.raise_if_any()
    readings = plan_readings(model, sets, problems)
    captures += list(elsewhere(readings, model, sets, problems))
    check_complete(readings, captures, sets, problems)
    changing: dict[tuple[str, str], Changing] = {
        **of_kind(readings, MetricReading),
        **of_kind(readings, GenerationReading),
    }
    for (name, _), reading in changing.items():
        check_sources(name, reading, sets, problems)
    for (name, _), score in of_kind(readings, ScoreReading).items():
        check_scores(name, score, sets, problems)
    problems.raise_if_any()
    changes = [
        change for reading in changing.values() for c in reading.conditions for change in c.changes
    ]
    found = [capture for capture in captures if capture is not None]
    weights = served(model) if remote else model.weights_digest((cache or open_cache()).root)
    internal = lacking(loaded, sets, dict.fromkeys(changes))
    told = problems.warnings, tuple(problems.allowed)
    return Plan(loaded, model, weights, sets, (*found, *internal), readings, *told)
