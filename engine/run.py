"""The pipeline: spec, plan, measure, dataset, analysis, result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from patchclamp.analyses.context import Context
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.backend import open_backend
from patchclamp.engine.datasets import capture_dataset, measured_dataset, stimuli_dataset
from patchclamp.engine.guards import Verdict, check_measurement
from patchclamp.engine.measure import Measured, Progress, measure
from patchclamp.engine.model import choose_device, load_weights, threads_for
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.engine.provenance import Setting, root_attributes
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
    verdicts: tuple[Verdict, ...]

    @property
    def analyses(self) -> Mapping[str, xr.Dataset]:
        """The results of all analyses, by name."""
        return {name: self.analysis(name) for name in self.loaded.spec.analyses}

    def analysis(self, name: str) -> xr.Dataset:
        """Return the result of an analysis."""
        return self.groups[f"/analyses/{name}"]


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


def run(spec: str | Path, *, out: str | Path = "runs", progress: Progress = _silent) -> Result:
    """Run a spec, a path or the name of a shipped one, and write its result under `out`.

    Nothing is written unless everything succeeds: a refused spec, a failed guard or an
    analysis without an answer leave no file. Raises `PatchclampError`.
    """
    loaded = load(spec)
    plan = make_plan(loaded)
    measured, setting = _measure(plan, progress)
    captures = {c.name: capture_dataset(plan, c, measured.captures[c.name]) for c in plan.captures}
    analyses = _analyse(plan, captures, measured)
    groups = {
        **{f"/stimuli/{name}": stimuli_dataset(plan, name) for name in plan.sets},
        **{f"/captures/{name}": data for name, data in captures.items()},
        **{f"/analyses/{name}": data for name, data in analyses.items()},
    }
    path = _write(plan, groups, Path(out), root_attributes(plan, setting))
    return Result(path, loaded, groups, setting.verdicts)


def _measure(plan: Plan, progress: Progress) -> tuple[Measured, Setting]:
    """Load the weights, run the passes, and check them."""
    device = choose_device(plan.loaded.spec.run.device)
    module = load_weights(plan.model, device)
    backend = open_backend(plan.loaded.spec.run.backend, module, plan.model.tokenizer)
    with threads_for(module) as threads:
        measured = measure(plan, backend, progress)
        verdicts = check_measurement(plan, module, backend, measured)
    return measured, Setting(device, threads, tuple(verdicts))


def _analyse(
    plan: Plan, captures: Mapping[str, xr.Dataset], measured: Measured
) -> dict[str, xr.Dataset]:
    """Do every analysis on the dataset that answers its reading."""
    spec = plan.loaded.spec
    results = {}
    for name, entry in spec.analyses.items():
        data = {
            part: measured_dataset(plan, reading, captures, measured)
            for part, reading in plan.readings[name].items()
        }
        analyse = load_reference(ANALYSES[entry.kind].analyse)
        try:
            result = analyse(entry, data, Context(Seeds(spec.seed, f"analyses.{name}")))
        except AnalysisError as error:
            raise AnalysisError(f"analyses.{name}: {error}") from error
        results[name] = result.assign_attrs(kind=entry.kind)
    return results


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
