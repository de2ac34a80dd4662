"""RSA of averages, weighed distances and time courses, and of captures larger than memory."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr
from planted import capture
from scipy.spatial.distance import pdist, squareform
from scipy.stats import f_oneway

from patchclamp.analyses import rsa
from patchclamp.analyses.context import Context
from patchclamp.analyses.contrasts import contrasts
from patchclamp.analyses.feature_study import study_score, study_t
from patchclamp.analyses.precision import crossnobis, mahalanobis, shrunk_precision
from patchclamp.analyses.rdm import dissimilarities, fisher_z
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, UndefinedError
from patchclamp.specs.analyses_rsa import Rsa

SEEDS = Seeds(0, "analyses.geometry")
SORTS = {"sorts": {"kind": "category", "column": "category"}}
DISCRIMINATIVE = {"kind": "discriminative", "column": "category"}


def entry(permute="category", n=99, **more):
    test = {"permute": permute, "n": n}
    return Rsa.model_validate({"kind": "rsa", "of": "x", "test": test, **more})


def analyse(given, data, memory=1 << 30):
    return rsa.analyse(given, {"of": data}, Context(SEEDS, memory))


def repeated(concepts=12, templates=3, repeats=2, effect=1.0, seed=0):
    """Return every concept in every template, `repeats` times; two concepts make a category."""
    rng = np.random.default_rng(seed)
    rows = [(c, t, r) for c in range(concepts) for t in range(templates) for r in range(repeats)]
    concept, template, _ = rng.permutation(np.array(rows)).T
    sort = concept % 3
    values = rng.normal(size=(len(rows), 2, 1, 20))
    values += effect * rng.normal(size=(3, 1, 1, 20))[sort]
    values += effect * rng.normal(size=(concepts, 1, 1, 20))[concept]
    values += 2 * rng.normal(size=(templates, 1, 1, 20))[template]
    return xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), values)},
        coords={
            "stimulus": [f"s{row:03d}" for row in range(len(rows))],
            "concept": ("stimulus", [f"c{c:02d}" for c in concept]),
            "template": ("stimulus", [f"t{t}" for t in template]),
            "category": ("stimulus", [f"k{s}" for s in sort]),
            "group": ("stimulus", [f"t{t}" for t in template]),
            "layer": [3, 5],
            "position": [-1],
            "unit": np.arange(20),
        },
    )


def place(data, layer=5):
    data = data.sortby("stimulus").sel(layer=layer, position=-1)
    return data["activation"].transpose("stimulus", "unit")


def test_patterns_are_averaged_first():
    data = repeated()
    asked = entry(against=SORTS, rdm={"average_by": "concept"}, store_rdm=True)
    result = analyse(asked, data)
    means = place(data).groupby("concept").mean()
    found = result["rdm"].sel(layer=5, position=-1)
    assert found["stimulus"].values.tolist() == [f"c{c:02d}" for c in range(12)]
    np.testing.assert_allclose(found, squareform(pdist(means, "correlation")), atol=1e-12)
    assert result["category"].sel(stimulus="c04").item() == "k1"
    assert "template" not in result.coords
    assert (result.attrs["n_stimuli"], result.attrs["n_averages"]) == (72, 12)
    assert result.attrs["permutation"] == "free"
    assert (result["p_max"] <= 0.05).all()


def test_a_label_that_differs_inside_an_average_is_refused():
    text = "averaged by 'concept', but the stimuli of 'c05' differ in 'template': t0, t1, t2"
    models = {"m": {"kind": "category", "column": "template"}}
    with pytest.raises(AnalysisError, match=text):
        analyse(entry("template", against=models, rdm={"average_by": "concept"}), repeated())


def test_averages_over_different_groups_are_refused_and_over_one_group_keep_it():
    data = repeated()
    some = data.isel(stimulus=~((data["concept"] == "c03") & (data["template"] == "t1")).values)
    asked = entry(against=SORTS, rdm={"average_by": "concept"})
    with pytest.raises(AnalysisError, match="'c00' and 'c03' are means over different groups"):
        analyse(asked, some)
    data = repeated(concepts=18)
    topics = [f"g{int(name[1:]) % 9}" for name in data["concept"].values]
    nested = data.assign_coords(group=("stimulus", topics))
    assert analyse(asked, nested).attrs["n_groups"] == 9


def weighed(data, layer=5):
    """Return (fold, concept, unit) means and what is left within each cell."""
    values = place(data, layer)
    cell = np.char.add(np.char.add(values["template"].values, "/"), values["concept"].values)
    names, number = np.unique(cell, return_inverse=True)
    means = np.stack([values.values[number == n].mean(axis=0) for n in range(len(names))])
    return means.reshape(3, 12, 20), values.values - means[number]


@pytest.mark.parametrize("noise", ["shrinkage", "diagonal", "none"])
def test_crossnobis_runs_over_folds_and_is_weighed_by_repeats(noise):
    data = repeated()
    how = {"metric": "crossnobis", "average_by": "concept", "folds": "template", "noise": noise}
    result = analyse(entry(against=SORTS, rdm=how, store_rdm=True, compare="pearson"), data)
    folds, residuals = weighed(data)
    expected = crossnobis(folds, shrunk_precision(residuals, 36, noise))
    found = result["rdm"].sel(layer=5, position=-1)
    np.testing.assert_allclose(found, squareform(expected, checks=False), atol=1e-12)


def test_mahalanobis_is_weighed_by_repeats():
    data = repeated()
    how = {"metric": "mahalanobis", "average_by": "concept"}
    result = analyse(entry(against=SORTS, rdm=how, store_rdm=True), data)
    values = place(data)
    means = values.groupby("concept").mean()
    residuals = values.values - means.sel(concept=values["concept"]).values
    expected = mahalanobis(means.values, shrunk_precision(residuals, 60, "shrinkage"))
    found = result["rdm"].sel(layer=5, position=-1)
    np.testing.assert_allclose(found, squareform(expected), atol=1e-12)


def test_noise_without_repeats_is_refused_and_nothing_missing_in_a_fold():
    how = {"metric": "crossnobis", "average_by": "concept", "folds": "template"}
    with pytest.raises(AnalysisError, match=r"needs several stimuli in each cell.*rdm.noise"):
        analyse(entry(against=SORTS, rdm=how), repeated(repeats=1))
    assert analyse(entry(against=SORTS, rdm={**how, "noise": "none"}), repeated(repeats=1))
    data = repeated()
    gap = ~((data["concept"] == "c03") & (data["template"] == "t1")).values
    text = r"'c03' has no stimulus with template 't1' \(1 of 36 cells are empty\)"
    with pytest.raises(AnalysisError, match=text):
        analyse(entry(against=SORTS, rdm=how), data.isel(stimulus=gap).drop_vars("group"))


def test_a_contrast_of_a_metric_without_r_is_in_its_own_units():
    data = repeated()
    how = {"metric": "crossnobis", "average_by": "concept", "folds": "template"}
    result = analyse(entry(contrast=DISCRIMINATIVE, rdm=how), data)
    folds, residuals = weighed(data)
    distances = crossnobis(folds, shrunk_precision(residuals, 36, "shrinkage"))
    codes = (np.arange(12) % 3)[None]
    expected = contrasts(-distances[None], codes, "discriminative")
    assert result["contrast"].sel(layer=5).item() == pytest.approx(expected.item())
    assert result["contrast"].sel(layer=5).item() > 0
    assert result["contrast"].attrs["units"] == "dissimilarity"
    assert result["contrast"].attrs["estimand"] == "rsa_discriminative_crossnobis/1"


def courses(effect=3.0, stimuli=24, units=30, positions=9, seed=0):
    """Return time courses of which unit 7 has one shape in birds."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(stimuli, 2, positions, units))
    birds = rng.permutation(stimuli) % 2 == 0
    values[birds, 1, :, 7] += effect * rng.normal(size=positions)
    return xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), values)},
        coords={
            "stimulus": [f"s{row:03d}" for row in range(stimuli)],
            "category": ("stimulus", np.where(birds, "birds", "coins")),
            "layer": [3, 5],
            "position": np.arange(positions),
            "unit": 100 + np.arange(units),
        },
    )


TARGET = {**DISCRIMINATIVE, "target": "birds"}


def test_every_unit_has_a_time_course_of_its_own():
    data = courses()
    result = analyse(entry(contrast=TARGET, pattern="positions"), data)
    assert result["contrast"].dims == ("layer", "unit")
    ordered = data.sortby("stimulus")
    codes = (ordered["category"].values != "birds").astype(np.int64)[None]
    for unit in (107, 111):
        values = ordered["activation"].sel(layer=5, unit=unit).values
        z = fisher_z(dissimilarity=dissimilarities(values))[None]
        expected = contrasts(z, codes, "discriminative_target").item()
        assert result["contrast"].sel(layer=5, unit=unit).item() == pytest.approx(expected)
    assert int(result["contrast"].sel(layer=5).idxmax("unit")) == 107
    assert result["p_max"].sel(layer=5, unit=107).item() == 0.01
    assert result["p_fdr"].sel(layer=5, unit=107).item() > 0.01
    assert "null" not in result
    assert result["null_max"].dims == ("permutation",)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_time_courses_take_other_metrics_and_model_rdms(metric):
    data = courses()
    given = entry(against=SORTS, pattern="positions", rdm={"metric": metric}, compare="pearson")
    result = analyse(given, data)
    assert result["similarity"].dims == ("model_rdm", "layer", "unit")
    assert result["null_max"].dims == ("permutation", "model_rdm")
    ordered = data.sortby("stimulus")
    labels = ordered["category"].values
    model = np.not_equal.outer(labels, labels)[np.triu_indices(24, 1)]
    rdm = pdist(ordered["activation"].sel(layer=3, unit=104).values, metric)
    expected = np.corrcoef(rdm, model)[0, 1]
    found = result["similarity"].sel(layer=3, unit=104, model_rdm="sorts").item()
    assert found == pytest.approx(expected)


def test_silent_stimuli_are_an_error_or_left_out_and_counted():
    data = courses()
    data["activation"].loc[{"unit": 103, "layer": 5, "stimulus": ["s001", "s002"]}] = 0.0
    with pytest.raises(UndefinedError, match=r"constant over positions: stimuli 's001', 's002'$"):
        analyse(entry(contrast=TARGET, pattern="positions"), data)
    given = entry(contrast=TARGET, pattern="positions", rdm={"missing": "leave_out"})
    result = analyse(given, data)
    birds = set(data["stimulus"].values[data["category"].values == "birds"].tolist())
    left = 12 - len(birds & {"s001", "s002"}), 12 - len({"s001", "s002"} - birds)
    pairs = left[0] * (left[0] - 1) // 2 + left[0] * left[1]
    assert result["n_pairs"].sel(layer=5, unit=103).item() == pairs
    assert result["n_pairs"].sel(layer=5, unit=104).item() == 66 + 144
    whole = analyse(entry(contrast=TARGET, pattern="positions"), courses())
    others = [unit for unit in whole["unit"].values if unit != 103]
    np.testing.assert_allclose(
        result["contrast"].sel(unit=others), whole["contrast"].sel(unit=others), atol=1e-12
    )


def test_a_unit_that_nothing_is_left_of_has_no_value_and_is_no_candidate():
    data = courses()
    data["activation"].loc[{"unit": 103, "layer": 5}] = 0.0
    given = entry(contrast=TARGET, pattern="positions", rdm={"missing": "leave_out"})
    result = analyse(given, data)
    gone = result.sel(layer=5, unit=103)
    assert np.isnan([gone["contrast"], gone["p"], gone["p_max"], gone["p_fdr"]]).all()
    assert np.isfinite(result["null_max"]).all()
    assert result["p_max"].sel(layer=5, unit=107).item() == 0.01


def test_the_published_study_is_reproduced_beside_the_right_formula():
    data = courses()
    mask = np.ones((24, 9), dtype=bool)
    mask[3, 6:] = mask[8, 4:] = False
    masked = data.assign_coords(mask=(("stimulus", "position"), mask))
    masked["activation"] = masked["activation"].where(masked["mask"])
    given = {"contrast": TARGET, "pattern": "positions"}
    with pytest.raises(AnalysisError, match="has no token at position"):
        analyse(entry(**given), masked)
    result = analyse(entry(**given, compat="feature-study-2025"), masked)
    padded = masked.drop_vars("mask").fillna(0.0).sortby("stimulus")
    codes = (padded["category"].values != "birds").astype(np.int64)[None]
    values = padded["activation"].transpose("layer", "unit", "stimulus", "position").values
    rdms = np.stack([dissimilarities(unit) for layer in values for unit in layer])
    t = study_t(rdms, codes, "discriminative_target")[:, 0]
    np.testing.assert_allclose(result["t"], t.reshape(2, 30), atol=1e-10)
    np.testing.assert_allclose(result["score"], study_score(t).reshape(2, 30), atol=1e-10)
    assert int(result["score"].sel(layer=5).idxmin("unit")) == 107
    right = analyse(entry(**given), data)
    assert int(right["contrast"].sel(layer=5).idxmax("unit")) == 107
    assert result.attrs["compat"] == "feature-study-2025"
    assert "not a test" in result["t"].attrs["long_name"]


def test_other_dims_than_units_are_patterns_and_a_single_reduction_is_one():
    data = capture((0.3, 1.0), templates=8).drop_vars("group")
    expected = analyse(entry(against=SORTS), data)
    mean = data.squeeze("position", drop=True).rename(unit="neuron", activation="mean")
    found = analyse(entry(against=SORTS), mean)
    assert found["similarity"].dims == ("model_rdm", "layer")
    np.testing.assert_allclose(found["similarity"], expected["similarity"].squeeze("position"))
    with pytest.raises(AnalysisError, match="has mean, maximum: capture without 'reduce'"):
        analyse(entry(against=SORTS), mean.assign(maximum=mean["mean"]))


def stored(tmp_path, shape, seed=0):
    """Return a capture that lies in a file, and the bytes of its activations."""
    rng = np.random.default_rng(seed)
    stimuli, layers, positions, units = shape
    labels = rng.permutation(stimuli) % 3
    values = rng.normal(size=shape).astype(np.float32)
    values += rng.normal(size=(3, layers, 1, units)).astype(np.float32)[labels]
    data = xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), values)},
        coords={
            "stimulus": [f"s{row:03d}" for row in rng.permutation(stimuli)],
            "category": ("stimulus", np.array(["a", "b", "c"])[labels]),
            "layer": np.arange(layers),
            "position": np.arange(positions),
            "unit": np.arange(units),
        },
    )
    chunks = {"activation": {"chunksizes": (1, 1, positions, units)}}
    data.to_netcdf(tmp_path / "capture.nc", engine="netcdf4", encoding=chunks)
    return xr.open_dataset(tmp_path / "capture.nc", engine="netcdf4", cache=False), values.nbytes


QUESTIONS = {
    "units": ({"against": SORTS}, (40, 2, 4, 12000)),
    "averages": ({"against": {"m": {"kind": "continuous", "column": "word"}}, "permute": "word",
                  "rdm": {"average_by": "word", "metric": "euclidean"}}, (40, 2, 4, 12000)),
    "courses": ({"contrast": DISCRIMINATIVE, "pattern": "positions"}, (40, 2, 20, 3000)),
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_capture_larger_than_memory_gives_the_same_numbers_within_it(tmp_path, question):
    asked, shape = QUESTIONS[question]
    data, size = stored(tmp_path, shape)
    words = (data["stimulus"].str[1:].astype(int) // 8).astype(str)
    data = data.assign_coords(word=("stimulus", words.values))
    memory = size // 4
    assert memory < size // shape[1]  # a layer does not fit
    with data:
        expected = analyse(entry(**asked), data, memory=1 << 30)
        tracemalloc.start()
        found = analyse(entry(**asked), data, memory=memory)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    xr.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert size > 9 << 20
    # Weights of pairs and labellings, the results, and what is done at a time in the cache.
    assert peak < memory + (3 << 20)


def test_means_that_do_not_fit_are_refused_with_how_much_they_need(tmp_path):
    data, _ = stored(tmp_path, (40, 1, 1, 3000))
    data = data.assign_coords(word=("stimulus", np.arange(40).astype(str)))
    given = entry("category", against=SORTS, rdm={"average_by": "word"})
    with data, pytest.raises(AnalysisError, match=r"means of 40 values need .*, and run.budget"):
        analyse(given, data, memory=100_000)


def chosen_units(**more):
    """Return what three ways of choosing chose, the last of them of another site."""
    ranks = np.array([[[3, 1, 8], [0, 9, 2]], [[5, 6, 7], [4, 2, 0]], [[1, 2, 3], [1, 2, 3]]])
    here, there = "unknown: unit", "mlp_out: unit"
    return xr.Dataset(
        {"chosen": (("chosen_by", "layer", "rank"), ranks)},
        coords={
            "chosen_by": ["welch", "largest", "elsewhere"],
            "capture": ("chosen_by", ["x", "x", "y"]),
            "units_of": ("chosen_by", [here, here, there]),
            "kind_of_method": ("chosen_by", ["contrast", "maximum", "contrast"]),
            "layer": [3, 5],
            "rank": [1, 2, 3],
            "stimulus": ["another"],
            **more,
        },
    )


def test_chosen_units_make_up_the_pattern_for_each_way_of_choosing():
    data = capture((0.3, 1.0), templates=8).drop_vars("group")
    given = entry(against=SORTS, features="select")

    def found(selection, data=data):
        return rsa.analyse(given, {"of": data}, Context(SEEDS, 1 << 30, {"select": selection}))

    both = [data["stimulus"].values[0], "another"]
    result = found(chosen_units(stimulus=both))
    assert result["chosen_by"].values.tolist() == ["welch", "largest"]
    assert result.attrs["n_stimuli_chosen_on"] == 1
    for way, number in (("welch", 0), ("largest", 1)):
        ranks = chosen_units()["chosen"].values[number]
        for layer, units in ((3, ranks[0]), (5, ranks[1])):
            alone = analyse(entry(against=SORTS), data.sel(layer=[layer], unit=units))
            similar = result["similarity"].sel(chosen_by=way, layer=[layer])
            np.testing.assert_allclose(similar, alone["similarity"], atol=1e-12)
    # Chosen on another capture of the same units, from other stimuli.
    others = chosen_units(capture=("chosen_by", ["z", "z", "y"]))
    xr.testing.assert_equal(found(others)["similarity"], result["similarity"])


def test_no_p_is_given_of_units_chosen_by_the_same_label_on_the_same_stimuli():
    """Of 400 units of noise the best three tell the classes apart, and a test of them says so."""
    data = capture((0.0,), templates=8, units=400, seed=3).drop_vars("group")
    data.attrs["stimuli"] = "words"
    values = data["activation"].squeeze().values
    codes = np.unique(data["category"].values, return_inverse=True)[1]
    best = np.argsort(-f_oneway(*(values[codes == c] for c in range(3))).statistic)[:3]
    chosen = chosen_units(stimulus=data["stimulus"].values).isel(layer=[0], chosen_by=[0])
    chosen["chosen"] = chosen["chosen"].copy(data=best[None, None])
    more = {"contrast": DISCRIMINATIVE}
    given = entry(**more, rdm={"metric": "euclidean"}, features="select", bootstrap={"n": 200})

    def found(**attrs):
        context = Context(SEEDS, 1 << 30, {"select": chosen.assign_attrs(attrs)})
        return rsa.analyse(given, {"of": data}, context)

    result = found(stimuli="words", column="category")
    assert set(result.data_vars) == {"contrast"}
    assert (
        result.attrs["inference"] == "none: units were chosen by 'category' on 24 of these stimuli"
    )
    assert "permutation" not in {*result.dims, *result.attrs}
    # What is kept from sight; and of units chosen by another label, or elsewhere, there is a test.
    for other in (
        {"stimuli": "words", "column": "length"},
        {"stimuli": "more", "column": "category"},
    ):
        tested = found(**other)
        assert tested["p"].item() == 0.01
        assert tested["contrast_low"].item() > 0
        np.testing.assert_array_equal(tested["contrast"], result["contrast"])


def test_units_of_other_sites_and_places_are_refused():
    data = capture((0.3, 1.0), templates=8).drop_vars("group")
    given = entry(against=SORTS, features="select")

    def found(selection, data=data):
        return rsa.analyse(given, {"of": data}, Context(SEEDS, 1 << 30, {"select": selection}))

    elsewhere = chosen_units(
        capture=("chosen_by", ["z", "y", "y"]), units_of=("chosen_by", ["mlp_out: unit"] * 3)
    )
    with pytest.raises(AnalysisError, match="'select' chose units of y, z, and none of 'x': give"):
        found(elsewhere)
    with pytest.raises(AnalysisError, match="chosen at layer 3, 5, and this capture has layer 9"):
        found(chosen_units(), data.assign_coords(layer=[3, 9]))
    with pytest.raises(AnalysisError, match="chosen at each layer, and this capture has no layer"):
        found(chosen_units(), data.isel(layer=0, drop=True))
