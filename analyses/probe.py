"""Cross-validated linear read-out from a capture, with controls, intervals and its direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from patchclamp.analyses.bootstrap import group_weights
from patchclamp.analyses.choosing import Chosen, held_out_chosen
from patchclamp.analyses.chosen_by import side_by_side
from patchclamp.analyses.context import Context
from patchclamp.analyses.decoding import Estimator, HeldOut, direction, held_out
from patchclamp.analyses.permutation import permuted_labels
from patchclamp.analyses.places import SHARE, Place, at_place, check_memory, places
from patchclamp.analyses.probe_answers import Answer, Toward, drawn, pair
from patchclamp.analyses.probe_controls import bag_of_words, control_tasks, majority
from patchclamp.analyses.probe_design import Choosing, Design, Question, make_design, matched
from patchclamp.analyses.probe_features import Chooser, choosings
from patchclamp.analyses.probe_folds import across, fold_numbers, make_folds, on_all
from patchclamp.analyses.probe_result import probe_result
from patchclamp.analyses.readings import (
    AnswerReading,
    CaptureReading,
    ModelShape,
    Readings,
    StimuliReading,
)
from patchclamp.analyses.scores import calibrated_errors, log_chances, scores
from patchclamp.analyses.splits import BLOCK, Patterns, check_finite, whole
from patchclamp.specs.analyses_representation import (
    CorrectTarget,
    LabelTarget,
    LayerTarget,
    Probe,
)
from patchclamp.specs.estimators import Logistic
from patchclamp.specs.selections import resolve_layers

DRAWS = 1000
"""Bootstrap draws of the interval of every score."""


def readings(entry: Probe, shape: ModelShape) -> Readings:
    """Return what a probe needs measured: its capture, and what target and controls ask for."""
    assert entry.of is not None, "the loader fills in `of`"
    found: Readings = {"of": CaptureReading(entry.of)}
    if entry.test_on is not None:
        found["test_on"] = CaptureReading(entry.of, stimuli=entry.test_on)
    if "random_twin" in entry.controls:
        found["random_twin"] = CaptureReading(entry.of, twin=True)
        if entry.test_on is not None:
            twin = CaptureReading(entry.of, stimuli=entry.test_on, twin=True)
            found["random_twin.test_on"] = twin
    sets = {"": shape.sets.get(entry.of, ""), ".test_on": entry.test_on}
    for suffix, name in sets.items():
        if name is not None and isinstance(entry.target, CorrectTarget):
            found[f"correctness{suffix}"] = AnswerReading(name)
        if name is not None and "bag_of_words" in entry.controls:
            found[f"bag_of_words{suffix}"] = StimuliReading(name)
    return found


def analyse(entry: Probe, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Return how well something can be read out of a capture, place by place.

    `data["of"]`: `activation(stimulus, layer, [head], position, unit or channel)` in any order of
    dims, with label coordinates on stimulus and, unless stimuli are independent, `group`.
    Further parts as `readings` names them.

    * `accuracy`, `balanced_accuracy`, `auroc` (place), and `log_loss` and `calibration_error`
      where the estimator gives probabilities: over the held-out predictions of all folds. Each
      with `_low` and `_high`, the 95 % percentile interval: whole groups drawn again from the
      predictions as they are, so without the variation of fitting; that of `calibration_error`
      is reflected (`calibration_interval`), and `calibrated_error` is the mean error of a read-out
      whose confidence is right;
    * `predicted`, `correct` (stimulus, place) and `held_out_by(stimulus)`, the same for all places;
    * `strength(fold, place)`, the strength of the penalty, where one was chosen;
    * `control_accuracy`, `control_balanced_accuracy` (control, place), with `_low` and `_high`, of
      shuffled labels and control tasks the 95 % range over these;
    * with shuffled labels, `null_accuracy` and `null_balanced_accuracy` (permutation, place),
      and `p`, `p_max` of balanced accuracy, one-sided: greater. Every permuted labelling goes
      through all that the true one goes through, the choice of a strength included;
    * with a control task, `selectivity(place)`: accuracy minus that on the control task;
    * `direction([class], place, unit)` and `intercept`: the read-out fitted to all stimuli, such
      that direction · activation + intercept is the decision for a class, with two classes for
      the second (attribute `toward`). It is for use on the model; accuracies are not its own;
    * with `erase`, `erased_accuracy`, `erased_balanced_accuracy` (place), with `_low` and `_high`,
      of read-outs fitted and tested after LEACE, and `erased_variance`, the share of variance
      that erasing took;
    * with `features`, all of it for each `chosen_by`, with `p_max` over these too: units are
      chosen anew by every labelling in every training part, from all positions of a layer and
      head. `chosen(place, rank)` and `direction` are those of all stimuli, `chosen_in_fold` has
      the others, and `stability` says how alike they are.

    A column that does not exist or holds one class, a class of one group or that a training part
    lacks, fewer groups than folds, and a design with too few arrangements raise `AnalysisError`;
    patterns that are not finite raise `UndefinedError`.
    """
    entry = _in_numbers(entry, context.shape)
    with threadpool_limits(limits=1):  # same rounding and no contention on any number of cores
        if entry.features is None:
            return _analyse(entry, data, context, None)
        selection = context.results[entry.features]
        results = {
            choosing.way.name: _analyse(entry, data, context, choosing)
            for choosing in choosings(entry, selection, data["of"])
        }
    tested = ("balanced_accuracy", "null_balanced_accuracy")
    shuffled = "shuffled_labels" in entry.controls
    return side_by_side(results, selection, tested if shuffled else None)


def _in_numbers(entry: Probe, shape: ModelShape) -> Probe:
    """Return an entry whose target names layers by their numbers."""
    if not isinstance(entry.target, LayerTarget) or entry.target.layers == "all":
        return entry
    layers = resolve_layers(entry.target.layers, shape.layers)
    target = entry.target.model_copy(update={"layers": layers})
    return entry.model_copy(update={"target": target})


def _analyse(
    entry: Probe, data: Mapping[str, xr.Dataset], context: Context, choosing: Choosing | None
) -> xr.Dataset:
    """Return the result of all units, or of those chosen in one way."""
    question = _question(entry, data, context, "", choosing)
    answers = [_answer(question, spot) for spot in _spots(question)]
    controls = {"majority": [majority(question)] * len(answers)}
    if "bag_of_words" in entry.controls:
        spot = _Spot(*bag_of_words(question, data), None)
        held = _held_out(question, spot, question.labellings[:1])
        controls["bag_of_words"] = [drawn(question, held.predicted[0])] * len(answers)
    if "random_twin" in entry.controls:
        twin = _question(entry, data, context, "random_twin", choosing)
        controls["random_twin"] = [
            drawn(twin, _held_out(twin, spot, twin.labellings[:1]).predicted[0])
            for spot in _spots(twin)
        ]
    return probe_result(question, answers, controls)


def _question(
    entry: Probe,
    data: Mapping[str, xr.Dataset],
    context: Context,
    of: str,
    choosing: Choosing | None,
) -> Question:
    """Return what is asked at every place of the model, or `of` its twin."""
    seeds = context.seeds
    design = make_design(entry, data[of or "of"], data.get("correctness"))
    estimator = estimator_of(entry, design.n_classes, context.memory)
    inner = len(estimator.strengths) > 1
    if entry.test_on is None:
        tested, folds = design, make_folds(design, entry.cv, seeds, choosing=inner)
    else:
        other = data[f"{of}.test_on" if of else "test_on"]
        tested = matched(design, make_design(entry, other, data.get("correctness.test_on")))
        folds = across(design, tested, entry.cv, seeds, choosing=inner)
    every = on_all(design, entry.cv, seeds, choosing=inner)
    strata = fold_numbers(folds, len(design.codes)) if entry.cv.stratify else None
    labellings = design.codes[None]
    if "shuffled_labels" in entry.controls:
        rng = seeds.generator("shuffled_labels")
        drawn = permuted_labels(design.codes, design.blocks, entry.shuffles, rng, strata)
        labellings = np.concatenate([labellings, drawn])
    once, rng = np.ones((1, len(tested.codes))), seeds.generator("bootstrap")
    weights = np.concatenate([once, group_weights(tested.units, tested.codes, DRAWS, rng)])
    # Stimuli of a group may be right or wrong together, as far as anybody knows.
    unit = np.unique(tested.units, return_inverse=True)[1]
    uniform = seeds.generator("calibration").random((DRAWS, unit.max() + 1))[:, unit]
    sets = entry, design, tested
    return Question(*sets, folds, every, estimator, labellings, weights, uniform, context, choosing)


def estimator_of(entry: Probe, n_classes: int, memory: int) -> Estimator:
    """Return the estimator of a probe, which reads patterns as memory allows."""
    given = entry.estimator
    kind = "l1" if isinstance(given, Logistic) and given.penalty == "l1" else given.kind
    strengths = tuple(getattr(given, "C", getattr(given, "alpha", (1.0,))))
    return Estimator(kind, strengths, n_classes, min(BLOCK, memory // (8 * SHARE)))


@dataclass(frozen=True)
class _Spot:
    """Patterns that are read out: of a place, of the other set there, and who chooses units."""

    patterns: Patterns
    other: Patterns | None
    chooser: Chooser | None

    def chosen(self, labellings: NDArray[np.int64]) -> Chosen | None:
        """Return the units chosen at this place by every labelling; None takes all."""
        if self.chooser is None or not isinstance(self.patterns, Place):
            return None
        return self.chooser.at(self.patterns, labellings)


def _spots(question: Question) -> Iterator[_Spot]:
    """Yield every place, with that of the set that is tested on, if another is."""

    def of(design: Design) -> Iterator[Place]:
        return places(design.capture, rows=design.dims, memory=question.context.memory)

    chooser = None if question.choosing is None else Chooser(question)
    others = of(question.tested) if question.crossed else repeat(None)
    for place, other in zip(of(question.design), others, strict=question.crossed):
        yield _Spot(place, other, chooser)


def _answer(question: Question, spot: _Spot) -> Answer:
    """Return all that is asked of one place."""
    entry, design, tested = question.entry, question.design, question.tested
    labellings, tasks = question.labellings, None
    assert isinstance(spot.patterns, Place), "of the capture"
    if "control_task" in entry.controls:
        tasks = control_tasks(question, spot.patterns)
        labellings = labellings if tasks is None else np.concatenate([labellings, tasks[0]])
    held = _held_out(question, spot, labellings)
    chances = question.estimator.readout.chances
    found = dict(
        scores(
            held.decisions,
            tested.codes,
            question.weights,
            n_classes=design.n_classes,
            chances=chances,
        )
    )
    if chances:
        shares = np.exp(log_chances(held.decisions))
        found["calibrated_error"] = calibrated_errors(shares, question.uniform)
    n = len(question.labellings)
    truth = tested.codes if question.crossed else question.labellings
    null = pair(question, held.predicted[:n], truth)
    task = None if tasks is None else pair(question, held.predicted[n:], tasks[1])
    chosen, toward = spot.chosen(labellings), None
    if isinstance(entry.target, LabelTarget | CorrectTarget):
        toward = _direction(question, spot.patterns, chosen)
    return Answer(found, held, null, task, toward, chosen)


def _held_out(question: Question, spot: _Spot, labellings: NDArray[np.int64]) -> HeldOut:
    """Return held-out predictions at a place, or of any patterns of its rows."""
    memory, block = question.context.memory, question.estimator.block
    patterns, tested, chosen = spot.patterns, spot.other, spot.chosen(labellings)
    if isinstance(patterns, Place):
        check_memory(patterns, len(question.tested.codes) * question.crossed, memory)
    if isinstance(tested, Place):  # its rows have other ids
        other = tested
        at_place(tested, question.tested.ids, lambda: check_finite(other, block=block))

    def held() -> HeldOut:
        folds, estimator, erasing = question.folds, question.estimator, question.entry.erase
        if chosen is None:
            return held_out(patterns, labellings, folds, estimator, tested=tested, erasing=erasing)
        ours, theirs = whole(patterns), None if tested is None else whole(tested)
        return held_out_chosen(
            ours, labellings, folds, estimator, chosen, tested=theirs, erasing=erasing
        )

    return at_place(patterns, question.design.ids, held)


def _direction(question: Question, place: Place, chosen: Chosen | None) -> Toward:
    """Return the read-out fitted to all stimuli; units that are not chosen have a weight of 0."""
    codes, fold, estimator = question.design.codes, question.whole, question.estimator
    if chosen is None:
        return Toward(*direction(place, codes, fold, estimator))
    units = chosen.of(len(question.folds), 0)
    weights, offset, strength = direction(whole(place)[:, units], codes, fold, estimator)
    spread = np.zeros((place.shape[1], *weights.shape[1:]))
    spread[units] = weights
    return Toward(spread, offset, strength)
