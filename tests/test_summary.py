"""What a table on a terminal or a page says, and never says: a mean over different models."""

from __future__ import annotations

import drawable
import numpy as np
import pytest
import xarray as xr

from patchclamp.engine.summary import summarise
from patchclamp.engine.terminal import _facts


def test_a_place_has_one_row_and_its_random_circuits_a_range() -> None:
    data = drawable.circuit()
    data["random_faithfulness"][1] = np.linspace(-0.0001, 0.2, 12)
    data["size"] = ("circuit", np.array([7, 4]), drawable.about("nodes", "node"))
    found = summarise(data, top=5)
    assert found is not None
    assert found.head == ("circuit", "faithfulness", "random_faithfulness", "size (node)")
    assert [row[0] for row in found.rows] == ["pruned", "known"]
    # Nothing is shown as minus 0, and a whole number as one.
    assert found.rows[1] == ("known", "0.400", "0.000 to 0.200", "4")


@pytest.mark.parametrize(
    ("means", "told"), [([12.0, 12.0], "12.000"), ([-0.5, 12], "-0.500 to 12.000")]
)
def test_models_of_a_sweep_have_no_common_baseline(means: list[float], told: str) -> None:
    clean = np.tile(np.array(means)[:, None], (1, 4))
    data = xr.Dataset(
        {
            "logit_diff_clean": (("revision", "stimulus"), clean),
            "control_accuracy": (("control", "layer"), [[0.2, 0.2], [0.3, 0.9]]),
        },
        coords={"control": ["majority", "control_task"]},
    )
    assert _facts(data) == [
        f"clean logit_diff {told}", "majority 0.200", "control task 0.300 to 0.900",
    ]  # fmt: skip


def test_accuracies_stand_with_their_intervals_and_base_rate() -> None:
    data = drawable.probe()
    data["base_rate"] = ((), 0.25)
    found = summarise(data, top=5)
    assert found is not None
    assert found.head == ("layer", "accuracy", "p_max")
    assert found.rows[0] == ("0", "0.350 [0.270, 0.390]", "0.300")
    assert "base rate 0.250" in _facts(data)
    assert summarise(data.drop_vars("accuracy_low"), top=5).rows[0] == ("0", "0.350", "0.300")


def test_a_noise_ceiling_stands_beside_what_it_bounds() -> None:
    data = drawable.rsa()
    data["ceiling_low"] = data["p_max"] * 0 + 0.3
    data["ceiling_high"] = data["p_max"] * 0 + 0.45
    found = summarise(data, top=5)
    assert found is not None
    assert found.head[-1] == "noise ceiling"
    assert {row[-1] for row in found.rows} == {"0.300 to 0.450"}
