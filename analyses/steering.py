"""Steering: a metric, or what the model writes, under interventions and under random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import xarray as xr

from patchclamp.analyses.acting import acting, doses, random_directions, random_heads
from patchclamp.analyses.context import Context
from patchclamp.analyses.effects import Inference, groups_of, meanings, summarise, table
from patchclamp.analyses.readings import (
    Change,
    Changing,
    Condition,
    GenerationReading,
    Label,
    MetricReading,
    ModelShape,
    Readings,
)
from patchclamp.analyses.wordings import after, is_right
from patchclamp.registry import METRICS
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_steering import Score, Steering
from patchclamp.specs.inference import Bootstrap

Draw = Callable[[tuple[Change, ...], ModelShape, int], Iterator[tuple[Change, ...]]]

CONTROLS: Mapping[str, Draw] = {
    "random_direction": random_directions,
    "random_heads": random_heads,
}


def readings(entry: Steering, shape: ModelShape) -> Readings:
    """Return a condition for each intervention and dose, and for each random one."""
    if not entry.with_:
        raise AnalysisError("steering has nothing to do: name interventions in 'with'")
    found: list[tuple[tuple[Label, ...], tuple[Change, ...]]] = []
    several = any(len(doses(name, shape)) > 1 for name in entry.with_)
    for name in entry.with_:
        for number, dose in enumerate(doses(name, shape)):
            labels: tuple[Label, ...] = (("intervention", name),)
            if several:
                labels = (*labels, ("dose", float(dose)))
            found.append((labels, acting(name, shape, number)))
    if entry.generate is None:
        _only_prompt(found)
    result: Readings = {"effect": _reading(entry, [Condition(*one) for one in found])}
    for control in entry.controls:
        conditions = [
            Condition((*labels, ("draw", draw)), changed)
            for labels, changes in found
            for draw, changed in enumerate(CONTROLS[control](changes, shape, entry.repeats))
        ]
        if not conditions:
            what = "adds a direction" if control == "random_direction" else "is at single heads"
            raise AnalysisError(
                f"there is no {control!r} to compare with: nothing in 'with' {what}; say 'controls:"
                " []', or another of random_direction, random_heads"
            )
        result[control] = _reading(entry, conditions)
    return result


def _only_prompt(found: list[tuple[tuple[Label, ...], tuple[Change, ...]]]) -> None:
    for _, changes in found:
        late = next((change for change in changes if change.during == "generation"), None)
        if late is not None:
            raise AnalysisError(
                f"interventions.{late.intervention} acts during generation alone, and a metric is "
                "of the prompt: ask for 'generate', or say 'during: both'"
            )


def _reading(entry: Steering, conditions: list[Condition]) -> Changing:
    stimuli = cast("str", entry.stimuli)
    if entry.generate is None:
        assert entry.metric is not None, "the model has one of the two"
        return MetricReading(stimuli, entry.metric.kind, tuple(conditions))
    how = entry.generate
    return GenerationReading(stimuli, tuple(conditions), how.max_new_tokens, how.temperature)


@dataclass(frozen=True)
class Outcome:
    """What is counted of a stimulus: a metric, or whether a text is right or another one."""

    name: str
    summary: str
    units: str
    estimand: str


def analyse(entry: Steering, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Summarise an outcome under each intervention against the clean run, and under random ones.

    The outcome of a stimulus is the metric; of what is generated it is `right`, 1 where the text
    is right by `score`, and without a score `changed`, 1 where it is not the clean run's.

        effect         = mean over stimuli of (outcome - clean outcome)
        control_effect = the same under each random intervention
        p              = (1 + random ones with at least as large an |effect|) / (1 + random ones)

    Intervals are percentile bootstrap intervals over groups. The test assumes that random
    directions, or heads, are what would act if these were no others.
    """
    outcome = _outcome(entry)
    measured = _table(_counted(entry, data["effect"]))
    value, clean = measured["value"], measured["clean"]
    groups = groups_of(measured)
    about = {"units": outcome.units, "estimand": outcome.estimand}
    result = xr.Dataset(
        {
            outcome.name: value.assign_attrs(about, long_name=f"{outcome.summary}, steered"),
            f"{outcome.name}_clean": clean.assign_attrs(about, long_name=outcome.summary),
        }
    )
    how = Inference(Bootstrap(), "none", context.seeds)
    meaning = meanings(outcome, "it is steered", _scale(outcome, clean))
    for name, found in summarise(value - clean, groups, how, partial=True).items():
        result[name] = found.assign_attrs(meaning[name])
    if entry.by is not None:
        result["effect_by"] = _by(value - clean, entry.by).assign_attrs(
            {**meaning["effect"], "long_name": f"mean change of {outcome.name} in each class"}
        )
        result["class"].attrs = {"label": entry.by}
    if entry.controls:
        result = result.merge(_controlled(entry, data, result["effect"], meaning["effect"]))
    if entry.generate is not None:
        result = result.merge(_texts(data["effect"]))
    return result.assign_attrs(
        n_stimuli=int(measured.sizes["stimulus"]),
        interval=f"95 % percentile bootstrap over groups, {how.bootstrap.n} draws",
        outcome=outcome.name,
    )


def _scale(outcome: Outcome, clean: xr.DataArray) -> float:
    """Return the size of what effects are differences of; a share's is 1."""
    return 1.0 if outcome.units == "1" else float(np.abs(clean).max())


def _outcome(entry: Steering) -> Outcome:
    if entry.metric is not None and entry.generate is None:
        metric = METRICS[entry.metric.kind]
        return Outcome(metric.name, metric.summary, metric.units, metric.estimand)
    if entry.score is not None:
        how = f"1 where the text is right ({entry.score.kind})"
        return Outcome("right", how, "1", f"right_{entry.score.kind}/1")
    return Outcome("changed", "1 where the text is not the clean run's", "1", "changed_text/1")


def _counted(entry: Steering, measured: xr.Dataset) -> xr.Dataset:
    """Return what is measured with numbers in the place of texts."""
    if entry.generate is None:
        return measured
    texts, clean = measured["value"], measured["clean"]
    if entry.score is None:
        numbers, before = texts != clean, xr.zeros_like(clean, dtype=np.float64)
    else:
        numbers, before = (_right(entry.score, each, measured) for each in (texts, clean))
    kept = measured.drop_vars(
        [name for name in measured.data_vars if name not in ("value", "clean", "applied")]
    )
    return kept.assign(value=numbers.astype(np.float64), clean=before.astype(np.float64))


def _right(score: Score, texts: xr.DataArray, measured: xr.Dataset) -> xr.DataArray:
    if "answer" not in measured:
        raise AnalysisError(
            "a text is right where it says the answer, and the stimuli have none: give them an "
            "'answer', or leave out 'score'"
        )
    ordered = texts.transpose(..., "stimulus")
    prompts = measured["prompt"].to_numpy().tolist()
    answers = measured["answer"].transpose("stimulus", "variant").to_numpy().tolist()

    def right(written: str, row: int) -> bool:
        rest = after(written, prompts[row], score.after) if score.after else written
        return rest is not None and is_right(rest, answers[row], rule=score.kind)

    flat = ordered.to_numpy().reshape(-1, len(prompts))
    found = [[right(str(text), row) for row, text in enumerate(line)] for line in flat]
    return ordered.copy(data=np.asarray(found).reshape(ordered.shape))


def _table(measured: xr.Dataset) -> xr.Dataset:
    """Return readings by intervention and dose; the dim of interventions is `condition`."""
    return table(measured).rename(intervention="condition")


def _by(difference: xr.DataArray, label: str) -> xr.DataArray:
    grouped = difference.groupby(label).mean("stimulus")
    found = grouped.rename({label: "class"})
    return found.assign_coords({"class": found["class"].astype(str)})


def _controlled(
    entry: Steering, data: Mapping[str, xr.Dataset], effect: xr.DataArray, about: dict[str, Any]
) -> xr.Dataset:
    """Return the effects of random interventions, and how often they are as large."""
    effects, ps = [], []
    for control in entry.controls:
        measured = _table(_counted(entry, data[control]))
        found = (measured["value"] - measured["clean"]).mean("stimulus")
        found = found.reindex(condition=effect["condition"])
        if "dose" in effect.dims:
            found = found.reindex(dose=effect["dose"])
        there = found.notnull()
        # Equal effects differ in their last bits where they are sums in another order.
        larger = there & (abs(found) >= abs(effect) * (1 - 1e-9))
        count = there.sum(dim="draw")
        ps.append(((1 + larger.sum(dim="draw")) / (1 + count)).where(count > 0))
        effects.append(found)
    names = xr.DataArray(list(entry.controls), dims="control", name="control")
    joined = {"control_effect": xr.concat(effects, names), "p": xr.concat(ps, names)}
    joined["control_effect"].attrs = {
        **about,
        "long_name": about["long_name"].replace("it is steered", "it is steered at random"),
    }
    joined["p"].attrs = {
        "units": "1",
        "scale": 1.0,
        "of": "effect",
        "long_name": "share of random interventions with at least as large an effect",
    }
    return xr.Dataset(joined)


def _texts(measured: xr.Dataset) -> xr.Dataset:
    """Return what was written, by intervention and dose."""
    kept = measured[["value", "clean", "applied"]].assign(applied=lambda d: d["applied"] | True)
    texts = _table(kept)
    return xr.Dataset(
        {
            "text": texts["value"].fillna("").astype(str),
            "text_clean": texts["clean"].astype(str),
        }
    ).pipe(_say_texts)


def _say_texts(data: xr.Dataset) -> xr.Dataset:
    data["text"].attrs = {"units": "text", "long_name": "what the model writes, steered"}
    data["text_clean"].attrs = {"units": "text", "long_name": "what the model writes"}
    return data
