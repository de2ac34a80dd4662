"""Readings about two runs: which sets are asked, and what changes between them are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from patchclamp.specs.positions import ALL, Positions


def asked_of(stimuli: str, answers: str | None) -> str:
    """Return the name of a set whose answers are those of its partner.

    >>> asked_of("corrupt", "clean"), asked_of("clean", "clean")
    ('corrupt|clean', 'clean')
    """
    return stimuli if answers in (None, stimuli) else f"{stimuli}|{answers}"


@dataclass(frozen=True)
class Spot:
    """A site in a layer, at some tokens of each stimulus; no `heads` are all of them."""

    site: str
    layer: int
    positions: Positions = ALL
    heads: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScoreReading:
    """What activations change by from one run to another, times the gradient of a metric.

    Changes are those from the run of the set `into` to that of `source`, its partners. The gradient
    is taken in the run of `into` with what stands at `along`, the token embeddings if None, moved
    the share of each of the `points` towards `source`, and summed by their weights.

    It is measured as a dataset with `score(stimulus, node)`, the nodes of `spots`; `edge(stimulus,
    sender, receiver)`, NaN where nothing goes from one to the other; and, of a path,
    `total(stimulus)` of all that is moved, whose name is the attribute `along`. Coordinates such
    as `node_site`, `node_layer` and `node_head`, -1 for none, say what names mean. `answers` is the
    set whose answers are scored.
    """

    into: str
    source: str
    metric: str
    answers: str
    points: tuple[tuple[float, float], ...]
    along: Spot | None = None
    spots: tuple[Spot, ...] = ()
    senders: tuple[Spot, ...] = ()
    receivers: tuple[Spot, ...] = ()

    @property
    def own(self) -> str:
        """The set that is patched, with the answers that are scored."""
        return asked_of(self.into, self.answers)

    @property
    def other(self) -> str:
        """The set that is patched from, with the answers that are scored."""
        return asked_of(self.source, self.answers)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many nodes, senders and receivers are scored of each stimulus."""
        nodes, senders, receivers = (
            sum(len(spot.heads) or 1 for spot in spots)
            for spots in (self.spots, self.senders, self.receivers)
        )
        return nodes, senders, receivers

    @property
    def end(self) -> Literal["into", "source", ""]:
        """The run in which the only gradient is taken, as it is; nothing for a path."""
        if len(self.points) > 1 or self.along is not None:
            return ""
        ends: dict[float, Literal["into", "source"]] = {0.0: "into", 1.0: "source"}
        return ends.get(self.points[0][0], "")

    @property
    def beside(self) -> int:
        """How many times a stimulus stands in a pass: in both runs, and at each point."""
        return 2 if self.end else 2 + len(self.points)
