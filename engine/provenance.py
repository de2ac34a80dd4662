"""Provenance: how every number in a result was made, as one JSON text."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from patchclamp.engine.notices import as_records
from patchclamp.engine.plan import Plan
from patchclamp.registry.plugins import added
from patchclamp.specs.digest import digest, resolved
from patchclamp.specs.load import Loaded

PACKAGES = (
    "patchclamp",
    "torch",
    "transformers",
    "nnsight",
    "numpy",
    "scipy",
    "scikit-learn",
    "xarray",
    "netCDF4",
)
"""Packages whose version can change a number."""


@cache
def versions() -> Mapping[str, str]:
    """Return the version of every package that can change a number."""
    return {package: version(package) for package in PACKAGES}


def root_attributes(plan: Plan, made: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of a result's root: flat text for people, `provenance` for programs."""
    spec = plan.loaded.spec
    return {
        "Conventions": "patchclamp-1",
        "title": spec.name,
        "description": spec.description,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "creation_library": "patchclamp",
        "creation_library_version": version("patchclamp"),
        "model": f"{spec.model.id}@{plan.model.revision}, {spec.model.weights} weights",
        "digest": digest(spec),
        "provenance": json.dumps(provenance(plan, made), indent=1, sort_keys=True),
    }


def sweep_attributes(
    loaded: Loaded,
    identity: str,
    cells: Sequence[Mapping[str, Any]],
    guards: Sequence[Mapping[str, Any]],
    warnings: Sequence[Mapping[str, str]],
) -> dict[str, str]:
    """Return the attributes of a result of several cells, each with its own provenance."""
    spec = loaded.spec
    failed = sum("failed" in cell for cell in cells)
    made = {
        "spec": loaded.document.text,
        "resolved": resolved(spec),
        "digest": identity,
        "cells": list(cells),
        "guards": list(guards),
        "warnings": list(warnings),
        "versions": versions(),
        "git": git_state(loaded.folder),
    }
    return {
        "Conventions": "patchclamp-1",
        "title": spec.name,
        "description": spec.description,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "creation_library": "patchclamp",
        "creation_library_version": version("patchclamp"),
        "cells": f"{len(cells)} cells" + (f", {failed} of them failed" if failed else ""),
        "digest": identity,
        "provenance": json.dumps(made, indent=1, sort_keys=True),
    }


def provenance(plan: Plan, made: Mapping[str, Any]) -> dict[str, object]:
    """Return everything that a second run would need; `made` is how the rig measured it."""
    spec = plan.loaded.spec
    twin = {} if plan.twin is None else {"untrained_twin": plan.twin.weights}
    return {
        "spec": plan.loaded.document.text,
        "overrides": list(plan.loaded.overrides),
        "plugins": list(added()),
        "resolved": resolved(spec),
        "digest": digest(spec),
        "seed": spec.seed,
        "model": {
            "id": spec.model.id,
            "revision": plan.model.revision,
            "weights": spec.model.weights,
            "weights_sha256": plan.weights,
            "config_sha256": plan.model.config_digest,
            "tokenizer_sha256": plan.model.tokenizer_digest(),
            "dtype": spec.model.dtype,
            **twin,
        },
        "stimuli_sha256": {name: of_set.table.digest for name, of_set in plan.given.items()},
        **made,
        "warnings": as_records(plan.loaded, [plan]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git_state(plan.loaded.folder),
    }


def git_state(folder: Path) -> dict[str, object] | None:
    """Return commit and cleanness of the repository that holds a folder; None if there is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
