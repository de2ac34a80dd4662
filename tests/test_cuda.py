"""What must hold where there is a GPU: the device asked for is the one that computes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import xarray as xr

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device here", allow_module_level=True)

import test_generating  # noqa: E402
import test_path_patching  # noqa: E402
import test_run  # noqa: E402
from test_run import SPEC, assert_same  # noqa: E402

import tiny  # noqa: E402
from patchclamp.engine import Result, run  # noqa: E402

DEVICES = ("cpu", "cuda")

models, folder = test_run.models, test_run.folder
"""Fixtures: tiny models, and a folder with stimuli for them."""


def on(device: str, folder: Path, *overrides: str, architecture: str = "llama") -> Result:
    text = SPEC.format(architecture=architecture, backend="nnsight", tokens=8192)
    spec = folder / "t.yaml"
    spec.write_text(text.replace("device: cpu", f"device: {device}"))
    name = "-".join((device, *overrides)).replace("=", "-")
    return run(spec, overrides=overrides, out=folder / name, cache=folder / f"{name}-cache")


def tree(result: Result) -> xr.DataTree:
    return xr.open_datatree(result.path, engine="netcdf4").load()


@pytest.mark.parametrize("architecture", list(tiny.CONFIGS))
def test_a_gpu_gives_the_numbers_of_the_cpu(folder: Path, architecture: str) -> None:
    cpu, gpu = (tree(on(device, folder, architecture=architecture)) for device in DEVICES)
    assert_same(cpu, gpu, 2e-5)
    assert [json.loads(t.attrs["provenance"])["device"] for t in (cpu, gpu)] == list(DEVICES)


def test_the_device_that_is_asked_for_computes(folder: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    on("cpu", folder)
    assert torch.cuda.max_memory_allocated() == before
    on("cuda", folder)
    assert torch.cuda.max_memory_allocated() > before


@pytest.mark.parametrize("architecture", list(tiny.CONFIGS))
def test_savings_change_no_number_on_a_gpu(folder: Path, architecture: str) -> None:
    plain = tree(on("cuda", folder, "run.optimise=false", architecture=architecture))
    saved = tree(on("cuda", folder, "run.optimise=true", architecture=architecture))
    assert_same(plain, saved, 2e-5)


def test_texts_and_paths_are_those_of_the_cpu(tmp_path: Path) -> None:
    model = tiny.make("llama", tmp_path / "llama")
    for device in DEVICES:
        (tmp_path / device).mkdir()
    cpu, gpu = (
        test_generating.written(tmp_path / device, model, f"run.device={device}")
        for device in DEVICES
    )
    assert bool((cpu["text"] == gpu["text"]).all())
    said = {"FREEZE": "heads", "NORMS": "frozen"}
    paths = [
        test_path_patching.patched(tmp_path / device, model, device, **said) for device in DEVICES
    ]
    xr.testing.assert_allclose(*paths, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(folder: Path, dtype: str) -> None:
    whole = tree(on("cuda", folder))["captures/last/activation"]
    half = tree(on("cuda", folder, f"model.dtype={dtype}"))["captures/last/activation"]
    assert half.attrs["precision"] == dtype
    assert 0 < float(abs(half - whole).max()) < 0.05 * float(abs(whole).max())


def test_full_memory_halves_the_batch(tmp_path: Path) -> None:
    """Half of the memory that the batch wants makes smaller batches, and the same numbers."""
    quick = partial(run, "quickstart", overrides=["run.device=cuda"])
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    plain = tree(quick(out=tmp_path / "plain", cache=tmp_path / "plain-cache"))
    wanted = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.5 * wanted / torch.cuda.mem_get_info()[1])
    try:
        small = tree(quick(out=tmp_path / "small", cache=tmp_path / "small-cache"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    passes = [json.loads(t.attrs["provenance"])["forward_passes"] for t in (plain, small)]
    assert passes[1] > passes[0]
    assert_same(plain, small, 2e-5)
