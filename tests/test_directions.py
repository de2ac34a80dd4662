"""Directions: which way they point, how long they are, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from patchclamp.engine.directions import direction
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.interventions import Vector

DIRECTION = np.array([[3.0, 4.0], [0.0, 2.0]])


def two(**attrs: str) -> xr.Dataset:
    variable = (("layer", "unit"), DIRECTION)
    return xr.Dataset({"direction": variable}, {"layer": [1, 4]}, attrs)


def vector(**more: str) -> Vector:
    return Vector.model_validate({"of": "decode", **more})


def test_a_direction_is_that_of_its_layer_and_of_the_length_that_is_said() -> None:
    assert direction(two(), vector(), 1).tolist() == [3, 4]
    np.testing.assert_allclose(direction(two(), vector(normalise="unit"), 1), [0.6, 0.8])
    assert direction(two(), vector(), 4).tolist() == [0, 2]
    with pytest.raises(AnalysisError, match="has no direction at layer 0"):
        direction(two(), vector(), 0)


@pytest.mark.parametrize(
    "result",
    [
        two(toward="months", away_from="days"),
        two(first="months", second="days"),
    ],
    ids=["probe", "contrast"],
)
def test_naming_the_other_class_turns_a_direction_around(result: xr.Dataset) -> None:
    assert direction(result, vector(toward="months"), 1).tolist() == [3, 4]
    assert direction(result, vector(toward="days"), 1).tolist() == [-3, -4]
    with pytest.raises(AnalysisError, match="no class 'years' to point to; it has months, days"):
        direction(result, vector(toward="years"), 1)


def test_of_several_directions_one_is_named() -> None:
    found = xr.Dataset({"direction": (("class", "unit"), DIRECTION)}, {"class": ["days", "months"]})
    assert direction(found, vector(toward="months"), 0).tolist() == [0, 2]
    with pytest.raises(AnalysisError, match="a direction for each of days, months: say 'toward'"):
        direction(found, vector(), 0)


def test_what_is_no_direction_is_said() -> None:
    with pytest.raises(AnalysisError, match="no direction to add; its result has accuracy"):
        direction(xr.Dataset({"accuracy": ((), 1.0)}), vector(), 0)
    with pytest.raises(AnalysisError, match="at a layer still has the dims"):
        direction(two().rename(unit="channel"), vector(), 1)
