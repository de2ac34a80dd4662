"""Label permutation: which labels may change places, and the p values that follow.

Under the null hypothesis labels say nothing about activations, so labels may be exchanged
where the design could have put them differently:

* no groups: between any stimuli (`free`);
* the label is constant in every group: between groups (`whole groups`), because the stimuli of
  a group are not independent and would all have had the other label together;
* the label varies inside groups: within each group (`within groups`). A group that happens to
  hold one label keeps it. In such a mixed design exchanging labels between groups too would
  need the groups to be alike, which is not known; holding each group's labels fixed needs only
  exchangeability inside groups, so it is valid, and weaker where few groups vary.

With `strata`, values of another factor, labels are exchanged only where that factor is the same:
this tests one factor, or an interaction, and leaves the other's effect in the null distribution.

Winkler, Webster, Vidaurre, Nichols & Smith 2015, doi:10.1016/j.neuroimage.2015.05.092.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from patchclamp.registry.errors import AnalysisError

MIN_ARRANGEMENTS = 20
"""With fewer ways to arrange the labels p cannot reach 0.05."""

ROUNDING = 1e-9
"""A null value this share of the scale below the observed one is tied with it: the same sum in
another order differs by about 1e-15, and a tie counts against the effect."""

EXACT = 10**15
"""Up to here a number of arrangements is stored as a number, beyond as text like 3.1e+90."""

Scheme = Literal["free", "whole groups", "within groups"]


def scheme(codes: NDArray[np.int64], groups: NDArray[np.int64] | None) -> Scheme:
    """Return which labels are exchangeable, in words; `codes` and `groups`: (stimulus,).

    >>> scheme(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    'whole groups'
    >>> scheme(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    'within groups'
    """
    if groups is None:
        return "free"
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    constant = np.array_equal(codes, codes[first][group])
    return "whole groups" if constant else "within groups"


def arrangements(
    codes: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    strata: NDArray[np.int64] | None = None,
    *,
    named: bool = False,
    along: NDArray[np.int64] | None = None,
) -> int:
    """Return in how many distinct ways the design can sort the stimuli into classes.

    A product of multinomials, exact. Ways that only swap the names of classes count once, where
    the statistics do not see names: of 6 stimuli in classes of 3 there are 10, not 20. (For a
    contrast with a target class, which does, this errs to the small side.) Where they do, as
    those of an order, a number or another capture, `named` counts them all. Labels may be
    exchanged `along` with others, (stimulus,) codes that then decide what changes places.

    >>> arrangements(np.array([0, 0, 0, 1, 1, 1]), None)
    10
    """
    first, _, blocks = _units(codes if along is None else along, groups, strata)
    classes, numbers = np.unique(codes[first], return_inverse=True)
    counts = np.zeros((int(blocks.max()) + 1, len(classes)), dtype=np.int64)
    np.add.at(counts, (blocks, numbers), 1)
    ways = math.prod(_multinomial(row) for row in counts.tolist())
    if named:
        return ways
    # Renaming classes maps the set of ways onto itself exactly if their counts agree everywhere.
    _, alike = np.unique(counts, axis=1, return_counts=True)
    return ways // math.prod(math.factorial(number) for number in alike.tolist())


def _units(
    codes: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    strata: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return what changes places, stimuli or whole groups, and where.

    The first stimulus of each unit, the unit of each stimulus, and the block of each unit inside
    which it is exchanged. A group that straddles strata cannot move as a whole: `AnalysisError`.
    """
    n = len(codes)
    strata = np.zeros(n, dtype=np.int64) if strata is None else strata
    if groups is not None and scheme(codes, groups) == "whole groups":
        _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
        if not np.array_equal(strata, strata[first][unit]):
            raise AnalysisError(
                "the permuted label is constant in each group, so whole groups change places, "
                "but some groups hold several values of the factor that is held fixed"
            )
        block = strata[first]
    else:
        first = unit = np.arange(n)
        inside = np.zeros(n, dtype=np.int64) if groups is None else groups
        block = np.unique(np.stack([inside, strata]), axis=1, return_inverse=True)[1].ravel()
    return first, unit, np.unique(block, return_inverse=True)[1]


def _multinomial(counts: list[int]) -> int:
    ways, total = 1, 0
    for count in counts:
        total += count
        ways *= math.comb(total, count)
    return ways


def permuted_labels(
    codes: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    n: int,
    rng: np.random.Generator,
    strata: NDArray[np.int64] | None = None,
    *,
    named: bool = False,
) -> NDArray[np.int64]:
    """Return `n` random labellings of the same design.

    `codes`: (stimulus,), class numbers; `groups`: (stimulus,), or None where stimuli are
    independent; `strata`: (stimulus,), or None; `named` as in `arrangements`; result:
    (permutation, stimulus). Draws are independent and uniform over the arrangements of
    `scheme`; the observed one may be among them. A design with fewer than 20 `arrangements`
    raises `AnalysisError`.

    >>> codes, groups = np.repeat([0, 1], 8), np.repeat(np.arange(8), 2)
    >>> permuted_labels(codes, groups, 1, np.random.default_rng(0)).tolist()
    [[0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1]]
    """
    codes = np.asarray(codes, dtype=np.int64)
    refuse_few(arrangements(codes, groups, strata, named=named), codes, groups)
    first, unit, block = _units(codes, groups, strata)
    drawn = np.tile(codes[first], (n, 1))
    for number in range(int(block.max()) + 1):
        members = np.flatnonzero(block == number)
        drawn[:, members] = rng.permuted(drawn[:, members], axis=1)
    return drawn[:, unit]


def refuse_few(
    ways: int,
    codes: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    along: NDArray[np.int64] | None = None,
) -> None:
    """Raise `AnalysisError` for a design with fewer than 20 `arrangements`, which are given."""
    if ways >= MIN_ARRANGEMENTS:
        return
    n_groups = "" if groups is None else f" in {len(np.unique(groups))} groups"
    how = scheme(codes if along is None else along, groups)
    raise AnalysisError(
        f"the design allows {ways} distinct arrangement{'s' * (ways != 1)} of the labels ({how}; "
        f"{len(codes)} stimuli{n_groups}, {len(np.unique(codes))} classes), so p cannot reach "
        f"0.05: at least {MIN_ARRANGEMENTS} are needed"
    )


def permuted_stimuli(
    codes: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    n: int,
    rng: np.random.Generator,
    strata: NDArray[np.int64] | None = None,
) -> NDArray[np.int64] | None:
    """Return for each stimulus the one whose place it takes, as labels may be exchanged.

    As `permuted_labels`, whose labellings these are: `codes[result]`, (permutation, stimulus).
    Groups that change places as a whole must be of one size; None where they are not.

    >>> codes, groups = np.repeat([0, 1], 8), np.repeat(np.arange(8), 2)
    >>> permuted_stimuli(codes, groups, 1, np.random.default_rng(0)).tolist()
    [[4, 5, 8, 9, 6, 7, 12, 13, 10, 11, 0, 1, 2, 3, 14, 15]]
    """
    first, unit, block = _units(codes, groups, strata)
    order = np.argsort(unit, kind="stable")
    size, rest = divmod(len(unit), len(first))
    if rest or (np.bincount(unit) != size).any():
        return None
    members = order.reshape(len(first), size)
    drawn = np.tile(np.arange(len(first)), (n, 1))
    for number in range(int(block.max()) + 1):
        inside = np.flatnonzero(block == number)
        drawn[:, inside] = rng.permuted(drawn[:, inside], axis=1)
    rank = np.empty(len(unit), dtype=np.int64)
    rank[order] = np.tile(np.arange(size), len(first))
    return np.asarray(members[drawn[:, unit], rank])


def p_value(observed: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """Return the permutation p of each observed value, upper tail: (k + 1) / (n + 1).

    `observed`: (...); `null`: (..., permutation); result: (...), dimensionless, never 0, NaN
    where the observed value is. k is the number of null values at least as large, ties by
    rounding included. One-sided; give magnitudes for a two-sided test. Phipson & Smyth 2010,
    doi:10.2202/1544-6115.1585.

    >>> p_value(2.0, [0.0, 1.0, 2.0])
    array(0.5)
    """
    observed, null = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    scale = np.maximum(np.abs(observed), np.abs(null).max(axis=-1))
    exceed = (null >= (observed - ROUNDING * scale)[..., None]).sum(axis=-1)
    p = np.asarray((exceed + 1) / (null.shape[-1] + 1), dtype=np.float64)
    return np.where(np.isnan(observed), np.nan, p)


def p_max(observed: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """Return p corrected for a whole family of tests by the distribution of its maximum.

    `observed`: (...), all axes one family; `null`: (..., permutation), where one permutation
    was the same for the whole family; result: (...). Each observed value is held against the
    largest null value of each permutation, which controls the chance of any false positive
    (family-wise error) whatever the dependence. Values are compared as they are: a place whose
    null is wider sets the bar for all. Nichols & Holmes 2002, doi:10.1002/hbm.1058.

    >>> p_max([2.0, 1.0], [[0.0, 1.0, 0.5], [0.0, 0.0, 3.0]])
    array([0.5 , 0.75])
    """
    null = np.asarray(null, dtype=np.float64)
    return p_largest(observed, np.fmax.reduce(null, axis=tuple(range(null.ndim - 1))))


def p_largest(observed: ArrayLike, largest: ArrayLike) -> NDArray[np.float64]:
    """Return `p_max` from the largest null value of each permutation: (permutation,)."""
    observed, largest = np.asarray(observed, dtype=np.float64), np.sort(np.asarray(largest))
    scale = np.maximum(np.abs(observed), np.abs(largest).max())
    exceed = largest.size - np.searchsorted(largest, observed - ROUNDING * scale)
    p = (exceed + 1) / (largest.size + 1)
    return np.asarray(np.where(np.isnan(observed), np.nan, p))


def p_fdr(p: ArrayLike) -> NDArray[np.float64]:
    """Return p adjusted so that those below q have a false discovery rate of at most q.

    `p`: (...), all axes one family, NaN takes no part; result: (...). Benjamini & Hochberg 1995,
    valid for independent and for positively dependent tests, as those of neighbouring layers
    are. With n permutations p is at least 1 / (n + 1), which may be too coarse for many tests.

    >>> p_fdr([0.01, 0.02, 0.5])
    array([0.03, 0.03, 0.5 ])
    """
    p = np.asarray(p, dtype=np.float64)
    result, given = np.full(p.shape, np.nan), ~np.isnan(p)
    result[given] = false_discovery_control(p[given]) if given.any() else np.nan
    return result


def description(
    codes: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    n: int,
    strata: NDArray[np.int64] | None = None,
    *,
    within: str = "the other factor",
) -> dict[str, str | int]:
    """Return what a result must say of its permutations, as attributes; `within` names strata.

    >>> description(np.array([0, 0, 0, 1, 1, 1, 1]), None, 99)
    {'permutation': 'free', 'n_permutations': 99, 'n_arrangements': 35}
    """
    count = told(arrangements(codes, groups, strata))
    how = scheme(codes, groups) + ("" if strata is None else f", within {within}")
    return {"permutation": how, "n_permutations": n, "n_arrangements": count}


def told(ways: int) -> int | str:
    """Return a number of arrangements as results keep it: as text where it is no plain number.

    >>> told(35), told(10**900)
    (35, '1.0e+900')
    """
    if ways <= EXACT:
        return ways
    exponent = math.floor(math.log10(ways))
    return f"{10 ** (math.log10(ways) - exponent):.1f}e+{exponent}"
