"""Cross-validated linear read-out of a label from a capture, with controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from patchclamp.analyses.bootstrap import group_bootstrap
from patchclamp.analyses.context import Context
from patchclamp.analyses.decoding import (
    balanced_accuracy,
    held_out_predictions,
    majority_predictions,
)
from patchclamp.analyses.folds import group_folds
from patchclamp.analyses.patterns import (
    Capture,
    Labels,
    Variables,
    checked_capture,
    meaning,
    p_variables,
)
from patchclamp.analyses.permutation import description, p_max, p_value, permuted_labels
from patchclamp.analyses.readings import CaptureReading, ModelShape, Readings
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_representation import LabelTarget, Probe
from patchclamp.specs.estimators import Logistic

DRAWS = 1000
"""Bootstrap draws of the interval of accuracy."""

INTERVAL = (0.025, 0.975)
"""Quantiles of the draws: a 95 % percentile interval."""

ACCURACY = ("probe_accuracy/1", "share of held-out stimuli predicted correctly")
BALANCED = ("probe_balanced_accuracy/1", "mean over classes of the share predicted correctly")


@dataclass(frozen=True)
class Scores:
    """Both scores of every labelling, (place..., labelling); the true labelling is the first."""

    accuracy: NDArray[np.float64]
    balanced: NDArray[np.float64]


def readings(entry: Probe, shape: ModelShape) -> Readings:
    """Return what a probe needs measured: its capture."""
    assert entry.of is not None, "the loader fills in `of`"
    return {"of": CaptureReading(entry.of)}


def _column(entry: Probe) -> str:
    """Return the label that is read out."""
    assert isinstance(entry.target, LabelTarget), "the planner refuses other targets"
    return entry.target.column


def _strength(entry: Probe) -> float:
    """Return the inverse strength of the penalty."""
    assert isinstance(entry.estimator, Logistic), "the planner refuses other estimators"
    (strength,) = entry.estimator.C
    return strength


def analyse(entry: Probe, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Return how well a label can be read out of a capture, place by place.

    `data["of"]`: `activation(stimulus, layer, [head], position, unit or channel)` in any order of
    dims, with label coordinates on stimulus and, unless stimuli are independent, `group`.

    * `accuracy`, `balanced_accuracy` (place): over the held-out predictions of all folds;
      `accuracy_low`, `accuracy_high`: 95 % percentile interval, whole groups drawn again from
      the predictions as they are, so without the variation of fitting;
    * `predicted`, `correct` (stimulus, place) and `fold(stimulus)`, the same for all places;
    * `control_accuracy`, `control_balanced_accuracy` (control, place): the training fold's most
      frequent class, and the mean over shuffles of the labels that respect groups;
    * with shuffled labels, `null_accuracy` and `null_balanced_accuracy` (permutation, place),
      and `p`, `p_max` of balanced accuracy, one-sided: greater.

    A column that does not exist or holds one class, a class that a training fold lacks, fewer
    groups than folds, and a design with too few arrangements raise `AnalysisError`; patterns
    that are not finite raise `UndefinedError`.
    """
    capture, seeds = checked_capture(data["of"]), context.seeds
    labels, groups = capture.labels(_column(entry)), capture.groups()
    units = np.array(capture.ids) if groups is None else groups
    folds = group_folds(units, entry.cv.folds, seeds.generator("cv"))
    _need_every_class(labels, folds)
    labellings = labels.codes[None]
    if "shuffled_labels" in entry.controls:
        rng = seeds.generator("shuffled_labels")
        shuffled = permuted_labels(labels.codes, groups, entry.shuffles, rng)
        labellings = np.concatenate([labellings, shuffled])
    with threadpool_limits(limits=1):  # same rounding and no contention on any number of cores
        predicted = capture.each_place(
            lambda patterns: held_out_predictions(
                patterns, labellings, folds, inverse_penalty=_strength(entry)
            )
        )
    scores = Scores(
        (predicted == labellings).mean(axis=-1), balanced_accuracy(predicted, labellings)
    )
    right = predicted[..., 0, :] == labels.codes
    draws = group_bootstrap(right, units, DRAWS, seeds.generator("bootstrap"))
    variables = _observed(capture, scores, draws) | _predictions(capture, labels, predicted, folds)
    coords: dict[str, ArrayLike] = {}
    if entry.controls:
        variables |= _controls(entry, capture, scores, _majority(labels, folds))
        coords["control"] = list(entry.controls)
    if "shuffled_labels" in entry.controls:
        variables |= _null(capture, scores)
        coords["permutation"] = np.arange(entry.shuffles)
    return capture.result(variables, coords, _attributes(entry, labels, groups))


def _need_every_class(labels: Labels, folds: NDArray[np.int64]) -> None:
    if len(labels.classes) < 2:
        raise AnalysisError(
            f"column {labels.column!r} has one class, {labels.classes[0]!r}: nothing to read out"
        )
    for fold in np.unique(folds).tolist():
        sizes = np.bincount(labels.codes[folds != fold], minlength=len(labels.classes))
        if (sizes == 0).any():
            missing = int(sizes.argmin())
            raise AnalysisError(
                f"class {labels.classes[missing]!r} of column {labels.column!r} is missing from "
                f"the training data of fold {fold}: all its {(labels.codes == missing).sum()} "
                "stimuli are held out there; use more groups of this class, or other folds"
            )


def _score(what: tuple[str, str], remark: str = "") -> dict[str, str]:
    estimand, title = what
    return meaning("1", title + remark, estimand)


def _observed(capture: Capture, scores: Scores, draws: NDArray[np.float64]) -> Variables:
    """Return the scores of the true labels; `draws` of accuracy is (place..., draw)."""
    low, high = np.quantile(draws, INTERVAL, axis=-1)
    dims = capture.dims
    return {
        "accuracy": (dims, scores.accuracy[..., 0], _score(ACCURACY)),
        "accuracy_low": (dims, low, _score(ACCURACY, ", 2.5 % of the bootstrap over groups")),
        "accuracy_high": (dims, high, _score(ACCURACY, ", 97.5 % of the bootstrap over groups")),
        "balanced_accuracy": (dims, scores.balanced[..., 0], _score(BALANCED)),
    }


def _predictions(
    capture: Capture, labels: Labels, predicted: NDArray[np.int64], folds: NDArray[np.int64]
) -> Variables:
    """Return what was predicted of whom; `predicted` is (place..., labelling, stimulus)."""
    dims = ("stimulus", *capture.dims)
    right = (predicted[..., 0, :] == labels.codes).astype(np.int8)
    names = np.array(labels.classes)[predicted[..., 0, :]]
    return {
        "predicted": (
            dims,
            np.moveaxis(names, -1, 0),
            meaning("1", f"held-out prediction of {labels.column}", "probe_class/1"),
        ),
        "correct": (
            dims,
            np.moveaxis(right, -1, 0),
            meaning("1", "1 where the held-out prediction is correct, else 0", "probe_correct/1"),
        ),
        "fold": (
            ("stimulus",),
            folds,
            meaning("1", "number of the fold that holds the stimulus out", "fold/1"),
        ),
    }


def _majority(labels: Labels, folds: NDArray[np.int64]) -> Scores:
    """Return the scores of predicting the training fold's most frequent class, everywhere."""
    predicted = majority_predictions(labels.codes, folds)
    balanced = balanced_accuracy(predicted[None], labels.codes[None])[0]
    return Scores(np.asarray((predicted == labels.codes).mean()), balanced)


def _controls(entry: Probe, capture: Capture, scores: Scores, majority: Scores) -> Variables:
    """Return both scores of each control, in the order of the spec."""

    def score(control: str) -> Scores:
        if control == "majority":
            return majority
        return Scores(scores.accuracy[..., 1:].mean(-1), scores.balanced[..., 1:].mean(-1))

    given = [score(control) for control in entry.controls]
    dims, shape = ("control", *capture.dims), capture.shape
    accuracy = np.stack([np.broadcast_to(control.accuracy, shape) for control in given])
    balanced = np.stack([np.broadcast_to(control.balanced, shape) for control in given])
    return {
        "control_accuracy": (dims, accuracy, _score(ACCURACY, ", by a control")),
        "control_balanced_accuracy": (dims, balanced, _score(BALANCED, ", by a control")),
    }


def _null(capture: Capture, scores: Scores) -> Variables:
    """Return the scores of each shuffle of the labels, and the p values that they give."""
    observed, null = scores.balanced[..., 0], scores.balanced[..., 1:]
    dims = ("permutation", *capture.dims)
    accuracy = np.moveaxis(scores.accuracy[..., 1:], -1, 0)
    return {
        **p_variables(capture.dims, p_value(observed, null), p_max(observed, null)),
        "null_accuracy": (dims, accuracy, _score(ACCURACY, ", labels shuffled")),
        "null_balanced_accuracy": (
            dims,
            np.moveaxis(null, -1, 0),
            _score(BALANCED, ", labels shuffled"),
        ),
    }


def _attributes(
    entry: Probe, labels: Labels, groups: NDArray[np.int64] | None
) -> dict[str, str | int | float]:
    design: dict[str, str | int] = {}
    if "shuffled_labels" in entry.controls:
        design = {**description(labels.codes, groups, entry.shuffles), "tail": "greater"}
    return {
        "target": _column(entry),
        "estimator": entry.estimator.kind,
        "C": _strength(entry),
        "n_stimuli": len(labels.codes),
        "n_groups": len(labels.codes) if groups is None else len(np.unique(groups)),
        "n_classes": len(labels.classes),
        "n_folds": entry.cv.folds,
        **design,
    }
