"""Analyses that intervene: ablation, patching, attribution, circuits and steering."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from patchclamp.registry import METRICS
from patchclamp.registry.sites import WRITTEN_SITES
from patchclamp.specs.captures import smooth_metric
from patchclamp.specs.fields import (
    AnsweredRef,
    InterventionRef,
    LabelName,
    Model,
    Name,
    StimuliRef,
    one_of,
)
from patchclamp.specs.inference import Bootstrap, Correction, LabelPermutation, Metric
from patchclamp.specs.positions import ALL, Positions
from patchclamp.specs.selections import HeadChoice, LayerChoice


class Units(Model):
    """The parts of the model that an analysis is about."""

    site: Annotated[str, one_of(WRITTEN_SITES)]
    """`z`: attention heads; `mlp_out`: MLPs; `resid_post`: whole layers; `mlp_act`: neurons."""
    layers: LayerChoice = "all"
    """Which blocks."""
    heads: HeadChoice = "all"
    """Which heads of each block, at sites that have them."""
    positions: Positions = ALL
    """At which tokens."""
    group: int | None = Field(default=None, ge=1)
    """Units of the site, such as neurons, are taken so many at a time, in order; None takes all of
    them at once."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, dict) else value


AnyUnits = Annotated[
    tuple[Units, ...],
    BeforeValidator(_listed, json_schema_input_type=Units | list[Units]),
]
UnitsChoice = Annotated[AnyUnits, Field(min_length=1)]


class Ablation(Model):
    """Effect of removing each unit, one at a time or all but one, on a metric per stimulus."""

    kind: Literal["ablation"]
    stimuli: AnsweredRef | None = None
    """The stimulus set; may be left out where there is one with an answer."""
    with_: InterventionRef | None = Field(default=None, alias="with")
    """The intervention; may be left out where there is one."""
    units: Units
    """What is removed."""
    remove: Literal["each", "all_but_each"] = "each"
    """One unit at a time, or all others."""
    metric: Metric
    """What is measured."""
    share: bool = False
    """Also report the metric as a share of the clean baseline; an error where that baseline is
    not reliably positive, because a share of it would mean nothing."""
    bootstrap: Bootstrap = Bootstrap.model_construct()
    """Intervals over groups of stimuli."""
    correct: Correction = "none"
    """Test each effect against 0 and correct over units."""


class Path(Model):
    """A direct path between parts of the model, for path patching."""

    senders: tuple[Units, ...] = Field(min_length=1)
    """Where the other run is put in."""
    receivers: tuple[Units, ...] = Field(min_length=1)
    """Where its influence is let through; site `q`, `k` or `v` for one input of a head."""
    freeze: Literal["heads", "heads_and_mlps"] = "heads"
    """What keeps its value of the patched run; `heads_and_mlps` leaves direct edges only."""
    norms: Literal["frozen", "recomputed"] = "recomputed"
    """Whether layer norms keep the scale they had."""


class Patching(Model):
    """Activation patching over layers, positions and heads; path patching with `path`."""

    kind: Literal["patching"]
    clean: AnsweredRef | None = None
    """The set with the right answer; may be left out where there is one with an answer."""
    corrupt: StimuliRef
    """Its partners."""
    direction: Literal["denoising", "noising"]
    """`denoising` puts clean activations into the corrupt run, `noising` the reverse. Has no
    default: they answer different questions."""
    units: Units | None = None
    """What is patched."""
    grid: tuple[Literal["head", "position"], ...] = ("head", "position")
    """What is patched one at a time beside layers; of what is left out, all at once."""
    path: Path | None = None
    """Or which paths."""
    metric: Metric
    """What is measured."""
    normalise: bool = True
    """Report 0 for the run that is patched and 1 for the one patched from."""

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.units is None) == (self.path is None):
            raise ValueError("patching needs either 'units' or 'path'")
        return self


class Attribution(Model):
    """Linear estimates of patching effects from gradients, at nodes or edges."""

    kind: Literal["attribution"]
    clean: AnsweredRef | None = None
    """The set with the right answer; may be left out where there is one with an answer."""
    corrupt: StimuliRef
    """Its partners."""
    of: Literal["nodes", "edges"] = "nodes"
    """What is scored; an edge goes from a node to one input (q, k, v) of a later head, to a later
    MLP, or to the logits."""
    units: AnyUnits = ()
    """Which nodes; none means every head and MLP. Of edges, both ends are among them, or are the
    embeddings and the logits."""
    metric: Annotated[str, one_of(METRICS)]
    """What is differentiated."""
    direction: Literal["denoising", "noising"]
    """The patching that is estimated: `denoising` puts clean activations into the corrupt run,
    `noising` the reverse. Has no default: the sign of a score depends on it."""
    gradient_at: Literal["clean", "corrupt", "integrated"]
    """Where the gradient is taken; `integrated` is its mean along the straight path from the run
    that is patched to the other. Has no default: sizes and even signs differ."""
    along: Literal["inputs", "activations"] = "inputs"
    """What goes along that path: the token embeddings, or the activations of one layer of nodes at
    a time, which takes that many more passes and tends to the exact effects of layers."""
    quadrature: Literal["gauss_legendre", "midpoint", "trapezoid", "left", "right"] = (
        "gauss_legendre"
    )
    """Rule of the integral, for `integrated`; `left` has the run that is patched among its points,
    and `right` the other. Its completeness residual is reported."""
    steps: int = Field(default=8, ge=1, le=1000)
    """Points of the rule."""
    verify: int = Field(default=0, ge=0)
    """So many of the highest scores are patched exactly, and as many random ones."""
    faithfulness: bool = False
    """Also the curve of the metric over the share of nodes or edges that is kept while all others
    are patched, with CPR and CMD; for `noising`."""

    @field_validator("metric")
    @classmethod
    def _smooth(cls, value: str) -> str:
        return smooth_metric(value)

    @model_validator(mode="after")
    def _rule(self) -> Self:
        if self.quadrature == "trapezoid" and self.steps < 2:
            raise ValueError("the trapezoid rule has a point at either end: 'steps' is 2 or more")
        if self.faithfulness and self.direction != "noising":
            raise ValueError("'faithfulness' keeps some of the clean run: it goes with 'noising'")
        return self


class Pass(Model):
    """One way through the model that pruning takes."""

    layers: Literal["ascending", "descending"]
    """In which order."""
    within: tuple[Literal["mlp", "heads"], ...] = ("mlp", "heads")
    """And inside a layer."""


class Prune(Model):
    """Remove nodes one after the other as long as the metric stays above a share of the full."""

    kind: Literal["prune"]
    keep_above: float = Field(gt=0, lt=1)
    """Share of the clean metric that the circuit must keep."""
    passes: tuple[Pass, ...] = Field(
        default=(
            Pass.model_construct(layers="descending"),
            Pass.model_construct(layers="ascending"),
        ),
        min_length=1,
    )
    """The passes, in turn."""
    until: Literal["unchanged", "once"] = "unchanged"
    """Whether passes are repeated."""
    protect: tuple[str, ...] = ()
    """Nodes that stay, such as `L9H1` or `MLP11`."""


class Given(Model):
    """A circuit that is known, as nodes or in a file that a circuit analysis wrote."""

    kind: Literal["given"]
    nodes: tuple[str, ...] = ()
    """Its nodes, such as `L9H1` or `MLP11`."""
    path: str | None = None
    """Or a result file, relative to the spec's own folder, with a circuit of this one's name."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if bool(self.nodes) == (self.path is not None):
            raise ValueError("a given circuit needs either 'nodes' or 'path'")
        return self


class PruneEdges(Model):
    """Cut edges between a circuit's nodes, those of least effect first, exactly and together."""

    keep_above: float = Field(gt=0, lt=1)
    """Share of the circuit's own metric that its edges must keep; it has no default."""


class Circuit(Model):
    """Find a circuit, or take given ones, and evaluate it against random ones of its size."""

    kind: Literal["circuit"]
    stimuli: AnsweredRef | None = None
    """The stimulus set; may be left out where there is one with an answer."""
    with_: InterventionRef | None = Field(default=None, alias="with")
    """What stands in for what is outside; may be left out where there is one intervention."""
    circuits: dict[Name, Annotated[Prune | Given, Field(discriminator="kind")]] = Field(
        min_length=1
    )
    """The circuits, by name."""
    units: UnitsChoice
    """What a circuit is made of."""
    metric: Metric
    """What is measured."""
    transfer: tuple[AnsweredRef, ...] = ()
    """Other sets that each circuit is evaluated on."""
    random: int = Field(default=50, ge=0)
    """Random circuits of equal size, as controls."""
    members: bool = False
    """Also remove each member of a circuit from it."""
    faithfulness: bool = False
    """Also the curve over circuit size, with CPR and CMD."""
    edges: PruneEdges | None = None
    """Then cut edges between the nodes of each circuit."""


class Generation(Model):
    """How texts are continued."""

    max_new_tokens: int = Field(ge=1, le=4096)
    """Most tokens that are generated."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the most probable token."""


class Score(Model):
    """When a generated text counts as right."""

    kind: Literal["exact", "contains", "first_number"]
    """`exact`: it is the answer after stripping; `contains`: the answer stands in it;
    `first_number`: its first number is the answer."""
    after: str = ""
    """Only what follows this text is looked at."""


class Steering(Model):
    """Score or generate under interventions, with doses and controls."""

    kind: Literal["steering"]
    stimuli: StimuliRef | None = None
    """The prompts; may be left out where there is one set."""
    with_: tuple[InterventionRef, ...] = Field(default=(), alias="with")
    """The interventions, one condition for each of them and of its doses."""
    metric: Metric | None = None
    """What is measured on the prompt."""
    generate: Generation | None = None
    """Or how it is continued."""
    score: Score | None = None
    """And when the continuation is right."""
    by: LabelName | None = None
    """A label to report by."""
    controls: tuple[Literal["random_direction", "random_heads", "random_features"], ...] = (
        "random_direction",
    )
    """What has the same size and no meaning."""
    repeats: int = Field(default=20, ge=1)
    """Draws of each control."""
    test: LabelPermutation | None = None
    """Inference against the controls."""

    @model_validator(mode="after")
    def _outcome(self) -> Self:
        if self.metric is None and self.generate is None:
            raise ValueError("steering needs 'metric' or 'generate'")
        if self.score is not None and self.generate is None:
            raise ValueError("'score' judges generated text: it needs 'generate'")
        return self
