"""Measured noise as a tolerance: where it is kept, and whether it is about a result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from patchclamp.engine.results import StoredResult
from patchclamp.registry.errors import StoreError

NOISE = "noise.json"
"""Name of the file beside a result; a baseline has its content in an attribute, `noise`."""


@dataclass(frozen=True)
class KnownNoise:
    """How far each variable moved, relative to its scale, and what was tried."""

    relative: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    text: str = ""


def noise_of(*results: StoredResult) -> KnownNoise:
    """Return the noise that was measured for the spec of the first of these results.

    It is looked for in the first result, then beside each. Noise of another spec is no noise of
    this one. Raises `StoreError` for a file that cannot be read.
    """
    digest = str(results[0].attrs.get("digest", ""))
    texts = [str(results[0].attrs["noise"])] if "noise" in results[0].attrs else []
    for result in results:
        path = result.path.with_name(NOISE)
        if path.exists():
            texts.append(path.read_text(encoding="utf-8"))
    for text in texts:
        made = _read(text)
        if digest and made.get("digest") == digest:
            relative = {name: float(one["relative"]) for name, one in made["variables"].items()}
            tried = ", ".join(one.removeprefix("run.") for one in made["variations"])
            return KnownNoise(relative, f"noise over {tried}", text)
    return KnownNoise()


def _read(text: str) -> Mapping[str, Any]:
    try:
        made = json.loads(text)
        return made if isinstance(made, dict) else {}
    except json.JSONDecodeError as error:
        raise StoreError(f"cannot read {NOISE}: {error}") from error
