"""Alignment: that two runs which are subtracted from one another have the same tokens to do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from patchclamp.analyses.asking import ScoreReading, Spot
from patchclamp.engine.positions import choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.sets import SetPlan
from patchclamp.specs.positions import ALL


def check_scores(
    analysis: str,
    reading: ScoreReading,
    sets: Mapping[str, SetPlan],
    problems: Problems,
) -> None:
    """P422: both runs have as many tokens at every spot."""
    here = ("analyses", analysis)
    if not {reading.own, reading.other} <= sets.keys():
        return  # told as what it is: no partners
    runs = sets[reading.own], sets[reading.other]
    for spot in _aligned(reading):
        counts = []
        for of_set in runs:
            count = np.zeros(len(of_set.table), dtype=np.int64)
            chosen = choose(spot.positions, of_set, here, problems)
            if chosen is None:
                return
            count[list(chosen.rows)] = chosen.mask.sum(axis=1)
            counts.append(count)
        wrong = np.flatnonzero((counts[0] != counts[1]) | (counts[0] == 0))
        if len(wrong):
            row = int(wrong[0])
            where = "" if spot.positions == ALL else f" at {spot.positions.model_dump_json()}"
            problems.add(
                here,
                "P422",
                f"stimulus {runs[0].table.ids[row]!r} has {counts[0][row]} tokens{where} in "
                f"{reading.into!r} and {counts[1][row]} in {reading.source!r}, whose activations "
                "are subtracted from one another: take partners of one length, or attribute to "
                "nodes at single positions, with the gradient of one run",
            )
            return


def _aligned(reading: ScoreReading) -> Iterator[Spot]:
    """Yield where both runs must have the same tokens."""
    if reading.senders or (reading.along is None and reading.points[0][0] not in (0.0, 1.0)):
        yield Spot("embed", 0)
    if reading.along is not None:
        yield reading.along
    yield from {spot.positions: spot for spot in reading.spots}.values()
