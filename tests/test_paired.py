"""Paired tests against SciPy and plain loops; each with a control in which there is nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from patchclamp.analyses.paired import mcnemar, mean_difference_interval, sign_flip_test
from patchclamp.registry.errors import AnalysisError


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_exact_p_values_are_those_of_scipy() -> None:
    shifts = np.array([[0.0], [0.5], [2.0]])
    values = np.random.default_rng(1).standard_normal((3, 9)) + shifts
    p, _ = sign_flip_test(values, None, 100, rng())
    for row, found in zip(values, p, strict=True):
        theirs = permutation_test(
            (row,), lambda x, axis: np.abs(x.sum(axis)), permutation_type="samples",
            n_resamples=np.inf, alternative="greater",
        )  # fmt: skip
        assert found == pytest.approx(theirs.pvalue)


def test_groups_exchange_as_wholes() -> None:
    values = np.random.default_rng(2).standard_normal(8) + 0.3
    groups = np.repeat(["a", "b", "c", "d"], 2)
    p, _ = sign_flip_test(values[None], groups, 100, rng())
    totals = values.reshape(4, 2).sum(axis=1)
    null = [abs(totals @ signs) for signs in itertools.product([1, -1], repeat=4)]
    assert p[0] == np.mean(np.array(null) >= abs(totals.sum()) - 1e-12)


def test_the_correction_is_over_cells_and_holds_its_level() -> None:
    noise = np.random.default_rng(3).standard_normal((200, 12, 20))
    low = [sign_flip_test(one, None, 199, rng())[1].min() <= 0.05 for one in noise]
    # 5 % of 200 is 10; a binomial of 200 stays under 20 with a probability of 0.999.
    assert sum(low) < 20
    noise[:, 4] += 1.5
    found = [sign_flip_test(one, None, 199, rng())[1][4] <= 0.05 for one in noise[:20]]
    assert all(found)


def test_no_difference_at_all() -> None:
    p, p_max = sign_flip_test(np.zeros((2, 20)), None, 100, rng())
    assert p.tolist() == p_max.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("values", "groups", "message"), [
    ([[1.0, np.nan]], None, "1 of 2 differences are NaN or infinite"),
    ([[1.0, 2.0]], ["a", "a"], "at least 2 groups; there is 1"),
])  # fmt: skip
def test_refusals(values: list[list[float]], groups: list[str] | None, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        sign_flip_test(values, groups, 100, rng())


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 1), (10, 30), (7, 7), (0, 400)])
def test_mcnemar_is_a_binomial_test(lost: int, gained: int) -> None:
    a = np.r_[np.ones(lost), np.zeros(gained), np.ones(5), np.zeros(5)]
    b = np.r_[np.zeros(lost), np.ones(gained), np.ones(5), np.zeros(5)]
    found = mcnemar(a, b)
    assert (found.lost, found.gained) == (lost, gained)
    both = lost + gained
    theirs = binomtest(lost, both, 0.5).pvalue if both else 1.0
    assert found.p == pytest.approx(theirs)


def test_the_interval_covers_the_mean() -> None:
    draws = np.random.default_rng(4).standard_normal((100, 1, 40)) + 0.5
    bounds = [mean_difference_interval(x, None, 500, rng(), level=0.95) for x in draws]
    covered = sum(bool(low[0] <= 0.5 <= high[0]) for low, high in bounds)
    assert covered >= 85
