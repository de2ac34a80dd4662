"""The command `merge`: several results become one file, with dims that say which run is which."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from patchclamp.engine.comparison.tolerance import matches
from patchclamp.engine.joining import Part, join
from patchclamp.engine.results import StoredResult, common, open_result
from patchclamp.engine.store import sweep_dims, write_tree
from patchclamp.registry.errors import StoreError, UsageError, hint

LABELS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "model": lambda made: made.get("model", {}).get("id"),
    "revision": lambda made: made.get("model", {}).get("revision"),
    "seed": lambda made: made.get("seed", made.get("resolved", {}).get("seed")),
}
"""Dim -> what its label is in the provenance of a run."""


def merge_command(args: Namespace) -> int:
    """Write one result that holds several."""
    dims = tuple(dict.fromkeys(args.along))
    for dim in dims:
        if dim not in LABELS:
            raise UsageError(f"results cannot be merged along {dim!r}{hint(dim, LABELS)}")
    path = merge(args.result, Path(args.out), along=dims, only=tuple(args.only))
    sys.stdout.write(f"wrote {path}: {len(args.result)} results along {', '.join(dims)}\n")
    return 0


def merge(
    results: Sequence[str | Path], out: Path, *, along: Sequence[str], only: Sequence[str] = ()
) -> Path:
    """Write the results of several runs as one, along dims among `model`, `revision` and `seed`.

    Labels come from the provenance of the runs; `only` holds patterns of the variables that are
    kept, all analyses and stimuli unless given. Raises `StoreError` where runs do not fit together.
    """
    if len(results) < 2:
        raise UsageError(f"merge takes two results or more; got {len(results)}")
    with ExitStack() as files:
        runs = [(str(given), files.enter_context(open_result(given))) for given in results]
        places = [_place(name, run, along) for name, run in runs]
        groups = {}
        for group in dict.fromkeys(path for _, run in runs for path in run.groups):
            parts = [
                Part(place, data, name)
                for place, (name, run) in zip(places, runs, strict=True)
                if (data := _kept(run, group, only)) is not None
            ]
            if parts:
                groups[group] = join(parts, shared=group.startswith("/stimuli/"))
        if not groups:
            raise StoreError("nothing is selected: a merged result would be empty")
        out.parent.mkdir(parents=True, exist_ok=True)
        axes = sweep_dims(dim for data in groups.values() for dim in data.dims)
        write_tree(groups, out, _attributes([run for _, run in runs], along), axes)
    return out


def _place(name: str, run: StoredResult, along: Sequence[str]) -> dict[str, Any]:
    """Return the labels of a run; a dim that all of its analyses have needs none."""
    place = {}
    for dim in along:
        if run.analyses and all(dim in data.dims for data in run.analyses.values()):
            continue
        label = LABELS[dim](run.made)
        if label is None:
            raise StoreError(f"the provenance of {name!r} does not say its {dim}")
        place[dim] = label
    return place


def _kept(run: StoredResult, group: str, only: Sequence[str]) -> xr.Dataset | None:
    """Return what is kept of a group; captures, which are large, only where they are asked for."""
    if group not in run.groups or (not only and group.startswith("/captures/")):
        return None
    data = run.groups[group]
    names = [
        name
        for name in data.data_vars
        if not only or any(matches(pattern, f"{group[1:]}/{name}") for pattern in only)
    ]
    return data[names].load() if names else None


def _attributes(runs: Sequence[StoredResult], along: Sequence[str]) -> dict[str, str]:
    """Return the attributes of a merged result: what all runs share, and each one's provenance."""
    made = [dict(run.provenance) for run in runs]
    titles = dict.fromkeys(str(run.attrs.get("title", "")) for run in runs)
    provenance = {**common(made), "merged": {"along": list(along), "runs": made}}
    return {
        "Conventions": "patchclamp-1",
        "title": " + ".join(titles),
        "description": f"{len(runs)} results merged along {', '.join(along)}",
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "creation_library": "patchclamp",
        "provenance": json.dumps(provenance, indent=1, sort_keys=True),
    }
