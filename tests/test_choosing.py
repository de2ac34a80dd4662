"""Choosing units: scores against loops, ties, blocks, and read-outs of what was chosen."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from patchclamp.analyses import choosing
from patchclamp.analyses.choosing import (
    chance_stability,
    choose,
    choose_l1,
    choose_random,
    held_out_chosen,
    stability,
)
from patchclamp.analyses.decoding import Estimator, Fold
from patchclamp.analyses.unit_scores import SCORES, Block
from patchclamp.registry.errors import AnalysisError, UndefinedError

TRAIN = np.array([0, 2, 3, 5, 6, 8, 9, 11, 12, 13])
PARTS = [TRAIN, np.arange(14)]


def courses(units=12, stimuli=14, positions=5, seed=0):
    return np.random.default_rng(seed).normal(size=(stimuli, positions, units))


def labellings(stimuli=14, n=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(stimuli) % 2, (n, 1)), axis=1)


def by_hand(kind, values, labels):
    """Return the score of one unit from its courses (stimulus, position), by loops."""
    means = values.mean(axis=1)
    if kind == "contrast":
        return abs(stats.ttest_ind(means[labels == 1], means[labels == 0], equal_var=False)[0])
    if kind == "maximum":
        return means.max()
    z = np.arctanh(np.corrcoef(values) - np.eye(len(values)))
    pairs = [(i, j) for i in range(len(labels)) for j in range(i)]
    inside = np.mean([z[i, j] for i, j in pairs if labels[i] == labels[j] == 1])
    if kind == "discriminative":
        return inside - np.mean([z[i, j] for i, j in pairs if labels[i] != labels[j]])
    return inside - np.mean([z[i, j] for i, j in pairs if labels[i] == labels[j] == 0])


@pytest.mark.parametrize("kind", sorted(SCORES))
def test_scores_are_those_of_a_loop_over_training_stimuli(kind):
    values, drawn = courses(), labellings()
    found = SCORES[kind](Block(values), drawn, [TRAIN])[0]
    for row, labels in enumerate(drawn):
        expected = [by_hand(kind, values[TRAIN, :, u], labels[TRAIN]) for u in range(12)]
        np.testing.assert_allclose(found[min(row, len(found) - 1)], expected)


@pytest.mark.parametrize("kind", ["discriminative", "categorical"])
def test_a_unit_without_all_its_similarities_has_no_score(kind):
    values, drawn = courses(), labellings()
    values[3, :, 4] = 0.0  # silent for a training stimulus
    values[1, :, 5] = 0.0  # silent for a held-out one, which does not matter
    values[6, :, 6] = 2 * values[5, :, 6]  # the same course, but for its size
    found = SCORES[kind](Block(values), drawn, [TRAIN])[0]
    assert np.isnan(found).all(axis=0).tolist() == [u in (4, 6) for u in range(12)]
    assert np.isnan(found).any(axis=0).tolist() == [u in (4, 6) for u in range(12)]


@pytest.mark.parametrize("kind", ["discriminative", "categorical"])
def test_the_true_labels_alone_give_the_scores_that_they_have_among_permuted_ones(kind):
    values, drawn = courses(units=40), labellings()
    values[3, :, 4] = 0.0  # silent
    values[1, :, 5] = 2.0  # silent for a stimulus that is held out of the first part
    values[6, :, 6] = 2 * values[5, :, 6]  # the same course, but for its size
    values[6, :, 7] = values[5, :, 7] + 1e-4 * values[7, :, 7]  # nearly so
    several = SCORES[kind](Block(values), drawn, PARTS)
    for row, labels in enumerate(drawn):
        alone = SCORES[kind](Block(values), labels[None], PARTS)
        for part, found, known in zip(PARTS, alone, several, strict=True):
            np.testing.assert_allclose(found[0], known[row], rtol=1e-9, atol=1e-12)
            expected = by_hand(kind, values[part, :, 0], labels[part])
            np.testing.assert_allclose(found[0, 0], expected)
            silent = (4, 6) if part is TRAIN else (4, 5, 6)
            assert np.flatnonzero(np.isnan(found[0])).tolist() == list(silent)


@pytest.mark.parametrize("kind", ["discriminative", "categorical"])
@pytest.mark.parametrize("n", [1, 2])
def test_a_class_without_a_pair_is_refused(kind, n):
    labels = np.zeros((n, 14), dtype=np.int64)
    labels[:, 3] = 1
    with pytest.raises(UndefinedError, match="labellings leave no pair of stimuli within the"):
        SCORES[kind](Block(courses()), labels, [TRAIN])


@pytest.mark.parametrize("kind", sorted(SCORES))
@pytest.mark.parametrize("size", [1, 5, 12])
def test_the_best_are_chosen_whatever_the_blocks(kind, size):
    values, drawn = courses(), labellings()
    blocks = [Block(values[..., start : start + size]) for start in range(0, 12, size)]
    chosen = choose(blocks, list(SCORES.values()), drawn, PARTS, 3)[list(SCORES).index(kind)]
    for number, part in enumerate(PARTS):
        scores = SCORES[kind](Block(values), drawn, [part])[0]
        for row, labels in enumerate(drawn):
            del labels
            score = scores[min(row, len(scores) - 1)]
            expected = np.argsort(-score)[:3]
            np.testing.assert_array_equal(chosen.of(number, row), expected)
    best = np.sort(SCORES[kind](Block(values), drawn, [TRAIN])[0][0])[:-4:-1]
    np.testing.assert_allclose(chosen.scores[0, 0], best)


def test_held_out_stimuli_do_not_change_what_is_chosen():
    values, drawn = courses(), labellings()
    changed = values.copy()
    changed[1] = 50.0 * np.random.default_rng(5).normal(size=changed[1].shape)
    scores = list(SCORES.values())
    found = [choose([Block(v)], scores, drawn, [TRAIN], 3) for v in (values, changed)]
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first.units, second.units)
    first, second = (choose_l1(v.mean(axis=1), drawn, [TRAIN], 3) for v in (values, changed))
    np.testing.assert_array_equal(first.units, second.units)


@pytest.mark.parametrize("kind", sorted(SCORES))
def test_a_tie_at_the_border_is_an_error_and_one_above_it_is_none(kind):
    values, drawn = courses(), labellings()
    order = choose([Block(values)], [SCORES[kind]], drawn, [TRAIN], 4)[0].of(0, 0)
    values[..., order[2]] = values[..., order[1]]
    text = f"units {min(order[1:3])} and {max(order[1:3])} are tied at the border of the 2"
    with pytest.raises(AnalysisError, match=text):
        choose([Block(values)], [SCORES[kind]], drawn, [TRAIN], 2)
    chosen = choose([Block(values)], [SCORES[kind]], drawn, [TRAIN], 3)[0].of(0, 0)
    assert set(chosen) == {order[0], order[1], order[2]}


def test_a_tie_on_an_l1_path_is_an_error():
    means, drawn = courses().mean(axis=1), labellings()
    first = choose_l1(means, drawn, [TRAIN], 1).of(0, 0)[0]
    twice = np.column_stack([means, means[:, first]])
    with pytest.raises(AnalysisError, match=f"units {first} are tied at the border of the 1"):
        choose_l1(twice, drawn, [TRAIN], 1)


def test_too_few_units_are_an_error():
    values, drawn = courses(units=4), labellings()
    values[0, :, 1] = 0.0
    with pytest.raises(AnalysisError, match="3 of 4 units can be scored, and 4 are to be chosen"):
        choose([Block(values)], [SCORES["discriminative"]], drawn, [TRAIN], 4)
    means = np.repeat(values.mean(axis=1)[:, :1], 4, axis=1)
    with pytest.raises(AnalysisError, match="1 of 4 units ever enter an L1 path, and 2 are"):
        choose_l1(means + 0.0, drawn, [TRAIN], 2)
    with pytest.raises(AnalysisError, match="there are 4 units, and 5 are to be chosen"):
        choose_random(4, 2, 5, np.random.default_rng(0))


def test_a_labelling_without_pairs_is_refused():
    drawn = np.zeros((1, 14), dtype=int)
    drawn[0, 0] = 1
    with pytest.raises(UndefinedError, match="leave no pair of stimuli within the target class"):
        choose([Block(courses())], [SCORES["discriminative"]], drawn, [TRAIN], 2)


def test_random_units_are_drawn_anew_for_each_part_and_twice_none():
    chosen = choose_random(50, 3, 8, np.random.default_rng(0))
    assert chosen.units.shape == (3, 1, 8)
    assert all(len(set(row)) == 8 for row in chosen.units[:, 0].tolist())
    assert set(chosen.of(0, 5)) != set(chosen.of(1, 5))


def test_read_outs_of_chosen_units_are_those_of_a_nested_loop():
    rng = np.random.default_rng(1)
    means = rng.normal(size=(30, 40))
    drawn = labellings(30)
    means[drawn[0] == 1, :2] += 1.5
    number = rng.permutation(np.arange(30) % 3)
    folds = [
        Fold(np.flatnonzero(number != f), np.flatnonzero(number == f), np.zeros(20, dtype=int))
        for f in range(3)
    ]
    parts = [fold.train for fold in folds]
    chosen = choose([Block(means[:, None])], [SCORES["contrast"]], drawn, parts, 4)[0]
    found = held_out_chosen(means, drawn, folds, Estimator("ridge", (1.0,)), chosen)
    for row, labels in enumerate(drawn):
        for fold in folds:
            t = [
                by_hand("contrast", means[fold.train, None, u], labels[fold.train])
                for u in range(40)
            ]
            units = np.argsort(t)[-4:]
            model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0))
            model.fit(means[np.ix_(fold.train, units)], labels[fold.train])
            expected = model.predict(means[np.ix_(fold.test, units)])
            np.testing.assert_array_equal(found.predicted[row, fold.test], expected)


def test_choosing_on_all_stimuli_reads_a_label_out_of_noise():
    """What a study did that chose 8 of 50,000 features before it split its stimuli."""
    naive, nested = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        means, codes = rng.normal(size=(100, 10_000)), np.arange(100)[None] % 2
        number = rng.permutation(np.arange(100) % 5)
        folds = [
            Fold(np.flatnonzero(number != f), np.flatnonzero(number == f), np.zeros(80, dtype=int))
            for f in range(5)
        ]
        for found, parts in (
            (naive, [np.arange(100)] * 5),
            (nested, [fold.train for fold in folds]),
        ):
            chosen = choose([Block(means[:, None])], [SCORES["contrast"]], codes, parts, 8)[0]
            held = held_out_chosen(means, codes, folds, Estimator("ridge", (1.0,)), chosen)
            found.append((held.predicted == codes).mean())
    assert np.mean(naive) > 0.8
    assert 0.4 < np.mean(nested) < 0.6


def test_stability_is_what_two_choices_share():
    assert stability(np.array([[0, 1, 2], [2, 1, 0]])) == 1
    assert stability(np.array([[0, 1], [2, 3], [0, 2]])) == pytest.approx((0 + 1 / 3 + 1 / 3) / 3)
    rng = np.random.default_rng(0)
    pairs = [choose_random(30, 2, 6, rng).units[:, 0] for _ in range(2000)]
    drawn = np.mean([stability(pair) for pair in pairs])
    assert chance_stability(30, 6) == pytest.approx(drawn, abs=0.01)
    assert chance_stability(6, 6) == pytest.approx(1)


def test_a_fit_at_a_time_says_the_same_as_all_at_once(monkeypatch):
    rng = np.random.default_rng(1)
    means, drawn = rng.normal(size=(30, 40)), labellings(30)
    means[:, 7] = 3.0
    number = rng.permutation(np.arange(30) % 3)
    folds = [
        Fold(np.flatnonzero(number != f), np.flatnonzero(number == f), np.arange(20) % 2)
        for f in range(3)
    ]
    chosen = choose_random(40, 3, 25, rng)  # more units than stimuli, one of them constant
    at_once = held_out_chosen(means, drawn, folds, Estimator("ridge", (3.0,)), chosen)
    each = held_out_chosen(means, drawn, folds, Estimator("ridge", (3.0, 3.0)), chosen)
    np.testing.assert_allclose(at_once.decisions, each.decisions, atol=1e-10)
    np.testing.assert_array_equal(at_once.predicted, each.predicted)
    assert at_once.strengths.tolist() == each.strengths.tolist() == [3.0] * 3
    monkeypatch.setattr(choosing, "BATCH", 1)
    single = held_out_chosen(means, drawn, folds, Estimator("ridge", (3.0,)), chosen)
    np.testing.assert_array_equal(single.predicted, at_once.predicted)
