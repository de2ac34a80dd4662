"""CPU time and memory of checking specs: one, 200, and a matrix of 1,000 cells.

Each figure comes from a process of its own: `total` counts everything from the start of the
interpreter, imports included; `work` the reading and checking alone. CPU time (user and system)
of the best of some rounds, since other work on the machine can only add to it; the slowest round
is shown beside it. Peak RSS is the largest of all rounds.

    python benchmarks/validate.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

SPECS, CELLS = 200, 1000

BOUNDS = {"1 spec": ("total", 0.25), "200 specs": ("total", 0.5), "1,000 cells": ("work", 0.3)}
"""What is promised: the figure and its CPU seconds."""

MOST = 60.0
"""MiB that are promised."""

CHILD = """
import time
begin = time.process_time()
import sys
from patchclamp.engine import cli
load = cli.load
def loaded(name):
    global ready
    command = load(name)
    ready = time.process_time()
    return command
cli.load = loaded
code = cli.main(["validate", "--format", "line", *sys.argv[1:]])
done = time.process_time()
assert code == 0
import json
print(json.dumps({"import": ready - begin, "work": done - ready}))
"""
"""What `patchclamp validate` does, with the time of its imports apart."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    libyaml = "libyaml" if yaml.__with_libyaml__ else "no libyaml"
    print(
        f"Python {platform.python_version()}, PyYAML {yaml.__version__} with {libyaml}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {load}; "
        f"best (slowest) of {rounds} rounds, CPU seconds"
    )
    print(f"{'':34}{'total':>16}{'work':>16}{'peak RSS':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for name, paths in cases(Path(folder)).items():
            found = [measure(paths) for _ in range(rounds)]
            columns = [spread([one[key] for one in found]) for key in ("total", "work")]
            rss = max(one["rss"] for one in found)
            print(
                f"{name:<34}{columns[0]:>16}{columns[1]:>16}{rss:>8.0f} MiB{verdict(name, found)}"
            )


def cases(folder: Path) -> dict[str, list[Path]]:
    """Write the specs of each case: variants of the shipped quickstart."""
    from patchclamp.specs.library import shipped

    text = shipped()["quickstart"].read_text(encoding="utf-8")

    def write(name: str, content: str) -> Path:
        path = folder / f"{name}.yaml"
        path.write_text(content, encoding="utf-8")
        return path

    def matrix(name: str, grid: str) -> list[Path]:
        return [write(name, f"{text}\nmatrix: {{grid: {{{grid}}}}}\n")]

    revisions = ", ".join(f"r{i}" for i in range(CELLS))
    seeds = ", ".join(map(str, range(CELLS // 10)))
    folds = ", ".join(map(str, range(2, 12)))
    numbers = ", ".join(map(str, range(20, 20 + CELLS)))
    return {
        "1 spec": [write("one", text)],
        f"{SPECS} specs": [
            write(f"spec{i}", text.replace("name: quickstart", f"name: spec{i}"))
            for i in range(SPECS)
        ],
        "1,000 cells, model.revision": matrix("model", f"model.revision: [{revisions}]"),
        "1,000 cells, seed x cv.folds": matrix(
            "product", f"seed: [{seeds}], analyses.decode.cv.folds: [{folds}]"
        ),
        "1,000 cells, all of one analysis": matrix(
            "entry", f"analyses.decode.shuffles: [{numbers}]"
        ),
    }


def measure(paths: list[Path]) -> dict[str, float]:
    """Return the figures of one process that loads the specs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-c", f"{CHILD}{MEMORY}", *map(str, paths)],
        check=True,
        capture_output=True,
        text=True,
        # An installed package has its bytecode; a checkout that may not write any would not.
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures, rss = run.stdout.splitlines()[-2:]
    return {**json.loads(figures), "total": total, "rss": float(rss)}


MEMORY = """
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
"""Linux counts the peak in KiB."""


def spread(values: list[float]) -> str:
    return f"{min(values):.3f} ({max(values):.3f})"


def verdict(name: str, found: list[dict[str, float]]) -> str:
    key, seconds = next(bound for part, bound in BOUNDS.items() if name.startswith(part))
    met = "within" if min(one[key] for one in found) <= seconds else "OVER"
    memory = "within" if max(one["rss"] for one in found) <= MOST else "OVER"
    return f"   {met} {seconds} s {key}, {memory} {MOST:.0f} MiB"


if __name__ == "__main__":
    main()
