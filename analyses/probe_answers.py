"""What one place answers to a probe, before it is labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.decoding import HeldOut
from patchclamp.analyses.probe_design import Question
from patchclamp.analyses.scores import Array, balanced_accuracy

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
    tasks, None where there is nothing to ask.
    """

    scores: Mapping[str, Array]
    held: HeldOut
    null: Pair
    task: Pair | None
    toward: Toward | None


def pair(question: Question, predicted: NDArray[np.integer], truth: NDArray[np.int64]) -> Pair:
    """Return accuracy and balanced accuracy of predictions (..., row)."""
    truth = np.broadcast_to(truth, predicted.shape)
    return (
        np.asarray((predicted == truth).mean(axis=-1)),
        balanced_accuracy(predicted, truth, question.design.n_classes),
    )
