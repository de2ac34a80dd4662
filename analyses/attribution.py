"""Attribution: what patching each node would do, estimated from one gradient, and checked.

1. Activations of both runs and the gradient of the metric in one of them are recorded.
2. A node's score is the inner product of the change of its activation and that gradient.
3. With `verify`, the nodes with the largest scores and as many random others are patched exactly.

Source: Nanda 2023, Attribution patching; Kramár et al. 2024, AtP*, for its failures.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.bootstrap import interval_words
from patchclamp.analyses.context import Context
from patchclamp.analyses.effects import Inference, groups_of, meanings, summarise
from patchclamp.analyses.paths import node
from patchclamp.analyses.readings import (
    CaptureReading,
    Change,
    Condition,
    MetricReading,
    ModelShape,
    Readings,
    asked_of,
)
from patchclamp.registry import METRICS, SITES
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Attribution, Units
from patchclamp.specs.captures import Capture, Gradient
from patchclamp.specs.inference import Bootstrap
from patchclamp.specs.interventions import Patch

_ALL = (Units(site="z"), Units(site="mlp_out"))


def readings(entry: Attribution, shape: ModelShape) -> Readings:
    """Return the activations of both runs at every site, and the gradient in one of them."""
    del shape
    clean, corrupt = cast("str", entry.clean), entry.corrupt
    found: Readings = {
        "clean": MetricReading(clean, entry.metric, (), clean),
        "corrupt": MetricReading(corrupt, entry.metric, (), clean),
    }
    runs = {"clean": clean, "corrupt": asked_of(corrupt, clean)}
    for number, units in enumerate(entry.units or _ALL):
        if not {"layer", "position"} <= set(SITES[units.site].dims):
            raise AnalysisError(f"attribution is of sites in a layer; {units.site!r} is in none")
        for run, stimuli in runs.items():
            found[f"{number}.{run}"] = _capture(units, stimuli, None)
        gradient = Gradient(of=entry.metric)
        found[f"{number}.gradient"] = _capture(units, runs[entry.gradient_at], gradient)
    return found


def _capture(units: Units, stimuli: str, gradient: Gradient | None) -> CaptureReading:
    capture = Capture.model_construct(
        of=stimuli,
        site=units.site,
        layers=units.layers,
        heads="all",
        positions=units.positions,
        reduce=(),
        gradient=gradient,
    )
    sort = "activations" if gradient is None else f"gradient of {gradient.of}"
    where = f"{units.positions.model_dump_json()}, layers {units.layers}"
    return CaptureReading(f"{sort} of {stimuli} in {units.site} at {where}", entry=capture)


def analyse(
    entry: Attribution, data: Mapping[str, xr.Dataset], context: Context
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Score every node, and patch some of them exactly.

    With `gradient_at: clean` the corrupt activation a' is put into the clean run, and the score of
    a node is what that is estimated to do there; with `corrupt` it is the other way round:

        score = sum over positions and units of (a' - a) dm/da       in the metric's units

    with m the metric, a and dm/da of the run in which the gradient is taken. It is the first order
    of the exact effect: where m is affine in the activation they are equal, and where the node
    saturates the score can be far too small, or of the wrong sign. `exact` is the effect of
    patching, of nodes that were verified.
    """
    metric = METRICS[entry.metric]
    scores: dict[str, NDArray[np.float64]] = {}
    changes: dict[str, Change] = {}
    patch = Patch(kind="patch", source=_source(entry), allow_no_effect=True)
    for number, units in enumerate(entry.units or _ALL):
        for change, column in _scored(entry, units, data, number):
            name = node(change)
            if name in scores:
                raise AnalysisError(f"the node {name!r} is in two entries of 'units'")
            scores[name] = column
            changes[name] = Change(
                patch, change.site, change.layer, change.head, positions=units.positions
            )
    base = data["clean"]
    names = list(scores)
    dims = ("node", "stimulus")
    each = xr.DataArray(np.stack(list(scores.values())), dims=dims).assign_coords(
        {"node": names, **base["clean"].coords}
    )
    what = f"patching the node into the {entry.gradient_at} run is estimated"
    scale = float(np.abs(base["clean"]).max())
    about = meanings(metric, "it is patched", scale)
    result = xr.Dataset({"score_each": each})
    result["score_each"].attrs = {
        "units": metric.units,
        "long_name": f"change of {metric.name} of a stimulus when {what}",
        "estimand": f"attribution_of_{metric.estimand}",
        "scale": scale,
    }
    how = Inference(Bootstrap(), "none", context.seeds)
    for name, found in summarise(each, groups_of(base), how).items():
        part = name.replace("effect", "score")
        long_name = about[name]["long_name"].replace("when it is patched", f"when {what}")
        result[part] = found.assign_attrs(about[name], long_name=long_name)
        result[part].attrs |= {"estimand": f"attribution_of_{metric.estimand}"}
    attrs: dict[str, str | float] = {
        "gradient_at": entry.gradient_at,
        "into": _into(entry),
        "source": _source(entry),
        "n_stimuli": base.sizes["stimulus"],
        "interval": interval_words(groups_of(base), how.bootstrap.n),
    }
    if entry.verify:
        result = result.assign((yield from _verified(entry, result["score"], changes, context)))
        attrs |= _agreement(result)
    return result.assign_attrs(attrs)


def _into(entry: Attribution) -> str:
    return cast("str", entry.clean) if entry.gradient_at == "clean" else entry.corrupt


def _source(entry: Attribution) -> str:
    return entry.corrupt if entry.gradient_at == "clean" else cast("str", entry.clean)


def _scored(
    entry: Attribution, units: Units, data: Mapping[str, xr.Dataset], number: int
) -> Iterator[tuple[Change, NDArray[np.float64]]]:
    """Yield the score (stimulus,) of each node at a site, reading one layer at a time."""
    clean, corrupt = data[f"{number}.clean"], data[f"{number}.corrupt"]
    gradient = data[f"{number}.gradient"]
    if clean.sizes != corrupt.sizes:
        raise AnalysisError(
            f"stimuli and their partners have other numbers of tokens at {units.site}: "
            f"{dict(clean.sizes)} against {dict(corrupt.sizes)}; attribute at single positions or "
            "spans of one length"
        )
    here, there = (clean, corrupt) if entry.gradient_at == "clean" else (corrupt, clean)
    for i, layer in enumerate(clean["layer"].to_numpy().tolist()):
        a, other, slope = (
            one.isel(layer=i).to_numpy().astype(np.float64)
            for one in (here["activation"], there["activation"], gradient["gradient"])
        )
        if not np.array_equal(np.isnan(a), np.isnan(other)):
            raise AnalysisError(
                f"a stimulus and its partner differ in their number of tokens at {units.site}: "
                "attribute at single positions or spans of one length"
            )
        products = np.nan_to_num((other - a) * slope)
        if products.ndim == 3:
            yield Change("", units.site, layer), products.sum(axis=(1, 2))
            continue
        each = products.sum(axis=(2, 3))
        for head in range(each.shape[1]):
            yield Change("", units.site, layer, head), each[:, head]


def _verified(
    entry: Attribution, score: xr.DataArray, changes: Mapping[str, Change], context: Context
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Patch the nodes of the largest scores, and as many random others."""
    names = score["node"].to_numpy()
    ranked = names[np.argsort(-np.abs(score.to_numpy()), kind="stable")].tolist()
    top, rest = ranked[: entry.verify], ranked[entry.verify :]
    rng = context.seeds.generator("verify")
    drawn = rng.choice(rest, size=min(len(rest), entry.verify), replace=False).tolist()
    conditions = tuple(Condition((("node", n),), (changes[n],)) for n in (*top, *drawn))
    reading = MetricReading(_into(entry), entry.metric, conditions, cast("str", entry.clean))
    found = (yield {"exact": reading})["exact"]
    effect = (found["value"] - found["clean"]).mean("stimulus").to_numpy()
    exact = dict(zip(found["node"].to_numpy().tolist(), effect.tolist(), strict=True))
    metric = METRICS[entry.metric]
    about = {"units": metric.units, "long_name": f"mean change of {metric.name} when it is patched"}
    picked = np.asarray(["top" if n in top else "random" if n in drawn else "" for n in names])
    return xr.Dataset(
        {
            "exact": ("node", [exact.get(n, np.nan) for n in names.tolist()], about),
            "verified": ("node", picked, {"units": "text", "long_name": "why it was patched"}),
        },
        coords={"node": names},
    )


def _agreement(result: xr.Dataset) -> dict[str, float]:
    """Return how far scores tell exact effects.

    `recall` is the share of random nodes that are no larger than the smallest of the top ones, by
    exact effect: what was screened out was rightly so. `correlation` is Pearson's, over all that
    were patched.
    """
    verified = result["verified"].to_numpy()
    exact, score = np.abs(result["exact"].to_numpy()), result["score"].to_numpy()
    found = {}
    top, drawn = exact[verified == "top"], exact[verified == "random"]
    if len(drawn):
        found["recall"] = float(np.mean(drawn <= top.min()))
    some = verified != ""
    if some.sum() > 2:
        found["correlation"] = float(np.corrcoef(score[some], result["exact"].values[some])[0, 1])
    return found
