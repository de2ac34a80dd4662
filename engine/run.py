"""The pipeline: spec, plan, measure, dataset, analysis, result."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import Readings, answered_by
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.beside import put_beside
from patchclamp.engine.costs import analysis_memory, check_budget
from patchclamp.engine.datasets import capture_dataset, check_labels, stimuli_dataset
from patchclamp.engine.measure import (
    Measured,
    damage_named,
    dataset_of,
    measure_answers,
    measure_clean,
    measure_scores,
    measure_twin,
    passes_due,
)
from patchclamp.engine.measure_texts import measure_written
from patchclamp.engine.notices import as_records, warnings_of
from patchclamp.engine.plan import Plan, conditions_of, make_plan
from patchclamp.engine.problems import Problems
from patchclamp.engine.provenance import root_attributes, sweep_attributes
from patchclamp.engine.records import Cache, digest_of, open_cache
from patchclamp.engine.remote.costs import check_remote
from patchclamp.engine.rig import Progress, Rig, leaving, rig_of
from patchclamp.engine.screening import screen_stimuli
from patchclamp.engine.sources import known
from patchclamp.engine.store import Groups, write_tree
from patchclamp.engine.sweep import Failure, check_weights, together
from patchclamp.engine.verdicts import of_revisions
from patchclamp.engine.whole import check_place, write_whole
from patchclamp.registry import ANALYSES
from patchclamp.registry.errors import AnalysisError, DetachedError, PatchclampError, UsageError
from patchclamp.registry.table import load as load_reference
from patchclamp.specs.cells import Cell, name_of
from patchclamp.specs.diagnostics import Diagnostic
from patchclamp.specs.digest import digest, resolved
from patchclamp.specs.load import Loaded, load
from patchclamp.specs.references import analyses_in_order
from patchclamp.specs.scalars import dump


@dataclass(frozen=True)
class Result:
    """A finished run: where its file is, and the datasets in it by group."""

    path: Path
    loaded: Loaded
    groups: Mapping[str, xr.Dataset]
    guards: tuple[Mapping[str, Any], ...]
    failed: tuple[Failure, ...] = ()
    """Cells of a matrix that failed while the others ran on."""
    warnings: tuple[Diagnostic, ...] = ()
    """What spec, stimuli and tokenizer give to think about."""

    @property
    def analyses(self) -> Mapping[str, xr.Dataset]:
        """The results of all analyses, by name."""
        return {name: self.analysis(name) for name in self.loaded.spec.analyses}

    def analysis(self, name: str) -> xr.Dataset:
        """Return the result of an analysis."""
        return self.groups[f"/analyses/{name}"]


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


def run(
    spec: str | Path,
    *,
    out: str | Path = "runs",
    cache: str | Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = _silent,
    detach: bool = False,
) -> Result:
    """Run a spec, a path or the name of a shipped one, and write its result under `out`.

    What it measures is kept in the cache; run again, a stopped run goes on where it stopped. No
    result is written unless everything succeeds: a refused spec, a failed guard or an analysis
    without an answer leave none. With `detach`, work for a server is sent and not waited for:
    `DetachedError` says so, unless everything is there. Raises `PatchclampError`.
    """
    loaded = load(spec, overrides)
    check_place(Path(out))
    records = open_cache(cache)
    plans = [make_plan(loaded.at(cell), records) for cell in loaded.cells]
    if detach and not plans[0].remote:
        backend = loaded.spec.run.backend
        raise UsageError(f"--detach leaves work to a server; the backend {backend!r} runs here")
    for plan in plans:
        check_remote(plan)
    problems = Problems(loaded)
    check_weights(plans, problems)
    problems.raise_if_any()
    if len(plans) == 1:
        outcome = _measure(plans[0], records, progress, detach=detach)
        with (
            _folder(loaded, records, Path(out), digest(outcome.plan.loaded.spec)) as folder,
            damage_named(records, lambda: outcome.plan),
        ):
            return _write_one(outcome, folder)
    outcomes = _measure_cells(loaded, plans, records, progress, detach=detach)
    whole = digest_of([cell.digest for cell in loaded.cells])
    with _folder(loaded, records, Path(out), whole) as folder:
        return _write_cells(loaded, outcomes, folder)


@dataclass(frozen=True)
class Outcome:
    """What a plan has come to: its groups, the records of captures, and how they were made."""

    plan: Plan
    groups: Mapping[str, xr.Dataset]
    files: Mapping[str, Path]
    made: Mapping[str, Any]


def _measure(plan: Plan, records: Cache, progress: Progress, *, detach: bool = False) -> Outcome:
    """Measure what a plan needs and analyse it."""
    with (
        rig_of(plan, records, progress, detach=detach) as rig,
        damage_named(records, lambda: rig.plan),
        leaving(rig),
    ):
        measured = Measured()
        screen_stimuli(rig, measured)
        plan = rig.plan
        check_budget(plan, records)
        measure_twin(rig, measured)
        rig.total += passes_due(plan, records)
        measure_clean(rig, measured, plan.answered())
        measure_answers(rig, measured, known(plan.loaded, plan.conditions()))
        analyses = _analyse(rig, measured)
        captures = {f"/captures/{c.name}": c for c in plan.captures if not c.internal}
        files = {group: measured.captures[c.name] for group, c in captures.items()}
        groups = {
            **{f"/stimuli/{name}": partial(stimuli_dataset, plan, name) for name in plan.given},
            **{g: partial(capture_dataset, plan, c, files[g]) for g, c in captures.items()},
            **{f"/analyses/{name}": partial(analyses.__getitem__, name) for name in analyses},
        }
        return Outcome(plan, Groups(groups), files, rig.account(measured.origins))


def _measure_cells(
    loaded: Loaded,
    plans: Sequence[Plan],
    records: Cache,
    progress: Progress,
    *,
    detach: bool = False,
) -> list[tuple[Cell, Outcome | PatchclampError]]:
    """Measure every cell; one that fails stops the others unless the spec lets them run on."""
    outcomes: list[tuple[Cell, Outcome | PatchclampError]] = []
    left: list[DetachedError] = []
    for number, (cell, plan) in enumerate(zip(loaded.cells, plans, strict=True), start=1):
        where = f"cell {number} of {len(plans)}, {name_of(cell.label)}"

        def tell(what: str, done: int, total: int, where: str = where) -> None:
            progress(f"{where}: {what}", done, total)

        try:
            outcomes.append((cell, _measure(plan, records, tell, detach=detach)))
        except DetachedError as error:
            left.append(error)
        except PatchclampError as error:
            if loaded.spec.run.on_error == "stop":
                raise
            outcomes.append((cell, error))
    if left:
        raise DetachedError(f"{len(left)} of {len(plans)} cells wait for a server: {left[0]}")
    if all(isinstance(outcome, PatchclampError) for _, outcome in outcomes):
        raise AnalysisError(f"every cell failed; the first: {outcomes[0][1]}")
    return outcomes


def _analyse(rig: Rig, measured: Measured) -> dict[str, xr.Dataset]:
    """Do every analysis on the datasets that answer its readings."""
    spec = rig.plan.loaded.spec
    results = measured.results
    memory = analysis_memory(rig.plan)
    for name in analyses_in_order(spec):
        entry = spec.analyses[name]
        asked = rig.plan.readings[name].values()
        measure_answers(rig, measured, conditions_of(asked))
        measure_scores(rig, measured, asked)
        measure_written(rig, measured, asked)
        data = _datasets(rig, measured, rig.plan.readings[name])
        analyse = load_reference(ANALYSES[entry.kind].analyse)
        seeds, shape = Seeds(spec.seed, f"analyses.{name}"), rig.plan.model.shape
        context = Context(seeds, memory, results, shape)
        try:
            result = analyse(entry, data, context)
            if isinstance(result, Generator):
                result = _converse(rig, measured, result)
        except AnalysisError as error:
            raise AnalysisError(f"analyses.{name}: {error}") from error
        check_labels(name, data, result)
        results[name] = result.assign_attrs(kind=entry.kind)
    return {name: results[name] for name in spec.analyses}


def _converse(
    rig: Rig,
    measured: Measured,
    analysis: Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset],
) -> xr.Dataset:
    """Measure what an adaptive analysis asks for, until it has its result."""
    try:
        asked = next(analysis)
        while True:
            measure_clean(rig, measured, answered_by(asked.values()))
            measure_answers(rig, measured, conditions_of(asked.values()))
            measure_scores(rig, measured, asked.values())
            measure_written(rig, measured, asked.values())
            asked = analysis.send(_datasets(rig, measured, asked))
    except StopIteration as done:
        result: xr.Dataset = done.value
        return result


def _datasets(rig: Rig, measured: Measured, readings: Readings) -> dict[str, xr.Dataset]:
    return {part: dataset_of(rig, measured, reading) for part, reading in readings.items()}


def _write_one(outcome: Outcome, folder: Path) -> Result:
    """Write the resolved spec and the result."""
    plan, spec = outcome.plan, outcome.plan.loaded.spec
    write_whole(folder / "resolved.yaml", dump(resolved(spec)).encode())
    path = folder / "result.nc"
    groups = put_beside(outcome.groups, outcome.files, result=path, folder="captures")
    write_tree(groups, path, root_attributes(plan, outcome.made))
    guards, warnings = tuple(outcome.made["guards"]), warnings_of(plan.loaded, [plan])
    return Result(path, plan.loaded, outcome.groups, guards, warnings=warnings)


def _write_cells(
    loaded: Loaded, outcomes: Sequence[tuple[Cell, Outcome | PatchclampError]], folder: Path
) -> Result:
    """Write each cell's result under `cells/`, and all of them as one, without captures."""
    (folder / "cells").mkdir(exist_ok=True)
    done, told, guards = [], [], []
    for cell, outcome in outcomes:
        said: dict[str, Any] = {"label": dict(cell.label), "digest": cell.digest}
        if isinstance(outcome, PatchclampError):
            told.append({**said, "failed": str(outcome)})
            continue
        attributes = root_attributes(outcome.plan, outcome.made)
        file = f"cells/{cell.digest[:8]}.nc"
        within = put_beside(
            outcome.groups, outcome.files, result=folder / file, folder=cell.digest[:8]
        )
        write_tree(within, folder / file, attributes)
        told.append({**said, "file": file, "provenance": json.loads(attributes["provenance"])})
        guards += [{**guard, "cell": name_of(cell.label)} for guard in outcome.made["guards"]]
        kept = {path: of for path, of in outcome.groups.items() if "/captures/" not in path}
        done.append((cell, kept))
    groups = together(loaded, done)
    whole = digest_of([cell.digest for cell in loaded.cells])
    plans = [outcome.plan for _, outcome in outcomes if isinstance(outcome, Outcome)]
    guards += [verdict.as_dict() for verdict in of_revisions(plans)]
    attributes = sweep_attributes(loaded, whole, told, guards, as_records(loaded, plans))
    write_tree(groups, folder / "result.nc", attributes, axes=loaded.dims.values())
    failed = tuple(
        Failure(name_of(cell.label), str(outcome))
        for cell, outcome in outcomes
        if isinstance(outcome, PatchclampError)
    )
    path, warnings = folder / "result.nc", warnings_of(loaded, plans)
    return Result(path, loaded, groups, tuple(guards), failed, warnings)


@contextmanager
def _folder(loaded: Loaded, cache: Cache, out: Path, identity: str) -> Iterator[Path]:
    """Make `<out>/<name>/<digest8>/` and hold it, with the spec in it as it was written."""
    folder = out / loaded.spec.name / identity[:8]
    with cache.writing(folder):
        write_whole(folder / "spec.yaml", loaded.document.text.encode())
        yield folder
