"""What an analysis needs measured: conditions, and readings of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model that readings depend on."""

    layers: int
    heads: int


@dataclass(frozen=True)
class Change:
    """One intervention at one place; `head` None means the whole site.

    `intervention` is the name of the entry under `interventions:` that says what is put there.
    """

    intervention: str
    site: str
    layer: int
    head: int | None = None


@dataclass(frozen=True)
class Condition:
    """A labelled set of changes; the clean run is the one without any.

    `labels` become coordinates of the dim `condition`, as `(("layer", 4), ("head", 2))`.
    """

    labels: tuple[tuple[str, int], ...]
    changes: tuple[Change, ...]


CLEAN = Condition(labels=(), changes=())
"""The condition that changes nothing."""


@dataclass(frozen=True)
class CaptureReading:
    """The activations of a capture, in the clean condition."""

    capture: str


@dataclass(frozen=True)
class MetricReading:
    """A metric of a stimulus set, clean and under each condition.

    It is measured as a dataset with `clean(stimulus)` and `value(condition, stimulus)`.
    """

    stimuli: str
    metric: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AnswerReading:
    """What the model says where the answers of a stimulus set are due, in the clean condition.

    It is measured as a dataset with `logit_option(stimulus, option)`, an answer's spellings put
    together, and over stimuli `right`, the right option, `rank`, `logit_answers` and `logsumexp`
    (see `analyses.metrics`); with several variants also `logit_variant(stimulus, variant)`. Of a
    set without options the answers are `correct` and `foil`, and the attribute `options` is 0.
    """

    stimuli: str


Reading = CaptureReading | MetricReading | AnswerReading

Readings = dict[str, Reading]
"""What an analysis needs, by the part it plays: `of`, or `against.other`."""


def answered_by(readings: Iterable[Reading]) -> tuple[str, ...]:
    """Return the stimulus sets whose clean answers readings are made of."""
    about = (r.stimuli for r in readings if isinstance(r, MetricReading | AnswerReading))
    return tuple(dict.fromkeys(about))
