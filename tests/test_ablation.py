"""Effects and shares by hand, labels not positions, and a share that would mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from patchclamp.analyses.ablation import analyse as analyse_parts
from patchclamp.analyses.ablation import readings
from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import Change, ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Ablation

CONTEXT = Context(Seeds(0, "analyses.heads"))


def analyse(given: Ablation, data: xr.Dataset) -> xr.Dataset:
    result = analyse_parts(given, {"effect": data}, CONTEXT)
    assert isinstance(result, xr.Dataset)
    return result


def entry(**changes: object) -> Ablation:
    given = {
        "kind": "ablation",
        "stimuli": "words",
        "with": "mean",
        "units": {"site": "z", "layers": (0, 2)},
        "metric": {"kind": "logit_diff"},
        "share": True,
    }
    return Ablation.model_validate(given | changes)


def measured(clean: np.ndarray, *, seed: int = 0) -> xr.Dataset:
    """Head (2, 1) takes three quarters away, every other head nothing."""
    conditions = [(layer, head) for layer in (0, 2) for head in range(2)]
    factor = np.array([0.25 if place == (2, 1) else 1.0 for place in conditions])
    order = np.random.default_rng(seed).permutation(4)
    return xr.Dataset(
        {
            "clean": ("stimulus", clean),
            "value": (("condition", "stimulus"), (factor[:, None] * clean)[order]),
            "applied": (("condition", "stimulus"), np.ones((4, len(clean)), dtype=bool)),
        },
        coords={
            "stimulus": [f"s{i}" for i in range(len(clean))],
            "group": ("stimulus", [f"g{i // 2}" for i in range(len(clean))]),
            "layer": ("condition", [conditions[i][0] for i in order]),
            "head": ("condition", [conditions[i][1] for i in order]),
        },
    )


CLEAN = np.random.default_rng(1).uniform(2, 6, size=40)


@pytest.mark.parametrize("seed", range(4))
def test_effect_and_share_stand_at_the_head_that_was_ablated(seed: int) -> None:
    result = analyse(entry(), measured(CLEAN, seed=seed))
    effect = result["effect"]
    assert float(effect.sel(layer=2, head=1)) == pytest.approx(-0.75 * CLEAN.mean())
    assert float(result["share"].sel(layer=2, head=1)) == pytest.approx(0.25)
    others = effect.where((effect["layer"] != 2) | (effect["head"] != 1))
    assert float(np.abs(others).max()) == 0
    value = result["logit_diff"].sel(layer=2, head=1).to_numpy()
    np.testing.assert_allclose(value, 0.25 * CLEAN)


def test_the_interval_holds_the_effect_and_shrinks_to_it_without_spread() -> None:
    result = analyse(entry(), measured(CLEAN))
    head = result.sel(layer=2, head=1)
    assert head["effect_low"] < head["effect"] < head["effect_high"]
    constant = analyse(entry(), measured(np.full(10, 3.0))).sel(layer=2, head=1)
    np.testing.assert_allclose([constant["effect_low"], constant["effect_high"]], -2.25)


@pytest.mark.parametrize(
    "clean",
    [
        -CLEAN,
        np.random.default_rng(2).normal(0.05, 1, size=40),
        np.where(np.arange(40) < 4, 100.0, -1.0),
    ],
    ids=["negative", "about zero", "few large"],
)
def test_a_share_of_a_baseline_that_is_not_reliably_positive_is_refused(clean: np.ndarray) -> None:
    with pytest.raises(AnalysisError, match="a share of the clean baseline has no meaning here"):
        analyse(entry(), measured(clean))
    assert "share" not in analyse(entry(share=False), measured(clean))


def test_readings_name_every_head_of_every_chosen_layer() -> None:
    reading = readings(entry(), ModelShape(layers=3, heads=2))["effect"]
    assert reading.stimuli == "words"
    assert reading.metric == "logit_diff"
    assert [condition.labels for condition in reading.conditions] == [
        (("layer", layer), ("head", head)) for layer in (0, 2) for head in (0, 1)
    ]
    assert reading.conditions[3].changes == (Change("mean", "z", 2, 1),)


def test_all_but_each_changes_every_other_unit() -> None:
    shape = ModelShape(layers=3, heads=2)
    each = readings(entry(), shape)["effect"].conditions
    rest = readings(entry(remove="all_but_each"), shape)["effect"].conditions
    every = {condition.changes[0] for condition in each}
    for one, others in zip(each, rest, strict=True):
        assert one.labels == others.labels
        assert set(others.changes) == every - set(one.changes)


def test_neurons_are_taken_in_groups() -> None:
    units = {"site": "mlp_act", "layers": (1,), "group": 3}
    conditions = readings(entry(units=units), ModelShape(2, 2, neurons=8))["effect"].conditions
    assert [dict(c.labels)["neuron"] for c in conditions] == [0, 3, 6]
    assert [c.changes[0].units for c in conditions] == [(0, 1, 2), (3, 4, 5), (6, 7)]


@pytest.mark.parametrize("correct", ["max", "fdr"])
def test_only_the_head_that_matters_passes_a_corrected_test(correct: str) -> None:
    data = measured(CLEAN)
    noise = np.random.default_rng(3).normal(0, 0.1, size=data["value"].shape)
    result = analyse(entry(correct=correct), data.assign(value=data["value"] + noise))
    p = result[f"p_{correct}"]
    assert float(p.sel(layer=2, head=1)) < 0.01
    others = p.where((p["layer"] != 2) | (p["head"] != 1))
    assert float(others.min()) > 0.01
    assert bool((p >= result["p"] - 1e-12).all())
