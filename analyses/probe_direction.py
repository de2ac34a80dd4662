"""The direction of a read-out as labelled variables, for use on the model."""

from __future__ import annotations

import numpy as np

from patchclamp.analyses.patterns import FEATURES, Variables, meaning
from patchclamp.analyses.probe_design import Question
from patchclamp.analyses.scores import Array

AMPLIFIED = 10.0
"""How much more the weights of a fit move, relative to their size, than what they are fitted to:
six times was measured."""


def direction_variables(
    question: Question, dims: tuple[str, ...], weights: Array, offset: Array
) -> Variables:
    """Return `direction([class], place, unit)` and `intercept([class], place)`.

    `weights`: (place, class, unit), in 1/activation; `offset`: (place, class). Of two classes only
    the second has a direction. The attribute `scale` is what numeric noise is relative to.
    """
    data = question.design.capture.data["activation"]
    (units,) = (str(dim) for dim in data.dims if dim in FEATURES)
    axis, around = len(dims), ("class", *dims)
    weights, offset = np.moveaxis(weights, axis, 0), np.moveaxis(offset, axis, 0)
    if question.design.n_classes == 2:
        around, weights, offset = dims, weights[0], offset[0]
    words = "read-out fitted to all stimuli: decision = direction · activation + intercept"
    about = meaning("1/activation", words, "probe_direction/1")
    offsets = meaning("1", f"intercept of the {words}", "intercept/1")
    return {
        "direction": ((*around, units), weights, {**about, "scale": _scale(weights)}),
        "intercept": (around, offset, {**offsets, "scale": _scale(offset)}),
    }


def _scale(values: Array) -> float:
    return AMPLIFIED * float(np.abs(values).max(initial=0.0))
