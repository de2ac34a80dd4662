"""Ways of choosing units, compared by what held-out stimuli say of the units that they choose.

Choosing is part of learning. Units chosen with a look at the stimuli that they are then tested on
read a label out of noise; so every method chooses anew inside every training part, for every
permuted labelling too, and the test part is used for nothing but the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from patchclamp.analyses.bootstrap import group_weights
from patchclamp.analyses.choosing import Chosen, held_out_chosen
from patchclamp.analyses.choosing_at import ROWS, Way, choose_at, windows
from patchclamp.analyses.context import Context
from patchclamp.analyses.decoding import Estimator, Fold, direction
from patchclamp.analyses.patterns import Capture, checked_capture
from patchclamp.analyses.permutation import permuted_labels
from patchclamp.analyses.places import Place, at_place, place_dims
from patchclamp.analyses.probe_design import Design
from patchclamp.analyses.probe_folds import fold_numbers, make_folds
from patchclamp.analyses.readings import CaptureReading, ModelShape, Readings
from patchclamp.analyses.scores import balanced_accuracy, scores
from patchclamp.analyses.selection_result import Comparison, Outcome, selection_result
from patchclamp.analyses.splits import Array
from patchclamp.registry.errors import AnalysisError, hint
from patchclamp.specs.analyses_representation import Selection

DRAWS = 1000
"""Bootstrap draws of the interval of every score and difference."""

ESTIMATOR = Estimator("ridge", (1.0,))
"""What reads the label out of chosen units: the same for all methods, and exact."""


def readings(entry: Selection, shape: ModelShape) -> Readings:
    """Return what a selection needs measured: the capture of every method."""
    del shape
    return {f"methods.{name}": CaptureReading(m.of) for name, m in entry.methods.items()}


def analyse(entry: Selection, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Return how well units chosen in different ways tell a class from the others, held out.

    `data["methods.NAME"]`: `activation(stimulus, layer, [head], [position], unit or feature)`,
    the same stimuli and layers for all methods. A unit is scored, and the label read out of its
    mean over positions, at each layer (and head) alone. Methods:

    * `discriminative`, `categorical`: the RSA contrast of the unit's time courses, in Fisher z,
      within the target class against its pairs with the others, or against the others' own;
    * `contrast`: |Welch's t| of the target class against the others;
    * `maximum`: the largest value that any stimulus has; no label enters;
    * `l1`: the units that first enter an L1 path of least squares;
    * `random`: chance.

    Results have the dim `chosen_by`, the name of a method (xarray's `sel` takes `method` for
    something else), and layer and head where there are any:

    * `accuracy`, `balanced_accuracy`, `auroc` over the held-out predictions of ridge read-outs
      (penalty 1, units standardised in training), each with `_low` and `_high`, a 95 % percentile
      interval from whole groups drawn again; with `test`, `p`, `p_max` and `p_fdr` of balanced
      accuracy, over all methods and places, and `null_balanced_accuracy`;
    * `difference(chosen_by, versus)` in accuracy with `difference_low` and `difference_high`, from
      the same draws for both: what one method is better by, if anything;
    * `chosen_in_fold(chosen_by, fold, rank)`, `stability`, the mean Jaccard index of what two
      training parts choose, and `stability_chance`, that of two random choices;
    * `chosen(chosen_by, rank)`, `score` and `weight`: what is chosen from all stimuli, and the
      weights of its read-out, per unit of activation, for use on the model: they have no test of
      their own. `n_undefined` units could not be scored.

    A tie at the border of what is chosen, fewer units than are to be chosen, and what makes folds
    or permutations impossible raise `AnalysisError`; activations that are not finite raise
    `UndefinedError`.
    """
    captures = {name: checked_capture(data[f"methods.{name}"]) for name in entry.methods}
    comparison = _comparison(entry, captures, context)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in captures}
    with threadpool_limits(limits=1):  # same rounding and no contention on any number of cores
        for names in _sharing(entry):
            capture = captures[names[0]]
            for place in windows(capture, context.memory):
                found = at_place(place, capture.ids, partial(_outcomes, comparison, names, place))
                for name, outcome in zip(names, found, strict=True):
                    outcomes[name].append(outcome)
    return selection_result(comparison, outcomes)


def _sharing(entry: Selection) -> list[list[str]]:
    """Return the names of methods by the capture whose units they score."""
    of = {name: method.of for name, method in entry.methods.items()}
    return [[name for name in of if of[name] == capture] for capture in dict.fromkeys(of.values())]


def _comparison(entry: Selection, captures: Mapping[str, Capture], context: Context) -> Comparison:
    """Return what all methods share: stimuli, folds, labellings and bootstrap draws."""
    seeds = context.seeds
    _need_same(captures)
    design = _design(entry, next(iter(captures.values())))
    folds = make_folds(design, entry.cv, seeds, choosing=False)
    labellings = design.codes[None]
    if entry.test is not None:
        rng = seeds.generator("permutation")
        strata = fold_numbers(folds, len(design.codes)) if entry.cv.stratify else None
        drawn = permuted_labels(design.codes, design.blocks, entry.test.n, rng, strata)
        labellings = np.concatenate([labellings, drawn])
    draws = group_weights(design.units, design.codes, DRAWS, seeds.generator("bootstrap"))
    weights = np.concatenate([np.ones((1, len(design.codes))), draws])
    return Comparison(entry, design, folds, labellings, weights, captures, context)


def _design(entry: Selection, capture: Capture) -> Design:
    """Return the design of telling the target class from all others."""
    labels, groups = capture.labels(entry.column), capture.groups()
    if entry.target not in labels.classes:
        raise AnalysisError(
            f"column {labels.column!r} has no class {entry.target!r}"
            f"{hint(entry.target, labels.classes)}"
        )
    if len(labels.classes) < 2:
        raise AnalysisError(
            f"column {labels.column!r} has one class, {entry.target!r}: nothing to tell it from"
        )
    n = len(capture.ids)
    return Design(
        capture,
        ("stimulus",),
        entry.column,
        ("(others)", entry.target),
        (labels.codes == labels.classes.index(entry.target)).astype(np.int64),
        np.arange(n) if groups is None else groups,
        capture.ids if groups is None else list(capture.labels("group").classes),
        groups,
        capture.ids,
    )


def _need_same(captures: Mapping[str, Capture]) -> None:
    """Refuse methods that score units of other stimuli, or at other layers and heads."""
    (name, first), *others = captures.items()
    for other, capture in others:
        if capture.ids != first.ids:
            raise AnalysisError(
                f"methods {name!r} and {other!r} have captures of different stimuli: nothing that "
                "they choose can be compared"
            )
        ours, theirs = (_labels(one) for one in (first, capture))
        if ours != theirs:
            raise AnalysisError(
                f"methods {name!r} and {other!r} have captures at different places "
                f"({_said(ours)}; {_said(theirs)}): capture the same layers and heads"
            )


def _labels(capture: Capture) -> dict[str, list[object]]:
    return {dim: capture.data[dim].values.tolist() for dim in place_dims(capture, ROWS)}


def _said(labels: Mapping[str, list[object]]) -> str:
    return ", ".join(f"{dim} {', '.join(map(str, of))}" for dim, of in labels.items()) or "no layer"


def _outcomes(comparison: Comparison, names: Sequence[str], place: Place) -> list[Outcome]:
    """Return what each of some methods chooses at one place, and what can be read out of it."""
    entry, design, folds = comparison.entry, comparison.design, comparison.folds
    context = comparison.context
    ways = [Way(name, entry.methods[name].kind, entry.k) for name in names]
    parts = [*(fold.train for fold in folds), np.arange(len(design.codes))]
    found, means = choose_at(
        ways, place, comparison.labellings, parts, (context.seeds, context.memory)
    )
    return [_outcome(comparison, chosen, means) for chosen in found]


def _outcome(comparison: Comparison, chosen: Chosen, means: Array) -> Outcome:
    design, folds = comparison.design, comparison.folds
    held = held_out_chosen(means, comparison.labellings, folds, ESTIMATOR, chosen)
    final = chosen.of(len(folds), 0)
    every = np.arange(len(design.codes))
    whole = Fold(every, every[:0], np.zeros_like(every))
    weights, _, _ = direction(means[:, final], design.codes, whole, ESTIMATOR)
    return Outcome(
        scores(held.decisions, design.codes, comparison.weights, n_classes=2, chances=False),
        held.predicted[0],
        balanced_accuracy(held.predicted, comparison.labellings, 2),
        chosen,
        weights[:, 0],
        means.shape[1],
    )
