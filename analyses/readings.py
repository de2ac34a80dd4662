"""What an analysis needs measured: conditions, and readings of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from patchclamp.specs.rdms import Ratings


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model that readings depend on, and the stimulus set of each capture."""

    layers: int
    heads: int
    sets: Mapping[str, str] = field(default_factory=dict)


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
    """The activations of a capture, in the clean condition.

    `stimuli` names another set than the capture's own, recorded in the same way; `twin` asks for
    the untrained twin of the model: the same architecture with seeded random weights.
    """

    capture: str
    stimuli: str | None = None
    twin: bool = False

    @property
    def name(self) -> str:
        """Name of the capture, with the other set's where it is of another."""
        return self.capture if self.stimuli is None else f"{self.capture}@{self.stimuli}"


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


@dataclass(frozen=True)
class StimuliReading:
    """The texts and tokens of a stimulus set.

    It is a dataset with `token_id(stimulus, position)`, -1 where a stimulus has no such token.
    """

    stimuli: str


@dataclass(frozen=True)
class RatingsReading:
    """A table of rated pairs, read from a file.

    It is a dataset with `dissimilarity(rating)` and the coordinates `first` and `second`, the two
    items.
    """

    ratings: Ratings


Reading = CaptureReading | MetricReading | AnswerReading | StimuliReading | RatingsReading

Readings = dict[str, Reading]
"""What an analysis needs, by the part it plays: `of`, or `against.other`."""


def answered_by(readings: Iterable[Reading]) -> tuple[str, ...]:
    """Return the stimulus sets whose clean answers readings are made of."""
    about = (r.stimuli for r in readings if isinstance(r, MetricReading | AnswerReading))
    return tuple(dict.fromkeys(about))
