"""Values compared block by block are those of a plain comparison of whole arrays."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from patchclamp.engine.comparison.blocks import Pair, block_shape
from patchclamp.engine.comparison.labels import AmbiguousLabelsError, match
from patchclamp.engine.comparison.tolerance import Tolerance
from patchclamp.engine.comparison.values import Scaling, compare_values

DIMS = ("layer", "stimulus", "unit")


def pair(a: xr.DataArray, b: xr.DataArray) -> Pair:
    matches = {str(dim): match(str(dim), a[dim].to_numpy(), b[dim].to_numpy()) for dim in a.dims}
    return Pair(a.variable, b.variable, matches)


def labelled(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(
        values,
        dims=DIMS,
        coords={dim: np.arange(n) for dim, n in zip(DIMS, values.shape)},  # noqa: B905
    )


def rounded(values: object) -> str:
    """Return values in words; sums in another order differ in their last digits."""
    return re.sub(r"\d+\.\d+(e[-+]?\d+)?", lambda number: f"{float(number[0]):.9g}", repr(values))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    seed=st.integers(0, 2**32 - 1),
    memory=st.integers(1, 400),
    apart=st.booleans(),
)
def test_blocks_labels_and_axes_make_no_difference(
    shape: tuple[int, int, int], seed: int, memory: int, apart: bool
) -> None:
    rng = np.random.default_rng(seed)
    a = labelled(rng.standard_normal(shape).astype("f4"))
    b = a + (0.1 * rng.standard_normal(shape) if apart else 0.0)
    b = b.where(rng.random(shape) > 0.1)
    moved = b.isel({d: rng.permutation(n) for d, n in b.sizes.items()}).transpose(*DIMS[::-1])
    once = compare_values(pair(a, b), Tolerance(0.05, 0.0, ""), Scaling(along="layer"))
    again = compare_values(pair(a, moved), Tolerance(0.05, 0.0, ""), Scaling(along="layer"))
    assert rounded(once) == rounded(again)
    x, y = a.to_numpy().astype("f8"), b.to_numpy().astype("f8")
    distance = np.abs(x - y)
    lacking = np.isnan(y)
    assert once.beyond == int(((distance > 0.05 * (1 + 1e-9)) | lacking).sum())
    assert once.only_a == int(lacking.sum())
    if not lacking.all():
        assert once.absolute == pytest.approx(np.nanmax(distance))
    blocks = list(pair(a, moved).blocks(memory))
    assert sum(block.a.size for block in blocks) == a.size
    for block in blocks:
        at = tuple(slice(s, s + n) for s, n in zip(block.start, block.a.shape, strict=True))
        np.testing.assert_array_equal(block.a, a.to_numpy()[at])
        np.testing.assert_array_equal(block.b, b.to_numpy()[at])


def test_moments_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    a = labelled(rng.standard_normal((3, 40, 5)) + 1e4)  # large means break naive sums
    b = a + 0.3 * rng.standard_normal(a.shape)
    found = compare_values(pair(a, b), Tolerance(0.0, 0.0, ""), Scaling())
    r = np.corrcoef(a.to_numpy().ravel(), b.to_numpy().ravel())[0, 1]
    assert found.correlation == pytest.approx(r, abs=1e-12)
    assert found.worst is not None
    place = np.unravel_index(int(np.abs(a - b).to_numpy().argmax()), a.shape)
    assert list(found.worst.labels.values()) == list(place)
    deviation = np.abs(a - b).max() / a.std()
    assert found.worst.deviations == pytest.approx(float(deviation))


def test_a_value_that_ran_away_does_not_widen_its_own_tolerance() -> None:
    a = labelled(np.ones((1, 4, 1)))
    b = a.copy(deep=True)
    b[0, 0, 0], b[0, 1, 0] = 1e9, 1.01
    found = compare_values(pair(a, b), Tolerance(0.0, 1e-5, ""), Scaling())
    assert (found.beyond, found.scale) == (2, 1.0)
    back = compare_values(pair(b, a), Tolerance(0.0, 1e-5, ""), Scaling())
    assert (back.beyond, back.scale) == (2, 1.0)


@given(st.lists(st.integers(-20, 20), unique=True), st.lists(st.integers(-20, 20), unique=True))
def test_labels_match_as_sets_do(a: list[int], b: list[int]) -> None:
    found = match("x", np.array(a, dtype=int), np.array(b, dtype=int))
    assert set(found.labels.tolist()) == set(a) & set(b)
    assert (set(found.only_a), set(found.only_b)) == (set(a) - set(b), set(b) - set(a))
    for label, i, j in zip(found.labels, found.at_a, found.at_b, strict=True):
        assert a[i] == b[j] == label


@given(st.lists(st.floats(1e-3, 1e3), unique_by=lambda x: round(np.log(x), 3)), st.randoms())
def test_numbers_that_went_through_float32_are_the_same_labels(values: list[float], r) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(values)))
    r.shuffle(order)
    a = np.array(values)
    found = match("dose", a, a[order].astype("f4"))
    assert (found.only_a, found.only_b) == ((), ())
    assert [order[j] for j in found.at_b] == list(range(len(values)))


def test_a_label_that_stands_twice_is_refused() -> None:
    with pytest.raises(AmbiguousLabelsError, match="layer 2 stands 2 times in B"):
        match("layer", np.array([1, 2]), np.array([2, 2]))


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), max_size=4), st.integers(1, 5000))
def test_a_block_fits_where_a_chunk_does(sizes: list[tuple[int, int]], most: int) -> None:
    shape, chunks = tuple(n for n, _ in sizes), tuple(min(n, c) for n, c in sizes)
    block = block_shape(shape, chunks, most)
    assert all(1 <= step <= n for step, n in zip(block, shape, strict=True))
    assert np.prod(block) <= max(most, np.prod(chunks))


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource")
def test_files_larger_than_memory_are_compared(tmp_path: Path) -> None:
    """Two files of 100 MB each, of which under 80 MB are held."""
    values = np.zeros((50, 500, 500), dtype="f4")
    coords = {"stimulus": np.arange(50), "layer": np.arange(500), "unit": np.arange(500)}
    about = {"units": "activation", "long_name": "x"}
    paths = [str(tmp_path / "a.nc"), str(tmp_path / "b.nc")]
    for path in paths:
        data = xr.Dataset({"x": (("stimulus", "layer", "unit"), values, about)}, coords)
        encoding = {"x": {"chunksizes": (1, 10, 500), "zlib": True, "complevel": 1}}
        data.to_netcdf(path, group="/captures/x", engine="netcdf4", encoding=encoding)
        values[49, 499, 499] = 1.0
    script = (
        "import resource, sys\n"
        "from patchclamp.engine.comparison import blocks\n"
        "from patchclamp.engine.comparison.compare import compare\n"
        "blocks.Pair.blocks.__defaults__ = (4 << 20,)\n"
        "compare(sys.argv[3], sys.argv[3])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = compare(*sys.argv[1:3])\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(found.verdict, found.rows[0].values.beyond, (after - before) // 1024)\n"
    )
    small = str(tmp_path / "small.nc")
    xr.Dataset({"x": ("unit", np.zeros(3), about)}, {"unit": np.arange(3)}).to_netcdf(
        small, group="/captures/x", engine="netcdf4"
    )
    command = [sys.executable, "-c", script, *paths, small]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    verdict, beyond, mebibytes = done.stdout.split()
    assert (verdict, beyond) == ("different", "1")
    assert int(mebibytes) < 80, "more was held than blocks need"
