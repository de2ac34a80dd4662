"""Answers, and metrics of conditions, as labelled datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from patchclamp.analyses.readings import AnswerReading, Condition, MetricReading
from patchclamp.engine.answering import Answers, Changes
from patchclamp.engine.datasets import shared_tokens, stimulus_coords
from patchclamp.engine.plan import Plan
from patchclamp.engine.values import Values
from patchclamp.registry import METRICS
from patchclamp.registry.table import load


def answers_dataset(plan: Plan, reading: AnswerReading, answers: Answers) -> xr.Dataset:
    """Label the clean answers of a set: logits by option, and what is read beside them."""
    of_set = plan.sets[reading.stimuli]
    tokens = of_set.tokens
    if tokens.are_options:
        logits = answers["logit_options"]
    else:
        logits = np.stack([answers[f"logit_{part}"] for part in tokens.parts], axis=1)
    parts = np.asarray(tokens.parts)
    data = xr.Dataset(
        {
            "logit_option": (("stimulus", "option"), logits),
            "right_option": ("stimulus", parts[list(tokens.key)], {
                "units": "text", "long_name": "the right answer"}),
            **{
                name: ("stimulus", answers[name])
                for name in ("rank", "logit_answers", "logit_max", "logsumexp")
            },
        },
        coords={**stimulus_coords(of_set), "option": parts},
        attrs={"options": int(tokens.are_options)},
    )  # fmt: skip
    if "logit_variants" in answers:
        variants = {"variant": np.asarray(tokens.variants)}
        data["logit_variant"] = (("stimulus", "variant"), answers["logit_variants"])
        data = data.assign_coords(variants)
    return data


def metric_dataset(
    reading: MetricReading, measured: Mapping[tuple[str, Changes], Answers], values: Values
) -> xr.Dataset:
    """Compute a metric, clean (stimulus) and under each condition (condition, stimulus).

    `applied` (condition, stimulus) says whether a stimulus has any token that is changed.
    """
    metric, name = METRICS[reading.metric], reading.asked
    function = load(metric.function)

    def values_of(answers: Answers) -> np.ndarray:
        return np.asarray(function(answers), dtype=np.float64)

    of_set = values.plan.sets[name]
    data = xr.Dataset(
        {"clean": ("stimulus", values_of(measured[name, ()]))}, coords=dict(stimulus_coords(of_set))
    )
    if not reading.conditions:
        return data
    changed = np.stack([values_of(measured[name, c.changes]) for c in reading.conditions])
    applied = np.stack([_applied(values, name, c.changes) for c in reading.conditions])
    dims = ("condition", "stimulus")
    data = data.assign(value=(dims, changed), applied=(dims, applied))
    coords = condition_coords(reading.conditions)
    if "position" in coords:
        tokens = _tokens(values, reading)
        coords |= {"position_token": ("condition", tokens)} if (tokens != "").any() else {}
    return data.assign_coords(coords)


def condition_coords(conditions: Sequence[Condition]) -> dict[str, tuple[str, np.ndarray]]:
    """Return the labels of conditions as coordinates."""
    labels: dict[str, list[Any]] = {}
    for condition in conditions:
        for label, value in condition.labels:
            labels.setdefault(label, []).append(value)
    return {label: ("condition", _column(found)) for label, found in labels.items()}


def _tokens(values: Values, reading: MetricReading) -> np.ndarray:
    """Return the token that each condition changes, where it is one and the same in all stimuli."""
    names = []
    for condition in reading.conditions:
        index = values.index(condition.changes[-1], reading.asked)
        found = [""]
        if index is not None and index.shape[1] == 1:
            found = shared_tokens(values.plan, reading.asked, range(len(index)), index).tolist()
        names.append(str(found[0]))
    return np.asarray(names)


def _applied(values: Values, name: str, changes: Changes) -> np.ndarray:
    """Return whether each stimulus has a token that any of the changes is for."""
    there = np.zeros(len(values.plan.sets[name].table), dtype=bool)
    for change in changes:
        index = values.index(change, name)
        there |= True if index is None else (index >= 0).any(axis=1)
    return there


def _column(values: list[Any]) -> np.ndarray:
    whole = all(isinstance(value, int) for value in values)
    return np.asarray(values, np.int32) if whole else np.asarray(values)
