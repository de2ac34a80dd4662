"""The contrast analysis: maps against SciPy, groups, corrections, calibration, and refusals."""

import numpy as np
import pytest
import xarray as xr
from planted import capture
from pydantic import ValidationError
from scipy import stats

from patchclamp.analyses import contrast
from patchclamp.analyses.cell_means import permuted_between, permuted_within
from patchclamp.analyses.context import Context
from patchclamp.analyses.patterns import checked_capture
from patchclamp.analyses.permutation import p_value, permuted_labels
from patchclamp.analyses.readings import CaptureReading, ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, UndefinedError
from patchclamp.specs.analyses_representation import Contrast

SEEDS = Seeds(0, "analyses.map")


def entry(**more):
    given = {"column": "category", "classes": ("birds", "apples"), **more}
    return Contrast(kind="contrast", of="resid", **given)


def maximum(**more):
    return entry(correct="max", test={"permute": "category", "n": 99}, **more)


def analyse(given, data, memory=1 << 30):
    return contrast.analyse(given, {"of": data}, Context(SEEDS, memory))


@pytest.fixture(scope="module")
def data():
    return capture((0.0, 1.5), templates=36, whole=True).drop_vars("group")


@pytest.fixture(scope="module")
def result(data):
    return analyse(entry(), data)


def sides(data, layer=5):
    values = data["activation"].sel(layer=layer, position=-1)
    return [values[data["category"].values == name].values for name in ("birds", "apples")]


def test_it_reads_its_capture():
    assert contrast.readings(entry(), ModelShape(4, 8)) == {"of": CaptureReading("resid")}


@pytest.mark.parametrize("layer", [3, 5])
def test_the_map_is_that_of_scipy(data, result, layer):
    expected = stats.ttest_ind(*sides(data, layer), equal_var=False)
    found = result.sel(layer=layer, position=-1)
    np.testing.assert_allclose(found["t"], expected.statistic)
    np.testing.assert_allclose(found["p"], expected.pvalue)
    first, second = sides(data, layer)
    np.testing.assert_allclose(found["difference"], first.mean(axis=0) - second.mean(axis=0))
    assert found["t"].dims == ("unit",)
    order = np.empty(16, dtype=int)
    order[np.argsort(-np.abs(expected.statistic))] = np.arange(1, 17)
    np.testing.assert_array_equal(found["order"], order)


def test_rates_of_false_discovery_are_over_all_places(result):
    adjusted = stats.false_discovery_control(result["p"].values.ravel())
    np.testing.assert_allclose(result["p_fdr"].values.ravel(), adjusted)
    assert (result["p_fdr"].sel(layer=5) < 0.05).any()
    assert not (result["p_fdr"].sel(layer=3) < 0.05).any()


def test_the_maximum_is_over_all_places_too(data):
    found = analyse(maximum(), data)
    assert (found["p_max"] >= 0.01).all()
    assert (found["p_max"].sel(layer=5) < 0.05).any()
    assert not (found["p_max"].sel(layer=3) < 0.05).any()
    assert found.attrs["n_permutations"] == 99
    best = np.abs(found["t"]).values.ravel().argsort()
    assert (np.diff(found["p_max"].values.ravel()[best]) <= 0).all()
    assert "p_fdr" not in found


def test_where_groups_hold_one_class_their_means_are_the_items():
    data = capture((0.5,), templates=24, whole=True, copies=3, template_effect=2.0)
    found = analyse(entry(), data).squeeze()
    means = data["activation"].groupby("group").mean("stimulus").squeeze()
    names = data["category"].groupby("group").first()
    first, second = (means.values[names.values == n] for n in ("birds", "apples"))
    expected = stats.ttest_ind(first, second, equal_var=False)
    np.testing.assert_allclose(found["t"], expected.statistic)
    assert found.attrs["design"] == "between"
    assert found.attrs["n_groups"] == 16
    assert found.attrs["n_stimuli"] == 48


def test_where_groups_hold_both_classes_differences_within_them_are():
    data = capture((0.5,), templates=14, copies=2, template_effect=5.0)
    found = analyse(entry(), data).squeeze()
    sides = [
        data.isel(stimulus=data["category"].values == name)["activation"]
        .groupby("group").mean("stimulus").squeeze().transpose("group", "unit")
        for name in ("birds", "apples")
    ]  # fmt: skip
    expected = stats.ttest_rel(*sides)
    np.testing.assert_allclose(found["t"], expected.statistic)
    assert found.attrs["design"] == "within groups"
    alone = analyse(entry(), data.drop_vars("group")).squeeze()
    assert np.abs(found["t"]).mean() > np.abs(alone["t"]).mean()


def crossed(grouped, **more):
    """Return two factors: units 0 and 1 differ by the first, 2 by both of them together."""
    data = capture((0.0,), classes=("aa", "ab", "ba", "bb"), templates=20, **more)
    both = data["category"].values
    first, second = np.array([name[0] for name in both]), [name[1] for name in both]
    data = data.assign_coords(first=("stimulus", first), second=("stimulus", second))
    sign = np.where(first == "a", 1.5, -1.5)
    data["activation"][:, 0, 0, :2] += sign[:, None]
    data["activation"][:, 0, 0, 2] += sign * np.where(np.array(second) == "a", 1, -1)
    return data if grouped else data.drop_vars("group")


def factorial(**more):
    return Contrast(kind="contrast", of="resid", factors=("first", "second"), **more)


@pytest.mark.parametrize("grouped", [True, False])
def test_factors_have_main_effects_and_an_interaction(grouped):
    found = analyse(factorial(), crossed(grouped)).squeeze()
    assert found["effect"].values.tolist() == ["first", "second", "first:second"]
    assert found["t"].dims == ("effect", "unit")
    significant = found["p_fdr"] < 0.05
    assert significant.sel(effect="first").values[:3].tolist() == [True, True, False]
    assert significant.sel(effect="first:second").values[:3].tolist() == [False, False, True]
    assert not significant.sel(effect="second").any()
    assert (found["difference"].sel(effect="first")[:2] > 2).all()  # a minus b
    assert found.attrs["design"] == ("within groups" if grouped else "between")


def test_a_factorial_effect_is_that_of_cell_means():
    data = crossed(grouped=False)
    found = analyse(factorial(), data).squeeze()
    cell = data["activation"].squeeze().groupby("category").mean("stimulus")
    aa, ab, ba, bb = (cell.sel(category=name).values for name in ("aa", "ab", "ba", "bb"))
    np.testing.assert_allclose(found["difference"].sel(effect="first"), (aa + ab - ba - bb) / 2)
    np.testing.assert_allclose(found["difference"].sel(effect="first:second"), aa - ab - ba + bb)


@pytest.mark.parametrize("design", ["free", "between", "within"])
def test_one_null_unit_in_twenty_is_found(design):
    """Every unit is a repetition; stimuli of a group are alike, which only items account for."""
    more = {"free": {}, "between": {"whole": True}, "within": {"copies": 2}}[design]
    copies = {} if design == "free" else {"copies": 3, "template_effect": 1.0}
    names = ("birds", "apples")
    data = capture((0.0,), classes=names, templates=24, units=3000, seed=2, **{**more, **copies})
    if design == "free":
        data = data.drop_vars("group")
    found = analyse(entry(), data)
    assert 0.03 < (found["p"] <= 0.05).mean() < 0.07
    if design == "between":
        wrong = analyse(entry(), data.drop_vars("group"))
        assert (wrong["p"] <= 0.05).mean() > 0.1


@pytest.mark.parametrize("copies", [1, 3])
def test_one_null_map_in_twenty_has_a_corrected_find(copies):
    """Over the maximum of six units; in half of the designs each item has both classes."""
    found, rng = [], np.random.default_rng(copies)
    for _ in range(1000):
        item = np.repeat(np.arange(16), 2 * copies)
        cell = np.arange(len(item)) % 2 if copies > 1 else (item % 2)
        values = rng.normal(size=(len(item), 6)) + rng.normal(size=(16, 6))[item]
        if copies > 1:
            labellings = np.concatenate([cell[None], permuted_labels(cell, item, 99, rng)])
            parts = [values[item == i] for i in range(16)]
            t = permuted_within(parts, [labellings[:, item == i] for i in range(16)])
        else:
            cells = cell[::2]
            labellings = np.concatenate([cells[None], permuted_labels(cells, None, 99, rng)])
            t = permuted_between((values[::2] + values[1::2]) / 2, labellings)
        largest = np.abs(t).max(axis=1)
        found.append(p_value(largest[0], largest[1:]) <= 0.05)
    assert 0.03 < np.mean(found) < 0.07


def test_the_corrected_p_is_that_of_the_largest_t_of_the_same_permutations(data):
    found = analyse(maximum(), data)
    chosen = checked_capture(data)
    codes = chosen.labels("category").codes
    rows = np.flatnonzero(codes < 2)
    cells = 1 - codes[rows]  # birds are the first of the two
    drawn = permuted_labels(cells, None, 99, SEEDS.generator("permutation"))
    largest = np.zeros(99)
    for layer in (3, 5):
        values = data.sortby("stimulus")["activation"].sel(layer=layer, position=-1).values[rows]
        t = np.abs(permuted_between(values, drawn)).max(axis=1)
        largest = np.maximum(largest, t)
    observed = np.abs(found["t"].values)
    expected = (1 + (largest >= observed[..., None]).sum(axis=-1)) / 100
    np.testing.assert_allclose(found["p_max"], expected)


def test_the_order_of_rows_and_axes_does_not_matter(data, result):
    order = np.random.default_rng(4).permutation(data.sizes["stimulus"])
    turned = data.isel(stimulus=order).transpose("unit", "layer", "position", "stimulus")
    xr.testing.assert_allclose(analyse(entry(), turned), result, rtol=1e-12)


def test_exchanging_the_classes_turns_the_sign(data, result):
    turned = analyse(entry(classes=("apples", "birds")), data)
    xr.testing.assert_allclose(turned["t"], -result["t"])
    xr.testing.assert_allclose(turned["p"], result["p"])
    xr.testing.assert_allclose(turned["d_low"], -result["d_high"])


@pytest.mark.parametrize("given", [entry(), maximum()])
def test_with_little_memory_units_are_read_in_blocks(data, given):
    whole = analyse(given, data)
    xr.testing.assert_allclose(analyse(given, data, memory=5_000), whole, rtol=1e-9)


def test_a_silent_unit_has_no_t_and_no_part_in_a_correction(data, result):
    silent = data.copy(deep=True)
    silent["activation"].loc[{"layer": 5, "unit": 4}] = 0.0
    found = analyse(entry(), silent)
    at = {"layer": 5, "position": -1, "unit": 4}
    assert np.isnan(found["t"].sel(at)) and np.isnan(found["p_fdr"].sel(at))  # noqa: PT018
    assert found["order"].sel(at) == 16
    assert found.attrs["n_undefined"] == 1
    rest = found["p"].values.ravel()
    expected = stats.false_discovery_control(rest[~np.isnan(rest)])
    np.testing.assert_allclose(found["p_fdr"].values.ravel()[~np.isnan(rest)], expected)


def test_results_say_what_they_are(result):
    assert {k: result.attrs[k] for k in ("design", "first", "second", "n_groups", "test")} == {
        "design": "between",
        "first": "birds",
        "second": "apples",
        "n_groups": 24,
        "test": "Welch t",
    }
    assert result["difference"].attrs["units"] == "activation"
    assert all({"units", "long_name", "estimand"} <= set(v.attrs) for v in result.values())


def test_designs_that_cannot_be_compared_are_refused(data):
    mixed = capture((0.0,), templates=10)
    moved = np.where(mixed["group"].values == "t03", "birds", mixed["category"].values)
    mixed = mixed.assign_coords(category=("stimulus", moved))
    with pytest.raises(AnalysisError, match=r"9 of 10 groups hold more than one cell .* not all"):
        analyse(entry(), mixed)
    few = data.isel(stimulus=np.r_[np.flatnonzero(data["category"] == "birds")[:1], 0:24])
    few = few.isel(stimulus=np.unique(few["stimulus"], return_index=True)[1])
    one = few.isel(stimulus=np.r_[
        np.flatnonzero(few["category"] == "apples"), np.flatnonzero(few["category"] == "birds")[:1]
    ])  # fmt: skip
    with pytest.raises(AnalysisError, match="1 stimuli of category 'birds': a variance needs at"):
        analyse(entry(), one)
    with pytest.raises(AnalysisError, match=r"no class 'brids'.*did you mean 'birds'"):
        analyse(entry(classes=("brids", "apples")), data)
    with pytest.raises(AnalysisError, match="two values, and column 'category' has 3"):
        analyse(Contrast(kind="contrast", of="r", factors=("category", "group")), data)


def test_what_is_compared_with_itself_is_refused_by_the_spec():
    with pytest.raises(ValidationError, match="two factors are two labels; got 'form' twice"):
        Contrast(kind="contrast", of="r", factors=("form", "form"))
    with pytest.raises(ValidationError, match="a class cannot be compared with itself; got 'a'"):
        Contrast(kind="contrast", of="r", column="form", classes=("a", "a"))


def test_nan_is_named(data):
    spoiled = data.copy(deep=True)
    spoiled["activation"].loc[{"stimulus": "s009", "layer": 5, "unit": 0}] = np.nan
    classes = sorted(set(data["category"].values))
    mine = str(data["category"].sel(stimulus="s009").values)
    other = next(name for name in classes if name != mine)
    with pytest.raises(UndefinedError, match=r"^at layer 5, position -1: .*: stimuli 's009'$"):
        analyse(entry(classes=(mine, other)), spoiled)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"correct": "max"}, "'test' is what 'correct: max' needs"),
        ({"test": {"permute": "category"}}, "'test' is what 'correct: max' needs"),
        ({"correct": "max", "test": {"permute": "x"}}, "permutes 'x', and the contrast is about"),
    ],
)
def test_what_does_not_go_together_is_refused(more, text):
    with pytest.raises(ValidationError, match=text):
        entry(**more)
    with pytest.raises(ValidationError, match="an interaction has no exact test"):
        factorial(correct="max", test={"permute": "first"})
