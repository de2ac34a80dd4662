"""RSA against loops with SciPy, calibration on noise, planted effects, and its refusals."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from planted import capture
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, spearmanr

from patchclamp.analyses import rsa
from patchclamp.analyses.context import Context
from patchclamp.analyses.patterns import checked_capture
from patchclamp.analyses.permutation import permuted_labels
from patchclamp.analyses.readings import CaptureReading, ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, UndefinedError
from patchclamp.specs.analyses_rsa import Rsa

SEEDS = Seeds(0, "analyses.geometry")
DISCRIMINATIVE = {"kind": "discriminative", "column": "category"}
TARGET = {**DISCRIMINATIVE, "target": "birds"}
CATEGORICAL = {"kind": "categorical", "column": "category", "classes": ("birds", "coins")}


def against(n=99, **more):
    return Rsa(
        kind="rsa",
        of="resid",
        against={"sorts": {"kind": "category", "column": "category"}},
        test={"permute": "category", "n": n},
        **more,
    )


def contrast(given, n=99, permute="category"):
    return Rsa(kind="rsa", of="resid", contrast=given, test={"permute": permute, "n": n})


def analyse(entry, data, seeds=SEEDS):
    return rsa.analyse(entry, {"of": data}, Context(seeds))


ENTRIES = [against(), contrast(DISCRIMINATIVE), contrast(TARGET), contrast(CATEGORICAL)]


@pytest.fixture
def data():
    return capture((0.0, 0.8))


def place(data, layer):
    """Return patterns and labels of one layer, in the order of ids."""
    data = data.sortby("stimulus").sel(layer=layer, position=-1)
    return data["activation"].transpose("stimulus", ...).values, data["category"].values


def test_it_reads_its_capture():
    assert rsa.readings(against(), ModelShape(4, 8)) == {"of": CaptureReading("resid")}


@pytest.mark.parametrize(("compare", "oracle"), [("spearman", spearmanr), ("pearson", pearsonr)])
def test_similarity_is_that_of_scipy(data, compare, oracle):
    result = analyse(against(compare=compare), data)
    for layer in (3, 5):
        patterns, labels = place(data, layer)
        model = [a != b for a, b in combinations(labels, 2)]
        expected = oracle(pdist(patterns, "correlation"), np.array(model, dtype=float))[0]
        found = result["similarity"].sel(model_rdm="sorts", layer=layer, position=-1)
        assert float(found) == pytest.approx(expected, abs=1e-12)


def mean_z(patterns, labels, kind):
    """Return a contrast by a loop over pairs, with NumPy's corrcoef."""
    z = np.arctanh(np.corrcoef(patterns) - np.eye(len(patterns)))
    first, second = [], []
    for i, j in combinations(range(len(labels)), 2):
        a, b = labels[i], labels[j]
        if kind == "categorical":
            chosen = {"birds": first, "coins": second}.get(a if a == b else None)
        elif kind == "target":
            chosen = (None, second, first)[(a == "birds") + (b == "birds")]
        else:
            chosen = first if a == b else second
        if chosen is not None:
            chosen.append(z[i, j])
    return np.mean(first) - np.mean(second)


@pytest.mark.parametrize(
    ("given", "kind"), [(DISCRIMINATIVE, "all"), (TARGET, "target"), (CATEGORICAL, "categorical")]
)
def test_contrasts_are_those_of_a_loop_over_pairs(data, given, kind):
    result = analyse(contrast(given), data)
    for layer in (3, 5):
        found = float(result["contrast"].sel(layer=layer, position=-1))
        assert found == pytest.approx(mean_z(*place(data, layer), kind), abs=1e-12)


@pytest.mark.parametrize("grouped", [True, False])
def test_the_null_is_that_of_permuting_labels_in_a_loop(data, grouped):
    data = data if grouped else data.drop_vars("group")
    result = analyse(contrast(DISCRIMINATIVE), data)
    chosen = checked_capture(data)
    codes = chosen.labels("category").codes
    drawn = permuted_labels(codes, chosen.groups(), 99, SEEDS.generator("permutation"))
    for layer in (3, 5):
        patterns, _ = place(data, layer)
        null = [mean_z(patterns, labels, "all") for labels in drawn]
        found = result["null"].sel(layer=layer, position=-1)
        np.testing.assert_allclose(found, null, atol=1e-12)
        observed = result["contrast"].sel(layer=layer, position=-1).item()
        p = (1 + sum(value >= observed for value in null)) / 100
        assert result["p"].sel(layer=layer, position=-1).item() == pytest.approx(p)


def test_the_categorical_test_is_two_sided_and_exchanges_only_its_classes(data):
    result = analyse(contrast(CATEGORICAL), data)
    beyond = (abs(result["null"]) >= abs(result["contrast"])).sum("permutation")
    np.testing.assert_allclose(result["p"], (1 + beyond) / 100)
    two = data.isel(stimulus=data["category"].values != "apples")
    xr.testing.assert_allclose(analyse(contrast(CATEGORICAL), two), result)
    assert (result.attrs["n_stimuli"], result.attrs["tail"]) == (24, "two-sided")


def test_swapping_the_classes_of_a_categorical_contrast_swaps_its_sign(data):
    swapped = {**CATEGORICAL, "classes": ("coins", "birds")}
    first, second = analyse(contrast(CATEGORICAL), data), analyse(contrast(swapped), data)
    np.testing.assert_allclose(second["contrast"], -first["contrast"], atol=1e-12)


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_order_of_rows_and_axes_does_not_matter(data, entry):
    order = np.random.default_rng(4).permutation(data.sizes["stimulus"])
    turned = data.isel(stimulus=order).transpose("unit", "layer", "position", "stimulus")
    xr.testing.assert_allclose(analyse(entry, turned), analyse(entry, data), atol=1e-13)


@pytest.mark.parametrize("entry", ENTRIES)
def test_scale_and_offset_of_patterns_do_not_matter(data, entry):
    rng = np.random.default_rng(5)
    stimulus = data["stimulus"]
    scale = xr.DataArray(rng.uniform(0.1, 9, len(stimulus)), coords={"stimulus": stimulus})
    moved = data.assign(activation=data["activation"] * scale + 10 * scale)
    xr.testing.assert_allclose(analyse(entry, moved), analyse(entry, data), atol=1e-11)


@pytest.mark.parametrize("entry", ENTRIES)
def test_layers_see_the_same_permutations_and_keep_their_labels(data, entry):
    twice = xr.concat([data, data.assign_coords(layer=[11, 4])], "layer")
    result = analyse(entry, twice)
    assert result["layer"].values.tolist() == [3, 5, 11, 4]
    np.testing.assert_array_equal(result["null"].sel(layer=11), result["null"].sel(layer=3))


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_result_reads_back_from_netcdf_as_it_was(data, entry, tmp_path):
    result = analyse(entry, data)
    result.to_netcdf(tmp_path / "result.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "result.nc", engine="netcdf4") as back:
        xr.testing.assert_identical(back.load(), result)
    assert all({"units", "long_name", "estimand"} <= set(v.attrs) for v in result.values())


def test_results_say_what_they_are(data):
    result = analyse(against(n=120), data)
    assert result["null"].dims == ("permutation", "model_rdm", "layer", "position")
    assert result["similarity"].attrs["estimand"] == "rsa_spearman/1"
    assert result.attrs == {
        "permuted": "category",
        "compare": "spearman",
        "n_stimuli": 36,
        "n_groups": 12,
        "permutation": "within groups",
        "n_permutations": 120,
        "n_arrangements": 6**11,
        "tail": "greater",
    }
    result = analyse(contrast(TARGET), data.drop_vars("group"))
    assert result["contrast"].attrs["units"] == "Fisher z"
    assert "within birds minus between birds" in result["contrast"].attrs["long_name"]
    assert result["contrast"].attrs["estimand"] == "rsa_discriminative_target/1"
    assert (result.attrs["permutation"], result.attrs["n_groups"]) == ("free", 36)


def test_heads_are_part_of_the_family(data):
    headed = xr.concat([data, data.isel(layer=[1, 0]).assign_coords(layer=[3, 5])], "head")
    headed = headed.assign_coords(head=[2, 6]).rename(unit="channel")
    result = analyse(contrast(DISCRIMINATIVE), headed)
    assert result["contrast"].dims == ("layer", "head", "position")
    alone = analyse(contrast(DISCRIMINATIVE), data)
    assert result["p_max"].sel(layer=5, head=2).item() == alone["p_max"].sel(layer=5).item()
    np.testing.assert_allclose(
        result["contrast"].sel(layer=3, head=6), alone["contrast"].sel(layer=5)
    )


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("entry", ENTRIES[:3])
def test_a_planted_effect_is_found_where_it_is(entry, whole):
    data = capture((0.0, 1.5), whole=whole, copies=2, templates=24, template_effect=0.5)
    result = analyse(entry, data).squeeze()
    main = result["contrast" if "contrast" in result else "similarity"]
    assert float(main.sel(layer=5)) > 0.1
    assert float(result["p_max"].sel(layer=5)) == pytest.approx(0.01)
    assert float(result["p"].sel(layer=3)) > 0.01
    assert result.attrs["permutation"] == ("whole groups" if whole else "within groups")


@pytest.mark.parametrize("coherent", ["birds", "coins"])
def test_a_coherent_class_gives_the_categorical_contrast_its_sign(coherent):
    data = capture((0.0,), templates=20)
    shared = np.random.default_rng(1).normal(size=16) * 1.5
    data["activation"] += xr.where(data["category"] == coherent, 1.0, 0.0) * xr.DataArray(
        shared, dims="unit"
    )
    result = analyse(contrast(CATEGORICAL), data)
    assert np.sign(float(result["contrast"].squeeze())) == (1 if coherent == "birds" else -1)
    assert float(result["p"].squeeze()) == pytest.approx(0.01)


def test_permuted_labels_kill_the_effect():
    data = capture((1.5,))
    labels = np.random.default_rng(2).permutation(data["category"].values)
    shuffled = data.assign_coords(category=("stimulus", labels)).drop_vars("group")
    assert float(analyse(contrast(DISCRIMINATIVE), data)["p"].squeeze()) == pytest.approx(0.01)
    assert float(analyse(contrast(DISCRIMINATIVE), shuffled)["p"].squeeze()) > 0.05


def test_another_column_than_the_permuted_one_is_refused(data):
    text = "the test permutes 'group', but the contrast is about 'category'"
    with pytest.raises(AnalysisError, match=text):
        analyse(contrast(DISCRIMINATIVE, permute="group"), data)
    entry = against().model_copy(update={"test": contrast(TARGET, permute="group").test})
    with pytest.raises(AnalysisError, match="model RDM 'sorts' is about 'category'"):
        analyse(entry, data)


def test_an_unknown_class_is_named_with_the_nearest(data):
    text = r"no class 'bird' \(known: apples, birds, coins\); did you mean 'birds'"
    with pytest.raises(AnalysisError, match=text):
        analyse(contrast({**TARGET, "target": "bird"}), data)
    with pytest.raises(AnalysisError, match=text):
        analyse(contrast({**CATEGORICAL, "classes": ("coins", "bird")}), data)


def test_an_unknown_column_is_refused(data):
    with pytest.raises(AnalysisError, match="no label column 'category'"):
        analyse(against(), data.drop_vars("category"))


def test_a_class_against_itself_is_refused_by_the_spec():
    with pytest.raises(ValueError, match="a class cannot be compared with itself; got 'coins'"):
        contrast({**CATEGORICAL, "classes": ("coins", "coins")})


def test_a_class_of_one_stimulus_is_refused(data):
    labels = data["category"].values.copy()
    labels[labels == "coins"] = "birds"
    labels[0] = "coins"
    data = data.assign_coords(category=("stimulus", labels))
    for entry in (against(), contrast(DISCRIMINATIVE), contrast(CATEGORICAL)):
        with pytest.raises(AnalysisError, match="'coins' of column 'category' has 1 stimulus"):
            analyse(entry, data)


def test_one_class_is_refused(data):
    data = data.isel(stimulus=data["category"].values == "birds")
    with pytest.raises(AnalysisError, match="one class, 'birds': nothing to compare"):
        analyse(against(), data)


def test_too_few_arrangements_are_refused():
    data = capture((0.0,), templates=4, whole=True, copies=4, classes=("a", "b"))
    with pytest.raises(AnalysisError, match="allows 3 distinct arrangements"):
        analyse(against(), data)


def test_a_class_that_one_group_makes_up_is_refused():
    data = capture((0.0,), templates=13, classes=("a", "b"))
    data = data.assign_coords(
        group=("stimulus", [f"t{max(row, 1):02d}" for row in range(26)]),
        category=("stimulus", ["a"] * 2 + ["b"] * 24),
    )
    for entry in (contrast({**DISCRIMINATIVE, "target": "a"}), contrast(DISCRIMINATIVE), against()):
        with pytest.raises(AnalysisError, match="class 'a' is made up by one group, so that noth"):
            analyse(entry, data)


def test_a_constant_pattern_is_named(data):
    data["activation"].loc[{"stimulus": "s007", "layer": 5}] = 2.5
    text = "^at layer 5, position -1: a correlation is undefined for 1 pattern, .*: stimuli 's007'$"
    with pytest.raises(UndefinedError, match=text):
        analyse(against(), data)


def test_nan_is_named(data):
    data["activation"].loc[{"stimulus": "s011", "layer": 3, "unit": 2}] = np.nan
    with pytest.raises(
        UndefinedError, match=r"at layer 3, .*NaN or infinite values: stimuli 's011'"
    ):
        analyse(contrast(TARGET), data)


def test_identical_patterns_are_named_by_contrasts_and_ranked_by_comparisons(data):
    activation = data["activation"].loc
    activation[{"stimulus": "s020"}] = activation[{"stimulus": "s010"}].values
    with pytest.raises(UndefinedError, match=r"decided by rounding .*stimuli 's010', 's020'"):
        analyse(contrast(DISCRIMINATIVE), data)
    assert np.isfinite(analyse(against(), data)["similarity"]).all()


def test_a_class_that_takes_no_part_cannot_spoil_a_contrast(data):
    name = str(data["stimulus"].values[data["category"].values == "apples"][0])
    data["activation"].loc[{"stimulus": name}] = 0.0
    assert np.isfinite(analyse(contrast(CATEGORICAL), data)["contrast"]).all()


def test_patterns_that_are_all_the_same_have_no_similarity(data):
    data["activation"][:] = np.arange(16.0)
    with pytest.raises(
        UndefinedError, match="at layer 3, position -1: 630 values that are all equal"
    ):
        analyse(against(), data)


def test_missing_tokens_are_refused(data):
    mask = np.ones((36, 1), dtype=bool)
    mask[8] = False
    with pytest.raises(AnalysisError, match="'s008' has no token at position -1"):
        analyse(against(), data.assign(mask=(("stimulus", "position"), mask)))


@pytest.mark.parametrize("name", ["p", "rdm", "component", "similarity"])
def test_a_label_with_the_name_of_a_number_is_refused_where_it_would_be_kept(data, name):
    named = data.assign_coords({name: ("stimulus", data["category"].values)})
    asked = {"against": {"m": {"kind": "category", "column": name}}, "contrast": None}
    given = {"kind": "rsa", "of": "x", "test": {"permute": name, "n": 99}, **asked}
    with pytest.raises(AnalysisError, match=f"the label '{name}' is also the name of a number"):
        analyse(Rsa.model_validate({**given, "store_rdm": True}), named)
    assert name in ("rdm", "component") or name in analyse(Rsa.model_validate(given), named)
