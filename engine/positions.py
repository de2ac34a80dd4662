"""Positions: the tokens that a choice of positions means in every stimulus of a set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from patchclamp.engine.problems import Problems
from patchclamp.engine.sets import SetPlan
from patchclamp.engine.spans import PositionError, Stimulus, lay, resolve
from patchclamp.specs.diagnostics import Path
from patchclamp.specs.positions import Named, Positions, Window


@dataclass(frozen=True)
class Chosen:
    """The tokens chosen in each stimulus, and what each place of the dim `position` is.

    `rows` are the stimuli that take part, by their number in the set: a window can drop some.
    `index` (row, position) counts tokens from the first; -1 where a stimulus has none there.
    `labels` number the places relative to `anchor`; `names` are what the spec calls them, where
    it lists several.
    """

    rows: Sequence[int]
    index: NDArray[np.int32]
    labels: tuple[int, ...]
    anchor: str
    names: tuple[str, ...] = ()
    every: bool = False
    """Whether these are all tokens of all stimuli, in order."""

    def only(self, rows: Sequence[int]) -> Chosen:
        """Return the tokens of some of the stimuli that take part."""
        if list(rows) == list(self.rows):
            return self
        place = {row: i for i, row in enumerate(self.rows)}
        index = self.index[[place[row] for row in rows]]
        return replace(self, rows=tuple(rows), index=index, every=False)

    def of(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Return the tokens (row, position) of any stimuli; all -1 for one that takes no part."""
        place = {row: i for i, row in enumerate(self.rows)}
        none = np.full(self.index.shape[1], -1)
        found = [self.index[place[row]] if row in place else none for row in rows]
        return np.stack(found).astype(np.int64)

    @cached_property
    def digest(self) -> str:
        """sha256 of the tokens chosen, and of the stimuli that they are chosen in."""
        content = hashlib.sha256(repr(self.index.shape).encode())
        content.update(np.asarray(self.rows, dtype=np.int64).data)
        content.update(np.ascontiguousarray(self.index, dtype=np.int64).data)
        return content.hexdigest()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Which places there are: (row, position)."""
        return self.index >= 0


def choose(positions: Positions, of_set: SetPlan, path: Path, problems: Problems) -> Chosen | None:
    """Return the tokens that positions mean in a set, or None after P418.

    What single stimuli lack is told by `deep_positions.check_positions`; it is not told again.
    """
    stimuli = of_set.stimuli or _without_places(of_set)
    try:
        if isinstance(positions, Window):
            return _window(positions, stimuli)
        if len(positions.at) == 1:
            return _one(positions.at[0], stimuli)
        return _several(positions, stimuli)
    except (PositionError, KeyError):
        return None
    except _RaggedError as error:
        problems.add(path, "P418", f"in a list of positions each is one token; {error}")
        return None


class _RaggedError(ValueError):
    """A position in a list that is several tokens."""


def _without_places(of_set: SetPlan) -> tuple[Stimulus, ...]:
    """Return stimuli of a tokenizer that tells no places: as long as they are, without spans."""
    return tuple(Stimulus("", ((0, 0),) * len(ids), 0, {}) for ids in of_set.tokens.ids)


def _one(anchor: str | int, stimuli: Sequence[Stimulus]) -> Chosen:
    ranges = [resolve(anchor, stimulus) for stimulus in stimuli]
    longest = max(map(len, ranges))
    labels, reference = tuple(range(longest)), str(anchor)
    if isinstance(anchor, int):
        labels = (anchor,) if anchor >= 0 else (anchor + 1,)
        reference = "first" if anchor >= 0 else "last"
    elif anchor == "all":
        reference = "first"
    elif anchor == "answer":
        reference = "last"
    elif "." not in anchor and anchor not in ("first", "last"):
        reference = f"{anchor}.first"
    elif anchor.endswith(".all"):
        reference = anchor.removesuffix("all") + "first"
    return Chosen(
        _all_rows(stimuli), _padded(ranges, longest), labels, reference, every=anchor == "all"
    )


def _several(positions: Named, stimuli: Sequence[Stimulus]) -> Chosen:
    index = np.full((len(stimuli), len(positions.at)), -1, dtype=np.int32)
    for row, stimulus in enumerate(stimuli):
        for place, anchor in enumerate(positions.at):
            tokens = resolve(anchor, stimulus)
            if len(tokens) != 1:
                raise _RaggedError(
                    f"{str(anchor)!r} is {len(tokens)} tokens in {stimulus.text[:40]!r}: say which "
                    "with '.first' or '.last'"
                )
            index[row, place] = tokens[0]
    names = tuple(map(str, positions.at))
    return Chosen(_all_rows(stimuli), index, tuple(range(len(names))), "list", names)


def _window(window: Window, stimuli: Sequence[Stimulus]) -> Chosen:
    size = window.size or 0
    first = 0 if window.align == "left" else -(window.before or 0)
    if window.align != "left":
        size = (window.before or 0) + (window.after or 0) + 1
    rows, ranges = [], []
    for row, stimulus in enumerate(stimuli):
        try:
            tokens: Sequence[int] = lay(window, stimulus)
        except PositionError:
            if window.short == "error":
                raise
            if window.short == "drop":
                continue
            tokens = lay(window, stimulus, masked=True)
        rows.append(row)
        ranges.append(tokens)
    anchor = "first" if window.align == "left" else str(window.align)
    if window.align == "left" and window.skip == "bos":
        anchor = "first after BOS"
    labels = tuple(range(first, first + size))
    return Chosen(tuple(rows), _padded(ranges, size), labels, anchor)


def _all_rows(stimuli: Sequence[Stimulus]) -> Sequence[int]:
    return range(len(stimuli))


def _padded(ranges: Sequence[Sequence[int]], size: int) -> NDArray[np.int32]:
    index = np.full((len(ranges), size), -1, dtype=np.int32)
    for row, tokens in enumerate(ranges):
        index[row, : len(tokens)] = tokens
    return index
