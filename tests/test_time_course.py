"""RDMs of time courses, many units at once, against each unit alone."""

import numpy as np
import pytest

from patchclamp.analyses import time_course
from patchclamp.analyses.rdm import dissimilarities
from patchclamp.analyses.time_course import course_dissimilarities
from patchclamp.registry.errors import UndefinedError


@pytest.fixture
def courses():
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, size=(20, 15, 11)) + rng.normal(size=(20, 1, 1)) * 50


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_every_unit_has_the_rdm_it_has_alone(courses, batch, monkeypatch):
    monkeypatch.setattr(time_course, "CACHED", batch * 15 * 15)
    expected = [dissimilarities(unit) for unit in courses]
    np.testing.assert_allclose(course_dissimilarities(courses), expected, atol=1e-13)


def test_near_duplicates_keep_their_precision(courses, monkeypatch):
    rng = np.random.default_rng(1)
    courses[:, 1::2] = courses[:, :-1:2] + 1e-6 * rng.normal(size=courses[:, 1::2].shape)
    courses[3, 5] = courses[3, 9]
    expected = np.array([dissimilarities(unit) for unit in courses])
    found = course_dissimilarities(courses)
    assert expected.min() == 0
    assert np.sort(expected.ravel())[1] < 1e-11
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    monkeypatch.setattr(time_course, "BLOCK", 1)
    np.testing.assert_array_equal(course_dissimilarities(courses), found)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3e5])
def test_a_silent_stimulus_is_named_or_its_pairs_left_out(courses, constant):
    courses[4, [2, 7]] = constant
    with pytest.raises(UndefinedError, match="for 2 patterns, constant over positions") as error:
        course_dissimilarities(courses)
    assert error.value.where == (2, 7)
    found = course_dissimilarities(courses, leave_out=True)
    expected = [dissimilarities(unit, leave_out=True) for unit in courses]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    assert np.isnan(found).sum() == 13 * 2 + 1


def test_what_is_not_finite_is_refused(courses):
    courses[0, 3, 3] = np.nan
    with pytest.raises(UndefinedError, match="1 pattern with NaN or infinite values") as error:
        course_dissimilarities(courses, leave_out=True)
    assert error.value.where == (3,)
