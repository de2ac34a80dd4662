"""Null data give p <= 0.05 in one test of twenty, for every inference that RSA offers.

Six hundred worlds of noise are the layers of one capture: they share the permutations, and are
independent otherwise. The share found is within [0.03, 0.07], 2.2 standard errors about 0.05.
"""

import numpy as np
import pytest
import xarray as xr
from planted import capture
from scipy.stats import ttest_ind

from patchclamp.analyses import rsa
from patchclamp.analyses.context import Context
from patchclamp.analyses.permutation import p_fdr, p_max
from patchclamp.analyses.seeds import Seeds
from patchclamp.specs.analyses_rsa import Rsa

WORLDS = 600
FAMILY = 8
DISCRIMINATIVE = {"kind": "discriminative", "column": "category"}
CONTRASTS = {
    "discriminative": DISCRIMINATIVE,
    "target": {**DISCRIMINATIVE, "target": "birds"},
    "categorical": {"kind": "categorical", "column": "category", "classes": ("birds", "coins")},
}
SORTS = {"kind": "category", "column": "category"}


def entry(permute="category", **more):
    test = {"permute": permute, "n": 499}
    return Rsa.model_validate({"kind": "rsa", "of": "x", "test": test, **more})


def noise(*, alike=1.0, templates=8, **more):
    """Return worlds of noise in which the stimuli of a template are alike."""
    layers = (0.0,) * WORLDS
    return capture(layers, templates=templates, template_effect=alike, units=6, **more)


def found(asked, data, **parts):
    named = {f"against.{name}": part for name, part in parts.items()}
    return rsa.analyse(asked, {"of": data, **named}, Context(Seeds(0, "x")))


def calibrated(p):
    share = float((p <= 0.05).mean())
    return 0.03 <= share <= 0.07


DESIGNS = {
    "free": noise(alike=0.0).drop_vars("group"),
    "within": noise(),
    "whole": noise(whole=True, copies=2, templates=15),
}


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("kind", CONTRASTS)
def test_contrasts(kind, design):
    result = found(entry(contrast=CONTRASTS[kind]), DESIGNS[design])
    assert calibrated(result["p"])


@pytest.mark.parametrize("design", DESIGNS)
def test_the_maximum_and_the_false_discovery_rate_over_families(design):
    """Each eight worlds are one family; where nothing is true, both mean any finding at all."""
    result = found(entry(contrast=DISCRIMINATIVE), DESIGNS[design]).squeeze("position")
    observed = result["contrast"].values.reshape(-1, FAMILY)
    null = result["null"].transpose("layer", "permutation").values.reshape(-1, FAMILY, 499)
    corrected = [p_max(one, other).min() for one, other in zip(observed, null, strict=True)]
    # Of 75 families: 0.05 and 2.5 standard errors.
    assert np.mean(np.array(corrected) <= 0.05) <= 0.11
    adjusted = [p_fdr(p).min() for p in result["p"].values.reshape(-1, FAMILY)]
    assert np.mean(np.array(adjusted) <= 0.05) <= 0.11
    assert np.mean(result["p"].values.reshape(-1, FAMILY).min(axis=1) <= 0.05) > 0.2


def test_forgetting_that_groups_are_alike_finds_effects_in_noise():
    data = DESIGNS["whole"].drop_vars("group")
    assert float((found(entry(contrast=DISCRIMINATIVE), data)["p"] <= 0.05).mean()) > 0.2


def test_a_t_test_over_pairs_finds_effects_in_noise_and_permuted_labels_do_not():
    """Pairs share stimuli: where these differ in how much noise they have, pairs go together."""
    data = DESIGNS["free"].copy(deep=True)
    signal = np.random.default_rng(3).normal(size=(WORLDS, 1, 6))
    much = np.random.default_rng(0).choice([0.3, 3.0], size=(24, WORLDS, 1, 1))
    asked = {"contrast": CONTRASTS["categorical"]}
    data["activation"][:] = signal + much * data["activation"].values
    first, second = np.triu_indices(24, 1)
    kind = data.sortby("stimulus")["category"].values
    birds, coins = ((kind == name)[first] & (kind == name)[second] for name in ("birds", "coins"))
    patterns = data.sortby("stimulus")["activation"].transpose("layer", "stimulus", ...).values
    r = np.stack([np.corrcoef(one)[first, second] for one in patterns[:, :, 0]])
    z = np.arctanh(r)
    over_pairs = ttest_ind(z[:, birds], z[:, coins], axis=1, equal_var=False).pvalue
    assert (over_pairs <= 0.05).mean() > 0.2
    assert calibrated(found(entry(**asked), data)["p"])


@pytest.mark.parametrize("asked", [{"against": {"m": SORTS}}, {"contrast": DISCRIMINATIVE}])
def test_a_bootstrap_interval_leaves_out_zero_seldom(asked):
    """It draws noise of pairs for both of their stimuli, and is wider than it need be."""
    result = found(entry(**asked, bootstrap={"n": 300}), DESIGNS["free"])
    name = "contrast" if "contrast" in asked else "similarity"
    out = (result[f"{name}_low"] > 0) | (result[f"{name}_high"] < 0)
    assert out.mean() <= 0.07


@pytest.mark.parametrize("design", ["free", "within"])
def test_ratings_of_pairs(design):
    data, rng = DESIGNS[design], np.random.default_rng(2)
    words = np.array([f"w{i:02d}" for i in range(24)])
    first, second = np.triu_indices(24, 1)
    ratings = xr.Dataset(
        {"dissimilarity": ("rating", rng.normal(size=len(first)) + rng.normal(size=24)[first])},
        coords={"first": ("rating", words[first]), "second": ("rating", words[second])},
    )
    table = {"path": "r.csv", "first": "a", "second": "b", "value": "v", "scale": "dissimilarity"}
    model = {"m": {"kind": "continuous", "column": "word", "ratings": table}}
    data = data.assign_coords(word=("stimulus", words))
    result = found(entry("word", against=model), data, m=ratings)
    assert result.attrs["permutation"] == ("free" if design == "free" else "within groups")
    assert calibrated(result["p"])


@pytest.mark.parametrize(
    "compare",
    [
        "spearman",
        "pearson",
        "kendall_tau_a",
        "rho_a",
        "cosine",
        "whitened_cosine",
        "whitened_correlation",
    ],
)
def test_model_rdms_of_classes(compare):
    assert calibrated(found(entry(against={"m": SORTS}, compare=compare), DESIGNS["within"])["p"])


def test_model_rdms_of_numbers_with_groups_of_unequal_size():
    data = DESIGNS["whole"]
    kept = np.random.default_rng(0).permutation(30) < 24
    data = data.isel(stimulus=kept)
    size = {name: str(i * i) for i, name in enumerate(np.unique(data["group"].values))}
    data = data.assign_coords(size=("stimulus", [size[name] for name in data["group"].values]))
    model = {"m": {"kind": "continuous", "column": "size"}}
    result = found(entry("size", against=model, compare="pearson"), data)
    assert result.attrs["permutation"] == "whole groups"
    assert calibrated(result["p"])


SQUARED = {"metric": "squared_euclidean"}


def driven(data, *drives):
    """Return worlds in which labels drive units of their own: (stimulus, unit) each.

    Squared distances are then sums of what each drive and the noise contribute.
    """
    noise = data["activation"].transpose("stimulus", "layer", "position", "unit").values
    shape = (*noise.shape[:3], sum(drive.shape[1] for drive in drives))
    patterns = np.broadcast_to(np.concatenate(drives, axis=1)[:, None, None], shape)
    fresh = np.random.default_rng(9).normal(size=shape)
    values = np.concatenate([noise, patterns + 0.5 * fresh], axis=3)
    whole = (("stimulus", "layer", "position", "unit"), values)
    return (
        data.drop_dims("unit").assign(activation=whole).assign_coords(unit=range(values.shape[3]))
    )


def confounded(seed):
    """Return worlds in which length drives the geometry, and the class goes along with length.

    A length lights as many units as it is long: squared distances differ by how much it differs.
    """
    data = DESIGNS["free"].isel(layer=slice(0, WORLDS // 6))
    away = np.random.default_rng(seed).normal(size=24) + 3.0 * (data["category"].values == "birds")
    length = np.clip(np.round(3 + away), 0, 9).astype(int)
    lit = 2.0 * (length[:, None] > np.arange(9))
    return driven(data, lit).assign_coords(length=("stimulus", length.astype(str)))


def test_partial_correlations_take_a_confound_out():
    models = {"m": SORTS, "length": {"kind": "continuous", "column": "length"}}
    alone, freed = [], []
    for seed in range(6):
        data = confounded(seed)
        asked = entry(against={"m": SORTS}, compare="pearson", rdm=SQUARED)
        alone.append(found(asked, data)["p"])
        asked = entry(against=models, partial=("length",), compare="pearson", rdm=SQUARED)
        freed.append(found(asked, data)["p"])
    assert (np.concatenate(alone, axis=None) <= 0.05).mean() > 0.9
    assert calibrated(np.concatenate(freed, axis=None))


def test_an_interaction_is_not_found_in_main_effects():
    data = noise(alike=0.0, classes=("apples", "birds"), templates=12).drop_vars("group")
    form = np.random.default_rng(5).permutation(24) % 2
    first = 2.0 * (data["category"].values == "birds")[:, None]
    data = driven(data, first, 2.0 * form[:, None])
    data = data.assign_coords(form=("stimulus", form.astype(str)))
    models = {
        "sorts": SORTS,
        "forms": {"kind": "category", "column": "form"},
        "both": {"kind": "interaction", "of": ("sorts", "forms")},
    }
    asked = entry(against=models, partial=("sorts", "forms"), compare="pearson", rdm=SQUARED)
    assert calibrated(found(asked, data)["p"])


@pytest.mark.parametrize("compare", ["spearman", "cka_debiased"])
@pytest.mark.parametrize("design", ["free", "within"])
def test_two_captures_that_have_nothing_to_do_with_each_other(design, compare):
    """But, with groups, that the stimuli of a template are alike in both."""
    data = DESIGNS[design]
    other = noise(seed=1, alike=0.0).drop_vars(["category", "group"])
    if design == "within":
        shared = DESIGNS["within"].sortby("stimulus")
        groups = np.unique(shared["group"].values, return_inverse=True)[1]
        kinds = np.random.default_rng(2).normal(size=(8, WORLDS, 1, 6))
        other = other.sortby("stimulus")
        other["activation"] = other["activation"] * 0.5 + xr.DataArray(
            kinds[groups], dims=("stimulus", "layer", "position", "unit")
        )
    model = {"m": {"kind": "capture", "of": "y"}}
    metric = {"metric": "squared_euclidean"} if compare == "cka_debiased" else {}
    result = found(entry("stimulus", against=model, compare=compare, rdm=metric), data, m=other)
    assert calibrated(result["p"])


def test_weighted_models():
    data = DESIGNS["free"].isel(layer=slice(0, 250))
    rng = np.random.default_rng(1)
    data = data.assign_coords(length=("stimulus", rng.integers(0, 9, 24).astype(str)))
    models = {"m": SORTS, "length": {"kind": "continuous", "column": "length"}}
    asked = entry("stimulus", against=models, compare="nnls", folds=3)
    asked = asked.model_copy(update={"test": asked.test.model_copy(update={"n": 99})})
    share = float((found(asked, data)["p"] <= 0.05).mean())
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 250)


def test_time_courses():
    rng = np.random.default_rng(0)
    data = DESIGNS["within"]
    courses = rng.normal(size=(24, 1, 7, WORLDS)).cumsum(axis=2)
    data = xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), courses)},
        coords={
            **{name: data[name] for name in ("stimulus", "category", "group")},
            "layer": [0],
            "position": np.arange(7),
            "unit": np.arange(WORLDS),
        },
    )
    result = found(entry(contrast=DISCRIMINATIVE, pattern="positions"), data)
    assert calibrated(result["p"])


def test_crossnobis_of_noise():
    rng = np.random.default_rng(0)
    concept, fold, _ = np.array(list(np.ndindex(9, 3, 2))).T
    values = rng.normal(size=(54, WORLDS, 1, 6)) + rng.normal(size=(3, WORLDS, 1, 6))[fold]
    data = xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), values)},
        coords={
            "stimulus": [f"s{row:02d}" for row in range(54)],
            "concept": ("stimulus", [f"c{c}" for c in concept]),
            "category": ("stimulus", [f"k{c % 3}" for c in concept]),
            "fold": ("stimulus", [f"t{f}" for f in fold]),
            "layer": np.arange(WORLDS),
            "position": [-1],
            "unit": np.arange(6),
        },
    )
    how = {"metric": "crossnobis", "average_by": "concept", "folds": "fold"}
    result = found(entry(contrast=DISCRIMINATIVE, rdm=how), data)
    assert calibrated(result["p"])
    centred = found(entry(against={"m": SORTS}, rdm={**how}, store_rdm=True), data)["rdm"]
    assert abs(float(centred.mean())) < 4 * float(centred.mean(("stimulus", "other")).std()) / 30
