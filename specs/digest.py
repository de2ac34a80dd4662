"""The identity of a spec: what it asks, whatever way it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from patchclamp.specs.spec import SCIENCE_KEYS, SECTIONS, Spec

ALGORITHM = 3
"""Version of what is hashed. It goes up whenever a default of the grammar changes its value, since
fields that equal their default are left out: the same text would mean something else."""


def resolved(spec: Spec) -> dict[str, Any]:
    """Return a spec as plain data under the keys of its file, every default spelled out."""
    return spec.model_dump(mode="json", by_alias=True)


def digest(spec: Spec, written: dict[int, str] | None = None) -> str:
    """Return the sha256 of what decides the numbers: the science keys of a spec, resolved.

    The order of keys, short forms and spelled-out defaults make no difference; `name`,
    `description` and `run` do not enter. The order of a list does: it is science. What equals
    its default is left out, so that a field which the grammar gains keeps older digests.

    `written` keeps what entries look like, by what they are in memory: cells share most of them.
    """
    written = {} if written is None else written
    include: dict[str, Any] = dict.fromkeys(_ALONE, True)
    for section in SECTIONS:
        new = {name for name, e in getattr(spec, section).items() if id(e) not in written}
        include.update({section: new} if new else {})
    # No field `kind` has a default (a test holds it), so that what tells entries apart stays.
    science = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=include)
    parts = {key: _written(science[key]) for key in _ALONE & science.keys()}
    for section in SECTIONS:
        members, given = getattr(spec, section), science.get(section, {})
        written.update({id(members[name]): _written(value) for name, value in given.items()})
        if members:
            parts[section] = _mapping({name: written[id(e)] for name, e in members.items()})
    return hashlib.sha256(f"{ALGORITHM}\n{_mapping(parts)}".encode("ascii")).hexdigest()


_ALONE = set(SCIENCE_KEYS) - set(SECTIONS)


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _mapping(members: Mapping[str, str]) -> str:
    """Return a mapping as `_written` would, its values written already."""
    return "{" + ",".join([f'"{key}":{members[key]}' for key in sorted(members)]) + "}"
