"""The selection analysis: planted units are found, noise is not, and choices are labelled."""

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from patchclamp.analyses import selection
from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import CaptureReading, ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, UndefinedError
from patchclamp.specs.analyses_representation import Selection

SEEDS = Seeds(0, "analyses.select")
METHODS = {
    "separates": {"kind": "discriminative", "of": "window", "pattern": "positions"},
    "coheres": {"kind": "categorical", "of": "window", "pattern": "positions"},
    "differs": {"kind": "contrast", "of": "window"},
    "largest": {"kind": "maximum", "of": "window"},
    "sparse": {"kind": "l1", "of": "window"},
    "chance": {"kind": "random", "of": "window"},
}


def window(effect=0.0, shape=0.0, units=40, stimuli=60, seed=0, layers=(4,)):
    """Return windows of six positions, labels apples and birds in groups of two.

    Units 100 and 101 are larger for birds by `effect`; units 102 and 103 have a time course of
    their own there, of size `shape`, and no difference in their mean.
    """
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(stimuli, len(layers), 6, units))
    birds = np.arange(stimuli) // 2 % 2 == 1
    values[birds, ..., :2] += effect
    course = np.array([1.0, -1, 1, -1, 1, -1])
    values[birds, ..., 2:4] += shape * course[:, None]
    order = rng.permutation(stimuli)
    return xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "feature"), values[order])},
        coords={
            "stimulus": [f"s{i:02d}" for i in order],
            "kind": ("stimulus", np.where(birds, "birds", "apples")[order]),
            "group": ("stimulus", np.array([f"g{i // 2:02d}" for i in order])),
            "layer": list(layers),
            "position": np.arange(6),
            "feature": 100 + np.arange(units),
        },
    )


def entry(*names, **more):
    methods = {name: METHODS[name] for name in names or METHODS}
    given = {"k": 2, "cv": {"folds": 4}, **more}
    return Selection(kind="selection", column="kind", target="birds", methods=methods, **given)


def analyse(given, data, memory=1 << 30):
    parts = {f"methods.{name}": data for name in given.methods}
    return selection.analyse(given, parts, Context(SEEDS, memory))


@pytest.fixture(scope="module")
def data():
    return window(effect=1.0, shape=1.5)


@pytest.fixture(scope="module")
def result(data):
    return analyse(entry(test={"permute": "kind", "n": 99}), data)


def test_it_reads_the_capture_of_every_method():
    found = selection.readings(entry("differs", "chance"), ModelShape(4, 8))
    assert found == {
        "methods.differs": CaptureReading("window"),
        "methods.chance": CaptureReading("window"),
    }


def test_each_method_finds_what_it_looks_for(result):
    chosen = result["chosen"].squeeze("layer")
    assert chosen.dims == ("chosen_by", "rank")
    assert set(chosen.sel(chosen_by="differs").values) == {100, 101}
    assert set(chosen.sel(chosen_by="sparse").values) == {100, 101}
    assert set(chosen.sel(chosen_by="separates").values) == {102, 103}
    assert set(chosen.sel(chosen_by="coheres").values) == {102, 103}
    accuracy = result["accuracy"].squeeze("layer")
    assert accuracy.sel(chosen_by="differs").item() > 0.8
    assert accuracy.sel(chosen_by="chance").item() < 0.7
    # A course without a difference in its mean is not seen by a read-out of means.
    assert accuracy.sel(chosen_by="separates").item() < 0.7


def test_p_is_corrected_over_methods_and_places(result):
    assert result["p"].dims == ("chosen_by", "layer")
    assert result["p_max"].sel(chosen_by="differs").item() == pytest.approx(0.01)
    assert result["p"].sel(chosen_by="chance").item() > 0.05
    assert (result["p_max"] >= result["p"]).all()
    assert result["null_balanced_accuracy"].dims == ("permutation", "chosen_by", "layer")
    # Below 0.5: what a permuted labelling gives the training part it takes from the test part.
    assert 0.4 < result["null_balanced_accuracy"].mean().item() < 0.5
    assert result.attrs["permutation"] == "whole groups"


def test_differences_are_between_the_same_draws(result):
    accuracy = result["accuracy"]
    apart = accuracy - accuracy.rename(chosen_by="versus")
    difference = result["difference"]
    np.testing.assert_allclose(difference, apart.transpose(*difference.dims))
    at = {"chosen_by": "differs", "versus": "chance", "layer": 4}
    assert result["difference_low"].sel(at) > 0
    same = {"chosen_by": "differs", "versus": "sparse", "layer": 4}
    assert result["difference_low"].sel(same) <= 0 <= result["difference_high"].sel(same)
    itself = {"chosen_by": "differs", "versus": "differs"}
    assert not result["difference_high"].sel(itself).any()


def test_methods_that_are_both_right_throughout_are_not_known_to_be_equal():
    found = analyse(entry("differs", "sparse"), window(effect=20.0)).squeeze()
    assert (found["accuracy"] == 1).all()
    reach = 3.8415 / (30 + 3.8415)  # Wilson's, of 30 groups of which none tells them apart
    np.testing.assert_allclose(found["accuracy_low"], 1 - reach)
    assert not found["difference"].any()
    apart = found.sel(chosen_by="differs")
    assert apart["difference_high"].values.tolist() == [0, pytest.approx(reach)]
    assert apart["difference_low"].values.tolist() == [0, pytest.approx(-reach)]


def test_choices_in_folds_say_how_stable_they_are(result):
    assert result["chosen_in_fold"].dims == ("chosen_by", "fold", "layer", "rank")
    assert result["stability"].sel(chosen_by="differs").item() == 1
    assert result["stability"].sel(chosen_by="chance").item() < 0.3
    assert result["stability_chance"].sel(chosen_by="chance").item() == pytest.approx(
        0.026, abs=0.01
    )
    assert (result["n_undefined"] == 0).all()
    assert (result["score"].diff("rank").sel(chosen_by="differs") <= 0).all()


def test_weights_are_those_of_a_read_out_of_what_is_chosen(data, result):
    weight = result["weight"].sel(chosen_by="differs").squeeze("layer")
    units = result["chosen"].sel(chosen_by="differs").squeeze("layer").values
    means = data["activation"].mean("position").sel(feature=units).squeeze("layer")
    assert (weight > 0).all()  # toward birds
    decision = (means.values * weight.values).sum(axis=1)
    birds = data["kind"].values == "birds"
    assert decision[birds].mean() > decision[~birds].mean() + 0.5


def test_noise_is_at_chance_for_every_method():
    found = [
        analyse(entry(), window(units=200, seed=seed))["accuracy"].squeeze("layer")
        for seed in range(6)
    ]
    mean = xr.concat(found, "seed").mean("seed")
    assert (abs(mean - 0.5) < 0.12).all()


def test_one_null_comparison_in_twenty_is_found():
    found = []
    for seed in range(60):
        layers = tuple(range(6))  # as many independent data sets
        data = window(units=8, stimuli=32, seed=seed, layers=layers)
        given = entry("differs", test={"permute": "kind", "n": 99}, cv={"folds": 3})
        parts = {"methods.differs": data}
        found.append(selection.analyse(given, parts, Context(Seeds(seed, "x")))["p"] <= 0.05)
    assert 0.03 <= np.mean(found) <= 0.07


def test_methods_may_have_captures_of_their_own(data):
    raw = data.isel(feature=slice(0, 20)).rename(feature="unit").assign_coords(unit=np.arange(20))
    methods = {"sae": METHODS["differs"], "raw": {"kind": "contrast", "of": "raw"}}
    given = Selection(kind="selection", column="kind", target="birds", methods=methods, k=2)
    parts = {"methods.sae": data, "methods.raw": raw}
    found = selection.analyse(given, parts, Context(SEEDS))
    assert set(found["chosen"].sel(chosen_by="raw").values.ravel()) == {0, 1}
    assert found["capture"].values.tolist() == ["window", "raw"]
    np.testing.assert_allclose(*found["accuracy"].values)


@pytest.mark.parametrize("test", [None, {"permute": "kind", "n": 99}])
def test_methods_that_share_a_capture_choose_what_each_chooses_alone(data, test):
    found = analyse(entry(test=test), data)
    for name in ("coheres", "separates", "differs", "chance"):
        alone = analyse(entry(name, test=test), data)
        for number in ("chosen", "score", "chosen_in_fold", "accuracy"):
            one = found[number].sel(chosen_by=name)
            xr.testing.assert_allclose(one, alone[number].sel(chosen_by=name), rtol=1e-12)


def test_layers_are_places(data):
    two = window(effect=1.0, layers=(2, 7))
    found = analyse(entry("differs", "chance"), two)
    assert found["accuracy"].dims == ("chosen_by", "layer")
    assert found["layer"].values.tolist() == [2, 7]
    assert found["chosen_in_fold"].dims == ("chosen_by", "fold", "layer", "rank")


def test_one_position_is_enough_without_time_courses(data):
    found = analyse(entry("differs", "sparse"), data.isel(position=0, drop=True))
    assert found["chosen"].dims == ("chosen_by", "layer", "rank")
    with pytest.raises(AnalysisError, match="a time course of 2 positions has no correlation"):
        analyse(entry("separates"), data.isel(position=[0, 1]))


def test_the_order_of_rows_and_axes_does_not_matter(data):
    given = entry("separates", "sparse", "chance")
    order = np.random.default_rng(4).permutation(60)
    turned = data.isel(stimulus=order).transpose("feature", "layer", "position", "stimulus")
    found, expected = analyse(given, turned), analyse(given, data)
    xr.testing.assert_allclose(found.sortby("stimulus"), expected.sortby("stimulus"))


def test_memory_is_respected_and_changes_no_number(data, result):
    given = entry(test={"permute": "kind", "n": 99})
    xr.testing.assert_allclose(analyse(given, data, memory=150_000), result)
    text = "at layer 4: 60 stimuli of 40 units need 37.5KiB to choose from, and run.budget.memory"
    with pytest.raises(AnalysisError, match=text):
        analyse(given, data, memory=10_000)


def test_silent_features_are_counted_and_never_chosen(data):
    silent = data.copy(deep=True)
    silent["activation"].loc[{"stimulus": "s03", "feature": 102}] = 0.0
    found = analyse(entry("separates", "differs"), silent).squeeze("layer")
    assert found["n_undefined"].values.tolist() == [1, 0]
    assert 102 not in found["chosen"].sel(chosen_by="separates")


def test_a_result_reads_back_from_netcdf_as_it_was(result, tmp_path):
    result.to_netcdf(tmp_path / "result.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "result.nc", engine="netcdf4") as back:
        xr.testing.assert_equal(back.load(), result)
    assert all({"units", "long_name", "estimand"} <= set(v.attrs) for v in result.values())


def test_what_cannot_be_compared_is_refused(data):
    given = entry("differs", "chance")

    def across(other):
        parts = {"methods.differs": data, "methods.chance": other}
        return selection.analyse(given, parts, Context(SEEDS))

    with pytest.raises(AnalysisError, match="'differs' and 'chance' have captures of different st"):
        across(data.isel(stimulus=slice(50)))
    with pytest.raises(AnalysisError, match=r"at different places \(layer 4; layer 5\)"):
        across(data.assign_coords(layer=[5]))
    with pytest.raises(AnalysisError, match=r"no class 'brids'.*did you mean 'birds'"):
        analyse(given.model_copy(update={"target": "brids"}), data)
    with pytest.raises(AnalysisError, match="there are 40 units, and 41 are to be chosen"):
        analyse(entry("chance", k=41), data)
    with pytest.raises(AnalysisError, match="has one class, 'birds': nothing to tell it from"):
        analyse(given, data.isel(stimulus=data["kind"].values == "birds"))
    spoiled = data.copy(deep=True)
    spoiled["activation"].loc[{"stimulus": "s09", "feature": 103}] = np.nan
    with pytest.raises(UndefinedError, match=r"^at layer 4: 1 of 60 .*: stimuli 's09'$"):
        analyse(given, spoiled)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValidationError, match="permutes 'x', and units are chosen for 'kind'"):
        entry(test={"permute": "x"})
    with pytest.raises(ValidationError, match="'pattern: positions' is what RSA per unit needs"):
        Selection(kind="selection", column="kind", target="birds",
                  methods={"a": {"kind": "discriminative", "of": "window"}})  # fmt: skip
