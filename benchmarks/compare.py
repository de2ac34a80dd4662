"""CPU time and memory of comparing two results: small ones, and files larger than memory allows.

Each figure comes from a process of its own, `patchclamp compare A B`, from the start of the
interpreter on, imports included. CPU time (user and system) of the best of some rounds, since other
work on the machine can only add to it; the slowest round is shown beside it. Peak RSS is the
largest of all rounds. In each pair one number of B is off by more than its tolerance, and has to be
found. `numpy` reads both files whole and asks `allclose`, which says neither how many nor where.

    python benchmarks/compare.py [ROUNDS] [GIGABYTES of each large file, 0 for none]
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import netCDF4
import numpy as np

SMALL = (24, 500, 500)
"""Layers, stimuli, units of the small files, in float32."""

BOUND, MOST = 2.5, 700.0
"""CPU seconds that are promised for the small files, and MiB for the large ones."""

UNITS = 4096

COMPARE = """
import sys
from patchclamp.engine.cli import main
sys.exit(main(["compare", *sys.argv[1:]]))
"""
NUMPY = """
import sys, netCDF4, numpy as np
a, b = (netCDF4.Dataset(p)['captures/resid/activation'][:].data for p in sys.argv[1:])
sys.exit(int(not np.allclose(a, b, rtol=0, atol=1e-5 * abs(a).max())))
"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    large = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"Python {platform.python_version()}, netCDF4 {netCDF4.__version__}, "
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {load}; "
        f"best (slowest) of {rounds} rounds, CPU seconds"
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), SMALL)
        name = f"two of {' × '.join(map(str, SMALL))} float32"
        seconds = show(name, COMPARE, paths, rounds)
        print(f"  {'within' if seconds <= BOUND else 'OVER'} {BOUND} s")
        show("the same, numpy", NUMPY, paths, rounds)
    if large:
        with tempfile.TemporaryDirectory() as folder:
            stimuli = int(large * 1e9 / (4 * SMALL[0] * UNITS))
            paths = write(Path(folder), (SMALL[0], stimuli, UNITS))
            show(f"two of {large:g} GB", COMPARE, paths, 1, MOST)


def write(folder: Path, shape: tuple[int, int, int]) -> list[str]:
    """Write a capture twice, the second time with a little noise and one wrong number."""
    layers, stimuli, units = shape
    paths = [str(folder / name) for name in ("a.nc", "b.nc")]
    for number, path in enumerate(paths):
        rng = np.random.default_rng(0)
        with netCDF4.Dataset(path, "w") as file:
            group = file.createGroup("captures/resid")
            for dim, size in zip(
                ("stimulus", "layer", "unit"), (stimuli, layers, units), strict=True
            ):
                group.createDimension(dim, size)
                group.createVariable(dim, "i4", (dim,))[:] = np.arange(size)
            dims = ("stimulus", "layer", "unit")
            data = group.createVariable("activation", "f4", dims, chunksizes=(8, 1, units))
            data.setncatts({"units": "activation", "long_name": "residual stream"})
            for start in range(0, stimuli, 64):
                block = rng.standard_normal((min(64, stimuli - start), layers, units), dtype="f4")
                if number:
                    block += np.float32(1e-6) * block
                    if start + 64 >= stimuli:
                        block[-1, layers // 2, 7] += 1
                data[start : start + 64] = block
    return paths


def show(name: str, code: str, paths: list[str], rounds: int, most: float = 0.0) -> float:
    """Print what some rounds took; return the CPU seconds of the best."""
    found = [measure(code, paths) for _ in range(rounds)]
    seconds = sorted(cpu for cpu, _ in found)
    peak = max(rss for _, rss in found)
    bound = f", {'within' if peak <= most else 'OVER'} {most:.0f}" if most else ""
    print(f"{name:<34}{seconds[0]:>8.2f} ({seconds[-1]:.2f}){peak:>10.0f} MiB{bound}")
    return seconds[0]


def measure(code: str, paths: list[str]) -> tuple[float, float]:
    """Return CPU seconds and peak MiB of one process, which must find the difference."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *paths], env={**os.environ, **threads},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 1, "the planted difference was not found"
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
