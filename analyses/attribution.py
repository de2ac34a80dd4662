"""Attribution: what patching each node or edge would do, estimated from gradients, and checked.

1. The score of a node is the inner product of what its activation changes by from one run to the
   other and the gradient of a metric; of an edge, of what its sender adds and the gradient through
   its receiver.
2. The gradient is that of one of the runs, or its mean along the path from one to the other
   (integrated gradients), by a quadrature whose completeness residual is reported.
3. With `verify`, those with the largest scores and as many random others are patched exactly.

Source: Nanda 2023, Attribution patching; Syed, Rager & Conmy 2023 (edges); Hanna, Pezzelle &
Belinkov 2024 (integrated gradients); Kramár et al. 2024, AtP*, for its failures.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import xarray as xr

from patchclamp.analyses import edges
from patchclamp.analyses.asking import ScoreReading, Spot
from patchclamp.analyses.bootstrap import interval_words
from patchclamp.analyses.context import Context
from patchclamp.analyses.effects import Inference, groups_of, meanings, summarise
from patchclamp.analyses.kept import kept_curve
from patchclamp.analyses.patching import direction
from patchclamp.analyses.paths import node
from patchclamp.analyses.quadrature import points_of
from patchclamp.analyses.readings import Change, Condition, MetricReading, ModelShape, Readings
from patchclamp.analyses.scored import residuals, verification
from patchclamp.analyses.units import heads
from patchclamp.registry import METRICS, SITES
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Units
from patchclamp.specs.analyses_circuits import Attribution
from patchclamp.specs.inference import Bootstrap
from patchclamp.specs.interventions import Patch
from patchclamp.specs.positions import ALL, Positions

_ALL = (Units(site="z"), Units(site="mlp_out"))


def readings(entry: Attribution, shape: ModelShape) -> Readings:
    """Return the scores, and the metric in both runs.

    If activations move along the path there are scores for each layer of nodes, and what moving
    it whole does to the metric.
    """
    clean = cast("str", entry.clean)
    integrated = entry.gradient_at == "integrated"
    if integrated and "text" in METRICS[entry.metric].reads:
        raise AnalysisError(
            f"{entry.metric!r} is about the text itself, which is another at either end of the "
            "path: take the gradient at 'clean' or 'corrupt'"
        )
    into, source = direction(entry)
    scores = list(_scores(entry, shape))
    patch = Patch(kind="patch", source=source, allow_no_effect=True)
    moved = tuple(
        Condition(
            (("moved", node(Change("", along.site, along.layer))),),
            (Change(patch, along.site, along.layer, positions=along.positions),),
        )
        for along in (one.along for one in scores)
        if along is not None
    )
    return {
        "into": MetricReading(into, entry.metric, moved, clean),
        "source": MetricReading(source, entry.metric, (), clean),
        **{f"scores.{number}": one for number, one in enumerate(scores)},
    }


def _points(entry: Attribution) -> tuple[tuple[float, float], ...]:
    """Return where the gradient is taken: shares of the way to the other run, with weights."""
    if entry.gradient_at == "integrated":
        return points_of(entry.quadrature, entry.steps)
    into = "clean" if entry.direction == "noising" else "corrupt"
    return ((float(entry.gradient_at != into), 1.0),)


def _scores(entry: Attribution, shape: ModelShape) -> Iterator[ScoreReading]:
    """Yield what is scored, by what moves along the path."""
    into, source = direction(entry)
    all_of_it = ScoreReading(into, source, entry.metric, cast("str", entry.clean), _points(entry))
    one_by_one = entry.gradient_at == "integrated" and entry.along == "activations"
    if entry.of == "edges":
        senders, receivers = edges.ends(entry.units or _ALL, shape)
        if not one_by_one:
            yield replace(all_of_it, senders=senders, receivers=receivers)
            return
        for spot in senders:
            along = None if spot == edges.EMBED else replace(spot, heads=())
            yield replace(all_of_it, along=along, senders=(spot,), receivers=receivers)
        return
    spots = _spots(entry.units or _ALL, shape)
    if not one_by_one:
        yield replace(all_of_it, spots=spots)
        return
    for spot in spots:
        yield replace(all_of_it, along=replace(spot, heads=()), spots=(spot,))


def _spots(units: Sequence[Units], shape: ModelShape) -> tuple[Spot, ...]:
    """Return the sites and layers of nodes."""
    found: list[Spot] = []
    names: set[str] = set()
    positions: dict[str, Positions] = {}
    for one in units:
        if not {"layer", "position"} <= set(SITES[one.site].dims):
            raise AnalysisError(f"attribution is of sites in a layer; {one.site!r} is in none")
        if one.group is not None:
            raise AnalysisError("attribution scores heads and whole sites: leave out 'group'")
        if positions.setdefault(one.site, one.positions) != one.positions:
            raise AnalysisError(
                f"entries of 'units' attribute to {one.site!r} at other positions: make that two "
                "analyses"
            )
        by_layer: dict[int, list[int]] = {}
        for layer, head in heads(one, shape):
            name = node(Change("", one.site, int(layer or 0), head))
            if name in names:
                raise AnalysisError(f"the node {name!r} is in two entries of 'units'")
            names.add(name)
            by_layer.setdefault(int(layer or 0), []).extend([] if head is None else [head])
        found += [Spot(one.site, layer, one.positions, tuple(of)) for layer, of in by_layer.items()]
    return tuple(found)


def analyse(
    entry: Attribution, data: Mapping[str, xr.Dataset], context: Context
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Score every node or edge, and patch some of them exactly.

    With a the activations of the run that is patched, a' those of the other, and m the metric,

        score = sum over positions and units of (a' - a) dm/da              in the metric's units

    which estimates what putting a' into the first run does there. For an edge, a is what the
    sender adds to the stream and dm/da goes through the receiver alone; the scores of a node's
    edges sum to its own. With dm/da of the run that is patched this is the first order of the
    exact effect: where m is affine in the activation they are equal, and where it saturates the
    score can be far too small, or of the wrong sign. Integrated along the inputs, the scores of
    the embeddings sum to the difference of the two runs; along activations, those of a layer to
    the effect of patching it whole: `residual` says how far the quadrature is off. `exact` is the
    effect of patching, of nodes or edges that were verified.
    """
    metric, base = METRICS[entry.metric], data["into"]
    into, source = direction(entry)
    parts = [part for name, part in data.items() if name.startswith("scores.")]
    each = _each(parts, context)
    what = "it is patched, as estimated"
    about = meanings(metric, what, float(np.abs(base["clean"]).max()))
    estimand = f"attribution_of_{metric.estimand}"
    result = xr.Dataset()
    if entry.of == "nodes":
        result["score_each"] = each.assign_attrs(
            {**about["effect"], "estimand": estimand},
            long_name=f"change of {metric.name} of a stimulus when {what}",
        )
    how = Inference(Bootstrap(), "none", context.seeds)
    for name, column in _summaries(each, base, how).items():
        part = column.assign_attrs(about[name], estimand=estimand)
        result[name.replace("effect", "score")] = part
    changes = _changes(each, Patch(kind="patch", source=source, allow_no_effect=True), entry)
    result = result.drop_vars([name for name in result.coords if str(name).endswith(_ENDINGS)])
    result = result.assign_attrs(
        direction=entry.direction,
        gradient_at=entry.gradient_at,
        into=into,
        source=source,
        n_stimuli=base.sizes["stimulus"],
        interval=interval_words(groups_of(base), how.bootstrap.n),
    )
    if entry.gradient_at == "integrated":
        found = _completeness(parts, (base, data["source"]), entry)
        result = result.merge(found).assign_attrs(
            along=entry.along, quadrature=entry.quadrature, steps=entry.steps
        )

    def reading(some: tuple[Condition, ...]) -> MetricReading:
        return MetricReading(into, entry.metric, some, cast("str", entry.clean))

    if entry.verify:
        scored = result["score"], changes
        found = yield from verification(scored, entry.verify, reading, context)
        result = result.assign(found).assign_attrs(found.attrs)
    if entry.faithfulness:
        score = result["score"].to_numpy()
        there = score[np.isfinite(score)]  # in the order of `changes`
        result = result.assign((yield from kept_curve((there, changes), reading, how)))
    return result


_ENDINGS = ("_site", "_layer", "_head")
"""Of coordinates that say what the name of a node means."""


def _each(parts: Sequence[xr.Dataset], context: Context) -> xr.DataArray:
    """Return the scores of all paths, (node, stimulus) or (sender, receiver, stimulus)."""
    dim, name = ("node", "score") if "score" in parts[0] else ("sender", "edge")
    size = sum(part[name].nbytes for part in parts)
    if size > context.memory:
        raise AnalysisError(
            f"the scores of {parts[0][name].sizes['stimulus']} stimuli take {size >> 20} MiB, and "
            f"{context.memory >> 20} may be held at once: take fewer stimuli or units, or a larger "
            "'run.budget.memory'"
        )
    each = xr.concat([part[name] for part in parts], dim, join="exact")
    return each.transpose(..., "stimulus")


def _summaries(each: xr.DataArray, base: xr.Dataset, how: Inference) -> dict[str, xr.DataArray]:
    """Summarise scores over stimuli, those of one sender at a time: draws of all are many."""
    groups = groups_of(base)
    if "sender" not in each.dims:
        return summarise(each, groups, how)
    found = [summarise(each.isel(sender=[i]), groups, how) for i in range(each.sizes["sender"])]
    return {name: xr.concat([one[name] for one in found], "sender") for name in found[0]}


def _changes(each: xr.DataArray, patch: Patch, entry: Attribution) -> dict[tuple[str, ...], Change]:
    """Return the change whose effect each score estimates."""

    def place(dim: str, number: int) -> tuple[str, int, int | None]:
        site, layer, head = (each[f"{dim}{end}"].to_numpy()[number].item() for end in _ENDINGS)
        return site, layer, None if head < 0 else head

    if "node" in each.dims:
        at = {units.site: units.positions for units in entry.units or _ALL}
        found: dict[tuple[str, ...], Change] = {}
        for i, name in enumerate(each["node"].to_numpy().tolist()):
            site, layer, head = place("node", i)
            found[(name,)] = Change(patch, site, layer, head, positions=at.get(site, ALL))
        return found
    there = np.isfinite(each.isel(stimulus=0).to_numpy())
    senders, receivers = (each[dim].to_numpy().tolist() for dim in ("sender", "receiver"))
    return {
        (senders[i], receivers[j]): Change(patch, *place("sender", i), into=(place("receiver", j),))
        for i, j in np.argwhere(there).tolist()
    }


def _completeness(
    parts: Sequence[xr.Dataset], runs: tuple[xr.Dataset, xr.Dataset], entry: Attribution
) -> xr.Dataset:
    """Return how far the scores of what moved are from the change of the metric."""
    into, source = runs
    totals = {str(part.attrs["along"]): part["total"] for part in parts}
    exact = {}
    for name in totals:
        if name == "embed":
            exact[name] = source["clean"].sel(stimulus=into["stimulus"]) - into["clean"]
        else:
            moved = into["value"].isel(condition=into["moved"].to_numpy().tolist().index(name))
            exact[name] = moved.drop_vars("moved") - into["clean"]
    return residuals(totals, exact, METRICS[entry.metric])
