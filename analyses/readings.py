"""What an analysis needs measured: conditions, and readings of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from patchclamp.analyses.asking import ScoreReading, asked_of
from patchclamp.specs.captures import Capture
from patchclamp.specs.interventions import Acting, Intervention
from patchclamp.specs.positions import ALL, Positions
from patchclamp.specs.rdms import Ratings

Place = tuple[int, str]
"""A place of a choice of positions: its number relative to the anchor, and its name, if any."""


def _no_places(stimuli: str, positions: Positions) -> tuple[Place, ...]:
    raise LookupError(f"the places of {positions!r} in {stimuli!r} are not known")


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model that readings depend on; 0 heads of keys and values means as many.

    `parallel` says whether attention and MLP of a block read the same stream, `edgeless` why it has
    no edges to tell apart, if so. `sets` holds the stimulus set of each capture; `places` returns
    the places that positions have in a stimulus set. `doses` holds the values of each intervention
    that has several,
    `interventions` all that the spec has, and `seed` is the spec's.
    """

    layers: int
    heads: int
    sets: Mapping[str, str] = field(default_factory=dict)
    kv_heads: int = 0
    units: int = 0
    neurons: int = 0
    parallel: bool = False
    edgeless: str = ""
    places: Callable[[str, Positions], tuple[Place, ...]] = _no_places
    doses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    interventions: Mapping[str, Intervention] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Aside:
    """Puts in place what a run aside has there; that run's changes stand in the same condition."""

    kind: str = "aside"
    allow_no_effect: bool = True


ASIDE = Aside()
HELD = Aside("held")
"""Holds the norms of a run aside, at the site `norms` of a layer, or behind the last one, at the
scale that they have in the run without changes."""


End = tuple[str, int, int | None]
"""The receiver of an edge: site, layer and head."""


@dataclass(frozen=True)
class Change:
    """One intervention at one place; `head` None means the whole site.

    `intervention` says what is put there: the name of an entry under `interventions:`, or an entry
    that the analysis makes itself. `units` are those of the site that are changed, none means all.
    `place` is the number of the place among `positions` that is changed, None means all of them.
    `dose` is the number of the value, where the entry has several. One that is made `aside` is
    made in a run of its own, which is not measured and which others of the condition take from.
    One that goes `into` some inputs of later nodes (site, layer and head: `q`, `k` or `v`,
    `mlp_in`, or `resid_post` of the last layer, which the logits are read from) is made only as
    far as these see it: it cuts edges.
    """

    intervention: str | Acting | Aside
    site: str
    layer: int
    head: int | None = None
    units: tuple[int, ...] = ()
    positions: Positions = ALL
    place: int | None = None
    dose: int = 0
    aside: bool = False
    into: tuple[End, ...] = ()
    during: Literal["prompt", "generation", "both"] = "both"
    draw: int | None = None


Label = tuple[str, int | float | str]


@dataclass(frozen=True)
class Condition:
    """A labelled set of changes; the clean run is the one without any.

    `labels` become coordinates of the dim `condition`, as `(("layer", 4), ("head", 2))`.
    """

    labels: tuple[Label, ...]
    changes: tuple[Change, ...]


CLEAN = Condition(labels=(), changes=())
"""The condition that changes nothing."""


@dataclass(frozen=True)
class CaptureReading:
    """The activations of a capture, in the clean condition.

    `stimuli` names another set than the capture's own, recorded in the same way; `twin` asks for
    the untrained twin of the model: the same architecture with seeded random weights. `entry` is
    a capture that the analysis makes itself, and `capture` then only what it is called. `complete`
    says that every stimulus must have all of its tokens.
    """

    capture: str
    stimuli: str | None = None
    twin: bool = False
    entry: Capture | None = None
    complete: bool = field(default=True, compare=False)

    @property
    def name(self) -> str:
        """Name of the capture, with the other set's where it is of another."""
        return self.capture if self.stimuli is None else f"{self.capture}@{self.stimuli}"


@dataclass(frozen=True)
class MetricReading:
    """A metric of a stimulus set, clean and under each condition.

    It is measured as a dataset with `clean(stimulus)`, `value(condition, stimulus)` and
    `applied(condition, stimulus)`, which says whether a stimulus has any of the places that the
    condition changes. `answers` is the set whose answers are scored, where that is a partner.
    """

    stimuli: str
    metric: str
    conditions: tuple[Condition, ...]
    answers: str | None = None

    @property
    def asked(self) -> str:
        """The stimuli and the answers that are scored, as one set."""
        return asked_of(self.stimuli, self.answers)


@dataclass(frozen=True)
class GenerationReading:
    """What the model writes after the texts of a set, clean and under each condition.

    At temperature 0 the most probable token is taken, otherwise one is drawn. It is measured as a
    dataset with the texts `clean(stimulus)` and `value(condition, stimulus)`, both without the
    prompt, their numbers of tokens `clean_length` and `value_length`, the `prompt(stimulus)` and,
    where the set has answers, `answer(stimulus, variant)`.
    """

    stimuli: str
    conditions: tuple[Condition, ...]
    tokens: int
    temperature: float = 0.0

    @property
    def asked(self) -> str:
        """The stimuli."""
        return self.stimuli


Changing = MetricReading | GenerationReading
"""Readings that are about interventions."""


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


@dataclass(frozen=True)
class CircuitReading:
    """A circuit that another run has found, by its name in a result file.

    It is a dataset with `member(node)`, 1 where the circuit has a node.
    """

    path: str
    name: str

    @property
    def place(self) -> tuple[str, str]:
        """The file, as the spec says it, and the name."""
        return self.path, self.name


Reading = (
    CaptureReading
    | Changing
    | ScoreReading
    | AnswerReading
    | StimuliReading
    | RatingsReading
    | CircuitReading
)

Readings = dict[str, Reading]
"""What an analysis needs, by the part it plays: `of`, or `against.other`."""


def answered_by(readings: Iterable[Reading]) -> tuple[str, ...]:
    """Return the stimulus sets whose clean answers readings are made of."""
    about = [
        r.asked if isinstance(r, MetricReading) else r.stimuli
        for r in readings
        if isinstance(r, MetricReading | AnswerReading)
    ]
    return tuple(dict.fromkeys(about))
