"""The identity of a spec: what it asks, whatever way it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from patchclamp.specs.spec import SCIENCE_KEYS, SECTIONS, Spec

if TYPE_CHECKING:
    from json import JSONEncoder

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

    `written` keeps what parts look like, by what they are in memory: cells share most of them.
    """
    written = {} if written is None else written
    parts = {key: _written(value) for key, value in _plain(spec, include=_ALONE).items()}
    parts["model"] = _once(spec.model, written)
    for section in SECTIONS:
        members = getattr(spec, section)
        if not members:
            continue
        if id(members) not in written:
            entries = {name: _once(entry, written) for name, entry in members.items()}
            written[id(members)] = _mapping(entries)
        parts[section] = written[id(members)]
    return hashlib.sha256(f"{ALGORITHM}\n{_mapping(parts)}".encode("ascii")).hexdigest()


_ALONE = set(SCIENCE_KEYS) - {"model", *SECTIONS}


def _once(part: BaseModel, written: dict[int, str]) -> str:
    if id(part) not in written:
        written[id(part)] = _written(_plain(part))
    return written[id(part)]


def _plain(model: BaseModel, include: set[str] | None = None) -> dict[str, Any]:
    # No field `kind` has a default (a test holds it), so that what tells entries apart stays.
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=include)


def _written(value: Any) -> str:
    return _encoder().encode(value)


@cache
def _encoder() -> JSONEncoder:
    import json  # checking one spec asks for no digest

    return json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def _mapping(members: Mapping[str, str]) -> str:
    """Return a mapping as `_written` would, its values written already."""
    return "{" + ",".join([f'"{key}":{members[key]}' for key in sorted(members)]) + "}"
