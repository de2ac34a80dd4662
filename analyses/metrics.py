"""Metric kernels: one number per stimulus from the readings of its answer.

`readings` holds arrays over stimuli, taken from the logits of the next token at the position
where the answer is due, its spellings put together as the spec says:

    logit_correct, logit_foil   of the right answer, and of the strongest other one
    logit_options               of each option, (stimulus, option), where there are options
    logit_answers               of all spellings of all answers together
    logsumexp                   of all logits, in nats
    rank                        number of tokens that are more probable than the right answer; its
                                own spellings are none of them, so 0 is the top
    entropy, kl, js             of the whole distribution, in nats
    cross_entropy               of the text itself, in nats

The logit of an answer of several tokens is that of its first one plus the log-probabilities of the
further ones, each given those before it. Every metric raises `UndefinedError` with the rows that
are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.registry.errors import UndefinedError

Readings = Mapping[str, ArrayLike]


def logit_diff(readings: Readings) -> NDArray[np.float64]:
    """Return the logit of the correct answer minus that of the foil, in logits: (stimulus,).

    It is the log odds of the two answers; what lowers both alike does not show in it. Among
    options the foil is the strongest wrong one, so that the sign says whether the right one wins.

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


def probability(readings: Readings) -> NDArray[np.float64]:
    """Return the probability of the correct answer, all its spellings together: (stimulus,).

    >>> probability({"logit_correct": [0.0], "logsumexp": [np.log(4.0)]}).round(3)
    array([0.25])
    """
    return np.exp(logprob(readings))


def answer_mass(readings: Readings) -> NDArray[np.float64]:
    """Return the probability of all spellings of all answers together: (stimulus,).

    What is left of 1 is said in other ways than those that were asked about: a small mass means
    that the model does not take the text as the question that it is.

    >>> answer_mass({"logit_answers": [np.log(3.0)], "logsumexp": [np.log(4.0)]}).round(3)
    array([0.75])
    """
    return np.exp(np.subtract(_finite(readings, "logit_answers"), _finite(readings, "logsumexp")))


def rank(readings: Readings) -> NDArray[np.float64]:
    """Return how many tokens are more probable than the correct answer: (stimulus,).

    Of an answer of several tokens it is the rank of the least expected one given those before
    it, for the spelling where that is lowest; so 0 is what greedy decoding writes.

    >>> rank({"rank": [0, 2]})
    array([0., 2.])
    """
    return _finite(readings, "rank")


def accuracy(readings: Readings) -> NDArray[np.float64]:
    """Return 1 where no token is more probable than the correct answer, else 0: (stimulus,).

    >>> accuracy({"rank": [0, 2]})
    array([1., 0.])
    """
    return np.equal(_finite(readings, "rank"), 0).astype(np.float64)


def forced_choice(readings: Readings) -> NDArray[np.float64]:
    """Return 1 where the correct answer is more probable than the foil, else 0: (stimulus,).

    A guess scores 1 in the number of answers, whatever the size of the vocabulary; a tie scores 0.

    >>> forced_choice({"logit_correct": [3.0, 1.0], "logit_foil": [1.0, 2.0]})
    array([1., 0.])
    """
    return np.greater(logit_diff(readings), 0).astype(np.float64)


def solved(readings: Readings) -> NDArray[np.float64]:
    """Return 1 where the model's answer is right, else 0: (stimulus,).

    Among options it is the most probable of them, whatever else could be said; otherwise the most
    probable of all tokens.

    >>> solved({"rank": [0, 2]})
    array([1., 0.])
    >>> solved({"rank": [9], "logit_options": [], "logit_correct": [2.0], "logit_foil": [1.0]})
    array([1.])
    """
    return forced_choice(readings) if "logit_options" in readings else accuracy(readings)


def cross_entropy(readings: Readings) -> NDArray[np.float64]:
    """Return the mean of -log p(token) over a text, each given those before it: (stimulus,).

    In nats. The first token is given and not predicted: with a BOS token that is the BOS.

    >>> cross_entropy({"cross_entropy": [2.5]})
    array([2.5])
    """
    return _finite(readings, "cross_entropy")


def entropy(readings: Readings) -> NDArray[np.float64]:
    """Return the entropy of the next-token distribution, -sum p log p in nats: (stimulus,).

    >>> entropy({"entropy": [0.0]})
    array([0.])
    """
    return _finite(readings, "entropy")


def kl(readings: Readings) -> NDArray[np.float64]:
    """Return KL(clean || changed) = sum p log(p / q) in nats: (stimulus,).

    p is the clean run's next-token distribution and q the changed one's, over the whole
    vocabulary. It is a sum over tokens, never divided by their number.

    >>> kl({"kl": [0.0, 1.5]})
    array([0. , 1.5])
    """
    return _finite(readings, "kl")


def js(readings: Readings) -> NDArray[np.float64]:
    """Return the Jensen-Shannon divergence of the clean and changed run: (stimulus,).

    The mean of KL(p || m) and KL(q || m) with m = (p + q) / 2, in nats: from 0 to log 2.

    >>> js({"js": [0.0, 0.5]})
    array([0. , 0.5])
    """
    return _finite(readings, "js")


def _finite(readings: Readings, name: str) -> NDArray[np.float64]:
    values = np.asarray(readings[name], dtype=np.float64)
    wrong = tuple(int(row) for row in np.flatnonzero(~np.isfinite(values)))
    if wrong:
        raise UndefinedError(
            f"{name} is NaN or infinite for {len(wrong)} of {values.size} stimuli",
            where=wrong,
        )
    return values
