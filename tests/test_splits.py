"""Splits: equal inner products with and without the kernel form, in blocks, and back in units."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from patchclamp.analyses.splits import Part, make_split, unit_weights
from patchclamp.registry.errors import UndefinedError


def patterns(stimuli=30, units=50, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(stimuli, units)) * rng.uniform(0.1, 30, units) + 50


def parts(x, n=24):
    return Part(x, np.arange(n)), Part(x, np.arange(n, len(x)))


@pytest.mark.parametrize("block", [1, 200, 1 << 20])
def test_inner_products_are_those_of_standardised_patterns(block):
    x = patterns()
    train, test = parts(x)
    scaler = StandardScaler().fit(x[:24])
    z, y = scaler.transform(x[:24]), scaler.transform(x[24:])
    split = make_split(train, test, block=block)
    assert split.dual
    np.testing.assert_allclose(split.train, z @ z.T, atol=1e-10)
    np.testing.assert_allclose(split.test, y @ z.T, atol=1e-10)


def test_fewer_units_than_stimuli_stay_units():
    x = patterns(units=5)
    split = make_split(*parts(x))
    scaler = StandardScaler().fit(x[:24])
    assert not split.dual
    np.testing.assert_allclose(split.train, scaler.transform(x[:24]), atol=1e-12)
    np.testing.assert_allclose(split.test, scaler.transform(x[24:]), atol=1e-12)


def test_units_can_be_kept_where_stimuli_are_fewer():
    assert make_split(*parts(patterns()), units=True).train.shape == (24, 50)


def test_without_scaling_patterns_are_only_centred():
    x = patterns()
    centred = x - x[:24].mean(axis=0)
    split = make_split(*parts(x), scale=False)
    np.testing.assert_allclose(split.train, centred[:24] @ centred[:24].T, rtol=1e-10)


def test_a_unit_that_is_constant_in_training_has_no_say():
    x = patterns()
    leaky = x.copy()
    leaky[:24, 7], leaky[24:, 7] = 3.1, 1e6
    without = np.delete(x, 7, axis=1)
    found, expected = make_split(*parts(leaky)), make_split(*parts(without))
    np.testing.assert_allclose(found.train, expected.train, atol=1e-10)
    np.testing.assert_allclose(found.test, expected.test, atol=1e-10)


@pytest.mark.parametrize("units", [5, 50])
def test_a_split_inside_is_centred_on_its_own_training_part(units):
    x = patterns(units=units)
    split = make_split(*parts(x))
    rows, held = np.arange(0, 16), np.arange(16, 24)
    inner = split.inside(rows, held)
    z = StandardScaler().fit_transform(x[:24])
    z -= z[:16].mean(axis=0)
    np.testing.assert_allclose(inner.gram(), z[:16] @ z[:16].T, atol=1e-9)
    cross = inner.test if inner.dual else inner.test @ inner.train.T
    np.testing.assert_allclose(cross, z[16:24] @ z[:16].T, atol=1e-9)


@pytest.mark.parametrize("units", [5, 50])
def test_axes_are_principal_and_leave_out_what_has_no_variance(units):
    split = make_split(*parts(patterns(units=units)))
    axes, variances = split.axes
    assert axes.shape[1] == min(units, 23)  # 24 centred stimuli have rank 23
    along = split.train @ axes
    np.testing.assert_allclose(along.T @ along, np.diag(variances), atol=1e-8 * variances[-1])
    np.testing.assert_allclose(along @ along.T, split.gram(), atol=1e-8 * variances[-1])


@pytest.mark.parametrize("units", [5, 50])
def test_weights_come_back_in_units(units):
    x = patterns(units=units)
    train, test = parts(x)
    split = make_split(train, test)
    weights = np.random.default_rng(1).normal(size=(split.train.shape[1], 2))
    found, offset = unit_weights(train, weights, dual=split.dual, block=100)
    np.testing.assert_allclose(x[24:] @ found + offset, split.test @ weights, atol=1e-8)


def test_what_is_not_finite_is_refused_by_row():
    x = patterns()
    x[27, 3] = np.inf
    with pytest.raises(UndefinedError, match="1 of 30 patterns hold NaN or infinite") as error:
        make_split(*parts(x))
    assert error.value.where == (27,)
