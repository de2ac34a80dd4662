"""The pipeline: spec, plan, measure, dataset, analysis, result."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from patchclamp.analyses.context import MEMORY, Context
from patchclamp.analyses.readings import Readings, answered_by
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.costs import check_budget
from patchclamp.engine.datasets import capture_dataset, stimuli_dataset
from patchclamp.engine.measure import (
    Measured,
    dataset_of,
    measure_answers,
    measure_clean,
    passes_due,
    screen_stimuli,
)
from patchclamp.engine.plan import Plan, conditions_of, make_plan
from patchclamp.engine.provenance import root_attributes
from patchclamp.engine.records import open_cache
from patchclamp.engine.rig import Progress, Rig, rig_of
from patchclamp.engine.store import write_tree
from patchclamp.engine.whole import write_whole
from patchclamp.registry import ANALYSES
from patchclamp.registry.errors import AnalysisError
from patchclamp.registry.table import load as load_reference
from patchclamp.specs.digest import digest, resolved
from patchclamp.specs.load import Loaded, load
from patchclamp.specs.scalars import dump


@dataclass(frozen=True)
class Result:
    """A finished run: where its file is, and the datasets in it by group."""

    path: Path
    loaded: Loaded
    groups: Mapping[str, xr.Dataset]
    guards: tuple[Mapping[str, Any], ...]

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
) -> Result:
    """Run a spec, a path or the name of a shipped one, and write its result under `out`.

    What it measures is kept in the cache; run again, a stopped run goes on where it stopped. No
    result is written unless everything succeeds: a refused spec, a failed guard or an analysis
    without an answer leave none. Raises `PatchclampError`.
    """
    loaded = load(spec, overrides)
    records = open_cache(cache)
    with rig_of(make_plan(loaded, records), records, progress) as rig:
        measured = Measured()
        screen_stimuli(rig, measured)
        plan = rig.plan
        check_budget(plan, records)
        rig.total = passes_due(plan, records)
        measure_clean(rig, measured, plan.answered())
        measure_answers(rig, measured, plan.conditions())
        analyses = _analyse(rig, measured)
        groups = {
            **{f"/stimuli/{name}": stimuli_dataset(plan, name) for name in plan.sets},
            **{
                f"/captures/{capture.name}": capture_dataset(
                    plan, capture, measured.captures[capture.name]
                )
                for capture in plan.captures
                if not capture.internal
            },
            **{f"/analyses/{name}": data for name, data in analyses.items()},
        }
        made = rig.account(measured.origins)
        path = _write(plan, groups, Path(out), root_attributes(plan, made))
    return Result(path, loaded, groups, tuple(made["guards"]))


def _analyse(rig: Rig, measured: Measured) -> dict[str, xr.Dataset]:
    """Do every analysis on the datasets that answer its readings."""
    spec = rig.plan.loaded.spec
    results: dict[str, xr.Dataset] = {}
    memory = int(spec.run.budget.memory or MEMORY)
    for name, entry in spec.analyses.items():
        data = _datasets(rig, measured, rig.plan.readings[name])
        analyse = load_reference(ANALYSES[entry.kind].analyse)
        context = Context(Seeds(spec.seed, f"analyses.{name}"), memory, results)
        try:
            result = analyse(entry, data, context)
            if isinstance(result, Generator):
                result = _converse(rig, measured, result)
        except AnalysisError as error:
            raise AnalysisError(f"analyses.{name}: {error}") from error
        _check_names(name, data, result)
        results[name] = result.assign_attrs(kind=entry.kind)
    return results


def _check_names(name: str, data: Mapping[str, xr.Dataset], result: xr.Dataset) -> None:
    """Refuse a result in which a variable has taken the place of a label."""
    if "stimulus" not in result.dims:
        return
    labels = {str(label) for part in data.values() for label in part.coords}
    for taken in sorted(labels & set(map(str, result.data_vars))):
        raise AnalysisError(
            f"analyses.{name}: the label {taken!r} is also the name of a number that this analysis "
            "gives; rename the column"
        )


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
            asked = analysis.send(_datasets(rig, measured, asked))
    except StopIteration as done:
        result: xr.Dataset = done.value
        return result


def _datasets(rig: Rig, measured: Measured, readings: Readings) -> dict[str, xr.Dataset]:
    return {part: dataset_of(rig, measured, reading) for part, reading in readings.items()}


def _write(
    plan: Plan, groups: Mapping[str, xr.Dataset], out: Path, attributes: Mapping[str, str]
) -> Path:
    """Write `<out>/<name>/<digest8>/`: the spec, the resolved spec, and the result."""
    spec = plan.loaded.spec
    folder = out / spec.name / digest(spec)[:8]
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "spec.yaml", plan.loaded.document.text.encode())
    write_whole(folder / "resolved.yaml", dump(resolved(spec)).encode())
    path = folder / "result.nc"
    write_tree(groups, path, attributes)
    return path
