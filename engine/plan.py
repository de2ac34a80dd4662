"""The plan: everything that will be measured, decided before any weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from patchclamp.analyses.readings import Change, MetricReading, Readings
from patchclamp.engine.batches import Batch, pack
from patchclamp.engine.encoding import check_tokenizer
from patchclamp.engine.implemented import check_implemented
from patchclamp.engine.model import ModelSource, find_model
from patchclamp.engine.partners import check_means, check_partners
from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.engine.tokens import TokenTable, tokenise
from patchclamp.registry import ANALYSES, METRICS
from patchclamp.registry.table import load
from patchclamp.specs.captures import Capture
from patchclamp.specs.interventions import Mean
from patchclamp.specs.load import Loaded
from patchclamp.specs.positions import Named
from patchclamp.specs.selections import BeyondError, Layers
from patchclamp.specs.selections import resolve_layers as layer_numbers


@dataclass(frozen=True)
class SetPlan:
    """A stimulus set, tokenised and packed; `batches` hold its row numbers."""

    table: StimulusTable
    tokens: TokenTable
    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class CapturePlan:
    """A capture with its layers as numbers."""

    name: str
    stimuli: str
    site: str
    layers: tuple[int, ...]
    positions: str


@dataclass(frozen=True)
class MeanPlan:
    """A mean activation that an intervention puts in place, one for each of `layers`."""

    intervention: str
    stimuli: str
    site: str
    layers: tuple[int, ...]
    per: str


@dataclass(frozen=True)
class Plan:
    """What will be run: sets, captures, means, and the readings of every analysis by name."""

    loaded: Loaded
    model: ModelSource
    sets: Mapping[str, SetPlan]
    captures: tuple[CapturePlan, ...]
    means: tuple[MeanPlan, ...]
    readings: Mapping[str, Readings]

    def metric_readings(self) -> dict[tuple[str, str], MetricReading]:
        """Readings that need the answers of a set, by analysis and part."""
        return {
            (name, part): reading
            for name, parts in self.readings.items()
            for part, reading in parts.items()
            if isinstance(reading, MetricReading)
        }

    def conditions(self) -> dict[str, tuple[tuple[Change, ...], ...]]:
        """Distinct interventions to run, by stimulus set; analyses that share one share a pass."""
        distinct: dict[str, dict[tuple[Change, ...], None]] = {}
        for reading in self.metric_readings().values():
            of_set = distinct.setdefault(reading.stimuli, {})
            of_set.update((condition.changes, None) for condition in reading.conditions)
        return {name: tuple(changes) for name, changes in distinct.items()}

    def reads(self, name: str) -> tuple[str, ...]:
        """What the metrics of a set read of the logits beyond its answers."""
        asked = {
            read
            for reading in self.metric_readings().values()
            if reading.stimuli == name
            for read in METRICS[reading.metric].reads
        }
        return tuple(sorted(asked))

    def clean_sets(self) -> tuple[str, ...]:
        """Stimulus sets that are run clean, in the order of the spec."""
        needed = {c.stimuli for c in self.captures} | {m.stimuli for m in self.means}
        needed |= {reading.stimuli for reading in self.metric_readings().values()}
        return tuple(name for name in self.sets if name in needed)

    def passes(self) -> int:
        """Number of forward passes of a batch."""
        clean = sum(len(self.sets[name].batches) for name in self.clean_sets())
        changed = sum(
            len(self.sets[name].batches) * len(changes)
            for name, changes in self.conditions().items()
        )
        return clean + changed


def make_plan(loaded: Loaded) -> Plan:
    """Plan a spec, reading stimuli, tokenizer and model config but no weights.

    Raises `SpecError` with every problem found.
    """
    problems = Problems(loaded)
    check_implemented(problems)
    problems.raise_if_any()
    model = find_model(problems)
    if model is not None and not check_tokenizer(model, problems):
        problems.raise_if_any()
    tables = read_stimuli(problems, loaded.spec.seed, model)
    if model is None:
        problems.raise_if_any()
        raise AssertionError("a model that is not found is a problem")
    sets = _plan_sets(tables, model, problems)
    captures = tuple(
        _plan_capture(name, entry, model, problems) for name, entry in loaded.spec.captures.items()
    )
    readings = _plan_readings(model, problems)
    problems.raise_if_any()
    check_partners(sets, problems)
    means = _plan_means(loaded, readings, sets, problems)
    problems.raise_if_any()
    return Plan(loaded, model, sets, captures, means, readings)


def _plan_sets(
    tables: Mapping[str, StimulusTable], model: ModelSource, problems: Problems
) -> dict[str, SetPlan]:
    """Tokenise and pack every set."""
    budget = problems.loaded.spec.run.batch.tokens
    sets = {}
    for name, table in tables.items():
        tokens = tokenise(table, model, problems)
        if tokens is not None:
            sets[name] = SetPlan(table, tokens, pack(list(map(len, tokens.ids)), budget))
    return sets


def _plan_capture(name: str, entry: Capture, model: ModelSource, problems: Problems) -> CapturePlan:
    """Resolve a capture's layers and check that the architecture has its site."""
    here = ("captures", name)
    check_site(entry.site, (*here, "site"), model, problems)
    layers = resolve_layers(entry.layers, (*here, "layers"), model, problems)
    assert isinstance(entry.positions, Named)
    (position,) = entry.positions.at
    return CapturePlan(name, str(entry.of), entry.site, layers, str(position))


def check_site(
    site: str, path: tuple[str | int, ...], model: ModelSource, problems: Problems
) -> None:
    """P413: the architecture has a site."""
    if site not in model.architecture.sites:
        problems.add(
            path,
            "P413",
            f"{model.choice.id!r} has no site {site!r}: {model.architecture.summary}",
            allowed=tuple(model.architecture.sites),
        )


def resolve_layers(
    choice: Layers, path: tuple[str | int, ...], model: ModelSource, problems: Problems
) -> tuple[int, ...]:
    """Turn a layer choice into numbers; a layer beyond the model is a problem."""
    try:
        return layer_numbers(choice, model.shape.layers)
    except BeyondError as error:
        problems.add(path, "P412", f"{model.choice.id!r}: {error}")
        return ()


def _plan_readings(model: ModelSource, problems: Problems) -> dict[str, Readings]:
    """Ask every analysis what it needs measured."""
    readings = {}
    for name, entry in problems.loaded.spec.analyses.items():
        units = getattr(entry, "units", None)
        if units is not None:
            path = ("analyses", name, "units")
            check_site(units.site, (*path, "site"), model, problems)
            layers = resolve_layers(units.layers, (*path, "layers"), model, problems)
            resolved = units.model_copy(update={"layers": layers})
            entry = entry.model_copy(update={"units": resolved})
        reference = ANALYSES[entry.kind].readings
        assert reference is not None, "checked by check_implemented"
        readings[name] = load(reference)(entry, model.shape)
    return readings


def _plan_means(
    loaded: Loaded,
    readings: Mapping[str, Readings],
    sets: Mapping[str, SetPlan],
    problems: Problems,
) -> tuple[MeanPlan, ...]:
    """List the means that the conditions' interventions need, and check that they exist."""
    layers: dict[tuple[str, str], set[int]] = {}
    measured = [
        (name, reading)
        for name, parts in readings.items()
        for reading in parts.values()
        if isinstance(reading, MetricReading)
    ]
    for name, reading in measured:
        changes = [change for c in reading.conditions for change in c.changes]
        for change in changes:
            layers.setdefault((change.intervention, change.site), set()).add(change.layer)
        check_means(name, {c.intervention for c in changes}, (reading.stimuli, sets), problems)
    means = []
    for (intervention, site), numbers in layers.items():
        value = getattr(loaded.spec.interventions[intervention], "value", None)
        if isinstance(value, Mean):
            ordered = tuple(sorted(numbers))
            means.append(MeanPlan(intervention, value.mean_over, site, ordered, value.per))
    return tuple(means)
