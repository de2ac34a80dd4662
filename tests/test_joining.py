"""Joined datasets hold what each part held, under its labels; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.engine.joining import Part, join
from patchclamp.registry.errors import StoreError

ABOUT = {"units": "1", "long_name": "accuracy", "estimand": "probe_accuracy/1"}


def part(layers: list[int], *, value: float = 0.0, source: str = "a", **place: object) -> Part:
    data = xr.Dataset(
        {
            "accuracy": ("layer", value + np.arange(len(layers), dtype=float), ABOUT),
            "right": (("stimulus", "layer"), np.ones((2, len(layers)), "i1")),
            "said": ("stimulus", ["yes", "no"]),
        },
        coords={
            "layer": layers,
            "stimulus": ["s0", "s1"],
            "category": ("stimulus", ["months", "weekdays"]),
            "token_id": (("stimulus", "position"), [[1, 2], [3, 4]]),
            "position": [0, 1],
        },
        attrs={"kind": "probe", "n": len(layers)},
    )
    return Part(place, data, source)


def test_models_of_different_depth_stand_side_by_side() -> None:
    joined = join([part([0, 1, 2], model="large"), part([0, 1], value=10, model="small")])
    assert joined["accuracy"].sel(model="small").to_numpy().tolist()[:2] == [10.0, 11.0]
    assert np.isnan(joined["accuracy"].sel(model="small", layer=2))
    assert joined["right"].dtype == np.float64
    assert joined["accuracy"].attrs == ABOUT
    assert joined.attrs == {"kind": "probe"}
    assert joined["category"].to_numpy().tolist() == ["months", "weekdays"]
    assert joined["token_id"].dims == ("stimulus", "position")
    assert joined["token_id"].dtype.kind == "i"


def test_tokens_may_differ_between_models() -> None:
    other = part([0], model="b")
    other.data["token_id"][0, 0] = 99
    joined = join([part([0], model="a"), other])
    assert set(joined["token_id"].dims) == {"model", "stimulus", "position"}
    assert joined["token_id"].sel(model="b", stimulus="s0", position=0) == 99


def test_positions_that_count_from_different_tokens_say_so() -> None:
    first, last = part([0], source="a", resid="first"), part([0], source="b", resid="last")
    for one, anchor in ((first, "first"), (last, "last")):
        one.data["position"].attrs = {"anchor": anchor, "long_name": "token position"}
    told = join([first, last])["position"].attrs
    assert told == {"anchor": "varies: first, last", "long_name": "token position"}


def test_what_all_parts_share_needs_no_dim() -> None:
    joined = join([part([0], seed=0), part([0], value=1, seed=1)], shared=True)
    assert joined["said"].dims == ("stimulus",)
    assert set(joined["accuracy"].dims) == {"seed", "layer"}


def test_a_dim_that_is_there_already_grows() -> None:
    both = join([part([0], seed=0), part([0], value=1, seed=1)])
    three = join([Part({}, both, "both"), part([0], value=2, seed=2, source="c")])
    assert three["accuracy"].sel(layer=0, seed=[2, 0, 1]).to_numpy().tolist() == [2.0, 0.0, 1.0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), unique=True, min_size=1), min_size=1, max_size=4))
def test_every_part_comes_back(layers: list[list[int]]) -> None:
    parts = [part(one, value=100 * i, seed=i) for i, one in enumerate(layers)]
    joined = join(parts)
    for i, one in enumerate(parts):
        back = joined["accuracy"].sel(seed=i, layer=layers[i])
        np.testing.assert_array_equal(back, one.data["accuracy"])
        missing = set(joined["layer"].to_numpy().tolist()) - set(layers[i])
        assert joined["accuracy"].sel(seed=i, layer=sorted(missing)).isnull().all()
    assert joined["layer"].to_numpy().tolist() == sorted({n for one in layers for n in one})


def changed(**attrs: str) -> Part:
    one = part([0], model="b", source="b")
    one.data["accuracy"].attrs.update(attrs)
    return one


def relabelled() -> Part:
    one = part([0], model="b", source="b")
    one.data["category"][0] = "colours"
    return one


def text_layers() -> Part:
    one = part([0], model="b", source="b")
    return Part(one.place, one.data.assign_coords(layer=["first"]), "b")


@pytest.mark.parametrize(("other", "message"), [
    (changed(units="%"), "accuracy is another quantity in b: units '%', in a '1'"),
    (changed(estimand="probe_accuracy/2"), "estimand 'probe_accuracy/2', in a 'probe_accuracy/1'"),
    (relabelled(), "category of the same labels differs: b contradicts another"),
    (part([0], model="a", source="b"), "b has labels that another part has, too"),
    (text_layers(), "the labels of layer are text in one part and numbers in another"),
    (Part({"model": "b"}, part([0]).data.isel(layer=0, drop=True), "b"),
     "accuracy has other dims in b: model; in a: model, layer"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(other: Part, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        join([part([0], model="a"), other])
