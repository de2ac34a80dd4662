"""The specs that ship with patchclamp, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
"""Folder of the shipped specs."""

_DESCRIPTION = re.compile(r"^description: *(.+)$", re.MULTILINE)


@cache
def shipped() -> Mapping[str, Path]:
    """Return the file of each shipped spec, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def summary(path: Path) -> str:
    """Return the description of a shipped spec, read from its text alone."""
    found = _DESCRIPTION.search(path.read_text(encoding="utf-8"))
    return found[1] if found else ""
