"""RSA with every sort of model RDM and comparison, against plain loops over labelled data."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from planted import capture
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from patchclamp.analyses import rsa
from patchclamp.analyses.comparators import COMPARATORS, score
from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import CaptureReading, ModelShape, RatingsReading
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, UndefinedError
from patchclamp.specs.analyses_rsa import Rsa

SEEDS = Seeds(0, "analyses.geometry")
ORDINAL = {"kind": "ordinal", "column": "category", "order": ("apples", "birds", "coins")}


def entry(against, permute="category", n=99, **more):
    test = {"permute": permute, "n": n}
    return Rsa.model_validate({"kind": "rsa", "of": "x", "against": against, "test": test, **more})


def analyse(given, data, **parts):
    named = {f"against.{name}": part for name, part in parts.items()}
    return rsa.analyse(given, {"of": data, **named}, Context(SEEDS))


@pytest.fixture
def data():
    """36 stimuli in random order, with a length and a second label, of no groups."""
    made = capture((0.3, 0.9), templates=12).drop_vars("group")
    rng = np.random.default_rng(7)
    length = rng.integers(3, 20, size=36).astype(str)
    form = np.where(rng.permutation(36) % 2 == 0, "word", "digit")
    return made.assign_coords(length=("stimulus", length), form=("stimulus", form))


def place(data, layer=5):
    return data.sortby("stimulus").sel(layer=layer, position=-1)


def rdm(data, metric="correlation", layer=5):
    return pdist(place(data, layer)["activation"].transpose("stimulus", ...).values, metric)


def pairs(data, column, difference):
    values = place(data)[column].values.tolist()
    return np.array([difference(a, b) for a, b in combinations(values, 2)], dtype=float)


def at(result, name=None, layer=5):
    found = result.sel(layer=layer, position=-1)
    return found if name is None else found.sel(model_rdm=name)


def none(data):
    n = data.sizes["stimulus"]
    return np.empty((0, n * (n - 1) // 2))


@pytest.mark.parametrize("compare", [name for name in COMPARATORS if not name.startswith("cka")])
def test_model_rdms_of_labels_are_what_they_say(data, compare):
    given = {"sorts": {"kind": "category", "column": "category"}, "steps": ORDINAL}
    result = analyse(entry(given, compare=compare), data)
    order = {"apples": 0, "birds": 1, "coins": 2}
    expected = {
        "sorts": pairs(data, "category", lambda a, b: a != b),
        "steps": pairs(data, "category", lambda a, b: abs(order[a] - order[b])),
    }
    for name, model in expected.items():
        found = float(at(result, name)["similarity"])
        assert found == pytest.approx(score(compare, rdm(data), model, none(data)), abs=1e-12)
    assert result["similarity"].attrs["estimand"] == f"rsa_{compare}/1"
    assert result["null"].sizes["permutation"] == 99


def test_a_number_is_compared_by_its_difference(data):
    given = {"longer": {"kind": "continuous", "column": "length"}}
    result = analyse(entry(given, permute="length", compare="spearman"), data)
    model = pairs(data, "length", lambda a, b: abs(int(a) - int(b)))
    expected = spearmanr(rdm(data), model)[0]
    assert float(at(result, "longer")["similarity"]) == pytest.approx(expected, abs=1e-12)


def test_a_label_that_is_no_number_is_named(data):
    given = {"longer": {"kind": "continuous", "column": "category"}}
    with pytest.raises(AnalysisError, match="has 'apples', which is no number; for words give"):
        analyse(entry(given), data)


def test_a_class_that_an_order_lacks_is_named(data):
    given = {"steps": {**ORDINAL, "order": ("apples", "bird", "coins")}}
    with pytest.raises(AnalysisError, match=r"the order has no 'birds'.*did you mean 'bird'"):
        analyse(entry(given), data)


METRICS = {
    "cosine": "cosine",
    "euclidean": "euclidean",
    "squared_euclidean": "sqeuclidean",
}


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_are_those_of_scipy_and_are_stored_with_the_names_of_pairs(data, metric):
    given = {"sorts": {"kind": "category", "column": "category"}}
    result = analyse(entry(given, rdm={"metric": metric}, store_rdm=True, compare="pearson"), data)
    values = rdm(data, METRICS[metric]) / (16 if metric == "squared_euclidean" else 1)
    ids = sorted(data["stimulus"].values.tolist())
    assert result["rdm"]["stimulus"].values.tolist() == ids
    assert result["rdm"].dims == ("layer", "position", "stimulus", "other")
    np.testing.assert_allclose(at(result)["rdm"], squareform(values), rtol=1e-10)
    labels = result["category"].sel(stimulus=["s004", "s031"]).values
    model = result["model_rdms"].sel(stimulus="s004", other="s031", model_rdm="sorts")
    assert float(model) == (labels[0] != labels[1])
    alone = analyse(entry(given, rdm={"metric": metric}, compare="pearson"), data)
    xr.testing.assert_identical(result[list(alone.data_vars)], alone)


@pytest.mark.parametrize("compare", ["cka", "cka_debiased"])
def test_cka_between_captures_is_that_of_their_activations(data, compare):
    given = {"other": {"kind": "capture", "of": "y"}}
    other = capture((0.3, 0.9), templates=12, units=40, seed=3).drop_vars("group")
    other["activation"][..., :16] += data["activation"].values * 0.5
    asked = entry(given, "stimulus", compare=compare, rdm={"metric": "squared_euclidean"})
    result = analyse(asked, data, other=other)
    for layer in (3, 5):
        models = [rdm(part, "sqeuclidean", layer) for part in (data, other)]
        expected = score(compare, *models, none(data))
        assert float(at(result, "other", layer)["similarity"]) == pytest.approx(expected, abs=1e-12)
    assert (result["p"] <= 0.05).all()


def test_every_layer_meets_every_layer(data):
    other = capture((0.3, 0.9, 0.1), templates=12, seed=3).drop_vars("group")
    given = {"other": {"kind": "capture", "of": "y", "layer": "all"}}
    result = analyse(entry(given, "stimulus"), data, other=other)
    assert result["similarity"].dims == ("model_rdm", "model_layer", "layer", "position")
    assert result["null"].dims[0] == "permutation"
    assert result["model_layer"].values.tolist() == [3, 5, 7]
    for theirs in (3, 7):
        expected = spearmanr(rdm(data, layer=5), rdm(other, layer=theirs))[0]
        found = at(result, "other")["similarity"].sel(model_layer=theirs)
        assert float(found) == pytest.approx(expected, abs=1e-12)
        beyond = (at(result, "other")["null"].sel(model_layer=theirs) >= found).sum()
        assert float(at(result, "other")["p"].sel(model_layer=theirs)) == (1 + beyond) / 100


def test_a_capture_is_like_itself_and_unlike_a_stranger(data):
    given = {"same": {"kind": "capture", "of": "x"}, "last": {"kind": "capture", "of": "x",
             "layer": "last"}, "three": {"kind": "capture", "of": "y", "layer": 3}}  # fmt: skip
    stranger = capture((0.0,), templates=12, seed=8).drop_vars("group")
    result = analyse(entry(given, "stimulus"), data, same=data, last=data, three=stranger)
    similarity, p = result["similarity"], result["p"]
    np.testing.assert_allclose(similarity.sel(model_rdm="same"), 1)
    assert similarity.sel(model_rdm="last", layer=5).item() == pytest.approx(1)
    assert similarity.sel(model_rdm="last", layer=3).item() < 0.9
    assert (p.sel(model_rdm="same") == 0.01).all()
    assert (p.sel(model_rdm="three") > 0.05).all()


def test_rows_of_another_capture_are_met_by_id(data):
    given = {"other": {"kind": "capture", "of": "y"}}
    shuffled = data.isel(stimulus=np.random.default_rng(0).permutation(36))
    result = analyse(entry(given, "stimulus"), data, other=shuffled)
    np.testing.assert_allclose(result["similarity"], 1)


def test_another_capture_that_does_not_fit_is_told_why(data):
    given = {"other": {"kind": "capture", "of": "y"}}
    fewer = data.isel(stimulus=data["stimulus"].values != "s003")
    with pytest.raises(AnalysisError, match=r"has other stimuli.*'s003' are in one of them only"):
        analyse(entry(given, "stimulus"), data, other=fewer)
    deeper = data.assign_coords(layer=[5, 7])
    with pytest.raises(AnalysisError, match=r"no layer 3 to compare layer 3 with \(its layers: 5"):
        analyse(entry(given, "stimulus"), data, other=deeper)
    given["other"]["layer"] = 4
    with pytest.raises(AnalysisError, match=r"'y' has no layer 4 \(its layers: 3, 5\)"):
        analyse(entry(given, "stimulus"), data, other=data)
    places = xr.concat([data, data.assign_coords(position=[-3])], "position")
    given["other"]["layer"] = "same"
    one = places.assign_coords(position=[-2, -5])
    with pytest.raises(AnalysisError, match="several places and none at position -1"):
        analyse(entry(given, "stimulus"), data, other=one)


def test_one_position_of_another_capture_meets_all(data):
    places = xr.concat([data, (data * 2 + 1).assign_coords(position=[-3])], "position")
    given = {"other": {"kind": "capture", "of": "y"}}
    result = analyse(entry(given, "stimulus"), places, other=data)
    np.testing.assert_allclose(result["similarity"], 1)
    assert result["similarity"].sizes["position"] == 2


def test_reads_what_its_model_rdms_need():
    given = {
        "other": {"kind": "capture", "of": "y"},
        "people": {"kind": "continuous", "column": "word", "ratings": "words.csv"},
    }
    asked = entry(given, "stimulus")
    ratings = asked.against["people"].ratings
    assert ratings.path == "words.csv"
    assert rsa.readings(asked, ModelShape(4, 8)) == {
        "of": CaptureReading("x"),
        "against.other": CaptureReading("y"),
        "against.people": RatingsReading(ratings),
    }


def rated(words, seed=0, share=1.0):
    rng = np.random.default_rng(seed)
    kept = [pair for pair in combinations(words, 2) if rng.random() < share]
    first, second = zip(*[pair[:: rng.choice([1, -1])] for pair in kept], strict=True)
    return xr.Dataset(
        {"dissimilarity": ("rating", rng.random(len(kept)).round(2))},
        coords={"first": ("rating", list(first)), "second": ("rating", list(second))},
    )


@pytest.mark.parametrize("compare", ["spearman", "pearson", "kendall_tau_a"])
def test_ratings_are_compared_over_the_pairs_that_were_rated(data, compare):
    words = [f"w{number:02d}" for number in range(36)]
    data = data.assign_coords(word=("stimulus", words))
    table = rated(words, share=0.3)
    people = {"kind": "continuous", "column": "word", "ratings": "x.csv", "missing": "leave_out"}
    asked = entry({"people": people}, "word", compare=compare)
    result = analyse(asked, data, people=table)
    known = {
        frozenset(pair): value
        for *pair, value in zip(
            table["first"].values,
            table["second"].values,
            table["dissimilarity"].values,
            strict=True,
        )
    }
    model = pairs(data, "word", lambda a, b: known.get(frozenset((a, b)), np.nan))
    given = ~np.isnan(model)
    expected = score(compare, rdm(data)[given], model[given], none(data)[:, given])
    assert float(at(result, "people")["similarity"]) == pytest.approx(expected, abs=1e-12)
    assert (result["n_pairs"] == given.sum()).all()
    people.pop("missing")
    with pytest.raises(AnalysisError, match=r"pairs are not rated: 'w\d\d' and 'w\d\d', .*, …;"):
        analyse(entry({"people": people}, "word"), data, people=table)


def test_ratings_that_contradict_themselves_are_refused(data):
    words = [f"w{number:02d}" for number in range(36)]
    data = data.assign_coords(word=("stimulus", words))
    table = rated(words)
    twice = xr.concat([table, table.isel(rating=[0]) + 1], "rating")
    people = {"kind": "continuous", "column": "word", "ratings": "x.csv"}
    with pytest.raises(AnalysisError, match=r"twice, as \d.* and 1.*: keep one of them"):
        analyse(entry({"people": people}, "word"), data, people=twice)


def test_two_rated_pairs_are_too_few_to_compare(data):
    words = [f"w{number:02d}" for number in range(36)]
    data, table = data.assign_coords(word=("stimulus", words)), rated(words)
    people = {"kind": "continuous", "column": "word", "ratings": "x.csv", "missing": "leave_out"}
    asked = entry({"people": people}, "word")
    text = "model RDM 'people': 2 of 630 pairs of stimuli are rated, and at least 3 are needed"
    with pytest.raises(AnalysisError, match=text):
        analyse(asked, data, people=table.isel(rating=[0, 1]))
    assert (analyse(asked, data, people=table.isel(rating=[0, 1, 2]))["n_pairs"] == 3).all()


def test_an_interaction_is_the_centred_product_and_permutes_one_label_within_the_other(data):
    given = {
        "sorts": {"kind": "category", "column": "category"},
        "forms": {"kind": "category", "column": "form"},
        "both": {"kind": "interaction", "of": ("sorts", "forms")},
    }
    asked = entry(given, partial=("sorts", "forms"), compare="pearson")
    result = analyse(asked, data)
    one, other = (pairs(data, c, lambda a, b: a != b) for c in ("category", "form"))
    model = (one - one.mean()) * (other - other.mean())
    expected = score("pearson", rdm(data), model, np.stack([one, other]))
    assert result["model_rdm"].values.tolist() == ["both"]
    assert float(at(result, "both")["similarity"]) == pytest.approx(expected, abs=1e-12)
    assert result.attrs["permutation"] == "free, within the other factor"
    assert "sorts, forms taken out" in result["similarity"].attrs["long_name"]
    assert result["similarity"].attrs["estimand"] == "rsa_pearson_partial/1"


def test_a_confound_is_taken_out():
    """Length follows the class and drives the geometry: the class has nothing of its own."""
    rng = np.random.default_rng(0)
    data = capture((0.0,), templates=20, classes=("a", "b")).drop_vars("group")
    length = rng.normal(size=40) + 2.0 * (data["category"].values == "a")
    data["activation"] += xr.DataArray(length, dims="stimulus") * xr.DataArray(
        rng.normal(size=16) * 1.5, dims="unit"
    )
    data = data.assign_coords(length=("stimulus", length.astype(str)))
    sorts = {"kind": "category", "column": "category"}
    both = {"sorts": sorts, "length": {"kind": "continuous", "column": "length"}}
    alone = analyse(entry({"sorts": sorts}, compare="pearson"), data)
    freed = analyse(entry(both, partial=("length",), compare="pearson"), data)
    assert alone["p"].item() == 0.01
    assert freed["p"].item() > 0.05


def test_an_earlier_layer_is_taken_out(data):
    given = {
        "sorts": {"kind": "category", "column": "category"},
        "early": {"kind": "capture", "of": "x", "layer": 3},
    }
    late = data.isel(layer=data["layer"].values == 5)
    result = analyse(entry(given, partial=("early",)), late, early=data)
    model = pairs(data, "category", lambda a, b: a != b)
    expected = score("spearman", rdm(data), model, rdm(data, layer=3)[None])
    found = result["similarity"].sel(layer=5, position=-1, model_rdm="sorts")
    assert float(found) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(
        UndefinedError, match=r"^at layer 3, position -1: the model RDMs under 'part"
    ):
        analyse(entry(given, partial=("early",)), data, early=data)


def test_a_model_made_up_of_what_is_taken_out_is_refused(data):
    given = {"sorts": {"kind": "category", "column": "category"}, "again": ORDINAL}
    two = data.isel(stimulus=data["category"].values != "apples")
    given["again"] = {**ORDINAL, "order": ("birds", "coins")}
    with pytest.raises(UndefinedError, match="is made up of those under 'partial'"):
        analyse(entry(given, partial=("again",)), two)


def test_weighted_models_predict_held_out_stimuli_and_say_what_was_mixed(data):
    given = {
        "sorts": {"kind": "category", "column": "category"},
        "longer": {"kind": "continuous", "column": "length"},
    }
    result = analyse(entry(given, "stimulus", compare="nnls", folds=3), data)
    assert result["similarity"].dims == ("layer", "position")
    assert result["weight"].dims == ("model_rdm", "layer", "position")
    assert result["p"].sel(layer=5).item() == 0.01
    weight = result["weight"].sel(layer=5, position=-1)
    assert float(weight.sel(model_rdm="sorts")) > 0.1
    assert (result["weight"] >= 0).all()
    assert result.attrs["folds"] == 3


def test_folds_that_are_too_small_are_refused(data):
    given = {"sorts": {"kind": "category", "column": "category"}}
    with pytest.raises(AnalysisError, match="a fold of 3 stimuli has too few pairs"):
        analyse(entry(given, compare="nnls", folds=12), data)


@pytest.mark.parametrize("compare", ["spearman", "pearson", "cosine", "rho_a"])
def test_an_interval_holds_the_value_and_shrinks_with_certainty(data, compare):
    given = {"sorts": {"kind": "category", "column": "category"}}
    asked = entry(given, compare=compare, bootstrap={"n": 200, "level": 0.9})
    result = analyse(asked, data)
    low, high = result["similarity_low"], result["similarity_high"]
    assert (low < result["similarity"]).all()
    assert (result["similarity"] < high).all()
    assert (result.attrs["n_draws"], result.attrs["level"]) == (200, 0.9)
    assert "90% bootstrap" in low.attrs["long_name"]
    wide = analyse(entry(given, compare=compare, bootstrap={"n": 200, "level": 0.99}), data)
    assert (wide["similarity_low"] < low).all()


LEFT_OUT = {"missing": "leave_out"}
RATED = {"kind": "continuous", "column": "word", "missing": "leave_out", "ratings": "people.csv"}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"compare": "cka"}, "set rdm.metric to 'squared_euclidean'"),
        ({"folds": 3}, "'folds' is what 'nnls' is cross-validated over"),
        ({"partial": ("m",)}, "so that none is left to test"),
        ({"partial": ("x",), "compare": "cosine"}, "'partial' goes with spearman or pearson"),
        ({"compare": "nnls", "bootstrap": {}}, "a bootstrap goes with a contrast or with"),
        ({"rdm": {"metric": "mahalanobis"}}, "'mahalanobis' needs 'average_by'"),
        ({"rdm": {"noise": "none"}}, "'noise' belongs to 'mahalanobis' and 'crossnobis'"),
        ({"pattern": "positions", "store_rdm": True}, "time courses have one RDM for each unit"),
        ({"compat": "feature-study-2025"}, "computed a contrast of 'pattern: positions'"),
        ({"noise_ceiling": "seeds", "compare": "nnls"}, "a noise ceiling bounds a comparison"),
        ({"rdm": LEFT_OUT, "compare": "whitened_cosine"}, "'whitened_cosine' needs.*every pair"),
        ({"rdm": LEFT_OUT, "compare": "nnls"}, "'nnls' needs the dissimilarity of every pair"),
        ({"rdm": {**LEFT_OUT, "metric": "squared_euclidean"}, "compare": "cka"}, "'cka' needs"),
        ({"rdm": LEFT_OUT, "noise_ceiling": "seeds"}, "is of all pairs of stimuli, and bounds no"),
    ],
)
def test_what_makes_no_sense_together_is_refused_by_the_spec(more, text):
    with pytest.raises(ValueError, match=text):
        entry({"m": {"kind": "category", "column": "category"}}, **more)


@pytest.mark.parametrize(
    ("against", "permute", "more", "text"),
    [
        ({"o": {"kind": "capture", "of": "y"}}, "category", {}, "set test.permute to 'stimulus'"),
        ({"o": {"kind": "capture", "of": "y"}, "m": ORDINAL}, "category", {"partial": ("o",)},
         "under 'partial' needs one 'layer'"),
        ({"o": {"kind": "capture", "of": "y", "layer": "all"}, "m": ORDINAL}, "stimulus", {},
         "give it an analysis of its own"),
        ({"o": {"kind": "capture", "of": "y"}}, "stimulus", {"compare": "nnls"},
         "'nnls' weighs the RDM of one 'layer'"),
        ({"o": {"kind": "capture", "of": "y"}, "i": {"kind": "interaction", "of": ("o", "o")}},
         "stimulus", {}, "an interaction is one of labels; 'o' is no label's"),
        ({"m": {"kind": "continuous", "column": "n", "missing": "leave_out"}}, "n", {},
         "'missing' belongs to 'ratings'"),
        ({"m": RATED}, "word", {"compare": "cka_debiased", "rdm": {"metric": "squared_euclidean"}},
         "'cka_debiased' needs the dissimilarity of every pair"),
        ({"m": RATED}, "word", {"noise_ceiling": "models"}, "bounds nothing that 'missing: leave"),
    ],
)  # fmt: skip
def test_model_rdms_that_cannot_be_tested_so_are_refused_by_the_spec(against, permute, more, text):
    with pytest.raises(ValueError, match=text):
        entry(against, permute, **more)


def test_classes_are_counted_for_each_model_rdm_that_changes_with_all_labels(data):
    """Together all labels tell every stimulus apart, which leaves no two classes alike."""
    number = np.random.default_rng(1).permutation(36).astype(str)
    data = data.assign_coords(number=("stimulus", number))
    sorts = {"sorts": {"kind": "category", "column": "category"}}
    both = {**sorts, "number": {"kind": "continuous", "column": "number"}}
    alone, joint = (analyse(entry(given, "stimulus"), data) for given in (sorts, both))
    assert joint.attrs["n_arrangements"] == alone.attrs["n_arrangements"]
    observed = joint["similarity"].sel(model_rdm="sorts", drop=True)
    np.testing.assert_allclose(observed, alone["similarity"].sel(model_rdm="sorts"), atol=1e-12)
    assert at(joint, "sorts")["p"] <= 0.05
    two = {**sorts, "forms": {"kind": "category", "column": "form"}}
    assert analyse(entry(two, "stimulus"), data).sizes["model_rdm"] == 2


def test_a_label_that_never_changes_where_others_do_is_refused():
    """Exchanged within groups, a class that each group has one of would be as observed: p = 1."""
    data = capture((1.0,), whole=True, copies=3, template_effect=1.0)
    number = np.random.default_rng(1).permutation(36).astype(str)
    data = data.assign_coords(number=("stimulus", number))
    sorts = {"sorts": {"kind": "category", "column": "category"}}
    numbers = {"number": {"kind": "continuous", "column": "number"}}
    alone = analyse(entry(sorts, "stimulus"), data)
    assert (alone.attrs["permutation"], alone["p"].item()) == ("whole groups", 0.01)
    assert analyse(entry(numbers, "stimulus"), data).attrs["permutation"] == "within groups"
    text = r"model RDM 'sorts': the design allows 1 distinct arrangement .* \(within groups"
    with pytest.raises(AnalysisError, match=text):
        analyse(entry({**numbers, **sorts}, "stimulus"), data)
