"""Choice: how well and how honestly a model chooses among answers, and how much of it is choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.bootstrap import group_bootstrap, interval_words, share_interval
from patchclamp.analyses.calibration import (
    brier_scores,
    calibrated_errors,
    calibration_bins,
    calibration_error,
)
from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import AnswerReading, ModelShape, Readings
from patchclamp.analyses.seeds import Seeds
from patchclamp.specs.analyses_descriptive import Choice

_DRAWS = 2000
"""Bootstrap draws; the ends of a 95 % interval then rest on 50 draws each."""

_CALIBRATED = 1000
"""Draws of a calibrated model's error; its p is then resolved to 0.001."""

_PER_STIMULUS = {
    "accuracy": ("share of stimuli whose right answer is the most probable of the answers", "1"),
    "top_accuracy": ("share of stimuli whose right answer is the most probable of all tokens", "1"),
    "answer_mass": ("mean probability of all spellings of all answers together", "1"),
    "probability": ("mean probability of the right answer, of all that can be said", "1"),
    "confidence": ("mean probability of the chosen answer, of the answers alone", "1"),
    "brier": ("mean over stimuli of sum over answers of (p - y)^2, of the answers alone", "1"),
}
"""Means over stimuli that the result has, with intervals, and their units."""

_OF_ALL = {
    "accuracy": _PER_STIMULUS["top_accuracy"],
    "confidence": ("mean probability of the most probable of all tokens", "1"),
}
"""What is meant where a set has one answer, which then competes with all that can be said."""


def readings(entry: Choice, shape: ModelShape) -> Readings:
    """Return the clean answers of the set."""
    del shape
    return {"answers": AnswerReading(cast("str", entry.stimuli))}


def analyse(entry: Choice, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Describe how a model chooses among the answers of a set.

    `data["answers"]` is that of an `AnswerReading`. With s_o the logit of answer o, its spellings
    put together, the model chooses the largest, and gives it p_o = exp(s_o) / sum exp(s) of the
    answers alone, exp(s_o - logsumexp) of all that can be said. Results, where `x` has `x_low` and
    `x_high`, a 95 % percentile bootstrap interval over groups (stimuli where there are none; see
    `share_interval` for accuracies of 0 and 1):

    * `accuracy`, `top_accuracy`, `answer_mass`, `probability`, `confidence`, `brier`, and with
      `by` the same for each `class` as `accuracy_by` and so on; an interval needs two groups, and
      is NaN where a class is one;
    * `base_rate`: the accuracy of always giving the most frequent right answer, or 0.5 where the
      right one has no name but a foil; `rank` the median;
    * by `option` of a multiple-choice question: `chosen_share`, `right_share`, `option_bias`, the
      first minus the second, and `option_accuracy` where that option is right;
    * `calibration_error` with its `bin`s of equal width, `calibrated_error`, the mean error of a
      model whose confidence is right, given as many stimuli, and `calibration_p`, one-sided
      against it; these take stimuli as independent, which groups make optimistic;
    * by `variant`: `variant_share`, the share of the answer mass that a spelling has.

    Where a set has one answer, it competes with all tokens: `accuracy` is then `top_accuracy`,
    `confidence` the probability of the most probable token, and there is neither a base rate nor a
    Brier score.
    """
    answers = data["answers"]
    each = _per_stimulus(answers)
    groups = answers["group"].to_numpy() if "group" in answers.coords else None
    result = each.assign(_summaries(each, groups, context.seeds))
    if answers.sizes["option"] > 1:
        result["base_rate"] = _variable((), _base_rate(answers), "accuracy of always giving the "
            "most frequent right answer", "base_rate/1")  # fmt: skip
    result["rank"] = _variable((), float(answers["rank"].median()), "median number of tokens that "
        "are more probable than the right answer", "median_rank/1", units="token")  # fmt: skip
    result = result.assign(_calibration(each, entry.bins, context.seeds))
    if answers.attrs["options"]:
        result = result.assign(_options(each))
    if "logit_variant" in answers:
        logits = answers["logit_variant"].transpose("stimulus", "variant").to_numpy()
        shares = np.exp(logits - answers["logit_answers"].to_numpy()[:, None]).mean(axis=0)
        result["variant_share"] = _variable(("variant",), shares, "mean share of the answer mass "
            "that this spelling has", "variant_share/1")  # fmt: skip
        result = result.assign_coords(variant=answers["variant"])
    if entry.by is not None:
        result = result.assign(_by(each, entry.by, groups, context.seeds))
    return result.assign_attrs(
        n_stimuli=answers.sizes["stimulus"],
        n_groups=len(np.unique(groups)) if groups is not None else answers.sizes["stimulus"],
        interval=interval_words(groups, _DRAWS),
        **({"by": entry.by} if entry.by is not None else {}),
    )


def _variable(
    dims: tuple[str, ...], values: object, long_name: str, estimand: str, *, units: str = "1"
) -> xr.Variable:
    attrs = {"units": units, "long_name": long_name, "estimand": f"choice_{estimand}"}
    return xr.Variable(dims, values, attrs)


def _per_stimulus(answers: xr.Dataset) -> xr.Dataset:
    """Return what is said of each stimulus: the answer chosen, and probabilities."""
    logits = answers["logit_option"].transpose("stimulus", "option").to_numpy()
    names = answers["option"].to_numpy()
    mass = answers["logsumexp"].to_numpy()
    key = _key(answers)
    rows = np.arange(len(logits))
    alone = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
    top = answers["rank"].to_numpy() == 0
    # What is as probable as a wrong answer has not been chosen.
    others = np.where(np.arange(len(names)) == key[:, None], -np.inf, logits)
    several = len(names) > 1
    values = {
        "accuracy": logits[rows, key] > others.max(axis=1) if several else top,
        "top_accuracy": top,
        "answer_mass": np.exp(answers["logit_answers"].to_numpy() - mass),
        "probability": np.exp(logits[rows, key] - mass),
        "confidence": np.exp(answers["logit_max"].to_numpy() - mass),
    }
    if several:
        values |= {"confidence": alone.max(axis=1), "brier": brier_scores(alone, key)}
    result = xr.Dataset(coords=answers.drop_vars(["variant"], errors="ignore").coords)
    for name, array in values.items():
        meant = f"{_meaning(name, several)[0]}: of one stimulus"
        given = np.asarray(array, dtype=np.float64)
        result[_EACH[name]] = _variable(("stimulus",), given, meant, f"{_EACH[name]}/1")
    result["right_option"] = answers["right_option"].variable
    if several:
        result["chosen_option"] = _variable(("stimulus",), names[logits.argmax(axis=1)],
            "the most probable answer", "chosen_option/1", units="text")  # fmt: skip
        result["p_option"] = _variable(("stimulus", "option"), alone, "probability of each "
            "answer, of the answers alone", "p_option/1")  # fmt: skip
    return result


_EACH = {
    "accuracy": "correct",
    "top_accuracy": "top_correct",
    "answer_mass": "p_answers",
    "probability": "p_right",
    "confidence": "p_chosen",
    "brier": "score",
}
"""What a mean is called where it is of one stimulus."""


def _meaning(name: str, several: bool) -> tuple[str, str]:
    return _PER_STIMULUS[name] if several else _OF_ALL.get(name, _PER_STIMULUS[name])


def _key(answers: xr.Dataset) -> NDArray[np.int64]:
    """Return the number of the right answer of each stimulus."""
    numbers = {str(name): number for number, name in enumerate(answers["option"].to_numpy())}
    return np.array([numbers[str(name)] for name in answers["right_option"].to_numpy()])


def _base_rate(answers: xr.Dataset) -> float:
    counts = np.unique(answers["right_option"].to_numpy(), return_counts=True)[1]
    # Of a right answer and its foil, neither has a name that could always be given.
    return float(counts.max() / counts.sum()) if answers.attrs["options"] else 0.5


def _values(each: xr.Dataset) -> NDArray[np.float64]:
    """Return what is averaged over stimuli, (quantity, stimulus), as `_PER_STIMULUS` lists it."""
    return np.stack([each[name].to_numpy() for name in _EACH.values() if name in each])


def _summaries(
    each: xr.Dataset, groups: NDArray[np.str_] | None, seeds: Seeds
) -> dict[str, xr.Variable]:
    """Return means over all stimuli, with intervals."""
    values = _values(each)
    low, high = _intervals(values, groups, seeds.generator("bootstrap"))
    return _named((), (values.mean(axis=1), low, high), each)


def _intervals(
    values: NDArray[np.float64], groups: NDArray[Any] | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the ends of the intervals of means over stimuli, (2, quantity)."""
    draws = group_bootstrap(values, groups, n=_DRAWS, rng=rng)
    ends = np.quantile(draws, [0.025, 0.975], axis=-1)
    for number in range(2):  # the first two are shares
        ends[:, number] = share_interval(values[number], groups, n=_DRAWS, rng=rng)
    return np.asarray(ends, dtype=np.float64)


def _by(
    each: xr.Dataset, label: str, groups: NDArray[np.str_] | None, seeds: Seeds
) -> dict[str, xr.Variable]:
    """Return means over the stimuli of each class of a label, with intervals."""
    labels = each[label].to_numpy()
    classes = np.unique(labels)
    values = _values(each)
    means, ends = [], []
    for name in classes:
        rows = labels == name
        within = np.flatnonzero(rows) if groups is None else groups[rows]
        means.append(values[:, rows].mean(axis=1))
        one = len(np.unique(within)) < 2
        rng = seeds.generator(f"bootstrap/{name}")
        nothing = np.full((2, len(values)), np.nan)
        ends.append(nothing if one else _intervals(values[:, rows], within, rng))
    low, high = np.stack(ends, axis=-1)
    found = _named(("class",), (np.stack(means, axis=-1), low, high), each)
    sizes = [int((labels == name).sum()) for name in classes]
    found["n_by"] = _variable(("class",), sizes, "stimuli of each class", "n/1", units="stimulus")
    return {**found, "class": xr.Variable("class", classes, {"label": label})}


def _named(
    dims: tuple[str, ...], parts: tuple[NDArray[np.float64], ...], each: xr.Dataset
) -> dict[str, xr.Variable]:
    """Return means and the ends of their intervals as variables; each part is (quantity, ...)."""
    found = {}
    suffix = "_by" if dims else ""
    names = [name for name, of_one in _EACH.items() if of_one in each]
    for number, name in enumerate(names):
        meaning, units = _meaning(name, "brier" in names)
        for end, part in zip(("", "_low", "_high"), parts, strict=True):
            what = f"95 % bootstrap bound of: {meaning}" if end else meaning
            where = f"{name}{suffix}{end}"
            found[where] = _variable(dims, part[number], what, f"{name}/1", units=units)
    return found


def _calibration(each: xr.Dataset, bins: int, seeds: Seeds) -> dict[str, xr.Variable]:
    """Return the calibration curve and its error, beside that of a calibrated model."""
    confidence, right = each["p_chosen"].to_numpy(), each["correct"].to_numpy()
    found = calibration_bins(confidence, right, bins=bins)
    error = calibration_error(found)
    rng = seeds.generator("calibration")
    null = calibrated_errors(confidence, bins=bins, n=_CALIBRATED, rng=rng)
    p = (1 + int((null >= error).sum())) / (1 + _CALIBRATED)
    where = "of stimuli whose confidence is in this bin"
    centres = (found.edges[:-1] + found.edges[1:]) / 2
    return {
        "calibration_error": _variable((), error, f"expected calibration error, {bins} equal bins",
            "calibration_error/1"),
        "calibrated_error": _variable((), float(null.mean()), "mean error of a model whose "
            "confidence is right", "calibrated_error/1"),
        "calibration_p": _variable((), p, "share of calibrated models with as large an error",
            "calibration_p/1"),
        "bin_count": _variable(("bin",), found.count, f"number {where}", "bin_count/1",
            units="stimulus"),
        "bin_confidence": _variable(("bin",), found.confidence, f"mean confidence {where}",
            "bin_confidence/1"),
        "bin_accuracy": _variable(("bin",), found.accuracy, f"accuracy {where}",
            "bin_accuracy/1"),
        "bin": xr.Variable("bin", centres, {"long_name": "centre of the bin", "units": "1"}),
    }  # fmt: skip


def _options(each: xr.Dataset) -> dict[str, xr.Variable]:
    """Return how often each option is chosen, is right, and is chosen where it is right."""
    chosen, right = (each[name].to_numpy()[:, None] for name in ("chosen_option", "right_option"))
    names = each["option"].to_numpy()[None]
    said, is_right = chosen == names, right == names
    count = is_right.sum(axis=0)
    hits = (each["correct"].to_numpy()[:, None] * is_right).sum(axis=0)
    with np.errstate(invalid="ignore"):
        accuracy = hits / count
    bias = said.mean(axis=0) - is_right.mean(axis=0)
    return {
        "chosen_share": _variable(("option",), said.mean(axis=0), "share of stimuli that this "
            "option is chosen for", "chosen_share/1"),
        "right_share": _variable(("option",), is_right.mean(axis=0), "share of stimuli that this "
            "option is right for", "right_share/1"),
        "option_bias": _variable(("option",), bias, "share of being chosen minus share of being "
            "right", "option_bias/1"),
        "option_accuracy": _variable(("option",), accuracy, "accuracy where this option is right",
            "option_accuracy/1"),
    }  # fmt: skip
