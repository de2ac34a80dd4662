"""What may be recorded: a site, at which layers, heads and positions, and what of it is kept."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from patchclamp.registry import METRICS, SITES
from patchclamp.specs.fields import (
    LabelName,
    Model,
    SaeRef,
    StimuliRef,
    one_of,
)
from patchclamp.specs.positions import LAST, Positions
from patchclamp.specs.selections import HeadChoice, LayerChoice

ReductionName = Literal["mean", "max", "norm", "absmax", "topk", "column_mean", "first_share"]


class Reduction(Model):
    """A summary kept in place of the activations; short form: its kind. Padding never enters."""

    kind: ReductionName
    """`mean`, `max`: over `over`. `norm`: l2 over units. `absmax`, `topk`: the largest absolute
    units and which. `column_mean`: attention a key receives, over queries that see it.
    `first_share`: attention to the first token."""
    over: Literal["position", "unit", "stimulus"] | None = None
    """The dim that goes; None is units for `norm`, `absmax` and `topk`, positions for the rest."""
    by: LabelName | None = None
    """With `over: stimulus`, one summary for each value of this label."""
    k: int = Field(default=4, ge=1)
    """How many `topk` keeps."""


def _expand_reduction(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | dict) else value


class Gradient(Model):
    """Record the gradient of a number with respect to the site instead of the activation."""

    of: Annotated[str, one_of(METRICS)]
    """The metric."""
    at: Literal["answer", "each"] = "answer"
    """Where it is read: where the answer is due, or at each token, summed."""
    wrt: Literal["activation", "weight"] = "activation"
    """With respect to the activation, or to the weight that writes it (its norm only)."""


class Capture(Model):
    """Activations of one stimulus set at one site."""

    of: StimuliRef | None = None
    """The stimulus set; may be left out where there is one."""
    site: Annotated[str, one_of(SITES)]
    """Where to record (`patchclamp list sites`)."""
    layers: LayerChoice = "all"
    """Which blocks, counted from 0: `all`, `last`, `3`, `[0, 4]`, `0..11` (both ends included)."""
    heads: HeadChoice = "all"
    """Which heads, at sites that have them: `all`, `3`, `[0, 4]`, `L4H10`, `[L4H10, L5H1]`."""
    positions: Positions = LAST
    """Which tokens; padding never counts as one."""
    reduce: Annotated[
        tuple[Annotated[Reduction, BeforeValidator(_expand_reduction)], ...],
        BeforeValidator(
            _listed,
            json_schema_input_type=ReductionName | Reduction | list[ReductionName | Reduction],
        ),
    ] = ()
    """Summaries kept in place of the activations, done where the model runs; none keeps all."""
    gradient: Gradient | None = None
    """Record a gradient instead."""
    encode: SaeRef | None = None
    """A sparse autoencoder (`kind: sae`) through which the activations are sent."""
