"""Metrics against their definition on whole logit vectors."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from patchclamp.analyses import metrics
from patchclamp.analyses.metrics import accuracy, forced_choice, logit_diff, logprob
from patchclamp.registry import METRICS
from patchclamp.registry.errors import UndefinedError
from patchclamp.registry.table import load

LOGITS = np.random.default_rng(0).normal(size=(50, 7)) * 3
CORRECT, FOIL = np.random.default_rng(1).permuted(np.tile(np.arange(7), (50, 1)), axis=1)[:, :2].T


@pytest.fixture
def readings():
    rows = np.arange(50)
    correct = LOGITS[rows, CORRECT]
    return {
        "logit_correct": correct,
        "logit_foil": LOGITS[rows, FOIL],
        "logsumexp": logsumexp(LOGITS, axis=1),
        "rank": (correct[:, None] < LOGITS).sum(axis=1),
    }


def test_logprob_is_the_log_softmax(readings):
    expected = log_softmax(LOGITS, axis=1)[np.arange(50), CORRECT]
    np.testing.assert_allclose(logprob(readings), expected, atol=1e-13)


def test_logit_diff_is_the_difference_of_log_probabilities(readings):
    logs = log_softmax(LOGITS, axis=1)
    expected = logs[np.arange(50), CORRECT] - logs[np.arange(50), FOIL]
    np.testing.assert_allclose(logit_diff(readings), expected, atol=1e-13)


def test_accuracy_is_whether_the_answer_is_the_argmax(readings):
    expected = LOGITS.argmax(axis=1) == CORRECT
    assert 0 < expected.sum() < 50
    np.testing.assert_array_equal(accuracy(readings), expected.astype(float))


def test_forced_choice_asks_only_about_the_two_answers(readings):
    rows = np.arange(50)
    expected = LOGITS[rows, CORRECT] > LOGITS[rows, FOIL]
    np.testing.assert_array_equal(forced_choice(readings), expected.astype(float))
    assert (forced_choice(readings) >= accuracy(readings)).all()


def test_a_shift_of_all_logits_changes_no_metric(readings):
    shifted = {name: v + (name != "rank") * 4.0 for name, v in readings.items()}
    for metric in (logit_diff, logprob, accuracy):
        np.testing.assert_allclose(metric(shifted), metric(readings), atol=1e-13)


def test_float32_readings_are_subtracted_in_float64():
    readings = {"logit_correct": np.float32([1e4]), "logsumexp": np.float32([1e-3])}
    assert logprob(readings)[0] == float(np.float32(1e4)) - float(np.float32(1e-3))


def test_the_table_leads_to_these_functions():
    functions = {metric.name: load(metric.function) for metric in METRICS.values()}
    assert all(function.__name__ == name for name, function in functions.items())
    assert {function.__module__ for function in functions.values()} == {metrics.__name__}


def test_probability_and_mass_are_those_of_the_softmax(readings):
    p = softmax(LOGITS, axis=1)
    rows = np.arange(50)
    np.testing.assert_allclose(metrics.probability(readings), p[rows, CORRECT], atol=1e-14)
    readings["logit_answers"] = np.logaddexp(readings["logit_correct"], readings["logit_foil"])
    both = p[rows, CORRECT] + p[rows, FOIL]
    np.testing.assert_allclose(metrics.answer_mass(readings), both, atol=1e-14)


@pytest.mark.parametrize("name", ["rank", "entropy", "cross_entropy", "kl", "js"])
def test_what_a_pass_reads_whole_is_passed_on_and_checked(name):
    metric = load(METRICS[name].function)
    np.testing.assert_array_equal(metric({name: np.float32([0.0, 1.5])}), [0.0, 1.5])
    with pytest.raises(UndefinedError, match=f"{name} is NaN or infinite for 1 of 2") as error:
        metric({name: [1.0, np.nan]})
    assert error.value.where == (1,)


def test_only_metrics_whose_zero_means_no_effect_have_a_share():
    without = {metric.name for metric in METRICS.values() if not metric.ratio}
    assert without == {"logprob", "rank", "cross_entropy", "entropy", "kl", "js"}


@pytest.mark.parametrize(
    ("metric", "name"),
    [(logit_diff, "logit_foil"), (logprob, "logsumexp"), (accuracy, "rank")],
)
def test_readings_that_are_not_finite_are_refused_by_row(readings, metric, name):
    readings[name] = readings[name].astype(float)
    readings[name][[3, 7]] = [np.nan, -np.inf]
    with pytest.raises(UndefinedError, match=f"{name} is NaN or infinite for 2 of 50") as error:
        metric(readings)
    assert error.value.where == (3, 7)
