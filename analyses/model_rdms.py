"""Model RDMs: what a hypothesis says of two stimuli, as a table of their codes.

A code stands for all that model RDMs know of a stimulus: one value of the label that is permuted,
or of several labels together, or the stimulus itself. The diagonal of a table is what is said of
two different stimuli with one code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.pairs import pairs_of
from patchclamp.registry.errors import AnalysisError, hint

NAMED = 3
"""So many pairs or values are named in a message, the others counted."""


def category_table(values: Sequence[str]) -> NDArray[np.float64]:
    """Return 0 for two codes of one class and 1 for others; `values`: the class of each code.

    >>> category_table(["a", "b", "a"]).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    given = np.asarray(values)
    return np.asarray(given[:, None] != given, dtype=np.float64)


def ordinal_table(values: Sequence[str], order: Sequence[str]) -> NDArray[np.float64]:
    """Return how many steps apart two codes stand in an order of classes.

    A class that the order lacks raises `AnalysisError`.

    >>> ordinal_table(["low", "high"], ["low", "middle", "high"]).tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    for value in values:
        if value not in order:
            raise AnalysisError(f"the order has no {value!r}{hint(value, tuple(order))}")
    steps = np.array([order.index(value) for value in values], dtype=np.float64)
    return np.asarray(np.abs(steps[:, None] - steps))


def difference_table(values: Sequence[str], column: str) -> NDArray[np.float64]:
    """Return the absolute difference of a number of each code.

    `values`: numbers as text, as labels are kept. One that is no finite number raises
    `AnalysisError`.

    >>> difference_table(["1.5", "4"], "length").tolist()
    [[0.0, 2.5], [2.5, 0.0]]
    """
    numbers = np.array([_number(value, column) for value in values])
    return np.asarray(np.abs(numbers[:, None] - numbers))


def _number(value: str, column: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise AnalysisError(
            f"column {column!r} of a continuous model RDM has {value!r}, which is no number; "
            "for words give 'ratings', a table of pairs"
        )
    return number


def ratings_table(
    values: Sequence[str], pairs: Sequence[tuple[str, str]], rated: ArrayLike, leave_out: bool
) -> NDArray[np.float64]:
    """Return the rated dissimilarity of two codes.

    `values`: the item of each code; `pairs` and `rated`: (rating,), the two items, in either
    order, and their dissimilarity. An item is at 0 from itself, if nothing else is rated. A pair
    that is not rated is NaN with `leave_out`, and else raises `AnalysisError` naming some; so
    does one that is rated twice with different values.

    >>> ratings_table(["a", "b"], [("b", "a")], [0.25], False).tolist()
    [[0.0, 0.25], [0.25, 0.0]]
    """
    known: dict[frozenset[str], float] = {}
    for pair, value in zip(pairs, np.asarray(rated, dtype=np.float64).tolist(), strict=True):
        if known.setdefault(frozenset(pair), value) != value:
            raise AnalysisError(
                f"the ratings have {pair[0]!r} and {pair[1]!r} twice, as "
                f"{known[frozenset(pair)]:g} and {value:g}: keep one of them"
            )
    table = np.full((len(values), len(values)), np.nan)
    for i, first in enumerate(values):
        for j, second in enumerate(values[: i + 1]):
            same = 0.0 if first == second else np.nan
            table[i, j] = table[j, i] = known.get(frozenset((first, second)), same)
    missing = np.argwhere(np.isnan(np.tril(table)))
    if missing.size and not leave_out:
        named = ", ".join(f"{values[j]!r} and {values[i]!r}" for i, j in missing[:NAMED])
        raise AnalysisError(
            f"{len(missing)} of {len(values) * (len(values) - 1) // 2} pairs are not rated: "
            f"{named}{'' if len(missing) <= NAMED else ', …'}; with 'missing: leave_out' only "
            "rated pairs are compared"
        )
    return table


def interaction_table(
    first: NDArray[np.float64], second: NDArray[np.float64], codes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the product of two tables, each less its mean over the pairs of stimuli.

    Tables: (code, code); `codes`: (stimulus,). The product alone would be large where either is;
    centred, it is large where both agree and small where they do not.

    >>> table = category_table(["a", "b"])
    >>> interaction_table(table, table, np.array([0, 0, 1])).round(3).tolist()
    [[0.444, 0.111], [0.111, 0.444]]
    """
    one, other = (table - np.nanmean(pairs_of(table, codes)) for table in (first, second))
    return np.asarray(one * other)


def joint_codes(columns: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return one code for each combination of several codes that occurs: (stimulus,).

    >>> joint_codes({"a": np.array([0, 0, 1]), "b": np.array([5, 6, 5])}).tolist()
    [0, 1, 2]
    """
    stacked = np.stack(list(columns.values()))
    return np.asarray(np.unique(stacked, axis=1, return_inverse=True)[1].ravel(), dtype=np.int64)
