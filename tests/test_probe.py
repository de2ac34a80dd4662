"""The probe against scikit-learn, calibration on noise, planted effects, and its refusals."""

import numpy as np
import pytest
import xarray as xr
from planted import capture
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from patchclamp.analyses import probe
from patchclamp.analyses.context import Context
from patchclamp.analyses.patterns import checked_capture
from patchclamp.analyses.permutation import permuted_labels
from patchclamp.analyses.readings import CaptureReading, ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, UndefinedError
from patchclamp.specs.analyses_representation import Probe

SEEDS = Seeds(0, "analyses.decode")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(limits=1):
        yield


def entry(folds=3, target="category", **more):
    return Probe(kind="probe", of="resid", target=target, cv={"folds": folds}, shuffles=19, **more)


def analyse(given, data, seeds=SEEDS):
    return probe.analyse(given, {"of": data}, Context(seeds))


@pytest.fixture(scope="module")
def data():
    return capture((0.0, 1.0), templates=18, seed=1)


@pytest.fixture(scope="module")
def result(data):
    return analyse(entry(), data)


def oracle(model, data, result, layer):
    split = PredefinedSplit(result["fold"].values)
    patterns = data["activation"].sel(layer=layer, position=-1).values
    return cross_val_predict(model, patterns, data["category"].values, cv=split)


def test_it_reads_its_capture():
    assert probe.readings(entry(), ModelShape(4, 8)) == {"of": CaptureReading("resid")}


@pytest.mark.parametrize("layer", [3, 5])
def test_predictions_and_scores_are_those_of_scikit_learn(data, result, layer):
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
    expected = oracle(model, data, result, layer)
    truth = data["category"].values
    found = result.sel(layer=layer, position=-1)
    np.testing.assert_array_equal(found["predicted"], expected)
    np.testing.assert_array_equal(found["correct"], expected == truth)
    assert float(found["accuracy"]) == pytest.approx((expected == truth).mean())
    balanced = balanced_accuracy_score(truth, expected)
    assert float(found["balanced_accuracy"]) == pytest.approx(balanced)


def test_the_majority_control_is_that_of_scikit_learn():
    data = capture((0.0, 0.0), templates=18)
    data = data.isel(stimulus=slice(45))  # so that classes differ in size
    result = analyse(entry(), data)
    expected = oracle(DummyClassifier(strategy="most_frequent"), data, result, 3)
    control = result.sel(control="majority", layer=5, position=-1)
    truth = data["category"].values
    assert float(control["control_accuracy"]) == pytest.approx((expected == truth).mean())
    balanced = balanced_accuracy_score(truth, expected)
    assert float(control["control_balanced_accuracy"]) == pytest.approx(balanced)


def test_the_shuffled_control_refits_to_permuted_labels(data, result):
    chosen = checked_capture(data)
    codes = chosen.labels("category").codes
    drawn = permuted_labels(codes, chosen.groups(), 19, SEEDS.generator("shuffled_labels"))
    sorted_data = data.sortby("stimulus")
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
    split = PredefinedSplit(result.sortby("stimulus")["fold"].values)
    patterns = sorted_data["activation"].sel(layer=5, position=-1).values
    expected = [
        balanced_accuracy_score(labels, cross_val_predict(model, patterns, labels, cv=split))
        for labels in drawn[:3]
    ]
    null = result["null_balanced_accuracy"].sel(layer=5, position=-1)
    np.testing.assert_allclose(null[:3], expected)
    control = result["control_balanced_accuracy"].sel(control="shuffled_labels", layer=5)
    assert float(control.squeeze()) == pytest.approx(float(null.mean()))
    control = result["control_accuracy"].sel(control="shuffled_labels", layer=5)
    expected = float(result["null_accuracy"].sel(layer=5).mean())
    assert float(control.squeeze()) == pytest.approx(expected)


def test_p_counts_the_shuffles_that_do_as_well(result):
    observed, null = result["balanced_accuracy"], result["null_balanced_accuracy"]
    beyond = (null >= observed - 1e-9).sum("permutation")
    np.testing.assert_allclose(result["p"], (1 + beyond) / 20)
    beyond = (null.max(["layer", "position"]) >= observed - 1e-9).sum("permutation")
    np.testing.assert_allclose(result["p_max"], ((1 + beyond) / 20).transpose(*observed.dims))


def test_a_planted_effect_is_found_where_it_is(result):
    here, elsewhere = (result.sel(layer=layer, position=-1) for layer in (5, 3))
    assert float(here["accuracy"]) > 0.7
    assert float(here["p_max"]) == pytest.approx(0.05)
    assert float(elsewhere["p"]) > 0.05
    shuffled = here["control_balanced_accuracy"].sel(control="shuffled_labels")
    assert float(shuffled) == pytest.approx(1 / 3, abs=0.1)
    assert float(here["accuracy_low"]) > float(shuffled)


def test_permuted_labels_kill_the_effect(data):
    labels = np.random.default_rng(3).permutation(data["category"].values)
    shuffled = data.assign_coords(category=("stimulus", labels)).drop_vars("group")
    found = analyse(entry(), shuffled).sel(layer=5, position=-1)
    assert float(found["accuracy"]) < 0.5
    assert float(found["p"]) > 0.05


def test_the_interval_surrounds_accuracy_and_is_wider_for_groups():
    data = capture((1.0,), whole=True, templates=15, copies=4, template_effect=2.0)
    grouped = analyse(entry(controls=()), data)
    alone = analyse(entry(controls=()), data.drop_vars("group"))
    assert grouped["accuracy_low"] < grouped["accuracy"] < grouped["accuracy_high"]
    width = (grouped["accuracy_high"] - grouped["accuracy_low"]).item()
    assert width > (alone["accuracy_high"] - alone["accuracy_low"]).item()


def test_groups_stay_in_one_fold_shared_by_all_layers(data, result):
    folds = result["fold"].groupby("group")
    assert (folds.min() == folds.max()).all()
    assert np.bincount(result["fold"]).tolist() == [18, 18, 18]
    assert result["fold"].dims == ("stimulus",)


def test_forgetting_the_groups_leaks_what_they_share():
    """Labels say nothing here, but stimuli of a template are alike and share a label."""
    data = capture((0.0,), whole=True, templates=12, copies=6, template_effect=3.0)
    held_out = analyse(entry(controls=()), data)["accuracy"].item()
    leaked = analyse(entry(controls=()), data.drop_vars("group"))["accuracy"].item()
    assert held_out < 0.6
    assert leaked > 0.9


def test_noise_is_found_in_one_test_of_twenty():
    found = 0
    for seed in range(60):
        design = {"whole": True, "copies": 2, "templates": 12, "template_effect": 1.0}
        data = capture((0.0,), classes=("a", "b"), units=4, seed=seed, **design)
        found += analyse(entry(folds=2), data, Seeds(seed, "x"))["p"].item() <= 0.05
    assert found <= 8  # of 60; 3 are expected, more than 8 have a chance of 0.3 %


def test_the_order_of_rows_and_axes_does_not_matter(data, result):
    order = np.random.default_rng(4).permutation(data.sizes["stimulus"])
    turned = data.isel(stimulus=order).transpose("unit", "layer", "position", "stimulus")
    xr.testing.assert_identical(analyse(entry(), turned), result.isel(stimulus=order))


def test_more_units_than_stimuli_change_nothing_by_an_empty_unit(data, result):
    """Constant units add nothing, but send the fit through the rotated basis."""
    more = data.pad(unit=(0, 60), constant_values=1.0).assign_coords(unit=np.arange(76))
    xr.testing.assert_identical(analyse(entry(), more), result)


def test_heads_are_places(data, result):
    headed = xr.concat([data, data.isel(layer=[1, 0]).assign_coords(layer=[3, 5])], "head")
    headed = headed.assign_coords(head=[2, 6]).rename(unit="channel")
    found = analyse(entry(), headed)
    assert found["accuracy"].dims == ("layer", "head", "position")
    assert found["predicted"].dims == ("stimulus", "layer", "head", "position")
    xr.testing.assert_equal(found["correct"].sel(head=2, drop=True), result["correct"])


def test_without_controls_there_are_none(data, result):
    bare = analyse(entry(controls=()), data)
    assert not {"control", "permutation"} & set(bare.dims)
    assert not {"p", "control_accuracy"} & set(bare.variables)
    xr.testing.assert_equal(bare["accuracy"], result["accuracy"])
    majority = analyse(entry(controls=("majority",)), data)
    assert majority["control"].values.tolist() == ["majority"]
    assert "p" not in majority


def test_a_result_reads_back_from_netcdf_as_it_was(result, tmp_path):
    result.to_netcdf(tmp_path / "result.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "result.nc", engine="netcdf4") as back:
        xr.testing.assert_equal(back.load(), result)
        assert back.attrs == result.attrs
    assert all({"units", "long_name", "estimand"} <= set(v.attrs) for v in result.values())


def test_results_say_what_they_are(result):
    assert result.attrs == {
        "target": "category",
        "estimator": "logistic",
        "C": 1.0,
        "n_stimuli": 54,
        "n_groups": 18,
        "n_classes": 3,
        "n_folds": 3,
        "permutation": "within groups",
        "n_permutations": 19,
        "n_arrangements": 6**17,
        "tail": "greater",
    }
    assert result["correct"].dtype == np.int8


def test_a_constant_target_is_refused(data):
    one = data.isel(stimulus=data["category"].values == "birds")
    with pytest.raises(AnalysisError, match="one class, 'birds': nothing to read out"):
        analyse(entry(), one)


def test_an_unknown_target_is_named_with_the_nearest(data):
    with pytest.raises(AnalysisError, match=r"'categry' .*did you mean 'category'"):
        analyse(entry(target="categry"), data)


def test_a_class_that_a_training_fold_lacks_is_named(data):
    labels = np.where(data["group"] == "t04", "rare", data["category"])
    rare = data.assign_coords(category=("stimulus", labels))
    text = "class 'rare' of column 'category' is missing from the training data of fold"
    with pytest.raises(AnalysisError, match=f"{text} .: all its 3 stimuli"):
        analyse(entry(), rare)


def test_reading_out_the_group_itself_is_refused(data):
    with pytest.raises(AnalysisError, match="of column 'group' is missing from the training"):
        analyse(entry(target="group"), data)


def test_fewer_groups_than_folds_are_refused(data):
    with pytest.raises(AnalysisError, match=r"20 folds need .* there are 18"):
        analyse(entry(folds=20), data)


def test_too_few_arrangements_are_refused():
    data = capture((0.0,), templates=6, whole=True, copies=4, classes=("a", "b"))
    with pytest.raises(AnalysisError, match="allows 10 distinct arrangements"):
        analyse(entry(folds=2), data)


def test_nan_is_named(data):
    spoiled = data.copy(deep=True)
    spoiled["activation"].loc[{"stimulus": "s009", "layer": 5, "unit": 0}] = np.nan
    with pytest.raises(UndefinedError, match=r"^at layer 5, position -1: .*: stimuli 's009'$"):
        analyse(entry(), spoiled)


def test_missing_tokens_are_refused(data):
    mask = np.ones((54, 1), dtype=bool)
    mask[8] = False
    with pytest.raises(AnalysisError, match="'s008' has no token at position -1"):
        analyse(entry(), data.assign(mask=(("stimulus", "position"), mask)))
