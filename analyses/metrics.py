"""Metric kernels: one number per stimulus from the readings of its answer.

`readings` holds arrays over stimuli, taken from the logits of the next token at the position
where the answer is due: `logit_correct` and `logit_foil` (logits), `logsumexp` (of all logits,
in nats) and `rank` (number of tokens of the vocabulary that are more probable than the correct
one, so 0 is the top). Every metric raises `UndefinedError` with the rows that are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.registry.errors import UndefinedError

Readings = Mapping[str, ArrayLike]


def logit_diff(readings: Readings) -> NDArray[np.float64]:
    """Return the logit of the correct answer minus that of the foil, in logits: (stimulus,).

    It is the log odds of the two answers; what lowers both alike does not show in it.

    >>> logit_diff({"logit_correct": [3.0, 1.0], "logit_foil": [1.0, 2.0]})
    array([ 2., -1.])
    """
    return np.subtract(_finite(readings, "logit_correct"), _finite(readings, "logit_foil"))


def logprob(readings: Readings) -> NDArray[np.float64]:
    """Return the log-probability of the correct answer, in nats: (stimulus,).

    logprob = logit_correct - logsumexp over the vocabulary; 0 is certainty.

    >>> logprob({"logit_correct": [3.0, 1.0], "logsumexp": [3.5, 4.0]})
    array([-0.5, -3. ])
    """
    return np.subtract(_finite(readings, "logit_correct"), _finite(readings, "logsumexp"))


def accuracy(readings: Readings) -> NDArray[np.float64]:
    """Return 1 where no token is more probable than the correct answer, else 0: (stimulus,).

    >>> accuracy({"rank": [0, 2]})
    array([1., 0.])
    """
    return np.equal(_finite(readings, "rank"), 0).astype(np.float64)


def forced_choice(readings: Readings) -> NDArray[np.float64]:
    """Return 1 where the correct answer is more probable than the foil, else 0: (stimulus,).

    A guess scores 0.5, whatever the size of the vocabulary; a tie scores 0.

    >>> forced_choice({"logit_correct": [3.0, 1.0], "logit_foil": [1.0, 2.0]})
    array([1., 0.])
    """
    return np.greater(logit_diff(readings), 0).astype(np.float64)


def _finite(readings: Readings, name: str) -> NDArray[np.float64]:
    values = np.asarray(readings[name], dtype=np.float64)
    wrong = tuple(int(row) for row in np.flatnonzero(~np.isfinite(values)))
    if wrong:
        raise UndefinedError(
            f"{name} is NaN or infinite for {len(wrong)} of {values.size} stimuli",
            where=wrong,
        )
    return values
