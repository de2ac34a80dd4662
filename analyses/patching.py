"""Patching: activations of one run put into another, one place at a time, or along one path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import xarray as xr

from patchclamp.analyses.bootstrap import interval_words
from patchclamp.analyses.context import Context
from patchclamp.analyses.effects import Inference, groups_of, meanings, recovered, summarise, table
from patchclamp.analyses.paths import path_conditions
from patchclamp.analyses.readings import Condition, Label, MetricReading, ModelShape, Readings
from patchclamp.analyses.units import parts
from patchclamp.registry import METRICS, SITES
from patchclamp.specs.analyses_causal import Patching, Units
from patchclamp.specs.analyses_circuits import Attribution
from patchclamp.specs.inference import Bootstrap
from patchclamp.specs.interventions import Patch


def readings(entry: Patching, shape: ModelShape) -> Readings:
    """Return a condition for each place that is patched, and the run that is patched from."""
    clean = cast("str", entry.clean)
    into, source = direction(entry)
    patch = Patch(kind="patch", source=source, allow_no_effect=True)
    if entry.units is not None:
        conditions = tuple(grid(entry, entry.units, patch, shape))
    else:
        assert entry.path is not None, "the model has one of the two"
        conditions = tuple(path_conditions(entry.path, (into, patch), shape))
    metric = entry.metric.kind
    return {
        "patched": MetricReading(into, metric, conditions, clean),
        "source": MetricReading(source, metric, (), clean),
    }


def direction(entry: Patching | Attribution) -> tuple[str, str]:
    """Return the set that is patched and the one that is patched from."""
    clean, corrupt = cast("str", entry.clean), entry.corrupt
    return (corrupt, clean) if entry.direction == "denoising" else (clean, corrupt)


def grid(entry: Patching, units: Units, patch: Patch, shape: ModelShape) -> Iterator[Condition]:
    """Yield a condition for each layer and, as far as the grid has them, head and position."""
    places = shape.places(cast("str", entry.clean), units.positions)
    found = list(parts(units, shape, patch))
    if "head" not in entry.grid and {"head", "kv_head"} & set(SITES[units.site].dims):
        found = [(labels, replace(change, head=None)) for labels, change in found]
        found = list({(labels[:1], change): None for labels, change in found})
    for labels, change in found:
        if "position" not in entry.grid or len(places) == 1:
            yield Condition(labels, (change,))
            continue
        for number, (place, name) in enumerate(places):
            more: tuple[Label, ...] = (("position", place),)
            if name:
                more = (*more, ("position_name", name))
            yield Condition((*labels, *more), (replace(change, place=number),))


def analyse(entry: Patching, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Summarise a metric under each patch, against the run that is patched.

    `data["patched"]` has `clean` (stimulus), the run that is patched, and `value` (condition,
    stimulus); `data["source"]` has `clean` of the run patched from. The result has a dim for each
    label of the conditions, such as layer, head and position.

        effect    = mean over stimuli of (value - patched run)                      metric's units
        recovered = effect / mean of (source run - patched run)                     0 to 1

    A stimulus without a place is left out there. Intervals are bootstrap intervals over groups,
    the same draws above and below the fraction line. Raises `AnalysisError` where the two runs do
    not differ reliably, so that a share of their difference means nothing.
    """
    metric = METRICS[entry.metric.kind]
    measured = table(data["patched"])
    value, into = measured["value"], measured["clean"]
    source = data["source"]["clean"].sel(stimulus=into["stimulus"])
    groups = groups_of(measured)
    scale = float(np.abs(xr.concat([into, source], "run")).max())
    attrs = {"units": metric.units, "estimand": metric.estimand}
    name = metric.name
    result = xr.Dataset(
        {
            name: value.assign_attrs(attrs, long_name=f"{metric.summary}, patched"),
            f"{name}_into": into.assign_attrs(attrs, long_name=f"{name} of the patched run"),
            f"{name}_from": source.assign_attrs(attrs, long_name=f"{name} of the run patched from"),
        }
    )
    how = Inference(Bootstrap(), "none", context.seeds)
    meaning = meanings(metric, "it is patched", scale)
    for key, found in summarise(value - into, groups, how, partial=True).items():
        result[key] = found.assign_attrs(meaning[key])
    if entry.normalise:
        for key, one in recovered(value - into, source - into, groups, how).items():
            result[key] = one.assign_attrs(
                units="1",
                long_name=f"{key.replace('_', ', ')}: 0 is the patched run, 1 the run patched from",
                estimand=f"recovered_{metric.estimand}",
            )
    return result.assign_attrs(
        direction=entry.direction,
        patched=direction(entry)[0],
        source=direction(entry)[1],
        n_stimuli=int(measured.sizes["stimulus"]),
        interval=interval_words(groups, how.bootstrap.n),
    )
