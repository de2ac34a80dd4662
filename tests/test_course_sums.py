"""Sums of Fisher z over cells of stimuli, against sums of each pair's own z."""

import numpy as np
import pytest

from patchclamp.analyses import course_sums as module
from patchclamp.analyses.course_sums import course_similarities, course_sums
from patchclamp.registry.errors import UndefinedError

CELLS = np.random.default_rng(3).permutation([0] * 5 + [1] * 1 + [2] * 7 + [3] * 4)


@pytest.fixture
def courses():
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, size=(20, 17, 11)) + rng.normal(size=(20, 1, 1)) * 50


def summed(courses, cells, wanted=None):
    """Add up one pair at a time."""
    z, count = course_similarities(courses), cells.max() + 1
    result = np.zeros((len(courses), count, count))
    for pair, (i, j) in enumerate(zip(*np.triu_indices(len(cells), 1), strict=True)):
        a, b = sorted((cells[i], cells[j]))
        result[:, a, b] += z[:, pair]
    return result


@pytest.mark.parametrize("rows", [1, 4, 25])
def test_the_logarithm_of_a_product_is_the_sum_of_logarithms(courses, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS", rows)
    np.testing.assert_allclose(course_sums(courses, CELLS), summed(courses, CELLS), atol=1e-12)
    one = np.zeros_like(CELLS)
    np.testing.assert_allclose(
        course_sums(courses.astype(np.float32), one),
        summed(courses.astype(np.float32), one),
        atol=1e-11,
    )


def test_fisher_z_is_that_of_r(courses):
    r = np.corrcoef(courses[4])[np.triu_indices(17, 1)]
    found = course_sums(courses, np.zeros(17, dtype=int))[4, 0, 0]
    assert found == pytest.approx(np.arctanh(r).sum(), abs=1e-11)


def test_a_product_of_courses_all_nearly_alike_does_not_overflow():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(1, 1, 30))
    courses = shared + 0.02 * rng.normal(size=(3, 120, 30))  # 1 - r about 4e-4, above NEAR
    courses[1, ::2] *= -1
    cells = np.zeros(120, dtype=int)
    assert np.abs(np.tanh(course_similarities(courses))).mean() > 0.999
    np.testing.assert_allclose(course_sums(courses, cells), summed(courses, cells), rtol=1e-11)


def test_near_duplicates_are_done_pair_by_pair(courses):
    rng = np.random.default_rng(1)
    courses[2, 3] = courses[2, 8] + 1e-4 * rng.normal(size=11)
    courses[5, 3] = 40 - courses[5, 8] + 1e-3 * rng.normal(size=11)
    expected = summed(courses, CELLS)
    np.testing.assert_allclose(course_sums(courses, CELLS), expected, rtol=1e-9, atol=1e-11)


def test_a_pair_without_a_z_spoils_the_sums_of_its_cells_alone(courses):
    i, j = np.flatnonzero(CELLS == 0)[0], np.flatnonzero(CELLS == 2)[0]
    courses[6, i] = 3 * courses[6, j]
    found, expected = course_sums(courses, CELLS), summed(courses, CELLS)
    assert np.argwhere(np.isnan(found)).tolist() == [[6, 0, 2]]
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_a_silent_stimulus_spoils_all_of_its_cell(courses):
    courses[3, np.flatnonzero(CELLS == 2)[1]] = 0.0
    courses[17, CELLS == 1] = 7.0
    found, expected = course_sums(courses, CELLS), summed(courses, CELLS)
    given = ~np.isnan(found)
    np.testing.assert_allclose(found[given], expected[given], atol=1e-11)
    assert np.argwhere(~given).tolist() == [
        *([3, a, b] for a, b in ((0, 2), (1, 2), (2, 2), (2, 3))),
        *([17, a, b] for a, b in ((0, 1), (1, 1), (1, 2), (1, 3))),
    ]


def test_what_is_not_wanted_is_left_out_but_still_looked_at(courses):
    courses[6, np.flatnonzero(CELLS == 3)[0]] = 1.0
    wanted = np.zeros((4, 4), dtype=bool)
    wanted[0] = True
    found, expected = course_sums(courses, CELLS, wanted=wanted), summed(courses, CELLS)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-11)
    assert (found[:6, 1:] == 0).all()
    assert np.isnan(found[6, 1:, 3]).all()


def test_what_is_not_finite_is_refused(courses):
    courses[0, 3, 3] = np.nan
    with pytest.raises(UndefinedError, match="1 pattern with NaN or infinite values") as error:
        course_sums(courses, CELLS)
    assert error.value.where == (3,)
