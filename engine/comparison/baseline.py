"""Baselines: a result that others are compared with, and who blessed it, when and why."""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from patchclamp.engine.comparison.compare import Options
from patchclamp.engine.comparison.noise_file import noise_of
from patchclamp.engine.results import StoredResult, open_result
from patchclamp.engine.store import sweep_dims, write_tree
from patchclamp.registry.errors import StoreError

ATTRIBUTE = "baseline"
"""Attribute at the root of a baseline: a JSON list of blessings, the last one first."""


@dataclass(frozen=True)
class Blessing:
    """Who made a result the baseline, when and why; which variables it keeps, and what it was."""

    by: str
    when: str
    because: str
    of: str
    digest: str
    verdict: str
    only: tuple[str, ...]
    skip: tuple[str, ...]


def blessings(result: StoredResult) -> tuple[Mapping[str, Any], ...]:
    """Return the blessings of a baseline, the last one first; none for any other result."""
    return tuple(json.loads(str(result.attrs.get(ATTRIBUTE, "[]"))))


def as_kept(options: Options, reference: StoredResult) -> Options:
    """Return options that look only at what a baseline keeps, unless others are asked for."""
    found = blessings(reference)
    if not found or options.only or options.skip:
        return options
    return replace(options, only=tuple(found[0]["only"]), skip=tuple(found[0]["skip"]))


def bless(source: str | Path, baseline: Path, options: Options, **about: str) -> Blessing:
    """Write what `options` select of a result as the baseline; earlier blessings stay in it.

    `about` has `because`, `by` (empty: whoever git or the system says) and `verdict`. The file
    appears whole or not at all. Raises `StoreError`.
    """
    with open_result(source) as result:
        earlier = _earlier(baseline)
        groups = {}
        for path, data in result.groups.items():
            names = [n for n in data.data_vars if options.selects(f"{path[1:]}/{n}")]
            if names:
                groups[path] = data[names]
        if not groups:
            raise StoreError(f"nothing of {str(source)!r} is selected: a baseline would be empty")
        blessing = Blessing(
            by=about["by"] or whoever(),
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            because=about["because"],
            of=str(source),
            digest=str(result.attrs.get("digest", "")),
            verdict=about["verdict"],
            only=tuple(options.only),
            skip=tuple(options.skip),
        )
        attrs = {**result.attrs, ATTRIBUTE: json.dumps([asdict(blessing), *earlier])}
        noise = noise_of(result).text
        attrs |= {"noise": noise} if noise else {}
        axes = sweep_dims(dim for data in groups.values() for dim in data.dims)
        baseline.parent.mkdir(parents=True, exist_ok=True)
        write_tree(groups, baseline, attrs, axes)
    return blessing


def _earlier(baseline: Path) -> tuple[Mapping[str, Any], ...]:
    if not baseline.exists():
        return ()
    with open_result(baseline) as old:
        return blessings(old)


def whoever() -> str:
    """Return who runs this: as git knows them, else by the name of their account."""
    try:
        known = [
            subprocess.run(
                ["git", "config", key], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for key in ("user.name", "user.email")
        ]
    except (OSError, subprocess.SubprocessError):
        return getpass.getuser()
    return f"{known[0]} <{known[1]}>"
