"""The probe against scikit-learn, calibration on noise, planted effects, and its refusals."""

import numpy as np
import pytest
import xarray as xr
from planted import capture
from pydantic import ValidationError
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from patchclamp.analyses import probe
from patchclamp.analyses.context import Context
from patchclamp.analyses.patterns import checked_capture
from patchclamp.analyses.permutation import permuted_labels
from patchclamp.analyses.readings import (
    AnswerReading,
    CaptureReading,
    ModelShape,
    StimuliReading,
)
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, UndefinedError
from patchclamp.specs.analyses_representation import Probe

SEEDS = Seeds(0, "analyses.decode")
SHAPE = ModelShape(6, 8, {"resid": "words"})


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(limits=1):
        yield


LOGISTIC = {"kind": "logistic"}


def entry(folds=3, target="category", **more):
    cv = {"folds": folds, "inner": 3}
    given = {"estimator": LOGISTIC, "shuffles": 19, **more}
    return Probe(kind="probe", of="resid", target=target, cv=cv, **given)


def analyse(given, data, seeds=SEEDS):
    return probe.analyse(given, {"of": data}, Context(seeds, shape=SHAPE))


@pytest.fixture(scope="module")
def data():
    return capture((0.0, 1.0), templates=18, seed=1)


@pytest.fixture(scope="module")
def result(data):
    return analyse(entry(), data)


def oracle(model, data, result, layer):
    split = PredefinedSplit(result["held_out_by"].values)
    patterns = data["activation"].sel(layer=layer, position=-1).values
    return cross_val_predict(model, patterns, data["category"].values, cv=split)


def test_it_reads_its_capture():
    assert probe.readings(entry(), SHAPE) == {"of": CaptureReading("resid")}


def test_it_reads_what_target_and_controls_ask_for():
    controls = ("random_twin", "bag_of_words")
    found = probe.readings(
        entry(target={"kind": "correct"}, controls=controls, test_on="new"), SHAPE
    )
    assert found == {
        "of": CaptureReading("resid"),
        "test_on": CaptureReading("resid", stimuli="new"),
        "random_twin": CaptureReading("resid", twin=True),
        "random_twin.test_on": CaptureReading("resid", stimuli="new", twin=True),
        "correctness": AnswerReading("words"),
        "correctness.test_on": AnswerReading("new"),
        "bag_of_words": StimuliReading("words"),
        "bag_of_words.test_on": StimuliReading("new"),
    }


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
    split = PredefinedSplit(result.sortby("stimulus")["held_out_by"].values)
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
    folds = result["held_out_by"].groupby("group")
    assert (folds.min() == folds.max()).all()
    assert np.bincount(result["held_out_by"]).tolist() == [18, 18, 18]
    assert result["held_out_by"].dims == ("stimulus",)


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
    """Constant units add nothing, but have weights sought among stimuli in place of units."""
    more = data.pad(unit=(0, 60), constant_values=1.0).assign_coords(unit=np.arange(76))
    found = analyse(entry(), more)
    assert not found["direction"].sel(unit=slice(16, None)).any()
    close = found.drop_vars(["direction", "intercept", "unit"])
    xr.testing.assert_allclose(close, result.drop_vars(["direction", "intercept", "unit"]))


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
        "strength": 1.0,
        "n_stimuli": 54,
        "n_groups": 18,
        "n_classes": 3,
        "n_folds": 3,
        "interval": "95 % percentile bootstrap over groups, 1000 draws",
        "permutation": "within groups",
        "n_permutations": 19,
        "n_arrangements": 6**17,
        "tail": "greater",
    }
    assert result["correct"].dtype == np.int8
    assert result["base_rate"].item() == pytest.approx(1 / 3)


def test_a_constant_target_is_refused(data):
    one = data.isel(stimulus=data["category"].values == "birds")
    with pytest.raises(AnalysisError, match="one class, 'birds': nothing to read out"):
        analyse(entry(), one)


def test_an_unknown_target_is_named_with_the_nearest(data):
    with pytest.raises(AnalysisError, match=r"'categry' .*did you mean 'category'"):
        analyse(entry(target="categry"), data)


def test_a_class_that_training_lacks_is_named(data):
    labels = np.where(data["group"] == "t04", "rare", data["category"])
    rare = data.assign_coords(category=("stimulus", labels))
    text = "class 'rare' of column 'category' is one group of 3 stimuli: what holds it out leaves"
    with pytest.raises(AnalysisError, match=text):
        analyse(entry(), rare)
    two = np.isin(data["group"], ["t04", "t09"])
    rare = data.assign_coords(category=("stimulus", np.where(two, "rare", data["category"])))
    text = "'rare' of column 'category' is missing from the training data of fold .: all its 6"
    with pytest.raises(AnalysisError, match=text):
        [analyse(entry(folds=2, controls=()), rare, Seeds(seed, "x")) for seed in range(20)]


def test_reading_out_the_group_itself_is_refused(data):
    with pytest.raises(AnalysisError, match="of column 'group' is one group of 3"):
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


def written(**more):
    """Return a captured set whose stimuli end in tokens, and the texts that they end."""
    data = capture((1.0,), classes=("a", "b"), templates=20, **more)
    rng = np.random.default_rng(9)
    last = rng.integers(0, 6, data.sizes["stimulus"]) + 10 * (data["category"].values == "b")
    data = data.assign_coords(token_id=(("stimulus", "position"), last[:, None]))
    tokens = np.column_stack([np.full(len(last), 3), last, np.full(len(last), -1)])
    texts = xr.Dataset(
        {"token_id": (("stimulus", "position"), tokens)},
        coords={"stimulus": data["stimulus"], "position": np.arange(3)},
    )
    return data, texts


def test_every_score_is_that_of_scikit_learn_with_an_interval(data, result):
    truth = data["category"].values
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000))
    patterns = data["activation"].sel(layer=5, position=-1).values
    split = PredefinedSplit(result["held_out_by"].values)
    shares = cross_val_predict(model, patterns, truth, cv=split, method="predict_proba")
    found = result.sel(layer=5, position=-1)
    area = roc_auc_score(truth, shares, multi_class="ovr")
    assert float(found["auroc"]) == pytest.approx(area, abs=1e-9)
    assert float(found["log_loss"]) == pytest.approx(log_loss(truth, shares), rel=1e-4)
    for name in ("accuracy", "balanced_accuracy", "auroc", "log_loss", "calibration_error"):
        assert found[f"{name}_low"] < found[f"{name}_high"], name
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"], name
    assert 0 < found["calibrated_error"] < 0.3
    assert found["log_loss"].attrs["units"] == "nat"


def test_certainty_has_an_interval_too():
    """That all of 18 groups are read out rightly says as much as 18 trials can, by Wilson."""
    found = analyse(entry(controls=()), capture((0.5, 50.0), templates=18)).squeeze()
    sure, unsure = found.sel(layer=5), found.sel(layer=3)
    beyond = 3.8415 / (18 + 3.8415)  # every template has every class
    for name in ("accuracy", "balanced_accuracy", "auroc"):
        assert (sure[name], sure[f"{name}_high"]) == (1, 1)
        assert sure[f"{name}_low"].item() == pytest.approx(1 - beyond)
        assert unsure[f"{name}_low"] < unsure[name] < unsure[f"{name}_high"] < 1


def test_certainty_of_a_rare_class_is_that_of_its_groups():
    data = capture((50.0,), templates=20, classes=("a", "b")).drop_vars("group")
    data = data.isel(stimulus=np.sort(np.r_[
        np.flatnonzero(data["category"] == "a"), np.flatnonzero(data["category"] == "b")[:4]
    ]))  # fmt: skip
    found = analyse(entry(controls=(), estimator={"kind": "ridge"}), data).squeeze()
    assert found["balanced_accuracy"] == 1
    rare = 3.8415 / (4 + 3.8415)
    assert found["balanced_accuracy_low"].item() == pytest.approx(1 - rare / 2)
    assert found["auroc_low"].item() == pytest.approx(1 - rare)
    assert found["accuracy_low"].item() == pytest.approx(1 - 3.8415 / (24 + 3.8415))


def test_controls_and_what_is_left_after_erasure_have_intervals(result, data):
    def ends(of, name):
        return of[f"{name}_low"], of[name], of[f"{name}_high"]

    for name in ("control_accuracy", "control_balanced_accuracy"):
        low, value, high = ends(result, name)
        assert ((low <= value) & (value <= high)).all()
        assert result[f"{name}_low"].dims == result[name].dims
    shuffled = result.sel(control="shuffled_labels")
    expected = result["null_accuracy"].quantile([0.025, 0.975], "permutation")
    np.testing.assert_allclose(shuffled["control_accuracy_low"], expected[0])
    np.testing.assert_allclose(shuffled["control_accuracy_high"], expected[1])
    # A control that predicts has the draws that accuracy has: of the probe itself, the same ends.
    twin = {"of": data, "random_twin": data}
    itself = probe.analyse(entry(controls=("random_twin",)), twin, Context(SEEDS, shape=SHAPE))
    for name in ("accuracy", "balanced_accuracy"):
        for own, other in zip(ends(itself, name), ends(itself, f"control_{name}"), strict=True):
            np.testing.assert_allclose(own, other.squeeze("control"))
    low, value, high = ends(analyse(entry(erase=True, controls=()), data), "erased_accuracy")
    assert ((low <= value) & (value <= high)).all()


@pytest.mark.parametrize("kind", ["ridge", "svm", "centroid"])
def test_what_gives_no_probabilities_has_no_log_loss(data, kind):
    found = analyse(entry(estimator={"kind": kind}, controls=()), data)
    assert {"log_loss", "calibration_error"}.isdisjoint(found)
    assert found["auroc"].sel(layer=5).item() > 0.8


def test_the_difference_of_means_is_the_direction_between_two_classes(data):
    two = data.isel(stimulus=np.isin(data["category"], ["apples", "coins"]))
    found = analyse(entry(estimator={"kind": "difference"}, controls=()), two)
    activation = two["activation"]
    means = activation.groupby("category").mean("stimulus")
    expected = means.sel(category="coins") - means.sel(category="apples")
    xr.testing.assert_allclose(found["direction"], expected.drop_vars("category", errors="ignore"))
    assert found.attrs["toward"] == "coins"
    assert found["direction"].dims == ("layer", "position", "unit")
    with pytest.raises(AnalysisError, match="and column 'category' has 3 classes: use the"):
        analyse(entry(estimator={"kind": "difference"}), data)


def test_the_direction_decides_as_a_fit_to_all_does(data, result):
    assert result["direction"].dims == ("class", "layer", "position", "unit")
    assert result["class"].values.tolist() == ["apples", "birds", "coins"]
    here = {"layer": 5, "position": -1}
    x = data["activation"].sel(here)
    decisions = (result["direction"].sel(here) * x).sum("unit") + result["intercept"].sel(here)
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000))
    expected = model.fit(x.values, data["category"].values).decision_function(x.values)
    found = decisions.transpose("stimulus", "class").values
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found - found.mean(axis=1, keepdims=True), expected, atol=1e-4)


def test_a_strength_is_chosen_in_every_fold_and_said(data):
    given = {"kind": "ridge", "alpha": (0.1, 10.0, 1e5)}
    found = analyse(entry(estimator=given), data)
    assert found["strength"].dims == ("fold", "layer", "position")
    assert set(np.unique(found["strength"])) <= {0.1, 10.0, 1e5}
    assert "strength" not in found.attrs
    assert "alpha chosen on inner folds" in found["strength"].attrs["long_name"]
    one = analyse(entry(estimator={"kind": "ridge", "alpha": 10.0}), data)
    assert "strength" not in one
    assert one.attrs["strength"] == 10.0


def test_inner_folds_need_groups_too(data):
    given = entry(folds=2, estimator={"kind": "ridge", "alpha": (0.1, 10.0)})
    few = data.isel(stimulus=np.isin(data["group"], ["t00", "t01", "t02", "t03"]))
    text = "inside the training part of fold 0, 3 folds need at least 3 groups; there are 2"
    with pytest.raises(AnalysisError, match=text):
        analyse(given, few)


def test_which_layer_an_activation_comes_from_is_read_out_within_stimuli(data):
    shifted = data.copy(deep=True)
    shifted["activation"].loc[{"layer": 5}] += 1.0
    found = analyse(entry(target={"kind": "layer"}), shifted)
    assert found["accuracy"].dims == ("position",)
    assert found["accuracy"].item() > 0.9
    assert found["predicted"].dims == ("stimulus", "layer", "position")
    assert set(np.unique(found["predicted"])) == {"3", "5"}
    assert found["held_out_by"].dims == ("stimulus",)
    assert found.attrs["permutation"] == "within groups"
    assert found.attrs["n_groups"] == 18
    assert "direction" not in found
    noise = analyse(entry(target={"kind": "layer"}), capture((0.0, 0.0), templates=18))
    assert noise["p"].item() > 0.05


def test_only_layers_that_were_captured_can_be_told_apart(data):
    found = analyse(entry(target={"kind": "layer", "layers": [5, 3]}, controls=()), data)
    xr.testing.assert_identical(found["layer"], data["layer"].sel(layer=[5, 3]))
    with pytest.raises(AnalysisError, match="the capture has no layer 4 among 3, 5"):
        analyse(entry(target={"kind": "layer", "layers": [4, 5]}), data)


def test_layers_are_named_by_depth_too(data):
    deep = entry(target={"kind": "layer", "layers": ["last", "60%"]}, controls=())
    numbers = entry(target={"kind": "layer", "layers": [5, 3]}, controls=())
    xr.testing.assert_identical(analyse(deep, data), analyse(numbers, data))


@pytest.mark.parametrize("layers", ["last", [2], 2, "50%"])
def test_one_layer_cannot_be_told_from_others(layers):
    with pytest.raises(ValidationError, match="one layer has no other to be told from: give two"):
        entry(target={"kind": "layer", "layers": layers})


@pytest.mark.parametrize("control", ["bag_of_words", "control_task"])
@pytest.mark.parametrize("target", ["layer", "position"])
def test_words_say_nothing_of_the_place_of_an_activation(control, target):
    text = f"'{control}' reads the target out of a stimulus' words.*the same at every {target}"
    with pytest.raises(ValidationError, match=text):
        entry(target={"kind": target}, controls=("majority", control))
    assert entry(target={"kind": "correct"}, controls=(control,)).controls == (control,)


def test_which_position_an_activation_comes_from(data):
    later = data.assign_coords(position=[0])
    both = xr.concat([data, later + 1.0 * (later["unit"] == 2)], "position")
    found = analyse(entry(target={"kind": "position"}, controls=("majority",)), both)
    assert found["accuracy"].dims == ("layer",)
    assert found["control_accuracy"].max() == 0.5
    assert found["auroc"].min() > 0.6


def test_whether_the_models_answer_is_right(data):
    right = data["category"].values == "birds"
    shuffled = np.random.default_rng(0).permutation(54)
    answers = xr.Dataset(
        {"rank": ("stimulus", np.where(right, 0, 3)[shuffled])},
        coords={"stimulus": data["stimulus"].values[shuffled]},
        attrs={"options": 0},
    )
    given = entry(target={"kind": "correct"})
    parts = {"of": data, "correctness": answers}
    found = probe.analyse(given, parts, Context(SEEDS)).sel(layer=5, position=-1)
    assert found["auroc"].item() > 0.8
    assert found.attrs["target"] == "correct"
    assert found.attrs["toward"] == "right"
    assert found["base_rate"].item() == pytest.approx(2 / 3)
    assert set(np.unique(found["predicted"])) == {"right", "wrong"}
    logits = np.where(right[shuffled, None], [5.0, 1.0, 2.0], [1.0, 0.0, 2.0])
    options = xr.Dataset(
        {
            "logit_option": (("stimulus", "option"), logits),
            "right_option": ("stimulus", np.full(54, "A")),
            "rank": ("stimulus", np.full(54, 7)),
        },
        coords={"stimulus": answers["stimulus"], "option": ["A", "B", "C"]},
        attrs={"options": 1},
    )
    parts["correctness"] = options
    chosen = probe.analyse(given, parts, Context(SEEDS)).sel(layer=5, position=-1)
    xr.testing.assert_identical(chosen, found)
    parts["correctness"] = answers.assign(rank=answers["rank"] * 0)
    with pytest.raises(AnalysisError, match="target 'correct' has one class, 'right': nothing to"):
        probe.analyse(given, parts, Context(SEEDS))


def test_trained_on_one_set_and_tested_on_another():
    data = capture((0.0, 1.5), templates=24, seed=5)
    first = np.isin(data["group"], [f"t{t:02d}" for t in range(14)])
    ours, theirs = data.isel(stimulus=first), data.isel(stimulus=~first)
    given = entry(test_on="new", estimator={"kind": "ridge", "alpha": (1.0, 100.0)})
    found = probe.analyse(given, {"of": ours, "test_on": theirs}, Context(SEEDS))
    assert set(found["stimulus"].values) == set(theirs["stimulus"].values)
    assert found["accuracy"].sel(layer=5).item() > 0.8
    assert found["p"].sel(layer=5).item() == pytest.approx(0.05)
    assert found["p"].sel(layer=3).item() > 0.05
    assert not found["held_out_by"].any()
    assert found.attrs["n_stimuli"] == 30
    assert found.attrs["n_training_groups"] == 14
    model = RidgeClassifier(alpha=found["strength"].sel(layer=5).item())
    model = make_pipeline(StandardScaler(), model)
    x, y = (d["activation"].sel(layer=5, position=-1).values for d in (ours, theirs))
    expected = model.fit(x, ours["category"].values).predict(y)
    np.testing.assert_array_equal(found["predicted"].sel(layer=5, position=-1), expected)


def test_what_two_sets_share_is_held_out_of_training():
    """Labels say nothing, but a template looks alike in both sets, and has one label."""
    data = capture((0.0,), whole=True, templates=24, copies=4, template_effect=3.0, units=64)
    first = data["stimulus"].argsort() % 2 == 0
    ours, theirs = data.isel(stimulus=first.values), data.isel(stimulus=~first.values)
    given = entry(test_on="new", controls=())
    kept = probe.analyse(given, {"of": ours, "test_on": theirs}, Context(SEEDS))
    assert kept["accuracy"].item() < 0.6
    assert kept.attrs["n_folds"] == 3
    by_group = kept["held_out_by"].groupby("group")
    assert (by_group.min() == by_group.max()).all()
    renamed = theirs.assign_coords(group=("stimulus", np.char.add(theirs["group"].values, "x")))
    leaked = probe.analyse(given, {"of": ours, "test_on": renamed}, Context(SEEDS))
    assert leaked["accuracy"].item() > 0.9
    assert leaked.attrs["n_folds"] == 1


def test_two_sets_must_match(data):
    given = entry(test_on="new", controls=())

    def across(other):
        return probe.analyse(given, {"of": data, "test_on": other}, Context(SEEDS))

    with pytest.raises(AnalysisError, match="the two sets were recorded at different layers"):
        across(data.assign_coords(layer=[0, 1]))
    text = "class 'coins' of column 'category' is in the training set alone: train and test on"
    with pytest.raises(AnalysisError, match=text):
        across(data.isel(stimulus=data["category"].values != "coins"))
    spoiled = data.assign_coords(stimulus=[f"n{i}" for i in range(54)]).copy(deep=True)
    spoiled["activation"].loc[{"stimulus": "n7"}] = np.nan
    with pytest.raises(UndefinedError, match=r"at layer 3, position -1: .*: stimuli 'n7'"):
        across(spoiled)


def test_a_bag_of_words_reads_out_what_the_words_say():
    data, texts = written()
    given = entry(controls=("bag_of_words", "majority"), estimator={"kind": "ridge"})
    found = probe.analyse(given, {"of": data, "bag_of_words": texts}, Context(SEEDS))
    scores = found["control_accuracy"].squeeze()
    assert scores.sel(control="bag_of_words").item() > 0.8  # a word held out is a word not learnt
    silent = texts.copy(deep=True)
    silent["token_id"][:, 1] = 4
    found = probe.analyse(given, {"of": data, "bag_of_words": silent}, Context(SEEDS))
    assert found["control_balanced_accuracy"].sel(control="bag_of_words").item() == 0.5


def test_an_untrained_twin_goes_through_the_same_folds(data, result):
    given = entry(controls=("random_twin",))
    found = probe.analyse(given, {"of": data, "random_twin": data}, Context(SEEDS))
    control = found["control_accuracy"].sel(control="random_twin", drop=True)
    np.testing.assert_array_equal(control, result["accuracy"])
    noise = data.copy(deep=True)
    noise["activation"][:] = np.random.default_rng(0).normal(size=data["activation"].shape)
    found = probe.analyse(given, {"of": data, "random_twin": noise}, Context(SEEDS))
    assert found["control_accuracy"].sel(layer=5).item() < 0.6


def test_a_control_task_can_be_remembered_and_selectivity_is_what_lies_above_it():
    """Activations that say which word was read solve any task about words."""
    data, _ = written(units=20)
    words = data["token_id"].values[:, 0]
    lexical = data.copy(deep=True)
    lexical["activation"][:, 0, 0] = 3 * np.eye(20)[words] + 0.1 * data["activation"][:, 0, 0]
    given = entry(controls=("control_task",), estimator={"kind": "ridge"})
    found, control = analyse(given, data), analyse(given, lexical)
    assert control["control_accuracy"].item() > 0.9
    assert control["selectivity"].item() < 0.1
    assert found["control_accuracy"].item() < 0.75
    assert found["selectivity"].item() > control["selectivity"].item()
    expected = found["accuracy"] - found["control_accuracy"].sel(control="control_task", drop=True)
    np.testing.assert_allclose(found["selectivity"], expected)


def test_no_control_task_where_every_stimulus_has_the_same_token():
    data, _ = written()
    same = data.assign_coords(token_id=data["token_id"] * 0)
    found = analyse(entry(controls=("control_task",)), same)
    assert np.isnan(found["selectivity"].item())
    with pytest.raises(AnalysisError, match="this capture has no token for each position"):
        analyse(entry(controls=("control_task",)), data.drop_vars("token_id"))


def test_nothing_is_left_after_erasure(data):
    found = analyse(entry(erase=True, controls=()), data)
    assert found["accuracy"].sel(layer=5).item() > 0.7
    assert found["erased_balanced_accuracy"].max() <= 0.5
    assert ((found["erased_variance"] > 0) & (found["erased_variance"] < 1)).all()


def test_memory_is_respected_and_changes_no_number(data, result):
    """With little of it, units are read in blocks; with less than the answer needs, it says so."""
    wide = data.pad(unit=(0, 400), mode="reflect").assign_coords(unit=np.arange(416))
    given = entry(controls=(), estimator={"kind": "ridge"})
    plenty = analyse(given, wide)
    tight = probe.analyse(given, {"of": wide}, Context(SEEDS, memory=100_000))
    xr.testing.assert_allclose(tight, plenty)
    text = r"at layer 3, position -1: reading out 54 rows of 416 units needs 91.1KiB, and "
    with pytest.raises(AnalysisError, match=text + "run.budget.memory allows 9.77KiB"):
        probe.analyse(given, {"of": wide}, Context(SEEDS, memory=10_000))


def test_a_file_is_read_as_it_is_needed(data, result, tmp_path):
    data.to_netcdf(tmp_path / "capture.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "capture.nc", engine="netcdf4") as lazy:
        xr.testing.assert_allclose(analyse(entry(), lazy), result)
        assert not lazy["activation"].variable._in_memory


@pytest.mark.parametrize("kind", ["ridge", "logistic", "svm", "l1", "centroid"])
def test_every_estimator_finds_a_planted_effect(data, kind):
    estimator = {"kind": kind} if kind != "l1" else {"kind": "logistic", "penalty": "l1"}
    found = analyse(entry(estimator=estimator), data)
    assert found["p_max"].sel(layer=5).item() == pytest.approx(0.05)
    assert found["p"].sel(layer=3).item() > 0.05
    assert found.attrs["estimator"] == kind


def test_constant_units_and_duplicates_are_no_trouble(data):
    flat = data.copy(deep=True)
    flat["activation"].loc[{"layer": 3}] = 2.0
    found = analyse(entry(controls=("majority",)), flat)
    assert found["balanced_accuracy"].sel(layer=3).item() <= 0.5
    assert not found["direction"].sel(layer=3).any()
    twice = xr.concat([data, data.assign_coords(stimulus=data["stimulus"] + "b")], "stimulus")
    assert analyse(entry(controls=()), twice)["accuracy"].sel(layer=5).item() > 0.7


def test_folds_can_be_stratified_and_labels_then_stay_in_them():
    data = capture((0.0, 2.0), classes=("a", "b"), templates=30, whole=True, copies=2)
    rare = (data["category"] == "a") | np.isin(data["group"], ["t01", "t03", "t05", "t07"])
    data = data.isel(stimulus=rare.values)
    cv = {"folds": 4, "stratify": True}
    given = Probe(kind="probe", of="resid", target="category", cv=cv, shuffles=19)
    found = analyse(given, data)
    held = found["held_out_by"].values[data["category"].values == "b"]
    assert np.bincount(held).tolist() == [2, 2, 2, 2]
    assert found.attrs["permutation"] == "whole groups, within folds"
    assert found.attrs["n_arrangements"] == 5**3 * 4  # groups of each fold
    assert found["p"].sel(layer=5).item() == pytest.approx(0.05)
    with pytest.raises(AnalysisError, match=r"group 't\d\d' holds several classes, so that folds"):
        analyse(given, capture((0.0,), templates=12))
    crossed = given.model_copy(update={"test_on": "new"})
    with pytest.raises(AnalysisError, match="'stratify' divides one set into folds, and another"):
        probe.analyse(crossed, {"of": data, "test_on": data}, Context(SEEDS))
