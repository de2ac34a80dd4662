"""Choosing units at a place of a capture, in whichever way a selection names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.choosing import Chosen, choose, choose_l1, choose_random
from patchclamp.analyses.contrasts import Kind
from patchclamp.analyses.patterns import Capture
from patchclamp.analyses.places import SHARE, Place, places, size
from patchclamp.analyses.seeds import Seeds
from patchclamp.analyses.splits import Array
from patchclamp.analyses.unit_scores import LEAST_POSITIONS, SCORES, Block, Rows
from patchclamp.registry.errors import AnalysisError, UndefinedError

ROWS = ("stimulus", "position")
"""What units are scored over; what else a capture has are its windows."""

COURSES: Mapping[str, Kind] = {
    "discriminative": "discriminative_target",
    "categorical": "categorical",
}
"""Kinds that compare time courses, and the contrast of each."""


@dataclass(frozen=True)
class Way:
    """A way of choosing: its name, its kind and how many units it chooses."""

    name: str
    kind: str
    k: int


def windows(capture: Capture, memory: int) -> Iterator[Place]:
    """Yield the patterns of each layer and head, over stimuli and positions."""
    rows = tuple(dim for dim in ROWS if dim == "stimulus" or dim in capture.dims)
    return places(capture, rows=rows, memory=memory)


def choose_at(
    ways: Sequence[Way],
    window: Place,
    labellings: NDArray[np.int64],
    parts: Sequence[Rows],
    how: tuple[Seeds, int],
) -> tuple[list[Chosen], Array]:
    """Return the units chosen at a window in every training part, and all means over positions.

    `ways` choose the same number of units; `labellings`: (labelling, stimulus), 1 in the class
    that units are to stand for; `how`: seeds, and bytes that may be held. Means: (stimulus, unit).
    As `choose` and `choose_l1`; a window that does not fit, and one too short for time courses,
    raise `AnalysisError`.
    """
    (seeds, memory), n = how, labellings.shape[1]
    _need_memory(window, n, memory)
    for way in ways:
        if way.kind in COURSES:
            _need_positions(way, window, n)
    kinds = tuple(COURSES[way.kind] for way in ways if way.kind in COURSES)
    blocks = partial(_blocks, window, (n, len(labellings)), kinds, memory)
    means = np.concatenate([block.means for block in blocks()], axis=1)
    scored = [way for way in ways if way.kind in SCORES]
    scores = [SCORES[way.kind] for way in scored]
    best = choose(blocks(), scores, labellings, parts, ways[0].k) if scored else []
    found = dict(zip(scored, best, strict=True))
    for way in ways:
        if way.kind == "random":
            rng = seeds.generator(f"random.{way.name}.{window.words}")
            found[way] = choose_random(means.shape[1], len(parts), way.k, rng)
        elif way.kind == "l1":
            found[way] = choose_l1(means, labellings, parts, way.k)
    return [found[way] for way in ways], means


def _blocks(
    window: Place, count: tuple[int, int], kinds: tuple[Kind, ...], memory: int
) -> Iterator[Block]:
    """Yield blocks of units with their time courses, of one position if there is one.

    `count`: numbers of stimuli and of labellings.
    """
    rows, units = window.shape
    n, n_labellings = count
    step = max(1, memory // (8 * SHARE * max(rows, n * n, n_labellings)))
    for start in range(0, units, step):
        values = window[:, start : start + step]
        block = Block(values.reshape(n, rows // n, -1), kinds)
        wrong = np.flatnonzero(~np.isfinite(block.courses).all(axis=(1, 2)))
        if wrong.size:
            raise UndefinedError(
                f"{wrong.size} of {n} patterns hold NaN or infinite values", tuple(wrong.tolist())
            )
        yield block


def _need_memory(window: Place, n: int, memory: int) -> None:
    needed = 8 * 2 * n * window.shape[1]
    if needed > memory:
        raise AnalysisError(
            f"{n} stimuli of {window.shape[1]} units need {size(needed)} to choose from, and "
            f"run.budget.memory allows {size(memory)}: allow more, or take fewer stimuli"
        )


def _need_positions(way: Way, window: Place, n: int) -> None:
    positions = window.shape[0] // n
    if positions < LEAST_POSITIONS:
        raise AnalysisError(
            f"a time course of {positions} positions has no correlation that could be compared: "
            f"method kind {way.kind!r} needs a capture of at least {LEAST_POSITIONS} positions"
        )
