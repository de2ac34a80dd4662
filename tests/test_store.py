"""A result is whole or absent, plain xarray reads it, and what netCDF mangles is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from patchclamp.engine.store import DIMS, write_tree
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import StoreError


def dataset(**attrs: object) -> xr.Dataset:
    return xr.Dataset(
        {"effect": (("layer", "head"), np.eye(2), {"units": "logit", "long_name": "effect"})},
        coords={"layer": [0, 5], "head": [0, 1], "kind_of": ("layer", ["a", "β"])},
        attrs=attrs,
    )


def test_plain_xarray_reads_tree_and_single_groups(tmp_path: Path) -> None:
    path = tmp_path / "result.nc"
    write_tree({"/analyses/heads": dataset()}, path, {"title": "t"})
    with xr.open_datatree(path, engine="netcdf4") as tree:
        assert tree.attrs["title"] == "t"
        xr.testing.assert_identical(tree["analyses/heads"].to_dataset(), dataset())
    with xr.open_dataset(path, group="/analyses/heads", engine="netcdf4") as alone:
        assert alone["effect"].sel(layer=5, head=1) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["result.nc"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.rename(layer="depth"), "dim 'depth' is not in the schema"),
        (lambda d: d.drop_vars("head"), "dim 'head' has no coordinate"),
        (lambda d: d.astype("float16"), "effect: netCDF cannot hold float16"),
        (lambda d: d.astype("complex64"), "effect: netCDF cannot hold complex64"),
        (
            lambda d: d.assign(effect=d["effect"].drop_attrs()),
            "effect: a result needs the attribute 'units'",
        ),
        (lambda d: d.assign_attrs(done=True), "cannot hold attribute 'done' = True"),
        (lambda d: d.assign_attrs(none=None), "cannot hold attribute 'none' = None"),
    ],
)
def test_what_the_schema_forbids_is_refused_and_nothing_is_written(
    tmp_path: Path, change: object, message: str
) -> None:
    path = tmp_path / "result.nc"
    with pytest.raises(StoreError, match=message):
        write_tree({"/analyses/x": change(dataset())}, path, {})  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_the_schema_document_names_every_dim() -> None:
    text = (Path(__file__).parents[1] / "docs" / "schema.md").read_text()
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    assert [dim for dim in DIMS if f"`{dim}`" not in rows] == []


def test_a_failed_write_keeps_the_earlier_result(tmp_path: Path) -> None:
    path = tmp_path / "result.nc"
    write_tree({"/analyses/x": dataset()}, path, {})
    before = path.read_bytes()
    with pytest.raises(StoreError):
        write_tree({"/analyses/x": dataset(bad=None)}, path, {})
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "result.nc"
    with pytest.raises(StoreError, match=r"cannot write .*result\.nc.*Nothing there was changed"):
        write_tree({"/analyses/x": dataset()}, path, {})
    with pytest.raises(StoreError, match=r"cannot write .*spec\.yaml"):
        write_whole(tmp_path / "gone" / "spec.yaml", b"x")


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_leaves_no_result(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full disk: writing past 100 kB fails."""
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np, xarray as xr
        from patchclamp.engine.store import write_tree
        from patchclamp.registry.errors import StoreError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        data = xr.Dataset(
            {"a": (("stimulus", "unit"), np.random.rand(500, 500), dict(units="1", long_name="a"))},
            coords={"stimulus": np.arange(500), "unit": np.arange(500)},
        )
        try:
            write_tree({"/captures/a": data}, Path(sys.argv[1]), {})
        except StoreError as error:
            print(error)
        """
    )
    path = tmp_path / "result.nc"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert "cannot write" in done.stdout
    assert not path.exists()


def test_a_write_killed_midway_leaves_no_result(tmp_path: Path) -> None:
    """The process kills itself while the temporary file is being synced."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import numpy as np, xarray as xr
        import patchclamp.engine.store
        store = sys.modules["patchclamp.engine.store"]
        store.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
        data = xr.Dataset(
            {"a": ("unit", np.arange(3.0), {"units": "1", "long_name": "a"})},
            coords={"unit": np.arange(3)},
        )
        store.write_tree({"/captures/a": data}, Path(sys.argv[1]), {})
        """
    )
    path = tmp_path / "result.nc"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert any(left.suffix == ".tmp" for left in tmp_path.iterdir())


def test_a_variable_that_is_written_in_parts_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, meaning = np.random.default_rng(0), {"units": "1", "long_name": "a"}
    values = rng.normal(size=(50, 3)).astype(np.float32)
    values[7, 1] = np.nan
    data = xr.Dataset(
        {
            "activation": (("stimulus", "layer"), values, meaning),
            "order": (("stimulus", "layer"), rng.integers(0, 9, (50, 3)), meaning),
        },
        coords={
            "stimulus": [f"s{i}" for i in range(50)],
            "layer": [0, 1, 2],
            "kind": ("stimulus", ["a", "b"] * 25),
            "mask": (("stimulus", "layer"), values > 0),
        },
    )
    monkeypatch.setattr(sys.modules["patchclamp.engine.store"], "_PART", 100)
    write_tree({"/captures/x": data}, tmp_path / "parts.nc", {"title": "t"})
    with xr.open_dataset(tmp_path / "parts.nc", group="/captures/x", engine="netcdf4") as parts:
        xr.testing.assert_identical(parts.load(), data)
