"""What a published study computed, against its steps one after another, and what went wrong."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from patchclamp.analyses.contrasts import contrasts
from patchclamp.analyses.feature_study import dropped_pairs, study_score, study_t
from patchclamp.analyses.rdm import fisher_z
from patchclamp.analyses.time_course import course_dissimilarities

FIRST, SECOND = 9, 7
CODES = np.repeat([0, 1], [FIRST, SECOND])


def published(course, kind):
    """Return the t of one feature, as the study's steps have it: (stimulus, position)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(course)
        if np.isnan(r).any():
            return 0.0
        z = np.arctanh(1 - np.clip(r, -0.999, 0.999))
    within = z[:FIRST, :FIRST][np.triu_indices(FIRST, 1)]
    other = z[:FIRST, FIRST:].ravel()
    if kind == "categorical":
        other = z[FIRST:, FIRST:][np.triu_indices(SECOND, 1)]
    return ttest_ind(within[np.isfinite(within)], other[np.isfinite(other)]).statistic


@pytest.fixture
def courses():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, FIRST + SECOND, 20))
    values[3, 2] = 1.5
    values[5, 0] = values[5, 1] + 1e-5 * rng.normal(size=20)
    return values


@pytest.mark.parametrize("kind", ["discriminative_target", "categorical"])
def test_the_published_steps_give_the_published_t(courses, kind):
    rdms = course_dissimilarities(courses, leave_out=True)
    found = study_t(rdms, CODES[None], kind)[:, 0]
    np.testing.assert_allclose(found, [published(c, kind) for c in courses], atol=1e-9)
    assert found[3] == 0


def test_half_of_the_pairs_of_noise_were_dropped(courses):
    shares = dropped_pairs(course_dissimilarities(courses, leave_out=True))
    assert 0.4 < np.median(shares) < 0.6


def test_a_perfect_feature_gets_the_wrong_sign():
    """A feature whose course is one pattern in the target class, and noise elsewhere."""
    rng = np.random.default_rng(0)
    courses = rng.normal(size=(100, FIRST + SECOND, 20))
    courses[7, :FIRST] += 3 * rng.normal(size=20)
    rdms = course_dissimilarities(courses)
    wrong = study_t(rdms, CODES[None], "discriminative_target")[:, 0]
    right = contrasts(fisher_z(dissimilarity=rdms), CODES[None], "discriminative_target")[:, 0]
    assert right.argmax() == 7
    assert wrong.argmin() == 7
    assert study_score(wrong)[7] < -3


def test_scores_are_t_in_units_of_its_spread_over_features():
    t = np.random.default_rng(0).normal(size=50)
    np.testing.assert_allclose(study_score(t), (t - t.mean()) / t.std())
    np.testing.assert_array_equal(study_score(np.ones(4)), np.zeros(4))
