"""Dotted paths, such as `analyses.decode.cv.folds` or `stimuli.words.labels[0]`, read from text."""

from __future__ import annotations

import re
from typing import NamedTuple

_PART = re.compile(r"(?:^|\.)([^\s.\[\]=](?:[^.\[\]=]*[^\s.\[\]=])?)|\[([0-9]{1,9})\]")
_INDEX = re.compile(r"[0-9]{1,9}")


class PathError(ValueError):
    """A path that cannot be read or followed; `part` is the number of the part at fault."""

    def __init__(self, message: str, part: int = 0) -> None:
        self.part = part
        super().__init__(message)


class Part(NamedTuple):
    """One part of a path, and where in the text of the path it stands."""

    text: str
    start: int
    end: int

    @property
    def number(self) -> int | None:
        """The part as the index of a list, if it can be one."""
        return int(self.text) if _INDEX.fullmatch(self.text) else None


def read_path(text: str) -> tuple[Part, ...]:
    """Return the parts of a dotted path; an index stands in brackets or between dots.

    >>> [part.text for part in read_path("stimuli.words.labels[0]")]
    ['stimuli', 'words', 'labels', '0']
    """
    parts: list[Part] = []
    end = 0
    while end < len(text) or not parts:
        found = _PART.match(text, end)
        if found is None or (not parts and found[0][0] in ".["):
            raise PathError(
                f"{text!r} is not a path; write keys with dots between, such as model.dtype"
            )
        group = 1 if found[1] is not None else 2
        parts.append(Part(found[group], *found.span(group)))
        end = found.end()
    return tuple(parts)
