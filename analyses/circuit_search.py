"""Searching for circuits: measuring what is kept, pruning nodes, and every step of that."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.readings import Change, Condition, MetricReading, Readings
from patchclamp.specs.analyses_circuits import Circuit, Pass, Prune

Measuring = Generator[Readings, Mapping[str, xr.Dataset], "NDArray[np.float64]"]
"""Yields readings, is sent their datasets, and returns values (condition, stimulus)."""

Pruning = Generator[Readings, Mapping[str, xr.Dataset], frozenset[str]]


def reading(entry: Circuit, stimuli: str, conditions: Iterable[Condition]) -> MetricReading:
    """Return a reading of a circuit's metric."""
    return MetricReading(stimuli, entry.metric.kind, tuple(conditions))


@dataclass(frozen=True)
class Step:
    """What was tried: to leave something out of a circuit, alone or with so many others.

    `share` is the metric without it as a share of the full model's.
    """

    circuit: str
    what: str
    share: float
    out: bool
    count: int = 1


@dataclass
class Search:
    """What is known while circuits are looked for: nodes by name, and every step taken."""

    entry: Circuit
    nodes: Mapping[str, Change]
    full: float
    trace: list[Step] = field(default_factory=list)

    @property
    def stimuli(self) -> str:
        """The set that circuits are looked for on."""
        return cast("str", self.entry.stimuli)

    def measure(
        self,
        stimuli: str,
        circuits: Sequence[frozenset[str]],
        cuts: Sequence[tuple[Change, ...]] = (),
    ) -> Measuring:
        """Measure a set with everything outside each circuit ablated, and `cuts` made in it."""
        conditions = [
            Condition(
                (("number", i),),
                (
                    *(change for name, change in self.nodes.items() if name not in kept),
                    *(cuts[i] if cuts else ()),
                ),
            )
            for i, kept in enumerate(circuits)
        ]
        data = yield {"circuits": reading(self.entry, stimuli, conditions)}
        return np.asarray(data["circuits"]["value"].to_numpy())

    def prune(self, name: str, how: Prune) -> Pruning:
        """Return the nodes that stay; see `analyses.circuit`."""
        kept = frozenset(self.nodes)
        while True:
            before = kept
            for one in how.passes:
                for candidate in order(self.nodes, one):
                    if candidate not in kept or candidate in how.protect:
                        continue
                    values = yield from self.measure(self.stimuli, [kept - {candidate}])
                    share = float(values.mean()) / self.full
                    out = share > how.keep_above
                    self.trace.append(Step(name, candidate, share, out))
                    kept = kept - {candidate} if out else kept
            if how.until == "once" or kept == before:
                return kept


def order(nodes: Mapping[str, Change], how: Pass) -> Iterator[str]:
    """Yield nodes in the order of a pass: by layer, and within it MLPs and heads as it says."""
    layers = sorted({change.layer for change in nodes.values()})
    for layer in layers if how.layers == "ascending" else reversed(layers):
        for sort in how.within:
            for name, change in nodes.items():
                if change.layer == layer and (change.head is not None) == (sort == "heads"):
                    yield name
