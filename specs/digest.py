"""The identity of a spec: what it asks, whatever way it is written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from patchclamp.specs.spec import SCIENCE_KEYS, Spec


def resolved(spec: Spec) -> dict[str, Any]:
    """Return a spec as plain data under the keys of its file, every default spelled out."""
    return spec.model_dump(mode="json", by_alias=True)


def digest(spec: Spec) -> str:
    """Return the sha256 of what decides the numbers: the science keys of a spec, resolved.

    The order of keys, short forms and spelled-out defaults make no difference; `name`,
    `description` and `run` do not enter. The order of a list does: it is science.
    """
    science = {key: value for key, value in resolved(spec).items() if key in SCIENCE_KEYS}
    canonical = json.dumps(science, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
