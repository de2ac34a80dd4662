"""Contrasts: differences between the mean Fisher z of two sets of pairs, for many labellings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.pairs import Weigh, pair_sums, same, stimulus_sums
from patchclamp.registry.errors import UndefinedError

Kind = Literal["discriminative", "discriminative_target", "categorical"]


FEW = 2**18
"""Pairs of all labellings whose sets are weights of one matrix product."""

Count = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Number of pairs in a set, from how often each class occurs: (labelling, class)."""


@dataclass(frozen=True)
class _Set:
    """A set of pairs: which, how many, in words. Without `weigh`, all that the other has not."""

    weigh: Weigh | None
    count: Count
    words: str


def _total(first: int, second: int) -> Weigh:
    def weigh(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.bool_]:
        return np.asarray(a + b == first + second)  # of classes 0 and 1 only

    return weigh


def _inside(size: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(size * (size - 1) / 2)


def _same(size: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(_inside(size).sum(axis=1))


def _different(size: NDArray[np.int64]) -> NDArray[np.float64]:
    return _inside(np.asarray(size.sum(axis=1))) - _same(size)


def _first(size: NDArray[np.int64]) -> NDArray[np.float64]:
    return _inside(size[:, 0])


def _one_of_each(size: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(size[:, 0] * size[:, 1], dtype=np.float64)


def _second(size: NDArray[np.int64]) -> NDArray[np.float64]:
    return _inside(size[:, 1])


_SETS: dict[Kind, tuple[_Set, _Set]] = {
    "discriminative": (
        _Set(same, _same, "within the classes"),
        _Set(None, _different, "across the classes"),
    ),
    "discriminative_target": (
        _Set(_total(0, 0), _first, "within the target class"),
        _Set(_total(0, 1), _one_of_each, "across the classes"),
    ),
    "categorical": (
        _Set(_total(0, 0), _first, "within the first class"),
        _Set(_total(1, 1), _second, "within the second class"),
    ),
}
"""Contrast -> the two sets of pairs whose means it compares."""


def contrasts(values: ArrayLike, labellings: NDArray[np.int64], kind: Kind) -> NDArray[np.float64]:
    """Return the mean of a pair value over one set of pairs minus its mean over another.

    `values`: (rdm, pair), any units, NaN for pairs that are left out; `labellings`: (labelling,
    stimulus), class numbers from 0; result: (rdm, labelling), in the units of the values.

    * `discriminative`: pairs within any class minus pairs across classes. Each pair counts once,
      so a large class counts for more.
    * `discriminative_target`: pairs within class 0 minus its pairs with class 1, all others;
      pairs among the others take no part.
    * `categorical`: pairs within class 0 minus pairs within class 1. It compares how coherent
      two classes are and says nothing about whether they are apart.

    A labelling that leaves a set without pairs raises `UndefinedError`; where pairs are left
    out, an RDM that lacks a set under any labelling gets NaN.

    >>> contrasts([[3.0, 1.0, 2.0]], np.array([[0, 0, 1]]), "discriminative")
    array([[1.5]])
    """
    values = np.asarray(values, dtype=np.float64)
    sizes = np.stack([(labellings == c).sum(axis=1) for c in range(labellings.max() + 1)], axis=1)
    for part in _SETS[kind]:
        _refuse_empty(part.count(sizes), part.words)
    first, second = set_sums(values, labellings, kind)
    a, b = (part.count(sizes) for part in _SETS[kind])
    result = first / a - second / b
    lacking = np.isnan(first[:, 0])  # a sum, weighted by zeros too, is NaN where a pair is
    if lacking.any():
        result[lacking] = _of_given_pairs(values[lacking], labellings, kind)
    return result


def pair_sets(codes: NDArray[np.int64], kind: Kind) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs of stimuli make up the two sets of a contrast: (pair,) each.

    >>> first, second = pair_sets(np.array([0, 0, 1]), "discriminative")
    >>> first.tolist(), second.tolist()
    ([True, False, False], [False, True, True])
    """
    i, j = np.triu_indices(len(codes), 1)
    return _sets(codes[i], codes[j], kind)


def cell_sets(codes: NDArray[np.int64], kind: Kind) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs of cells, and pairs within one, make up the two sets: (cell, cell) each.

    `codes` (cell,) are the classes of their stimuli. The lower triangle is False.

    >>> first, second = cell_sets(np.array([0, 1]), "discriminative")
    >>> first.tolist(), second.tolist()
    ([[True, False], [False, True]], [[False, True], [False, False]])
    """
    first, second = _sets(codes[:, None], codes[None], kind)
    return np.triu(first), np.triu(second)


def _sets(
    a: NDArray[np.int64], b: NDArray[np.int64], kind: Kind
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    one, other = _SETS[kind]
    assert one.weigh is not None
    codes = a.astype(np.int32), b.astype(np.int32)
    first = one.weigh(*codes).astype(bool)
    return first, ~first if other.weigh is None else other.weigh(*codes).astype(bool)


def cell_contrast(
    sums: NDArray[np.float64],
    cells: tuple[NDArray[np.int64], NDArray[np.int64]],
    kind: Kind,
    taken: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return `contrasts` of one labelling from sums of pair values over cells of stimuli.

    `sums`: (rdm, cell, cell), the lower triangle 0; `cells`: how many stimuli each has, and their
    class; `taken` (cell,): whether its stimuli take part; result: (rdm,), NaN where any sum of
    cells that take part is.
    """
    sizes, codes = cells
    pairs = np.triu(np.outer(sizes, sizes), 1) + np.diag(sizes * (sizes - 1) // 2)
    both = np.triu(np.outer(taken, taken))
    means = []
    for chosen, part in zip(cell_sets(codes, kind), _SETS[kind], strict=True):
        count = pairs[chosen & both].sum()
        _refuse_empty(np.array([float(count)]), part.words)
        means.append(sums[:, chosen & both].sum(axis=1) / count)
    undefined = np.isnan(sums[:, both]).any(axis=1)
    return np.where(undefined, np.nan, means[0] - means[1])


def set_sums(
    values: NDArray[np.float64], labellings: NDArray[np.int64], kind: Kind
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of pair values over both sets of a contrast: (rdm, labelling) each."""
    one, other = _SETS[kind]
    assert one.weigh is not None
    if len(labellings) * values.shape[1] <= FEW:
        return _at_once(values, labellings, kind)
    first = pair_sums(values, labellings, one.weigh)
    if other.weigh is None:
        return first, values.sum(axis=1)[:, None] - first
    # Of all pairs that class 0 takes part in, those inside it come twice: no second look at pairs.
    each = stimulus_sums(values)
    second = each @ (labellings == 0).T.astype(np.float64) - 2 * first
    if kind == "categorical":
        second = each.sum(axis=1)[:, None] / 2 - first - second
    # What is observed is added up itself: of classes far apart a difference leaves few digits.
    first[:, :1], second[:, :1] = _at_once(values, labellings[:1], kind)
    return first, second


def _at_once(
    values: NDArray[np.float64], labellings: NDArray[np.int64], kind: Kind
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums over both sets of a few labellings, with one look at every value."""
    sets = [np.stack(pair_sets(codes, kind), axis=1) for codes in labellings]
    sums = values @ np.concatenate(sets, axis=1).astype(np.float64)
    return sums[:, ::2], sums[:, 1::2]


def _of_given_pairs(
    values: NDArray[np.float64], labellings: NDArray[np.int64], kind: Kind
) -> NDArray[np.float64]:
    """Contrast the pairs that have a value; NaN if any labelling leaves a set without."""
    given = ~np.isnan(values)
    sums = set_sums(np.where(given, values, 0.0), labellings, kind)
    counts = set_sums(given.astype(np.float64), labellings, kind)
    some = np.minimum(*counts) > 0.5
    means = [s / np.where(some, c, 1.0) for s, c in zip(sums, counts, strict=True)]
    return np.where(some.all(axis=1, keepdims=True), means[0] - means[1], np.nan)


def _refuse_empty(pairs: NDArray[np.float64], where: str) -> None:
    empty = int((pairs == 0).sum())
    if empty:
        raise UndefinedError(
            f"{empty} of {len(pairs)} labellings leave no pair of stimuli {where}; the observed "
            "labels are the first of them, and exchanging whole groups of unequal size can "
            "empty a small class: give it more stimuli, or groups of equal size"
        )
