"""L1 paths against converged coordinate descent, with units that enter and leave."""

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from patchclamp.analyses import lasso
from patchclamp.analyses.lasso import first_units


def problem(stimuli, units, seed, shared=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(stimuli, units))
    x += shared * rng.normal(size=(stimuli, 3)) @ rng.normal(size=(3, units))
    y = np.sign(rng.normal(size=(4, stimuli)))
    return (x - x.mean(axis=0)) / x.std(axis=0), y - y.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_the_units_in_use_are_those_of_a_lasso_with_that_penalty(seed, shared):
    x, y = problem(20 + 5 * seed, 30 + 20 * seed, seed, shared)
    found = first_units(x, y, k := 1 + seed)
    assert not found.tied.any()
    for units, penalty, target in zip(found.units, found.penalty, y, strict=True):
        last = penalty[-1] * (1 - 1e-5)  # just after the last has entered
        model = Lasso(alpha=last, fit_intercept=False, tol=1e-12, max_iter=1_000_000)
        expected = np.flatnonzero(model.fit(x, target).coef_)
        assert sorted(units) == expected.tolist()
        assert len(expected) == k
        assert (np.diff(penalty) <= 0).all()


def test_the_first_unit_has_the_largest_correlation():
    x, y = problem(40, 200, 0)
    found = first_units(x, y, 1)
    np.testing.assert_array_equal(found.units[:, 0], np.abs(y @ x).argmax(axis=1))
    np.testing.assert_allclose(found.penalty[:, 0], np.abs(y @ x).max(axis=1) / 40)


def test_batches_change_nothing(monkeypatch):
    x, y = problem(40, 200, 1)
    whole = first_units(x, y, 5)
    monkeypatch.setattr(lasso, "BATCH", 200)
    parts = first_units(x, y, 5)
    np.testing.assert_array_equal(parts.units, whole.units)


def test_a_copy_of_a_unit_in_use_never_enters_and_a_tie_at_the_border_is_told():
    x, y = problem(40, 20, 2)
    first = int(np.abs(y[0] @ x).argmax())
    twice = np.column_stack([x, x[:, first]])
    found = first_units(twice, y[:1], 4)
    assert found.units[0, 0] == first
    assert 20 not in found.units
    assert not found.tied[0]
    assert first_units(twice, y[:1], 1).tied[0]


def test_constant_units_never_enter_and_what_lacks_is_minus_one():
    x, y = problem(40, 3, 3)
    x[:, 1] = 0
    found = first_units(x, y[:1], 3)
    assert sorted(found.units[0].tolist()) == [-1, 0, 2]
    assert np.isnan(found.penalty[0, -1])
    assert (first_units(np.zeros((40, 3)), y, 1).units == -1).all()
