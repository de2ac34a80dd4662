"""Ablation: the effect of removing each unit, or all others, on a metric per stimulus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import xarray as xr

from patchclamp.analyses.bootstrap import interval_words
from patchclamp.analyses.context import Context
from patchclamp.analyses.effects import (
    SIGN_FLIPS,
    Inference,
    groups_of,
    meanings,
    require_baseline,
    summarise,
    table,
)
from patchclamp.analyses.readings import Condition, MetricReading, ModelShape, Readings
from patchclamp.analyses.units import parts
from patchclamp.registry import METRICS
from patchclamp.specs.analyses_causal import Ablation


def readings(entry: Ablation, shape: ModelShape) -> Readings:
    """Return one condition for each unit, and for each dose where the intervention has several."""
    name = cast("str", entry.with_)
    doses = shape.doses.get(name, ())
    found = [
        ((*labels, ("dose", float(dose))), replace(change, dose=number))
        for labels, change in parts(entry.units, shape, name)
        for number, dose in enumerate(doses)
    ]
    if len(doses) < 2:
        found = list(parts(entry.units, shape, name))
    conditions = []
    for number, (labels, change) in enumerate(found):
        others = tuple(
            other for i, (_, other) in enumerate(found) if i != number and other.dose == change.dose
        )
        conditions.append(Condition(labels, (change,) if entry.remove == "each" else others))
    reading = MetricReading(cast("str", entry.stimuli), entry.metric.kind, tuple(conditions))
    return {"effect": reading}


def analyse(entry: Ablation, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Summarise a metric under each ablation, against the clean run.

    `data["effect"]` has `clean` (stimulus) and `value` (condition, stimulus), and coords such as
    `layer` and `head` on `condition`; the result has a dim for each of them.

        effect = mean over stimuli of (value - clean)        in the metric's units
        share  = mean of value / mean of clean               1 means nothing is lost

    Intervals are percentile bootstrap intervals over groups (stimuli where there are none), which
    assumes that groups, not stimuli, are independent; see `effects.summarise` for tests. Raises
    `AnalysisError` for a share where the clean baseline is not reliably positive.
    """
    metric = METRICS[entry.metric.kind]
    measured = table(data["effect"])
    value, clean = measured["value"], measured["clean"]
    groups = groups_of(measured)
    scale = float(np.abs(clean).max())  # the numeric noise of a small effect is that of the metric
    what = "the unit is ablated" if entry.remove == "each" else "all units but this are ablated"
    attrs = {"units": metric.units, "estimand": metric.estimand}
    under = f"{metric.summary}, when {what}"
    result = xr.Dataset(
        {
            metric.name: value.assign_attrs(attrs, long_name=under),
            f"{metric.name}_clean": clean.assign_attrs(attrs, long_name=metric.summary),
        }
    )
    how = Inference(entry.bootstrap, entry.correct, context.seeds)
    meaning = meanings(metric, what, scale)
    for name, found in summarise(value - clean, groups, how).items():
        result[name] = found.assign_attrs(meaning[name])
    if entry.share:
        require_baseline(metric.name, clean.to_numpy(), groups, context.seeds)
        result["share"] = (value.mean("stimulus") / clean.mean("stimulus")).assign_attrs(
            units="1",
            long_name=f"mean {metric.name} under ablation as a share of the clean mean",
            estimand=f"share_of_{metric.estimand}",
        )
    count = measured.sizes["stimulus"]
    return result.assign_attrs(
        n_stimuli=count,
        n_groups=count if groups is None else len(np.unique(groups)),
        interval=interval_words(groups, entry.bootstrap.n, entry.bootstrap.level),
        intervention=str(entry.with_),
        remove=entry.remove,
        **({} if entry.correct == "none" else {"test": SIGN_FLIPS}),
    )
