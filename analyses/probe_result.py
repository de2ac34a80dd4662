"""The labelled result of a probe: variables with their dims, units and meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from patchclamp.analyses.bootstrap import (
    calibration_interval,
    interval_words,
    percentile_interval,
)
from patchclamp.analyses.patterns import Variables, meaning, p_variables
from patchclamp.analyses.permutation import description, p_max, p_value
from patchclamp.analyses.probe_answers import Answer, Pair, Places, drawn
from patchclamp.analyses.probe_design import Question
from patchclamp.analyses.probe_direction import direction_variables
from patchclamp.analyses.probe_features import choices
from patchclamp.analyses.probe_folds import fold_numbers
from patchclamp.analyses.score_intervals import beyond
from patchclamp.analyses.scores import Array

Drawn = Mapping[str, Array]
"""Scores by name: (draw,), that of all rows first."""

SCORES = {
    "accuracy": ("1", "share of held-out stimuli predicted correctly"),
    "balanced_accuracy": ("1", "mean over classes of the share predicted correctly"),
    "auroc": ("1", "chance that a stimulus of a class has a higher decision than one outside"),
    "log_loss": ("nat", "mean of -log p of the true class"),
    "calibration_error": ("1", "mean distance of confidence and accuracy, in 10 bins"),
    "calibrated_error": ("1", "mean calibration error of a read-out whose confidence is right"),
}
"""Units and meaning of every score."""


def probe_result(
    question: Question,
    answers: Sequence[Answer],
    controls: Mapping[str, Sequence[Drawn]],
) -> xr.Dataset:
    """Return the result; `answers`, and the pairs of each control, are one for each place."""
    places, entry, design = Places(question), question.entry, question.design
    coords: dict[str, ArrayLike] = {}
    variables = _scores(question, places, answers) | _predictions(question, places, answers)
    rate = np.bincount(question.tested.codes).max() / len(question.tested.codes)
    variables["base_rate"] = ((), rate, meaning("1", "share of the largest class", "base_rate/1"))
    if len(question.estimator.strengths) > 1:
        variables |= _strengths(question, places, answers)
        coords["fold"] = np.arange(len(question.folds))
    if entry.controls:
        variables |= _controls(question, places, answers, controls)
        coords["control"] = list(entry.controls)
    if "control_task" in entry.controls:
        variables |= _selectivity(places, answers)
    if "shuffled_labels" in entry.controls:
        variables |= _null(question, places, answers)
        coords["permutation"] = np.arange(entry.shuffles)
    if answers[0].toward is not None:
        variables |= _direction(question, places, answers)
        if design.n_classes > 2:
            coords["class"] = list(design.classes)
    if entry.erase:
        variables |= _erased(question, places, answers)
    if question.choosing is not None:
        variables |= choices(question, places, answers)
        coords["fold"] = np.arange(len(question.folds))
        coords["rank"] = np.arange(1, question.choosing.way.k + 1)
    result = question.tested.capture.result(variables, coords, _attributes(question))
    if "class" in result.coords:
        result["class"].attrs["label"] = design.what
    return result


def score_meaning(name: str, remark: str = "") -> dict[str, str]:
    """Return the attributes of a score, with a remark at the end of what it means."""
    units, title = SCORES[name]
    return meaning(units, title + remark, f"probe_{name}/1")


def _scores(question: Question, places: Places, answers: Sequence[Answer]) -> Variables:
    """Return every score of the true labels with its interval."""
    scores = [answer.scores for answer in answers]
    found = _with_intervals(question, places, scores, "", "")
    name = "calibrated_error"
    if name in scores[0]:
        means = places.stack([one[name].mean() for one in scores])
        found[name] = (places.dims, means, score_meaning(name))
    return found


def _with_intervals(
    question: Question, places: Places, found: Sequence[Drawn], prefix: str, what: str
) -> Variables:
    """Return scores (draw,) of every place, the first of all rows, with their intervals."""
    variables: Variables = {}
    for name in (name for name in found[0] if name != "calibrated_error"):
        draws = places.stack([one[name] for one in found])
        if name == "calibration_error":
            calibrated = places.stack([one["calibrated_error"] for one in found])
            low, high = calibration_interval(draws, calibrated)
        else:
            low, high = percentile_interval(draws[..., 1:], beyond(name, question.tested))
        over = "of the bootstrap over groups"
        for end, values, remark in (
            ("", draws[..., 0], what),
            ("_low", low, f"{what}, 2.5 % {over}"),
            ("_high", high, f"{what}, 97.5 % {over}"),
        ):
            about = score_meaning(name, remark)
            variables[f"{prefix}{name}{end}"] = (places.dims, values, about)
    return variables


def _predictions(question: Question, places: Places, answers: Sequence[Answer]) -> Variables:
    """Return what was predicted of whom, by which fold."""
    tested = question.tested
    names, dims = np.array(tested.classes), (*tested.dims, *places.dims)
    predicted = [answer.held.predicted[0] for answer in answers]
    right = [(row == tested.codes).astype(np.int8) for row in predicted]
    words = f"held-out prediction of {tested.what}"
    held = "1 where the held-out prediction is correct, else 0"
    found: Variables = {
        "predicted": (
            dims,
            places.rows([names[row] for row in predicted]),
            meaning("1", words, "probe_class/1"),
        ),
        "correct": (dims, places.rows(right), meaning("1", held, "probe_correct/1")),
    }
    numbers = fold_numbers(question.folds, len(tested.codes))
    fold = numbers.reshape(tested.sizes[0], -1)[:, 0]
    words = "number of the fold that holds the stimulus out"
    found["held_out_by"] = (("stimulus",), fold, meaning("1", words, "fold/1"))
    return found


def _strengths(question: Question, places: Places, answers: Sequence[Answer]) -> Variables:
    """Return the strengths that inner folds chose."""
    what = "alpha" if question.estimator.kind == "ridge" else "C"
    words = f"{what} chosen on inner folds of the training part"
    strengths = places.first([answer.held.strengths for answer in answers])
    return {"strength": (("fold", *places.dims), strengths, meaning("1", words, "strength/1"))}


def _controls(
    question: Question,
    places: Places,
    answers: Sequence[Answer],
    controls: Mapping[str, Sequence[Drawn]],
) -> Variables:
    """Return both scores of each control, in the order of the spec."""
    parts = [
        _with_intervals(question, places, controls[name], "control_", ", by a control")
        if name in controls
        else _of_many(places, [_many(answer, name) for answer in answers])
        for name in question.entry.controls
    ]
    return {
        name: (("control", *dims), np.stack([np.asarray(part[name][1]) for part in parts]), about)
        for name, (dims, _, about) in parts[0].items()
    }


def _many(answer: Answer, name: str) -> Pair:
    """Return both scores of all labellings of a control; NaN where none could be made."""
    if name == "shuffled_labels":
        return answer.null[0][1:], answer.null[1][1:]
    return answer.task or (np.full(1, np.nan), np.full(1, np.nan))


def _of_many(places: Places, pairs: Sequence[Pair]) -> Variables:
    """Return the mean of both scores over labellings, and their 95 % range."""
    found: Variables = {}
    for number, name in enumerate(("accuracy", "balanced_accuracy")):
        each = [pair[number] for pair in pairs]
        ends = [np.quantile(one, [0.025, 0.975]) for one in each]
        dims, remark = places.dims, ", by a control"
        means = places.stack([one.mean() for one in each])
        found[f"control_{name}"] = (dims, means, score_meaning(name, remark))
        for end, index, words in (("low", 0, "2.5 %"), ("high", 1, "97.5 %")):
            found[f"control_{name}_{end}"] = (
                dims,
                places.stack([both[index] for both in ends]),
                score_meaning(name, f"{remark}, {words} of draws or labellings"),
            )
    return found


def _selectivity(places: Places, answers: Sequence[Answer]) -> Variables:
    """Return how much better the labels are read out than a control task."""
    values = [
        answer.scores["accuracy"][0] - _many(answer, "control_task")[0].mean() for answer in answers
    ]
    words = "accuracy minus accuracy on the control task"
    return {
        "selectivity": (places.dims, places.stack(values), meaning("1", words, "selectivity/1"))
    }


def _null(question: Question, places: Places, answers: Sequence[Answer]) -> Variables:
    """Return the scores of each shuffle of the labels, and the p values that they give.

    Their attribute `tolerance` is one step: of many shuffled stimuli one may be as near to a border
    as rounding.
    """
    accuracy = places.stack([answer.null[0] for answer in answers])
    balanced = places.stack([answer.null[1] for answer in answers])
    observed, null = balanced[..., 0], balanced[..., 1:]
    dims, remark = ("permutation", *places.dims), ", labels shuffled"

    def moved(values: Array) -> Array:
        return np.moveaxis(values, -1, 0)

    tests = p_variables(
        places.dims, p_value(observed, null), p_max(observed, null),
        of="balanced_accuracy", permutations=null.shape[-1],
    )  # fmt: skip
    sizes = np.bincount(question.tested.codes)
    step = {"tolerance": float(1 / (question.design.n_classes * sizes[sizes > 0].min()))}
    scores = (("accuracy", accuracy[..., 1:]), ("balanced_accuracy", null))
    return {
        **tests,
        **{f"null_{n}": (dims, moved(x), {**score_meaning(n, remark), **step}) for n, x in scores},
    }


def _direction(question: Question, places: Places, answers: Sequence[Answer]) -> Variables:
    """Return the read-outs fitted to all stimuli, over the units of the site."""
    toward = [answer.toward for answer in answers if answer.toward is not None]
    weights = places.stack([t.weights.T for t in toward])
    return direction_variables(
        question, places.dims, weights, places.stack([t.offset for t in toward])
    )


def _erased(question: Question, places: Places, answers: Sequence[Answer]) -> Variables:
    """Return what read-outs find after LEACE."""
    assert answers[0].held.taken is not None, "asked for"
    erased = [answer.held.erased for answer in answers]
    found = [drawn(question, predicted) for predicted in erased if predicted is not None]
    remark = ", of patterns with the label erased by LEACE"
    taken = [np.mean(answer.held.taken) for answer in answers if answer.held.taken is not None]
    words = "share of the variance in training that erasing the label took, mean over folds"
    return {
        **_with_intervals(question, places, found, "erased_", remark),
        "erased_variance": (
            places.dims,
            places.stack(taken),
            meaning("1", words, "erased_variance/1"),
        ),
    }


def _attributes(question: Question) -> dict[str, str | int | float]:
    design, tested, entry = question.design, question.tested, question.entry
    found: dict[str, str | int | float] = {
        "target": design.what,
        "estimator": question.estimator.kind,
        "n_stimuli": len(tested.capture.ids),
        "n_groups": tested.n_groups,
        "n_classes": design.n_classes,
        "n_folds": len(question.folds),
        "interval": interval_words(tested.blocks, len(question.weights) - 1),
    }
    if question.estimator.readout.stronger and len(question.estimator.strengths) == 1:
        found["strength"] = question.estimator.strengths[0]
    if question.choosing is not None:
        found |= {"k": question.choosing.way.k, "chosen_for": question.choosing.target}
    if question.crossed:
        found |= {"test_on": str(entry.test_on), "n_training_stimuli": len(design.capture.ids)}
        found |= {"n_training_groups": design.n_groups}
    if design.n_classes == 2:
        found |= {"toward": design.classes[1], "away_from": design.classes[0]}
    if "shuffled_labels" in entry.controls:
        strata = fold_numbers(question.folds, len(design.codes)) if entry.cv.stratify else None
        design_of = (design.codes, design.blocks, entry.shuffles, strata)
        found |= description(*design_of, within="folds")
        found["tail"] = "greater"
    return found
