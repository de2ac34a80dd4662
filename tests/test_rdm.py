"""RDM kernels against SciPy and NumPy, closed forms, and extended precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from patchclamp.analyses import distances, rdm
from patchclamp.analyses.comparators import ranks
from patchclamp.analyses.moments import Form
from patchclamp.registry.errors import UndefinedError


@pytest.fixture
def patterns():
    rng = np.random.default_rng(0)
    massive = np.where(np.arange(40) < 2, 300.0, 0.0)
    return rng.normal(size=(30, 40)) * np.linspace(3, 0.1, 40) + massive


def test_dissimilarities_are_those_of_scipy(patterns):
    expected = pdist(patterns, "correlation")
    np.testing.assert_allclose(rdm.dissimilarities(patterns), expected, rtol=1e-8, atol=1e-13)


def test_correlations_are_those_of_numpy(patterns):
    expected = np.corrcoef(patterns)[np.triu_indices(30, 1)]
    np.testing.assert_allclose(rdm.correlations(patterns), expected, atol=1e-13)


def test_every_pair_of_one_hot_patterns_is_n_over_n_minus_one_apart_and_tied():
    values = rdm.dissimilarities(np.eye(7))
    np.testing.assert_allclose(values, 7 / 6, rtol=1e-14)
    assert set(ranks(values)) == {11.0}


def _near_duplicates():
    """Pairs of stimuli alike to 1e-6, and their 1 - r in extended precision."""
    rng = np.random.default_rng(1)
    patterns = np.repeat(rng.normal(size=(10, 50)) + 5, 2, axis=0)
    patterns[1::2] += 1e-6 * rng.normal(size=(10, 50))
    unit = patterns.astype(np.longdouble)
    unit -= unit.mean(axis=1, keepdims=True)
    unit /= np.sqrt((unit**2).sum(axis=1, keepdims=True))
    first, second = np.triu_indices(20, 1)
    return patterns, ((unit[first] - unit[second]) ** 2).sum(axis=1) / 2


def _largest_relative_error(values, truth):
    return float(np.max(np.abs(values - truth) / truth))


def test_near_duplicates_keep_their_precision():
    patterns, truth = _near_duplicates()
    assert truth.min() < 1e-11
    assert _largest_relative_error(rdm.dissimilarities(patterns), truth) < 1e-6


def test_near_duplicates_lose_it_in_a_plain_gram_matrix():
    patterns, truth = _near_duplicates()
    unit = patterns - patterns.mean(axis=1, keepdims=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    plain = 1 - (unit @ unit.T)[np.triu_indices(20, 1)]
    assert _largest_relative_error(plain, truth) > 1e-5


def test_no_pair_is_recomputed_for_what_lay_in_memory_before(monkeypatch):
    """The half of the products that nobody writes holds whatever was there."""
    patterns = np.random.default_rng(0).normal(size=(90, 40))
    expected, recomputed = rdm.dissimilarities(patterns), []
    used = [np.full((90, 90), 1e6) for _ in range(50)]
    del used
    monkeypatch.setattr(distances, "_direct", lambda *args: recomputed.append(args))
    np.testing.assert_array_equal(rdm.dissimilarities(patterns), expected)
    assert not recomputed


def test_pairs_are_recomputed_in_blocks_of_any_size(monkeypatch):
    patterns, _ = _near_duplicates()
    whole = rdm.dissimilarities(patterns)
    monkeypatch.setattr(distances, "BLOCK", 1)
    np.testing.assert_array_equal(rdm.dissimilarities(patterns), whole)


def test_exact_duplicates_are_at_zero(patterns):
    patterns[4] = patterns[9]
    assert squareform(rdm.dissimilarities(patterns))[4, 9] == 0


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**16),
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-10, 10),
)
def test_scale_and_offset_of_a_pattern_leave_r(seed, scale, offset):
    rng = np.random.default_rng(seed)
    patterns = rng.normal(size=(6, 9))
    moved = patterns.copy()
    moved[2] = scale * moved[2] + scale * offset
    np.testing.assert_allclose(rdm.correlations(moved), rdm.correlations(patterns), atol=1e-11)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_extreme_magnitudes_neither_overflow_nor_vanish(scale):
    patterns = np.random.default_rng(0).normal(size=(5, 8))
    expected = rdm.correlations(patterns)
    np.testing.assert_allclose(rdm.correlations(patterns * scale), expected, atol=1e-12)


def test_a_negated_pattern_negates_r(patterns):
    negated = patterns.copy()
    negated[0] *= -1
    before, after = squareform(rdm.correlations(patterns)), squareform(rdm.correlations(negated))
    np.testing.assert_allclose(after[0], -before[0], atol=1e-13)


def test_the_order_of_stimuli_only_moves_pairs(patterns):
    order = np.random.default_rng(3).permutation(30)
    before = squareform(rdm.dissimilarities(patterns))
    after = squareform(rdm.dissimilarities(patterns[order]))
    np.testing.assert_allclose(after, before[np.ix_(order, order)], atol=1e-14)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3e5])
def test_constant_patterns_are_refused_by_row(patterns, constant):
    patterns[[3, 8]] = constant
    with pytest.raises(UndefinedError, match="undefined for 2 patterns, constant over units") as e:
        rdm.correlations(patterns)
    assert e.value.where == (3, 8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_patterns_that_are_not_finite_are_refused_by_row(patterns, bad):
    patterns[5, 1] = bad
    with pytest.raises(UndefinedError, match="1 pattern with NaN or infinite values") as e:
        rdm.dissimilarities(patterns)
    assert e.value.where == (5,)


def test_fisher_z_is_the_inverse_of_tanh():
    z = np.linspace(-3, 3, 10)
    np.testing.assert_allclose(rdm.fisher_z(dissimilarity=1 - np.tanh(z)), z, atol=1e-12)


def test_fisher_z_can_stand_where_dissimilarities_stood():
    d = np.random.default_rng(0).uniform(0.1, 1.9, size=(3, 50_000))
    expected = rdm.fisher_z(dissimilarity=d)
    assert rdm.fisher_z(dissimilarity=d, out=d) is d
    np.testing.assert_array_equal(d, expected)


def test_fisher_z_tells_near_duplicates_apart():
    """r is 1 - 2e-9 and 1 - 8e-9: z differs by ln 2, which a stored float32 r has lost."""
    z = rdm.fisher_z(dissimilarity=[2e-9, 1.0, 8e-9])
    assert z[0] - z[2] == pytest.approx(np.log(2), abs=1e-8)


def test_fisher_z_must_be_told_what_it_is_given():
    with pytest.raises(TypeError, match="positional argument"):
        rdm.fisher_z([0.5, 0.0, -0.5])


@pytest.mark.parametrize("sign", [1, -1])
def test_fisher_z_refuses_identical_and_opposite_patterns(patterns, sign):
    patterns[9] = sign * patterns[4]
    with pytest.raises(UndefinedError, match="decided by rounding for 1 of 435 pairs") as e:
        rdm.fisher_z(dissimilarity=rdm.dissimilarities(patterns))
    assert e.value.where == (4, 9)


def test_fisher_z_leaves_pairs_without_a_value():
    z = rdm.fisher_z(dissimilarity=[0.5, np.nan, 1.0])
    np.testing.assert_allclose(z, [np.arctanh(0.5), np.nan, 0.0])


METRICS = {
    "correlation": "correlation",
    "cosine": "cosine",
    "euclidean": "euclidean",
    "squared_euclidean": "sqeuclidean",
}


@pytest.mark.parametrize("block", [None, 1, 7, 29, 30])
@pytest.mark.parametrize(("metric", "scipys"), METRICS.items())
def test_metrics_are_those_of_scipy_read_in_blocks_of_any_size(patterns, metric, scipys, block):
    """`squared_euclidean` is divided by the number of units."""
    expected = pdist(patterns, scipys) / (40 if metric == "squared_euclidean" else 1)
    found = rdm.dissimilarities(patterns, metric=metric, block=block)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_near_duplicates_keep_their_precision_in_every_metric_and_block(metric):
    patterns, _ = _near_duplicates()
    x = patterns.astype(np.longdouble)
    first, second = np.triu_indices(20, 1)
    if metric in ("correlation", "cosine"):
        x -= x.mean(axis=1, keepdims=True) if metric == "correlation" else 0
        x /= np.sqrt((x**2).sum(axis=1, keepdims=True))
    truth = ((x[first] - x[second]) ** 2).sum(axis=1)
    truth = {"euclidean": np.sqrt(truth), "squared_euclidean": truth / 50}.get(metric, truth / 2)
    for block in (None, 6):
        found = rdm.dissimilarities(patterns, metric=metric, block=block)
        assert _largest_relative_error(found, truth) < 1e-6


@pytest.mark.parametrize("block", [None, 7])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_what_patterns_share_is_taken_away_only_where_it_is_much(
    patterns, metric, kind, block, monkeypatch
):
    """Results are the same either way; near pairs, which are many else, are done one by one."""
    own = patterns - patterns.mean(axis=0) + 0.3
    for known, much in ((own, False), (patterns, True)):
        values = known.astype(kind)
        form = Form(*rdm.FORMS[metric][:2], factor=1.0)
        assert (distances._reference(values, form) is not None) is much
        expected = pdist(values.astype(float), METRICS[metric])
        found = {}
        for apart in (distances.APART, 0.0, 2.0):
            with monkeypatch.context() as patch:
                patch.setattr(distances, "APART", apart)
                found[apart] = rdm.dissimilarities(values, metric=metric, block=block)
        scale = 40 if metric == "squared_euclidean" else 1
        for each in found.values():
            np.testing.assert_allclose(scale * each, expected, rtol=1e-7, atol=1e-14)
            np.testing.assert_allclose(each, found[0.0], rtol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_float32_patterns_lose_nothing_but_their_own_digits(patterns, metric):
    rounded = patterns.astype(np.float32)
    expected = rdm.dissimilarities(rounded.astype(np.float64), metric=metric)
    np.testing.assert_array_equal(rdm.dissimilarities(rounded, metric=metric), expected)


@pytest.mark.parametrize("block", [None, 4])
def test_pairs_of_a_constant_pattern_can_be_left_out(patterns, block):
    whole = squareform(rdm.dissimilarities(patterns))
    patterns[[3, 8]] = 7.0
    square = squareform(rdm.dissimilarities(patterns, leave_out=True, block=block), checks=False)
    kept = np.setdiff1d(np.arange(30), [3, 8])
    np.testing.assert_allclose(square[np.ix_(kept, kept)], whole[np.ix_(kept, kept)], atol=1e-13)
    assert np.isnan(square[3, kept]).all()
    assert np.isnan(square[3, 8])


def test_a_zero_pattern_has_no_cosine_and_a_constant_one_has(patterns):
    patterns[4] = 2.0
    assert np.isfinite(rdm.dissimilarities(patterns, metric="cosine")).all()
    patterns[4] = 0.0
    with pytest.raises(UndefinedError, match="a cosine is undefined for 1 pattern, zero in every"):
        rdm.dissimilarities(patterns, metric="cosine")
    assert np.isfinite(rdm.dissimilarities(patterns, metric="euclidean")).all()


def test_distances_that_overflow_are_refused():
    with pytest.raises(UndefinedError, match="too large to be squared"):
        rdm.dissimilarities([[1e200, 0.0], [-1e200, 0.0]], metric="euclidean")


@pytest.mark.parametrize("metric", METRICS)
def test_a_rotation_leaves_distances_and_a_shift_the_euclidean_ones(patterns, metric):
    rng = np.random.default_rng(5)
    rotation = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    before = rdm.dissimilarities(patterns, metric=metric)
    if metric != "correlation":  # whose centring over units is no rotation
        np.testing.assert_allclose(
            rdm.dissimilarities(patterns @ rotation, metric=metric), before, rtol=1e-9, atol=1e-9
        )
    if "euclidean" in metric:
        shifted = patterns + rng.normal(size=40)
        found = rdm.dissimilarities(shifted, metric=metric)
        np.testing.assert_allclose(found, before, rtol=1e-9)
