"""Positions: the tokens that a choice of positions means in every stimulus of a set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchclamp.engine.problems import Problems
from patchclamp.engine.ragged import Ragged
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
    index: NDArray[np.signedinteger[Any]]
    labels: tuple[int, ...]
    anchor: str
    names: tuple[str, ...] = ()
    every: bool = False
    """Whether these are all tokens of all stimuli, in order."""

    def only(self, rows: Sequence[int]) -> Chosen:
        """Return the tokens of some of the stimuli that take part."""
        if list(rows) == list(self.rows):
            return self
        index = self.index[self.places(rows)]
        return replace(self, rows=tuple(rows), index=index, every=False)

    def of(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Return the tokens (row, position) of any stimuli; all -1 for one that takes no part."""
        at = self.places(rows)
        return np.where(at[:, None] >= 0, self.index[at], -1).astype(np.int64)

    @cached_property
    def digest(self) -> str:
        """sha256 of the tokens chosen, and of the stimuli that they are chosen in."""
        content = hashlib.sha256(repr(self.index.shape).encode())
        content.update(np.asarray(self.rows, dtype=np.int64).data)
        content.update(np.ascontiguousarray(self.index, dtype=np.int64).data)
        return content.hexdigest()

    def places(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Return where some stimuli of the set, by number, stand in `rows`; -1 for those outside.

        >>> Chosen((0, 2), np.array([[3], [4]]), (0,), "last").places([2, 1, 5])
        array([ 1, -1, -1])
        """
        held, asked = self._rows, np.asarray(rows)
        found = np.searchsorted(held, asked).clip(max=len(held) - 1)
        return np.where(held[found] == asked, found, -1)

    @cached_property
    def _rows(self) -> NDArray[np.int32]:
        return np.asarray(self.rows, dtype=np.int32)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Which places there are: (row, position)."""
        return self.index >= 0


def choose(positions: Positions, of_set: SetPlan, path: Path, problems: Problems) -> Chosen | None:
    """Return the tokens that positions mean in a set, or None after P418.

    What single stimuli lack is told by `deep_positions.check_positions`; it is not told again.
    Captures with the same positions share what is chosen.
    """
    known = of_set.chosen
    try:
        if positions not in known:
            known[positions] = _choose(positions, of_set.stimuli or _without_places(of_set))
        found: Chosen = known[positions]
        return found
    except (PositionError, KeyError):
        return None
    except _RaggedError as error:
        problems.add(path, "P418", f"in a list of positions each is one token; {error}")
        return None


def _choose(positions: Positions, stimuli: Sequence[Stimulus]) -> Chosen:
    if isinstance(positions, Window):
        return _window(positions, stimuli)
    if len(positions.at) == 1:
        return _one(positions.at[0], stimuli)
    return _several(positions, stimuli)


class _RaggedError(ValueError):
    """A position in a list that is several tokens."""


def _without_places(of_set: SetPlan) -> tuple[Stimulus, ...]:
    """Return stimuli of a tokenizer that tells no places: as long as they are, without spans."""
    return tuple(Stimulus("", ((0, 0),) * len(ids), 0, {}) for ids in of_set.tokens.ids)


def _one(anchor: str | int, stimuli: Sequence[Stimulus]) -> Chosen:
    tokens = Ragged(resolve(anchor, stimulus) for stimulus in stimuli)
    longest = int(tokens.lengths().max())
    index = tokens.padded(range(len(tokens)), longest)
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
    rows = _all_rows(stimuli)
    return Chosen(rows, _narrow(index), labels, reference, every=anchor == "all")


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
    index = np.array(ranges, dtype=np.int32).reshape(-1, size)
    return Chosen(tuple(rows), _narrow(index), labels, anchor)


def _all_rows(stimuli: Sequence[Stimulus]) -> Sequence[int]:
    return range(len(stimuli))


def _narrow(index: NDArray[np.int32]) -> NDArray[np.signedinteger[Any]]:
    """Return whole numbers, -1 among them, in as few bytes as hold the largest."""
    return index.astype(np.min_scalar_type(-1 - int(index.max(initial=0))))
