"""Labelled captures: nothing depends on the order of axes or rows, and what is odd is refused."""

import numpy as np
import pytest
import xarray as xr
from planted import capture

from patchclamp.analyses.patterns import checked_capture, meaning
from patchclamp.analyses.places import places
from patchclamp.registry.errors import AnalysisError


@pytest.fixture
def data():
    return capture((0.0, 1.0), templates=4, units=5)


def means(data):
    """Return the mean pattern value of each stimulus and place, through a capture."""
    chosen = checked_capture(data)
    found = [
        place[:, :].mean(axis=1) for place in places(chosen, rows=("stimulus",), memory=1 << 20)
    ]
    values = np.stack(found).reshape(*chosen.shape, -1)
    variables = {"mean": ((*chosen.dims, "stimulus"), values, meaning("1", "mean", "mean/1"))}
    return chosen.result(variables, {}, {})


def test_results_carry_the_labels_of_the_capture(data):
    result = means(data)
    expected = data["activation"].mean("unit")
    xr.testing.assert_allclose(result["mean"], expected.transpose(*result["mean"].dims))
    assert result["layer"].values.tolist() == [3, 5]
    assert list(result.indexes["stimulus"]) == list(data.indexes["stimulus"])
    assert "unit" not in result.coords


def test_the_order_of_axes_does_not_matter(data):
    turned = data.transpose("unit", "position", "stimulus", "layer")
    xr.testing.assert_identical(means(turned), means(data))


def test_the_order_of_rows_does_not_matter(data):
    order = np.random.default_rng(9).permutation(data.sizes["stimulus"])
    shuffled = data.isel(stimulus=order)
    xr.testing.assert_identical(means(shuffled), means(data).isel(stimulus=order))
    np.testing.assert_array_equal(
        checked_capture(shuffled).labels("category").codes,
        checked_capture(data).labels("category").codes,
    )


def test_heads_are_places(data):
    headed = xr.concat([data, data * 2], "head").assign_coords(head=[0, 7])
    headed = headed.rename(unit="channel")
    assert means(headed)["mean"].dims == ("layer", "head", "position", "stimulus")
    np.testing.assert_allclose(means(headed)["mean"].sel(head=7), 2 * means(data)["mean"])


def test_labels_come_in_alphabetical_order(data):
    labels = checked_capture(data).labels("category")
    assert labels.classes == ("apples", "birds", "coins")
    by_id = data.sortby("stimulus")["category"].values
    np.testing.assert_array_equal(np.array(labels.classes)[labels.codes], by_id)


def test_stimuli_without_groups_are_independent(data):
    assert checked_capture(data.drop_vars("group")).groups() is None
    assert len(np.unique(checked_capture(data).groups())) == 4


def test_an_unknown_column_is_named_with_the_nearest(data):
    text = r"no label column 'catgory' \(known: category, group\); did you mean 'category'"
    with pytest.raises(AnalysisError, match=text):
        checked_capture(data).labels("catgory")


@pytest.mark.parametrize("missing", ["", "  ", None, np.nan])
def test_a_stimulus_without_a_label_is_named(data, missing):
    column = data["category"].values.astype(object)
    column[2] = missing
    data = data.assign_coords(category=("stimulus", column))
    with pytest.raises(AnalysisError, match="'s002' has no label in column 'category'"):
        checked_capture(data).labels("category")


def test_a_missing_token_is_named(data):
    mask = np.ones((12, 1), dtype=bool)
    whole = data.assign(mask=(("stimulus", "position"), mask.copy()))
    assert checked_capture(whole).shape == (2, 1)
    mask[4] = mask[7] = False
    for gaps in (
        data.assign(mask=(("stimulus", "position"), mask)),
        data.assign_coords(mask=(("position", "stimulus"), mask.T)),
    ):
        text = r"'s004' has no token at position -1 \(2 of 12 tokens are missing\)"
        with pytest.raises(AnalysisError, match=text):
            checked_capture(gaps)


def test_a_full_mask_is_not_copied_into_results(data):
    full = data.assign_coords(mask=(("stimulus", "position"), np.ones((12, 1), dtype=bool)))
    assert "mask" not in means(full).variables


def test_repeated_ids_are_refused(data):
    data = data.assign_coords(stimulus=["same"] * 12)
    with pytest.raises(AnalysisError, match="'stimulus' of an activation needs a coordinate with"):
        checked_capture(data)


def test_a_dim_without_labels_is_refused(data):
    with pytest.raises(AnalysisError, match="'layer' of an activation needs a coordinate"):
        checked_capture(data.drop_vars("layer"))


def test_an_empty_dim_is_refused(data):
    with pytest.raises(AnalysisError, match="'layer' of an activation is empty"):
        checked_capture(data.isel(layer=[]))


def test_strange_dims_are_refused(data):
    with pytest.raises(AnalysisError, match=r"got \(stimulus, layer, place, unit\)"):
        checked_capture(data.rename(position="place"))


def test_attention_over_texts_of_several_lengths_is_refused(data):
    maps = data.rename(unit="key", layer="query").assign_attrs(site="attn_pattern")
    maps = maps.isel(position=0, drop=True)
    assert checked_capture(maps).dims == ("query",)
    short = maps["stimulus"].values[2]
    maps["activation"].loc[{"stimulus": short, "key": maps["key"].values[-2:]}] = np.nan
    text = rf"stimulus '{short}' has no token at key \d+ \(2 of \d+ .* choose 'keys' that every"
    with pytest.raises(AnalysisError, match=text):
        checked_capture(maps)
    assert checked_capture(maps.assign_attrs(site="attn_scores")).dims == ("query",)


def test_a_label_with_the_name_of_a_number_is_refused(data):
    """It would stand in the number's place: a column `predicted` read as what a probe predicts."""
    chosen = checked_capture(data.assign_coords(score=("stimulus", data["category"].values)))
    about = meaning("1", "score", "score/1")
    values = np.zeros(data.sizes["stimulus"])
    text = "the label 'score' is also the name of a number that this analysis gives; rename the col"
    with pytest.raises(AnalysisError, match=text):
        chosen.result({"score": (("stimulus",), values, about)}, {}, {})
    kept = chosen.result({"other": (("stimulus",), values, about)}, {}, {})
    assert kept["score"].values.tolist() == data["category"].values.tolist()
