"""The identity of a spec: what it asks, whatever way it is written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from patchclamp.specs.spec import SCIENCE_KEYS, Spec

ALGORITHM = 2
"""Version of what is hashed. It goes up whenever a default of the grammar changes its value, since
fields that equal their default are left out: the same text would mean something else."""


def resolved(spec: Spec) -> dict[str, Any]:
    """Return a spec as plain data under the keys of its file, every default spelled out."""
    return spec.model_dump(mode="json", by_alias=True)


def digest(spec: Spec) -> str:
    """Return the sha256 of what decides the numbers: the science keys of a spec, resolved.

    The order of keys, short forms and spelled-out defaults make no difference; `name`,
    `description` and `run` do not enter. The order of a list does: it is science. What equals
    its default is left out, so that a field which the grammar gains keeps older digests.
    """
    # No field `kind` has a default (a test holds it), so that what tells entries apart stays.
    science = spec.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, include=set(SCIENCE_KEYS)
    )
    canonical = json.dumps(science, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{ALGORITHM}\n{canonical}".encode("ascii")).hexdigest()
