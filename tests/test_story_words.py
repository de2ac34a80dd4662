"""End to end on a real trained model: categories of things, and what people say of words."""

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from patchclamp.engine.run import run

SPEC = Path(__file__).parent / "specs" / "story_words.yaml"


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    if not (SPEC.parents[3] / "shared" / "models" / "stories260k").is_dir():
        pytest.skip("the material beside the project is not here")
    folder = tmp_path_factory.mktemp("story")
    return {
        path: data.load()
        for path, data in run(SPEC, out=folder, cache=folder / "cache").groups.items()
    }


def rdm(capture, layer):
    capture = capture.sortby("stimulus").sel(layer=layer, position=0)
    return pdist(capture["activation"].transpose("stimulus", "unit").values, "correlation")


def test_words_lie_as_people_say_they_do(groups, shared):
    capture, result = groups["/captures/words"], groups["/analyses/people"]
    with (shared / "data/similarity/word_similarity.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "MEN-TR-3k"]
    human = {frozenset((row["word1"], row["word2"])): float(row["human"]) for row in rows}
    words = capture.sortby("stimulus")["word"].values.tolist()
    alike = np.array([human.get(frozenset(pair), np.nan) for pair in combinations(words, 2)])
    rated = ~np.isnan(alike)
    assert (result["n_pairs"] == rated.sum()).all()
    for layer in (0, 2, 4):
        expected = spearmanr(rdm(capture, layer)[rated], -alike[rated])[0]
        found = result["similarity"].sel(model_rdm="men", layer=layer).item()
        assert found == pytest.approx(expected, abs=1e-6)
    assert (result["similarity"] > 0.3).all()
    assert (result["p_max"] <= 0.05).all()


def test_things_of_a_sort_lie_together_beyond_the_length_of_their_names(groups):
    sorts, apart = groups["/analyses/sorts"], groups["/analyses/apart"]
    assert (sorts["p_max"] <= 0.05).all()
    assert 0.01 < sorts["similarity"].min() < sorts["similarity"].max() < 0.1
    assert (apart["p_max"] <= 0.05).all()
    assert (apart["contrast_low"] < apart["contrast"]).all()
    assert (apart["contrast"] < apart["contrast_high"]).all()
    assert apart.attrs["n_stimuli"] == 80


def test_a_layer_is_like_its_neighbours(groups):
    alike = groups["/analyses/layers"]["similarity"].squeeze().transpose("layer", "model_layer")
    np.testing.assert_allclose(np.diag(alike), 1)
    np.testing.assert_allclose(alike, alike.T, atol=1e-12)
    for layer in range(5):
        assert (np.diff(alike.sel(layer=layer)[layer:]) < 0).all()
