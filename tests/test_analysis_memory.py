"""Captures larger than memory: every analysis of representation stays within its budget.

What is held of activations is measured, beside what is not counted: results, what bootstrap draws
weigh (two numbers for each draw and stimulus), and room that a kernel uses again.
"""

import tracemalloc

import numpy as np
import pytest
import xarray as xr

from patchclamp.analyses import contrast, probe, rsa, selection
from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_representation import Contrast, Probe, Selection
from patchclamp.specs.analyses_rsa import Rsa

TEST = {"permute": "kind", "n": 99}
MIB = 1 << 20


def stored(folder, shape, seed=0):
    """Return a capture that lies in a file, in chunks as runs write them, and its bytes."""
    rng = np.random.default_rng(seed)
    stimuli, layers, positions, units = shape
    birds = np.arange(stimuli) // 2 % 2 == 1
    values = rng.normal(size=shape).astype(np.float32)
    values[birds, ..., :20] += 0.5 * np.arange(1, 21, dtype=np.float32) / 20
    order = rng.permutation(stimuli)
    data = xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), values[order])},
        coords={
            "stimulus": [f"s{row:04d}" for row in order],
            "kind": ("stimulus", np.where(birds, "birds", "apples")[order]),
            "group": ("stimulus", [f"g{row // 2:04d}" for row in order]),
            "layer": np.arange(layers),
            "position": np.arange(positions),
            "unit": np.arange(units),
        },
    )
    chunks = {"activation": {"chunksizes": (1, 1, positions, units)}}
    data.to_netcdf(folder / "capture.nc", engine="netcdf4", encoding=chunks)
    return xr.open_dataset(folder / "capture.nc", engine="netcdf4", cache=False), values.nbytes


def probed(data, memory, *, kind="ridge", **more):
    given = {"estimator": {"kind": kind}, "shuffles": 19, "cv": {"folds": 3, "inner": 3}, **more}
    entry = Probe(kind="probe", of="resid", target="kind", **given)
    return probe.analyse(entry, {"of": data}, context(memory))


def contrasted(data, memory, **more):
    entry = Contrast(
        kind="contrast", of="resid", column="kind", classes=("birds", "apples"), **more
    )
    return contrast.analyse(entry, {"of": data}, context(memory))


def selected(data, memory, *, kind, test=None):
    courses = {"pattern": "positions"} if kind in ("discriminative", "categorical") else {}
    methods = {"one": {"kind": kind, "of": "resid", **courses}}
    entry = Selection(
        kind="selection", column="kind", target="birds", methods=methods, k=3,
        cv={"folds": 3}, test=test,
    )  # fmt: skip
    return selection.analyse(entry, {"methods.one": data}, context(memory))


def compared(data, memory, **more):
    entry = Rsa(kind="rsa", of="resid", test={"permute": "stimulus", "n": 99}, **more)
    parts = {"of": data, "against.other": data}
    return rsa.analyse(entry, parts, context(memory))


def context(memory):
    return Context(Seeds(0, "analyses.one"), memory, shape=ModelShape(6, 8, {"resid": "words"}))


WIDE, LONG = (48, 2, 6, 8000), (1200, 12, 3, 100)
WINDOW, FEW = (48, 2, 24, 2000), (24, 2, 100, 1000)
CASES = {
    "probe, ridge": (probed, {}, WIDE),
    "probe, logistic": (probed, {"kind": "logistic"}, WIDE),
    "probe, difference of means": (probed, {"kind": "difference"}, WIDE),
    "probe, more stimuli than units": (probed, {}, LONG),
    "contrast": (contrasted, {}, WIDE),
    "contrast, maximum": (contrasted, {"correct": "max", "test": TEST}, WIDE),
    "selection, discriminative": (selected, {"kind": "discriminative"}, WINDOW),
    "selection, tested": (selected, {"kind": "categorical", "test": TEST}, FEW),
    "selection, contrast": (selected, {"kind": "contrast", "test": TEST}, WINDOW),
    "selection, maximum": (selected, {"kind": "maximum"}, WINDOW),
    "selection, l1": (selected, {"kind": "l1"}, WINDOW),
    "rsa, another capture": (
        compared,
        {"against": {"other": {"kind": "capture", "of": "resid"}}},
        WIDE,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_analysis_holds_no_more_of_a_capture_than_it_may(tmp_path, case):
    work, given, shape = CASES[case]
    data, size = stored(tmp_path, shape)
    memory = size // 4
    assert size > 14 * MIB
    with data:
        expected = work(data, 1 << 30, **given)
        tracemalloc.start()
        try:
            found = work(data, memory, **given)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    xr.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)
    draws = 2 * 8 * 1000 * shape[0]
    assert peak < memory + 2 * found.nbytes + draws + 2 * MIB


@pytest.mark.parametrize(
    ("work", "given", "message"),
    [
        (probed, {}, "reading out 1200 rows of 100 units needs .*, and run.budget.memory allows"),
        (selected, {"kind": "l1"}, "1200 stimuli of 100 units need .*, and run.budget.memory"),
    ],
)
def test_what_cannot_be_done_in_so_little_memory_is_refused(tmp_path, work, given, message):
    data, size = stored(tmp_path, LONG)
    with data, pytest.raises(AnalysisError, match=message):
        work(data, size // 20, **given)
