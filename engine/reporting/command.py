"""The commands `report` and `cite`."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from patchclamp.engine.figures import Sketch, attempted
from patchclamp.engine.reporting.methods import methods
from patchclamp.engine.reporting.page import page
from patchclamp.engine.results import StoredResult, open_result
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import StoreError


def report_command(args: Namespace) -> int:
    """Write the page and the figures of each result."""
    if args.out is not None and len(args.result) > 1:
        raise StoreError(f"--out is one page, and there are {len(args.result)} results")
    for given in args.result:
        path, figures = report(given, args.out)
        sys.stdout.write(f"wrote {path} and {figures} figures in {path.parent / 'figures'}\n")
    return 0


def report(given: str | Path, out: str | Path | None = None) -> tuple[Path, int]:
    """Write the page of a result, and its figures as PNG and SVG in `figures/` beside it.

    Without `out` it is `report.html` beside the result. Returns the page and the number of figures.
    """
    with open_result(given) as result:
        path = Path(out) if out is not None else result.path.with_name("report.html")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page(result).encode("utf-8", "backslashreplace"))
        return path, save_figures(result, path.parent / "figures")


def save_figures(result: StoredResult, folder: Path) -> int:
    """Write every figure of a result as PNG and SVG, named by analysis and figure."""
    number = 0
    drawable = {**result.analyses, **{f"captures-{n}": result.capture(n) for n in result.captures}}
    for name, data in drawable.items():
        drawn = (found for found in attempted(data) if isinstance(found, Sketch))
        for sketch in drawn:
            for suffix in (".png", ".svg"):
                sketch.save(folder / f"{name}-{sketch.name}{suffix}")
            number += 1
    return number


def cite_command(args: Namespace) -> int:
    """Print the methods paragraph of a result."""
    with open_result(args.result) as result:
        sys.stdout.write(methods(result) + "\n")
    return 0
