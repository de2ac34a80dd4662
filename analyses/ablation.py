"""Ablation: the effect of removing each unit, one at a time, on a metric per stimulus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import xarray as xr

from patchclamp.analyses.bootstrap import group_bootstrap
from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import Change, Condition, MetricReading, ModelShape, Readings
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry import METRICS
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Ablation

_DRAWS = 2000
"""Bootstrap draws; the ends of a 95 % interval then rest on 50 draws each."""


def readings(entry: Ablation, shape: ModelShape) -> Readings:
    """Return one condition for each head of each chosen layer."""
    layers = cast("tuple[int, ...]", entry.units.layers)
    intervention = cast("str", entry.with_)
    conditions = tuple(
        Condition(
            labels=(("layer", layer), ("head", head)),
            changes=(Change(intervention, entry.units.site, layer, head),),
        )
        for layer in layers
        for head in range(shape.heads)
    )
    reading = MetricReading(cast("str", entry.stimuli), entry.metric.kind, conditions)
    return {"effect": reading}


def analyse(entry: Ablation, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Summarise a metric under each ablation, against the clean run.

    `data["effect"]` has `clean` (stimulus) and `value` (condition, stimulus), and coords `layer`
    and `head` on `condition`; the result has dims (layer, head, stimulus).

        effect = mean over stimuli of (value - clean)        in the metric's units
        share  = mean of value / mean of clean               1 means nothing is lost

    Intervals are 95 % percentile bootstrap intervals over groups (stimuli where there are
    none), which assumes that groups, not stimuli, are independent. Raises `AnalysisError` for a
    share where the clean baseline is not reliably positive.
    """
    metric = METRICS[entry.metric.kind]
    measured, seeds = data["effect"], context.seeds
    table = measured.set_index(condition=["layer", "head"]).unstack("condition")
    value = table["value"].transpose("layer", "head", "stimulus")
    clean = table["clean"]
    groups = measured["group"].to_numpy() if "group" in measured.coords else None
    difference = value - clean
    draws = group_bootstrap(
        difference.to_numpy(), groups, n=_DRAWS, rng=seeds.generator("bootstrap")
    )
    low, high = np.quantile(draws, [0.025, 0.975], axis=-1)
    scale = float(np.abs(clean).max())  # the numeric noise of a small effect is that of the metric
    result = xr.Dataset(
        {
            metric.name: value.assign_attrs(
                units=metric.units,
                long_name=f"{metric.summary}, under ablation",
                estimand=metric.estimand,
            ),
            f"{metric.name}_clean": clean.assign_attrs(
                units=metric.units, long_name=metric.summary, estimand=metric.estimand
            ),
            "effect": difference.mean("stimulus").assign_attrs(
                units=metric.units,
                long_name=f"mean change of {metric.name} when the head is ablated",
                estimand=f"effect_of_{metric.estimand}",
                scale=scale,
            ),
        }
    )
    for name, bound in (("effect_low", low), ("effect_high", high)):
        long_name = f"95 % bootstrap bound of effect ({name})"
        attrs = {"units": metric.units, "long_name": long_name, "scale": scale}
        result[name] = (("layer", "head"), bound, attrs)
    if entry.share:
        _require_baseline(metric.name, clean, groups, seeds)
        result["share"] = (value.mean("stimulus") / clean.mean("stimulus")).assign_attrs(
            units="1",
            long_name=f"mean {metric.name} under ablation as a share of the clean mean",
            estimand=f"share_of_{metric.estimand}",
        )
    n_groups = len(np.unique(groups)) if groups is not None else measured.sizes["stimulus"]
    return result.assign_attrs(
        n_stimuli=measured.sizes["stimulus"],
        n_groups=n_groups,
        interval=f"95 % percentile bootstrap over groups, {_DRAWS} draws",
        intervention=str(entry.with_),
    )


def _require_baseline(
    metric: str, clean: xr.DataArray, groups: np.ndarray | None, seeds: Seeds
) -> None:
    """Refuse a share unless the clean mean is positive beyond doubt and so are most stimuli.

    A share of a baseline near zero is arbitrarily large, one of a negative baseline has the
    wrong sign. A model that fails the task can still have a small positive mean by accident, so
    the mean and the mean sign must both be positive at the lower end of their 95 % intervals.
    """
    values = clean.to_numpy()
    draws = group_bootstrap(
        np.stack([values, np.sign(values)]), groups, n=_DRAWS, rng=seeds.generator("baseline")
    )
    mean_low, sign_low = np.quantile(draws, 0.025, axis=-1)
    if mean_low <= 0 or sign_low <= 0:
        raise AnalysisError(
            f"a share of the clean baseline has no meaning here: mean {metric} is "
            f"{values.mean():.4g} (95 % interval from {mean_low:.4g}), positive in "
            f"{np.mean(values > 0):.0%} and negative in {np.mean(values < 0):.0%} of stimuli; the "
            "model does not reliably do the task. Leave out `share: true`, or use stimuli it solves"
        )
