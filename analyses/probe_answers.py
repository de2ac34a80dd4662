"""What one place answers to a probe, before it is labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.choosing import Chosen
from patchclamp.analyses.decoding import HeldOut
from patchclamp.analyses.places import place_dims
from patchclamp.analyses.probe_design import Question
from patchclamp.analyses.scores import Array, accuracies, balanced_accuracy

Pair = tuple[Array, Array]
"""Accuracy and balanced accuracy, of one labelling () or of several (labelling,)."""


@dataclass(frozen=True)
class Toward:
    """A read-out fitted to all rows: `weights` (unit, class), `offset` (class,), `strength`."""

    weights: Array
    offset: Array
    strength: float


@dataclass(frozen=True)
class Answer:
    """What one place gives: scores by name (draw,), predictions, nulls and the direction.

    `null` are the scores of every labelling, the true one first; `task` those of the control
    tasks, None where there is nothing to ask; `chosen` the units of every training part, where
    not all are taken.
    """

    scores: Mapping[str, Array]
    held: HeldOut
    null: Pair
    task: Pair | None
    toward: Toward | None
    chosen: Chosen | None = None


def pair(question: Question, predicted: NDArray[np.integer], truth: NDArray[np.int64]) -> Pair:
    """Return accuracy and balanced accuracy of predictions (..., row)."""
    truth = np.broadcast_to(truth, predicted.shape)
    return (
        np.asarray((predicted == truth).mean(axis=-1)),
        balanced_accuracy(predicted, truth, question.design.n_classes),
    )


def drawn(question: Question, predicted: NDArray[np.integer]) -> Mapping[str, Array]:
    """Return both accuracies of predictions (tested row,) by name: (draw,), all rows first."""
    codes, n_classes = question.tested.codes, question.design.n_classes
    return accuracies(predicted, codes, question.weights, n_classes)


@dataclass(frozen=True)
class Places:
    """Stacks what every place gives into arrays with the dims of places."""

    question: Question

    @property
    def dims(self) -> tuple[str, ...]:
        """Dims of the places."""
        return place_dims(self.question.design.capture, self.question.design.dims)

    def stack(self, values: Sequence[ArrayLike]) -> Array:
        """Return (place..., ...)."""
        sizes = [self.question.design.capture.data.sizes[dim] for dim in self.dims]
        stacked = np.stack([np.asarray(value) for value in values])
        return stacked.reshape(*sizes, *stacked.shape[1:])

    def first(self, values: Sequence[ArrayLike]) -> Array:
        """Return (..., place...) of values with one axis of their own."""
        return np.moveaxis(self.stack(values), -1, 0)

    def rows(self, values: Sequence[ArrayLike]) -> Array:
        """Return (stimulus, [layer or position], place...) of values over tested rows."""
        moved = self.first(values)
        return moved.reshape(*self.question.tested.sizes, *moved.shape[1:])
