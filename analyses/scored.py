"""Scores held against what they estimate: completeness of a path, and exact patching."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import Change, Condition, MetricReading, Readings
from patchclamp.registry.metrics import Metric


def residuals(
    totals: Mapping[str, xr.DataArray], exact: Mapping[str, xr.DataArray], metric: Metric
) -> xr.Dataset:
    """Return how far integrated scores are from what they must sum to.

    `totals` and `exact` (stimulus,), in the metric's units, by what moves along the path.

        residual_each    sum of scores - exact change, of a stimulus
        residual         its mean over stimuli
        residual_share   mean of its size / mean size of the exact change      0: complete
    """
    names = list(totals)
    total, change = (
        xr.concat([part[name] for name in names], "moved").assign_coords(moved=names)
        for part in (totals, exact)
    )
    each = total - change
    size = abs(change).mean("stimulus")
    share = (abs(each).mean("stimulus") / size.where(size > 0)).fillna(0.0)
    what = "sum of scores minus the change of the metric along the path"
    about: dict[str, str | float] = {
        "units": metric.units,
        "estimand": f"residual_of_{metric.estimand}",
        "scale": float(abs(change).max()),
    }
    return xr.Dataset(
        {
            "residual_each": each.assign_attrs(about, long_name=f"{what}, of a stimulus"),
            "residual": each.mean("stimulus").assign_attrs(about, long_name=what),
            "residual_share": share.assign_attrs(
                units="1", scale=1.0, long_name="size of the residual / size of that change"
            ),
        }
    )


def verification(
    scored: tuple[xr.DataArray, Mapping[tuple[str, ...], Change]],
    count: int,
    reading: Callable[[tuple[Condition, ...]], MetricReading],
    context: Context,
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Patch what has the `count` largest scores, and as many random others.

    `scored` are the scores, over node or over sender and receiver, and the change that each of them
    estimates. Returns `exact`, the mean effect, and `verified`, why it was patched; as attributes
    how far scores tell exact effects, see `agreement`.
    """
    score, changes = scored
    dims = tuple(str(dim) for dim in score.dims)
    labels = list(changes)
    where = [
        tuple(score.indexes[d].get_loc(x) for d, x in zip(dims, at, strict=True)) for at in labels
    ]
    sizes = np.abs(score.to_numpy()[tuple(np.asarray(where).T)])
    ranked = np.argsort(-sizes, kind="stable")
    top, rest = ranked[:count], ranked[count:]
    rng = context.seeds.generator("verify")
    drawn = rng.choice(rest, size=min(len(rest), count), replace=False)
    picked = [*top.tolist(), *sorted(drawn.tolist())]
    conditions = tuple(
        Condition(tuple(zip(dims, labels[i], strict=True)), (changes[labels[i]],)) for i in picked
    )
    found = (yield {"exact": reading(conditions)})["exact"]
    effect = (found["value"] - found["clean"]).mean("stimulus").to_numpy()
    exact = np.full(score.shape, np.nan)
    why = np.full(score.shape, "", dtype="<U6")
    for number, i in enumerate(picked):
        exact[where[i]] = effect[number]
        why[where[i]] = "top" if number < len(top) else "random"
    about = {name: score.attrs[name] for name in ("units", "scale") if name in score.attrs}
    result = xr.Dataset(
        {
            "exact": (dims, exact, {**about, "long_name": "mean change when it is patched"}),
            "verified": (dims, why, {"units": "text", "long_name": "why it was patched"}),
        },
        coords={dim: score[dim] for dim in dims},
    )
    return result.assign_attrs(
        agreement(score.to_numpy()[why != ""], exact[why != ""], why[why != ""])
    )


def agreement(
    score: NDArray[np.float64], exact: NDArray[np.float64], why: Sequence[str] | NDArray[np.str_]
) -> dict[str, float]:
    """Return how far scores tell exact effects, all (patched,).

    `recall` is the share of random ones that are no larger than the smallest of the top ones, by
    exact effect: what was screened out was rightly so. `correlation` is Pearson's, over all that
    were patched.

    >>> agreement(np.array([3.0, 2.0, 1.0]), np.array([6.0, 4.0, 5.0]), ["top", "top", "random"])
    {'recall': 0.0, 'correlation': 0.5}
    """
    found = {}
    sizes, kinds = np.abs(exact), np.asarray(why)
    top, drawn = sizes[kinds == "top"], sizes[kinds == "random"]
    if len(drawn):
        found["recall"] = float(np.mean(drawn <= top.min()))
    if len(exact) > 2 and np.ptp(score) > 0 and np.ptp(exact) > 0:
        found["correlation"] = float(np.corrcoef(score, exact)[0, 1])
    return found
