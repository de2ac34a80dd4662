"""Analyses that look for the parts that matter: attribution and circuits."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from patchclamp.registry import METRICS
from patchclamp.specs.analyses_causal import AnyUnits, UnitsChoice
from patchclamp.specs.captures import smooth_metric
from patchclamp.specs.fields import (
    AnsweredRef,
    InterventionRef,
    Model,
    Name,
    StimuliRef,
    one_of,
)
from patchclamp.specs.inference import Metric


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
