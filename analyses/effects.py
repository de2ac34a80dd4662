"""Effects: a metric under conditions against another run, with intervals and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from patchclamp.analyses.bootstrap import group_bootstrap
from patchclamp.analyses.paired import sign_flip_test
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.inference import Bootstrap

BESIDE = ("position_name", "position_token")
"""Labels of conditions that say more of a dim and are none."""

SIGN_FLIPS = "sign flips of whole groups against 0, two-sided"
"""What the test of effects is called in results."""

FLIPS = 10_000
"""Random sign flips of a test against 0, where there are too many groups for all of them."""


def table(measured: xr.Dataset) -> xr.Dataset:
    """Return readings with a dim for each label of their conditions, instead of `condition`.

    `value` (condition, stimulus) becomes (layer, head, ..., stimulus); combinations that no
    condition has are NaN, and so are stimuli that a condition does not apply to.
    """
    data = measured.assign(value=measured["value"].where(measured["applied"]))
    data = data.drop_vars("applied")
    on = [str(n) for n, c in data.coords.items() if c.dims == ("condition",)]
    names = [name for name in on if name not in BESIDE]
    beside = {name: data[name].to_numpy() for name in on if name in BESIDE}
    places = data["position"].to_numpy() if beside else np.array([])
    data = data.drop_vars(list(beside))
    if names:
        data = data.set_index(condition=names)
        data = data.unstack("condition") if len(names) > 1 else data.rename(condition=names[0])
    elif data.sizes["condition"] == 1:
        data = data.squeeze("condition")  # a site that has no layers, changed as a whole
    for name, values in beside.items():
        known = dict(zip(places.tolist(), values.tolist(), strict=True))
        column = [known[place] for place in data["position"].to_numpy().tolist()]
        data = data.assign_coords({name: ("position", column)})
    return data.transpose(*names, "stimulus", ...)


def groups_of(data: xr.Dataset) -> NDArray[Any] | None:
    """Return the group of each stimulus, None where each is independent."""
    return data["group"].to_numpy() if "group" in data.coords else None


@dataclass(frozen=True)
class Inference:
    """How effects are judged: intervals over groups, and tests against 0, corrected over cells."""

    bootstrap: Bootstrap
    correct: Literal["max", "fdr", "none"]
    seeds: Seeds


def summarise(
    difference: xr.DataArray, groups: NDArray[Any] | None, how: Inference, *, partial: bool = False
) -> dict[str, xr.DataArray]:
    """Return the mean effect over stimuli with its interval and, if asked for, its p values.

    `difference` (..., stimulus), in the metric's units: under a condition minus without it.

        effect               mean over stimuli
        effect_low, _high    percentile bootstrap interval of it over groups
        p, p_max or p_fdr    two-sided sign-flip test against 0, alone and corrected over all cells

    Intervals assume that groups are independent, tests that the sign of a group's difference is
    exchangeable if there is no effect. Cells that do not exist are NaN; a cell that lacks some
    stimuli is about the others if `partial`, and raises `AnalysisError` otherwise.
    """
    values, back = _cells(difference)
    there = np.isfinite(values)
    if not partial:
        _require_whole(difference, there)
    columns = {name: np.full(len(values), np.nan) for name in ("effect", "effect_low")}
    columns["effect_high"] = columns["effect_low"].copy()
    ends = [(1 - how.bootstrap.level) / 2, (1 + how.bootstrap.level) / 2]
    for cells, some in _alike(there):
        inside = values[np.ix_(cells, some)]
        columns["effect"][cells] = inside.mean(axis=1)
        own = None if groups is None else groups[some]
        if len(np.unique(np.flatnonzero(some) if own is None else own)) > 1:
            rng = how.seeds.generator("bootstrap")
            draws = group_bootstrap(inside, own, n=how.bootstrap.n, rng=rng)
            low, high = np.quantile(draws, ends, axis=-1)
            columns["effect_low"][cells], columns["effect_high"][cells] = low, high
    whole = there.all(axis=1)
    if how.correct != "none":
        p, p_max = sign_flip_test(values[whole], groups, FLIPS, how.seeds.generator("sign flips"))
        corrected = p_max if how.correct == "max" else false_discovery_control(p)
        for name, found in (("p", p), (f"p_{how.correct}", corrected)):
            columns[name] = np.full(len(values), np.nan)
            columns[name][whole] = found
    return {name: back(column) for name, column in columns.items()}


def recovered(
    difference: xr.DataArray, whole: xr.DataArray, groups: NDArray[Any] | None, how: Inference
) -> dict[str, xr.DataArray]:
    """Return effects as a share of the difference between two runs, with bootstrap bounds.

    `difference` (..., stimulus) and `whole` (stimulus), in one unit: recovered = mean difference /
    mean whole, over the stimuli that a cell has. Raises `AnalysisError` where the mean of `whole`
    is not reliably of one sign.
    """
    values, back = _cells(difference)
    total = whole.to_numpy()
    rng = how.seeds.generator("bootstrap")
    ends = [(1 - how.bootstrap.level) / 2, (1 + how.bootstrap.level) / 2]
    low, high = np.quantile(group_bootstrap(total, groups, n=how.bootstrap.n, rng=rng), ends)
    if low <= 0 <= high:
        raise AnalysisError(
            f"the two runs do not differ reliably: on average by {total.mean():.4g}, interval "
            f"{low:.4g} to {high:.4g}; a share of that means nothing. Say 'normalise: false' in "
            "patching, leave out 'faithfulness' in attribution, or take stimuli whose corruption "
            "matters"
        )
    columns = {n: np.full(len(values), np.nan) for n in ("recovered", "recovered_low")}
    columns["recovered_high"] = columns["recovered_low"].copy()
    for cells, some in _alike(np.isfinite(values)):
        inside, below = values[np.ix_(cells, some)], total[some]
        columns["recovered"][cells] = inside.mean(axis=1) / below.mean()
        own = None if groups is None else groups[some]
        if len(np.unique(np.flatnonzero(some) if own is None else own)) > 1:
            rng = how.seeds.generator("bootstrap")
            draws = group_bootstrap(np.vstack([inside, below]), own, n=how.bootstrap.n, rng=rng)
            bounds = np.quantile(draws[:-1] / draws[-1], ends, axis=-1)
            columns["recovered_low"][cells], columns["recovered_high"][cells] = bounds
    return {name: back(column) for name, column in columns.items()}


def _cells(
    difference: xr.DataArray,
) -> tuple[NDArray[np.float64], Callable[[NDArray[Any]], xr.DataArray]]:
    """Return values (cell, stimulus), and what makes a column (cell,) an array of their dims."""
    dims = [dim for dim in difference.dims if dim != "stimulus"]
    ordered = difference.transpose(*dims, "stimulus")
    first = ordered.isel(stimulus=0, drop=True)
    values = ordered.to_numpy().reshape(-1, ordered.sizes["stimulus"])

    def back(column: NDArray[Any]) -> xr.DataArray:
        return first.copy(data=column.reshape(first.shape))

    return values, back


def _alike(
    there: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Yield the cells that have the same stimuli, and which these are; none of empty cells."""
    patterns, which = np.unique(there, axis=0, return_inverse=True)
    for number, some in enumerate(patterns):
        if some.any():
            yield np.flatnonzero(which.ravel() == number), some


def _require_whole(difference: xr.DataArray, there: NDArray[np.bool_]) -> None:
    partly = there.any(axis=1) & ~there.all(axis=1)
    if partly.any():
        cell = int(np.flatnonzero(partly)[0])
        stimulus = difference["stimulus"].to_numpy()[int(np.flatnonzero(~there[cell])[0])]
        raise AnalysisError(
            f"stimulus {str(stimulus)!r} has no token where something is changed: choose positions "
            "that all stimuli have"
        )


def meanings(metric: Any, what: str, scale: float) -> dict[str, dict[str, Any]]:
    """Return the attributes of what `summarise` gives; `what` says what is done."""
    effect = {
        "units": metric.units,
        "long_name": f"mean change of {metric.name} when {what}",
        "estimand": f"effect_of_{metric.estimand}",
        "scale": scale,
    }
    bound = "bootstrap bound of effect"
    # One exchange of signs may come as near to what was observed as rounding.
    test = {"units": "1", "scale": 1.0, "of": "effect", "tolerance": 1 / (FLIPS + 1)}
    return {
        "effect": effect,
        "effect_low": {"units": metric.units, "long_name": f"lower {bound}", "scale": scale},
        "effect_high": {"units": metric.units, "long_name": f"upper {bound}", "scale": scale},
        "p": {**test, "long_name": "p of a sign-flip test of effect against 0, uncorrected"},
        "p_max": {**test, "long_name": "p of effect, corrected by the maximum statistic"},
        "p_fdr": {**test, "long_name": "p of effect, corrected for the false discovery rate"},
    }


def require_baseline(
    metric: str, clean: NDArray[np.float64], groups: NDArray[Any] | None, seeds: Seeds
) -> None:
    """Refuse a share unless the clean mean is positive beyond doubt and so are most stimuli.

    A share of a baseline near zero is arbitrarily large, one of a negative baseline has the
    wrong sign. A model that fails the task can still have a small positive mean by accident, so
    the mean and the mean sign must both be positive at the lower end of their 95 % intervals.
    """
    both = np.stack([clean, np.sign(clean)])
    draws = group_bootstrap(both, groups, n=2000, rng=seeds.generator("baseline"))
    mean_low, sign_low = np.quantile(draws, 0.025, axis=-1)
    if mean_low <= 0 or sign_low <= 0:
        raise AnalysisError(
            f"a share of the clean baseline has no meaning here: mean {metric} is "
            f"{clean.mean():.4g} (95 % interval from {mean_low:.4g}), positive in "
            f"{np.mean(clean > 0):.0%} and negative in {np.mean(clean < 0):.0%} of stimuli; the "
            "model does not reliably do the task. Leave out `share: true`, or use stimuli it solves"
        )
