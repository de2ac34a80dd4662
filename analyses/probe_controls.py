"""Controls of a probe: what an accuracy would be without the effect that it is taken to show."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.decoding import majority_predictions
from patchclamp.analyses.places import Place
from patchclamp.analyses.probe_answers import drawn
from patchclamp.analyses.probe_design import Design, Question
from patchclamp.analyses.scores import Array
from patchclamp.registry.errors import AnalysisError

TASKS = 10
"""Control tasks that a control's accuracy is the mean of: one assignment of classes to words says
little."""


def majority(question: Question) -> Mapping[str, Array]:
    """Return the accuracies of the training part's most frequent class."""
    tested = question.tested
    predicted = majority_predictions(question.design.codes, question.folds, len(tested.codes))
    return drawn(question, predicted)


def bag_of_words(
    question: Question, data: Mapping[str, xr.Dataset]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return how often each token of the vocabulary is in each stimulus: (stimulus, token).

    Of both sets where another one is tested on, over the tokens of the training set. What can be
    read out of these counts needs no model, only the words.
    """
    ours = _tokens(data["bag_of_words"], question.design)
    known = np.unique(ours[ours >= 0])
    counts = _counts(ours, known)
    if not question.crossed:
        return counts, None
    return counts, _counts(_tokens(data["bag_of_words.test_on"], question.tested), known)


def _tokens(texts: xr.Dataset, design: Design) -> NDArray[np.int64]:
    tokens = texts["token_id"].sel(stimulus=design.capture.ids)
    return np.asarray(tokens.transpose("stimulus", "position").to_numpy(), dtype=np.int64)


def _counts(tokens: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.float64]:
    counts = np.zeros((len(tokens), len(known)))
    place = np.searchsorted(known, tokens).clip(max=len(known) - 1)
    row, column = np.nonzero(known[place] == tokens)
    np.add.at(counts, (row, place[row, column]), 1)
    return counts


def control_tasks(
    question: Question, place: Place
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return `TASKS` labellings of the rows and of the tested rows by the token at a position.

    Every token that stands there has a class of its own, drawn once, with the frequencies of the
    true classes: a task without structure, which a read-out can only solve by telling tokens
    apart and remembering them. Hewitt & Liang 2019, arXiv:1909.03368. None where all stimuli have
    the same token, of which nothing can be asked.
    """
    design, tested = question.design, question.tested
    ours, theirs = _read(design, place), _read(tested, place)
    known = np.unique(np.concatenate([ours, theirs]))
    if len(known) < 2:
        return None
    rng = question.context.seeds.generator("control_task")
    drawn = rng.choice(design.codes, size=(TASKS, len(known)))
    return drawn[:, np.searchsorted(known, ours)], drawn[:, np.searchsorted(known, theirs)]


def _read(design: Design, place: Place) -> NDArray[np.int64]:
    """Return the token that each stimulus has at the place's position."""
    data, position = design.capture.data, place.at.get("position")
    if position is None or "token_id" not in data.coords:
        raise AnalysisError(
            "the control 'control_task' gives a class to each token that is read, and this "
            "capture has no token for each position: leave the control or the reduction out"
        )
    tokens = data["token_id"].sel(position=position).to_numpy()[design.capture.order]
    return np.asarray(tokens, dtype=np.int64)
