"""RSA over seeds and models: noise ceilings, agreement of every two layers, and what is below."""

from itertools import product

import numpy as np
import pytest
import xarray as xr
from planted import capture

from patchclamp.analyses import rsa
from patchclamp.analyses.comparators import score
from patchclamp.analyses.context import Context
from patchclamp.analyses.noise_ceilings import noise_ceiling
from patchclamp.analyses.rsa_across import across
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.joining import Part, join
from patchclamp.engine.run import run
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_rsa import Rsa

SEEDS = Seeds(0, "analyses.geometry")


def entry(**more):
    return Rsa.model_validate(
        {
            "kind": "rsa",
            "of": "x",
            "against": {"sorts": {"kind": "category", "column": "category"}},
            "test": {"permute": "category", "n": 99},
            "noise_ceiling": "seeds",
            **more,
        }
    )


def cells(asked, effects=((0.3, 1.0), (0.3, 1.0), (0.3, 1.0))):
    """Return the joined results of several seeds: same stimuli and prototypes, other noise."""
    parts = []
    for seed, effect in enumerate(effects):
        data = capture(effect, templates=8, seed=0).drop_vars("group")
        noise = np.random.default_rng(seed).normal(size=data["activation"].shape)
        data["activation"] = data["activation"] + noise
        result = rsa.analyse(asked, {"of": data}, Context(SEEDS))
        parts.append(Part({"seed": seed}, result, f"seed {seed}"))
    return join(parts)


def condensed(joined, **at):
    first, second = np.triu_indices(24, 1)
    rdms = joined["rdm"].sel(at).transpose("seed", "stimulus", "other").values
    return rdms[:, first, second]


@pytest.mark.parametrize("compare", ["spearman", "pearson", "whitened_correlation"])
def test_ceilings_and_agreement_are_those_of_the_rdms(compare):
    asked = entry(compare=compare)
    joined = cells(asked)
    result = across(asked, joined, SEEDS)
    none = np.empty((0, 24 * 23 // 2))
    for layer in (3, 5):
        rdms = condensed(joined, layer=layer, position=-1)
        found = result.sel(layer=layer, position=-1)
        low, high = noise_ceiling(rdms, compare)
        assert found["ceiling_low"].item() == pytest.approx(low)
        assert found["ceiling_high"].item() == pytest.approx(high)
        assert low < high
    agreement = result["agreement"].sel(position=-1)
    assert agreement.dims == ("seed", "layer", "versus", "model_layer")
    rdms = {layer: condensed(joined, layer=layer, position=-1) for layer in (3, 5)}
    for a, b, one, other in product((0, 1, 2), (0, 1, 2), (3, 5), (3, 5)):
        expected = score(compare, rdms[one][a], rdms[other][b], none)
        found = agreement.sel(seed=a, versus=b, layer=one, model_layer=other)
        assert found.item() == pytest.approx(expected, abs=1e-12)
    xr.testing.assert_identical(result[list(joined.data_vars)], joined)


def test_a_stronger_effect_raises_the_ceiling_and_the_model_reaches_it():
    asked = entry(compare="pearson", bootstrap={"n": 200, "level": 0.95})
    result = across(asked, cells(asked, ((0.0, 2.5),) * 3), SEEDS).sel(position=-1)
    noise, strong = result.sel(layer=3), result.sel(layer=5)
    assert strong["ceiling_low"] > noise["ceiling_low"] + 0.2
    below = result["below_ceiling"].sel(model_rdm="sorts")
    assert (result["below_ceiling_low"].sel(model_rdm="sorts") < below).all()
    expected = strong["ceiling_low"] - strong["similarity"].sel(model_rdm="sorts").mean("seed")
    assert below.sel(layer=5).item() == pytest.approx(expected.item(), abs=1e-12)


def test_a_layer_that_a_model_lacks_is_a_gap_and_bounds_nothing():
    asked = entry(noise_ceiling="models")
    deep, shallow = capture((0.5, 1.0), templates=8), capture((0.5,), templates=8)
    parts = [
        Part({"model": name}, rsa.analyse(asked, {"of": data}, Context(SEEDS)), name)
        for name, data in (("deep", deep), ("shallow", shallow))
    ]
    result = across(asked, join(parts), SEEDS)
    assert np.isnan(result["ceiling_low"].sel(layer=5).item())
    agreement = result["agreement"].sel(model="deep", versus="shallow", position=-1)
    assert np.isfinite(agreement.sel(layer=5, model_layer=3).item())
    assert np.isnan(agreement.sel(layer=5, model_layer=5).item())


def test_one_repetition_is_no_ceiling():
    asked = entry()
    one = rsa.analyse(asked, {"of": capture((0.5,), templates=8)}, Context(SEEDS))
    with pytest.raises(AnalysisError, match=r"over seeds needs one axis of the matrix along seed"):
        across(asked, one.expand_dims(revision=["a"]), SEEDS)


def test_other_stimuli_are_refused():
    asked = entry()
    data = capture((0.5,), templates=8)
    fewer = data.isel(stimulus=data["stimulus"].values != "s003")
    parts = [
        Part({"seed": seed}, rsa.analyse(asked, {"of": part}, Context(SEEDS)), str(seed))
        for seed, part in enumerate((data, fewer))
    ]
    with pytest.raises(AnalysisError, match="seed 1 has no stimulus 's003', which others have"):
        across(asked, join(parts), SEEDS)


def test_a_seed_that_changes_nothing_measured_is_no_repetition(tmp_path):
    asked = entry()
    joined = cells(asked)
    copied = joined["rdm"].copy()
    copied.loc[{"seed": 2}] = copied.sel(seed=0)
    with pytest.raises(AnalysisError, match="seeds 0 and 2 have the same RDM at every place: they"):
        across(asked, joined.assign(rdm=copied), SEEDS)
    one_layer = joined["rdm"].copy()  # as embeddings are, where later layers differ
    one_layer.loc[{"seed": 2, "layer": 3}] = one_layer.sel(seed=0, layer=3)
    assert "ceiling_low" in across(asked, joined.assign(rdm=one_layer), SEEDS)
    text = (
        SPEC.replace("ceiling: models", "ceiling: seeds")
        .replace("model.revision: [step0, step80, main]", "seed: [0, 1]")
        .replace("n: 60", "n: 60, draw: first")
    )
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(AnalysisError, match="seeds 0 and 1 have the same RDM"):
        run(tmp_path / "spec.yaml", out=tmp_path, cache=tmp_path / "cache")


def test_no_ceiling_leaves_a_result_as_it_is():
    asked = entry(noise_ceiling="none")
    result = rsa.analyse(asked, {"of": capture((0.5,), templates=8)}, Context(SEEDS))
    assert "rdm" not in result
    assert across(asked, result, SEEDS) is result


SPEC = """
patchclamp: 1
name: checkpoints
model: bundled:sequences
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", labels: [category], groups: template,
          take: {n: 60}}
captures: {resid: {of: words, site: resid_post, layers: all, positions: last}}
analyses:
  geometry:
    kind: rsa
    against: {sorts: {kind: category, column: category}}
    compare: pearson
    test: {permute: category, n: 99}
    bootstrap: {n: 200}
    noise_ceiling: models
matrix: {grid: {model.revision: [step0, step80, main]}}
"""


def test_checkpoints_of_a_model_are_compared_in_one_run(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    result = run(tmp_path / "spec.yaml", out=tmp_path, cache=tmp_path / "cache")
    found = result.analysis("geometry")
    assert found["agreement"].dims[-4:] == ("revision", "layer", "versus", "model_layer")
    last = found.sel(layer=2).squeeze()
    near, far = (
        last["agreement"].sel(revision="main", versus=other, model_layer=2).item()
        for other in ("step80", "step0")
    )
    assert near > far
    assert (last["ceiling_low"] <= last["ceiling_high"]).all()
    assert np.isfinite(last["below_ceiling"]).all()
