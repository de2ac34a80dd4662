"""Probes of chosen units: nested in every fold and labelling, as a loop does it, and labelled."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from patchclamp.analyses import probe, selection
from patchclamp.analyses.context import Context
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine import open_result
from patchclamp.engine.reporting.methods import methods
from patchclamp.engine.run import run
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_representation import Probe, Selection

SEEDS = Seeds(0, "analyses.decode")
METHODS = {
    "differs": {"kind": "contrast", "of": "window"},
    "separates": {"kind": "discriminative", "of": "window", "pattern": "positions"},
    "coheres": {"kind": "categorical", "of": "window", "pattern": "positions"},
    "largest": {"kind": "maximum", "of": "window"},
    "sparse": {"kind": "l1", "of": "window"},
    "chance": {"kind": "random", "of": "window"},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(limits=1):
        yield


def window(effect=0.0, units=30, stimuli=60, positions=4, seed=0, kinds=("apples", "birds")):
    """Return windows whose units 100 and 101 are larger for birds; groups hold both kinds."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(stimuli, 2, positions, units))
    kind = np.arange(stimuli) % len(kinds)
    values[kind == 1, 1, :, :2] += effect
    order = rng.permutation(stimuli)
    return xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), values[order])},
        coords={
            "stimulus": [f"s{i:03d}" for i in order],
            "kind": ("stimulus", np.array(kinds)[kind[order]]),
            "group": ("stimulus", np.array([f"g{i // len(kinds):02d}" for i in order])),
            "layer": [4, 7],
            "position": np.arange(positions),
            "unit": 100 + np.arange(units),
        },
    )


def chosen(data, *names, k=2):
    methods = {name: METHODS[name] for name in names or METHODS}
    given = Selection(
        kind="selection", column="kind", target="birds", methods=methods, k=k, cv={"folds": 3}
    )
    return selection.analyse(given, dict.fromkeys((f"methods.{n}" for n in methods), data), CONTEXT)


CONTEXT = Context(SEEDS)


def entry(**more):
    given = {"cv": {"folds": 3, "inner": 3}, "shuffles": 19, "features": "choose", **more}
    return Probe(kind="probe", of="window", target="kind", **given)


def analyse(given, data, made, **parts):
    context = Context(SEEDS, results={"choose": made})
    return probe.analyse(given, {"of": data, **parts}, context)


@pytest.fixture(scope="module")
def data():
    return window(effect=1.2)


@pytest.fixture(scope="module")
def result(data):
    return analyse(entry(), data, chosen(data))


def loop(data, result, model, layer, position):
    """Choose by |t| of means over positions in the training part, and read out one position."""
    x = data["activation"].sel(layer=layer).transpose("stimulus", "position", "unit").values
    birds, held = data["kind"].values == "birds", result["held_out_by"].values
    found = np.empty(len(x), dtype=object)
    for fold in np.unique(held):
        train, test = held != fold, held == fold
        means = x.mean(axis=1)[train]
        t = stats.ttest_ind(means[birds[train]], means[~birds[train]], equal_var=False)[0]
        units = np.argsort(-np.abs(t))[:2]
        patterns = x[:, position][:, units]
        model.fit(patterns[train], data["kind"].values[train])
        found[test] = model.predict(patterns[test])
    return found.astype(str)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_units_are_chosen_in_every_training_part_as_a_loop_does(data, kind):
    models = {"ridge": RidgeClassifier(alpha=1.0), "logistic": LogisticRegression(tol=1e-10)}
    model = make_pipeline(StandardScaler(), models[kind])
    made = chosen(data, "differs")
    result = analyse(entry(estimator={"kind": kind}), data, made).sel(chosen_by="differs")
    for layer in (4, 7):
        for position in (0, 3):
            predicted = result["predicted"].sel(layer=layer, position=position)
            np.testing.assert_array_equal(predicted, loop(data, result, model, layer, position))


def test_planted_units_are_chosen_and_read_out(result):
    assert result["chosen_by"].values.tolist() == list(METHODS)
    assert result["kind_of_method"].sel(chosen_by="sparse").item() == "l1"
    at = {"layer": 7, "position": 2}
    for way in ("differs", "sparse"):
        one = result.sel(chosen_by=way, **at)
        assert set(one["chosen"].values) == {100, 101}
        assert one["balanced_accuracy"] > 0.7
        assert one["stability"] == 1
        assert one["p_max"] == pytest.approx(0.05)
    # Largest activations, and time courses, say nothing of a difference in the mean.
    for way in ("separates", "coheres", "chance"):
        assert result["p_max"].sel(chosen_by=way, **at) > 0.05
    assert (result["p_max"] >= result["p"]).all()
    assert result["chosen_in_fold"].dims == ("chosen_by", "fold", "layer", "position", "rank")
    assert result.attrs["k"] == 2
    assert result.attrs["chosen_for"] == "birds"


def test_the_direction_is_one_of_all_units_and_decides_as_a_fit_to_the_chosen(data, result):
    one = result.sel(chosen_by="differs", layer=7, position=1)
    units = one["chosen"].values
    assert not one["direction"].drop_sel(unit=units).any()
    x = data["activation"].sel(layer=7, position=1, unit=units).values
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0))
    expected = model.fit(x, data["kind"].values).decision_function(x)
    patterns = data["activation"].sel(layer=7, position=1)
    found = (patterns * one["direction"]).sum("unit") + one["intercept"]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_on_noise_it_is_at_chance_where_units_chosen_from_all_stimuli_are_not():
    nested, naive = [], []
    for seed in range(3):
        data = window(units=10_000, stimuli=100, positions=1, seed=seed).isel(layer=[0])
        made = chosen(data, "differs", k=8)
        given = entry(controls=("majority",))
        nested.append(analyse(given, data, made)["balanced_accuracy"].item())
        units = made["chosen"].squeeze().values
        given = entry(features=None, controls=("majority",))
        found = analyse(given, data.sel(unit=units), made)
        naive.append(found["balanced_accuracy"].item())
    assert 0.35 < np.mean(nested) < 0.6
    assert np.mean(naive) > 0.8


def test_permuted_labels_choose_units_of_their_own():
    """Else the null would keep what the true labels chose, and be as good as them on noise."""
    data = window(units=400, positions=1).isel(layer=[0])
    found = analyse(entry(shuffles=99), data, chosen(data, "differs"))
    assert 0.35 < found["null_balanced_accuracy"].mean() < 0.52
    assert found["null_balanced_accuracy"].std() > 0.02


def test_controls_choose_too():
    data = window(effect=2.0, positions=2)
    tokens = np.random.default_rng(0).integers(0, 12, size=(60, 2))
    data = data.assign_coords(token_id=(("stimulus", "position"), tokens))
    noise = data.copy(deep=True)
    noise["activation"][:] = np.random.default_rng(1).normal(size=noise["activation"].shape)
    given = entry(controls=("random_twin", "control_task"), erase=True)
    found = analyse(given, data, chosen(data, "differs"), random_twin=noise)
    at = {"layer": 7, "chosen_by": "differs"}
    assert (found["accuracy"].sel(at) > 0.75).all()
    assert (found["control_accuracy"].sel(at) < 0.7).all()
    assert (found["selectivity"].sel(at) > 0.1).all()
    assert (found["erased_balanced_accuracy"].sel(at) < 0.65).all()


def test_another_set_takes_no_part_in_the_choice():
    data = window(effect=2.0, stimuli=80)
    first = data["stimulus"].values < "s040"
    ours, theirs = data.isel(stimulus=first), data.isel(stimulus=~first)
    given = entry(test_on="new", controls=("majority",))
    found = analyse(given, ours, chosen(data, "differs"), test_on=theirs)
    spoilt = theirs.copy(deep=True)
    spoilt["activation"][:, :, :, 5] += 9 * (theirs["kind"] == "birds").values[:, None, None]
    other = analyse(given, ours, chosen(data, "differs"), test_on=spoilt)
    assert (found["accuracy"].sel(layer=7) > 0.75).all()
    xr.testing.assert_equal(found["chosen_in_fold"], other["chosen_in_fold"])


def test_three_classes_are_read_out_of_units_chosen_for_one():
    data = window(effect=2.0, kinds=("apples", "birds", "coins"))
    found = analyse(entry(), data, chosen(data, "differs")).sel(layer=7, chosen_by="differs")
    assert (found["balanced_accuracy"] > 0.5).all()
    assert set(found["chosen"].values.ravel()) == {100, 101}
    shares = found["predicted"].where(found["kind"] == "birds", drop=True) == "birds"
    assert shares.mean() > 0.8
    one_by_one = {"kind": "ridge", "alpha": (1.0, 1.0)}
    again = analyse(entry(estimator=one_by_one), data, chosen(data, "differs"))
    again = again.sel(layer=7, chosen_by="differs")
    xr.testing.assert_equal(again["predicted"], found["predicted"])
    name = "null_balanced_accuracy"
    np.testing.assert_allclose(again[name], found[name])


def test_what_cannot_be_chosen_is_refused(data):
    made = chosen(data, "differs")
    text = "'choose' chooses units for 'kind', and this probe reads out 'group'"
    with pytest.raises(AnalysisError, match=text):
        analyse(entry().model_copy(update={"target": entry().target.model_copy(
            update={"column": "group"})}), data, made)  # fmt: skip
    elsewhere = made.assign_coords(
        capture=("chosen_by", ["other"]), units_of=("chosen_by", ["mlp_out: unit"])
    )
    with pytest.raises(AnalysisError, match="'choose' chose units of other, and none of 'window'"):
        analyse(entry(), data, elsewhere)


def test_a_file_is_read_within_memory_and_one_that_does_not_fit_is_refused(data, tmp_path):
    made = chosen(data, "differs", "separates")
    data.to_netcdf(tmp_path / "capture.nc")
    plenty = analyse(entry(controls=()), data, made)
    with xr.open_dataset(tmp_path / "capture.nc") as lazy:
        context = Context(SEEDS, memory=200_000, results={"choose": made})
        tight = probe.analyse(entry(controls=()), {"of": lazy}, context)
        xr.testing.assert_allclose(tight, plenty)
        context = Context(SEEDS, memory=20_000, results={"choose": made})
        with pytest.raises(AnalysisError, match=r"run.budget.memory allows 19\.5KiB: allow"):
            probe.analyse(entry(controls=()), {"of": lazy}, context)


def test_chosen_units_read_back_from_netcdf_as_they_were(result, tmp_path):
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as read:
        xr.testing.assert_identical(read.load(), result)


SPEC = """\
patchclamp: 1
name: chosen
model: {id: "bundled:sequences"}
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [form]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    take: {n: 40, by: form}
captures:
  resid: {of: words, site: resid_post, layers: 1, positions: last}
interventions:
  flat: {kind: ablate, value: {along: decode}}
analyses:
  flattened:
    kind: ablation
    stimuli: words
    with: flat
    units: {site: resid_post, layers: 1, positions: last}
    metric: logit_diff
  decode: {kind: probe, of: resid, features: choose, target: form, cv: {folds: 3}, shuffles: 19}
  geometry:
    kind: rsa
    of: resid
    features: choose
    contrast: {kind: discriminative, column: form}
    test: {permute: form, n: 99}
  choose:
    kind: selection
    column: form
    target: bare
    k: 4
    cv: {folds: 3}
    methods: {welch: {kind: contrast, of: resid}}
"""


def test_a_spec_chooses_units_reads_them_out_and_takes_them_away(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    result = run(tmp_path / "spec.yaml", out=tmp_path, cache=tmp_path / "cache")
    decode, choose = result.analysis("decode"), result.analysis("choose")
    assert decode["balanced_accuracy"].item() > 0.6
    xr.testing.assert_equal(
        decode["chosen"].squeeze("position", drop=True).drop_vars("kind_of_method"),
        choose["chosen"].drop_vars(["kind_of_method", "capture", "units_of"]),
    )
    assert np.count_nonzero(decode["direction"]) == 4
    assert abs(result.analysis("flattened")["effect"]).max() > 0
    assert result.analysis("geometry").attrs["n_stimuli_chosen_on"] == 80
    text = methods(open_result(result.path))
    assert "analysis of the units that choose chose by welch, chosen on 80 of the same" in text
    assert "form from the units that choose chose by welch, chosen anew inside each" in text
    assert "Intervention 'flat': what lies along the direction of decode is removed." in text
