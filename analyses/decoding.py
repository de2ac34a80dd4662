"""Cross-validated decoding: what read-outs that never saw a stimulus say of it.

1. A fold's training part is standardised, and everything else done inside it.
2. Where several strengths of the penalty are given, each is tried on inner folds of the training
   part, and every labelling, true or permuted, takes the one that does best for it.
3. The read-out is fitted to the training part and applied to the fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.erasure import erase, silent
from patchclamp.analyses.readouts import READOUTS, Labellings, Linear, Readout
from patchclamp.analyses.scores import balanced_accuracy, predicted_classes
from patchclamp.analyses.splits import (
    BLOCK,
    Array,
    Part,
    Patterns,
    Split,
    make_split,
    unit_weights,
)


@dataclass(frozen=True)
class Fold:
    """Rows that a read-out is fitted to and rows it is tested on, and folds inside the former.

    `inner` (training row,) numbers the inner folds that a strength is chosen by; the rows under
    `test` may be those of other patterns.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    inner: NDArray[np.int64]


@dataclass(frozen=True)
class Estimator:
    """A kind of read-out, the strengths of its penalty, of which one is chosen, and its classes.

    `block` is how many numbers of the patterns it reads at once.
    """

    kind: str
    strengths: tuple[float, ...] = (1.0,)
    n_classes: int = 2
    block: int = BLOCK

    @property
    def readout(self) -> Readout:
        """How it is fitted."""
        return READOUTS[self.kind]

    @property
    def columns(self) -> int:
        """Number of decisions: one for each class, but for two classes one."""
        return 1 if self.n_classes == 2 else self.n_classes

    def split(self, train: Part, test: Part) -> Split:
        """Return both parts as it wants them."""
        readout = self.readout
        return make_split(train, test, scale=readout.scale, units=readout.units, block=self.block)

    def fit(
        self, split: Split, labellings: Labellings, strength: float, *, quick: bool = False
    ) -> Linear:
        """Return a read-out of each labelling of a training part; `quick` to choose by."""
        fit = self.readout.quick if quick and self.readout.quick else self.readout.fit
        return fit(split, labellings, self.n_classes, float(strength))


@dataclass(frozen=True)
class HeldOut:
    """What held-out read-outs say.

    `predicted` (labelling, tested stimulus): classes; `decisions` (tested stimulus, class) and
    `strengths` (fold,): those of the first labelling. `erased` (tested stimulus,): classes that
    a read-out of erased patterns says, and `taken` (fold,) the share of variance that erasing
    took.
    """

    predicted: NDArray[np.int16]
    decisions: Array
    strengths: Array
    erased: NDArray[np.int16] | None = None
    taken: Array | None = None


def held_out(
    patterns: Patterns,
    labellings: Labellings,
    folds: Sequence[Fold],
    estimator: Estimator,
    *,
    tested: Patterns | None = None,
    erasing: bool = False,
) -> HeldOut:
    """Return what read-outs fitted without a stimulus say of it, for every labelling.

    `patterns`: (stimulus, unit), any units, read in blocks; `labellings`: (labelling, stimulus)
    class numbers. Every row of `tested`, or else of `patterns`, is in one fold. A class that a
    labelling lacks in a training part is never predicted there; if one class is left, it always
    is. Patterns that are not finite raise `UndefinedError` with their rows, a fit that does not
    converge `AnalysisError`.
    """
    other = patterns if tested is None else tested
    n = other.shape[0]
    predicted = np.empty((len(labellings), n), dtype=np.int16)
    decisions, erased = np.empty((n, estimator.columns)), np.empty(n, dtype=np.int16)
    strengths, taken = np.empty(len(folds)), np.empty(len(folds))
    for number, fold in enumerate(folds):
        train, test = Part(patterns, fold.train), Part(other, fold.test)
        found = read_out(train, test, labellings, fold.inner, estimator)
        predicted[:, fold.test] = predicted_classes(found.decisions)
        decisions[fold.test], strengths[number] = found.decisions[0], found.strengths[0]
        if erasing:
            inside = labellings[:1, fold.train]
            erased[fold.test], taken[number] = after_erasure(found, inside, estimator)
    if not erasing:
        return HeldOut(predicted, decisions, strengths)
    return HeldOut(predicted, decisions, strengths, erased, taken)


@dataclass(frozen=True)
class Read:
    """Read-outs of one training part: `decisions` (labelling, tested stimulus, class), and how."""

    decisions: Array
    strengths: Array
    linear: Linear
    split: Split


def read_out(
    train: Part,
    test: Part,
    labellings: Labellings,
    inner: NDArray[np.int64],
    estimator: Estimator,
) -> Read:
    """Return what read-outs of a training part, one for each labelling, say of a test part."""
    split = estimator.split(train, test)
    inside = labellings[:, train.rows]
    strengths = chosen_strengths(split, inside, inner, estimator)
    linear = _fit_each(split, inside, strengths, estimator)
    return Read(linear.decisions(split.test), strengths, linear, split)


def after_erasure(
    found: Read, inside: Labellings, estimator: Estimator
) -> tuple[NDArray[np.int16], float]:
    """Return what is predicted of a test part whose label LEACE has erased, and what that took.

    `inside`: (1, training stimulus), the labelling that is erased and then read out again, at the
    strength that it had before.
    """
    rest, taken = erase(found.split, inside[0], estimator.n_classes)
    again = estimator.fit(rest, inside, found.strengths[0])
    again = silent(rest, again, found.split, found.linear.of(slice(0, 1)))
    return predicted_classes(again.decisions(rest.test))[0], taken


def direction(
    patterns: Patterns, codes: NDArray[np.int64], fold: Fold, estimator: Estimator
) -> tuple[Array, Array, float]:
    """Return the read-out fitted to all training rows, in units: weights, offset and strength.

    Weights (unit, class) and offset (class,): weights · pattern + offset is the decision for a
    class, or with two classes for the second. `fold.inner` chooses the strength.
    """
    train = Part(patterns, fold.train)
    split = estimator.split(train, Part(patterns, fold.train[:0]))
    inside = codes[None, fold.train]
    (strength,) = chosen_strengths(split, inside, fold.inner, estimator)
    linear, scale = estimator.fit(split, inside, strength), estimator.readout.scale
    weights, offset = unit_weights(
        train, linear.weights[:, 0], dual=split.dual, scale=scale, block=estimator.block
    )
    return weights, offset + linear.intercepts[0], float(strength)


def chosen_strengths(
    split: Split, labellings: Labellings, inner: NDArray[np.int64], estimator: Estimator
) -> Array:
    """Return the strength that does best on inner folds, for each labelling: (labelling,).

    Best is the highest balanced accuracy over the predictions of all inner folds, and of equals
    the one that penalises more.
    """
    stronger = estimator.readout.stronger
    ordered = sorted(estimator.strengths, key=lambda s: -stronger * s)
    if len(ordered) == 1:
        return np.full(len(labellings), ordered[0])
    predicted = np.empty((len(ordered), *labellings.shape), dtype=np.int16)
    for fold in np.unique(inner):
        train, test = np.flatnonzero(inner != fold), np.flatnonzero(inner == fold)
        part = split.inside(train, test)
        for number, strength in enumerate(ordered):
            linear = estimator.fit(part, labellings[:, train], strength, quick=True)
            predicted[number][:, test] = predicted_classes(linear.decisions(part.test))
    scores = np.stack([balanced_accuracy(p, labellings, estimator.n_classes) for p in predicted])
    tied = scores >= scores.max(axis=0) - 1e-9  # sums of shares in another order
    return np.asarray(np.asarray(ordered)[tied.argmax(axis=0)], dtype=np.float64)


def _fit_each(split: Split, labellings: Labellings, chosen: Array, estimator: Estimator) -> Linear:
    """Return read-outs of every labelling at the strength chosen for it."""
    values = np.unique(chosen)
    if len(values) == 1:
        return estimator.fit(split, labellings, values[0])
    shape = (len(labellings), estimator.columns)
    weights, intercepts = np.empty((split.train.shape[1], *shape)), np.empty(shape)
    for strength in values:
        rows = np.flatnonzero(chosen == strength)
        linear = estimator.fit(split, labellings[rows], strength)
        weights[:, rows], intercepts[rows] = linear.weights, linear.intercepts
    return Linear(weights, intercepts)


def majority_predictions(codes: NDArray[np.int64], folds: Sequence[Fold], n: int) -> Labellings:
    """Return the most frequent class of each tested stimulus' training part: (stimulus,).

    Of equally frequent classes the first (lowest number) is taken. Where classes are nearly
    balanced, the class in the majority outside a fold is in the minority inside, so this
    baseline may fall below chance.

    >>> fold = Fold(np.array([0, 1, 2]), np.array([3]), np.array([0, 0, 1]))
    >>> majority_predictions(np.array([0, 1, 1, 0]), [fold], 4)[3]
    np.int64(1)
    """
    predicted = np.zeros(n, dtype=np.int64)
    for fold in folds:
        predicted[fold.test] = np.bincount(codes[fold.train]).argmax()
    return predicted
