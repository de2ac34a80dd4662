"""Small results with all sorts of variables, as files, for tests of what reads results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

STIMULI, LAYERS, HEADS, UNITS = 40, 4, 3, 5

PROVENANCE: Mapping[str, Any] = {
    "digest": "d" * 64,
    "model": {"id": "bundled:sequences", "revision": "main", "dtype": "float32"},
    "versions": {"torch": "2.9.0", "transformers": "5.23.0"},
    "device": "cpu",
    "threads": 1,
    "guards": [{"guard": "finite", "on": "resid", "value": 0.0, "limit": 0.0, "verdict": "ok"}],
    "resolved": {
        "name": "small",
        "model": {"id": "bundled:sequences", "dtype": "float32"},
        "expect": [{"var": "decode/accuracy", "sel": {"layer": "last"}, "ge": 0.9}],
        "run": {"batch": {"tokens": 8192}},
    },
}


def about(units: str, long_name: str, **more: object) -> dict[str, object]:
    return {"units": units, "long_name": long_name, **more}


def groups() -> dict[str, xr.Dataset]:
    """Return the datasets of a small result: a capture, a probe and an ablation."""
    rng = np.random.default_rng(0)
    ids = [f"s{number:02}" for number in range(STIMULI)]
    coords = {
        "stimulus": ids,
        "category": ("stimulus", ["months", "weekdays"] * (STIMULI // 2)),
        "group": ("stimulus", [f"g{number // 2:02}" for number in range(STIMULI)]),
    }
    layers, heads = np.arange(LAYERS), np.arange(HEADS)
    sizes = 10.0 ** np.arange(LAYERS)[:, None]  # layers differ in size, as residual streams do
    stream = rng.standard_normal((STIMULI, LAYERS, UNITS)) * sizes
    resid = xr.Dataset(
        {"activation": (("stimulus", "layer", "unit"), stream.astype("f4"),
                        about("activation", "residual stream", site="resid_post"))},
        coords={**coords, "layer": layers, "unit": np.arange(UNITS)},
    )  # fmt: skip
    correct = (rng.random((STIMULI, LAYERS)) < [0.5, 0.6, 0.8, 0.9]).astype("i1")
    correct[[3, 27, 39], -1] = 0
    accuracy = correct.mean(axis=0)
    decode = xr.Dataset(
        {
            "accuracy": ("layer", accuracy, about("1", "accuracy", estimand="probe_accuracy/1")),
            "accuracy_low": ("layer", accuracy - 0.1, about("1", "lower bound")),
            "accuracy_high": ("layer", accuracy + 0.05, about("1", "upper bound")),
            "correct": (("stimulus", "layer"), correct, about("1", "1 where right")),
            "predicted": (("stimulus", "layer"), np.where(correct, "months", "weekdays"),
                          about("1", "prediction")),
            "p": ("layer", [0.4, 0.2, 0.048, 0.048], about("1", "permutation p")),
        },
        coords={**coords, "layer": layers},
        attrs={"kind": "probe", "n_stimuli": STIMULI},
    )  # fmt: skip
    clean = rng.standard_normal(STIMULI) + 10
    effect = rng.standard_normal((LAYERS, HEADS))
    effect[2, 1] = -8.0
    value = clean + effect[..., None] + 0.1 * rng.standard_normal((LAYERS, HEADS, STIMULI))
    ablation = xr.Dataset(
        {
            "logit_diff": (("layer", "head", "stimulus"), value,
                           about("logit", "under ablation", estimand="logit_diff/1")),
            "effect": (("layer", "head"), (value - clean).mean(axis=-1),
                       about("logit", "mean change", estimand="effect_of_logit_diff/1",
                             scale=10.0)),
        },
        coords={**coords, "layer": layers, "head": heads},
        attrs={"kind": "ablation"},
    )  # fmt: skip
    return {"/captures/resid": resid, "/analyses/decode": decode, "/analyses/heads": ablation}


def write(
    path: Path, data: Mapping[str, xr.Dataset], provenance: Mapping[str, Any] = PROVENANCE
) -> Path:
    """Write datasets as a result file."""
    attrs = {"title": "small", "provenance": json.dumps(provenance)}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **data})
    path.parent.mkdir(parents=True, exist_ok=True)
    tree.to_netcdf(path, engine="netcdf4", write_inherited_coords=True)
    return path
