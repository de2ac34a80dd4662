"""What may be recorded: a site, at which layers, heads and positions, and what of it is kept."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

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

MAP_ONLY = ("column_mean", "first_share")
"""Reductions of attention patterns."""

DERIVED = ("attn_scores", "attn_pattern", "logprobs")
"""Sites that are computed from others beside the model's own pass, so that no gradient reaches
them."""

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

    @model_validator(mode="after")
    def _dims(self) -> Self:
        if self.kind not in ("mean", "max") and self.over not in (None, "unit"):
            raise ValueError(f"{self.kind!r} is over units, and takes no 'over: {self.over}'")
        if self.kind in MAP_ONLY and self.over is not None:
            raise ValueError(f"{self.kind!r} is over what its name says, and takes no 'over'")
        if self.by is not None and self.over != "stimulus":
            raise ValueError("'by' says which stimuli are put together: it needs 'over: stimulus'")
        return self


def _expand_reduction(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | dict) else value


def smooth_metric(value: str) -> str:
    """Return the name of a metric that has a gradient; refuse one that has none."""
    if not METRICS[value].smooth:
        smooth = [name for name, metric in METRICS.items() if metric.smooth]
        raise ValueError(f"{value!r} has no gradient; those that have: {', '.join(smooth)}")
    return value


class Gradient(Model):
    """Record the gradient of a number with respect to the site instead of the activation."""

    of: Annotated[str, one_of(METRICS)]
    """The metric."""

    at: Literal["answer", "each"] = "answer"
    """Where it is read: where the answer is due, or at each token, summed."""
    wrt: Literal["activation", "weight"] = "activation"
    """With respect to the activation, or to the weight that writes it: the size of what each
    token adds to the gradient of that weight."""

    @field_validator("of")
    @classmethod
    def _smooth(cls, value: str) -> str:
        return smooth_metric(value)


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
    keys: Positions | None = None
    """Of attention maps, the tokens that are attended to; without it all that the longest text has,
    which shorter ones lack."""
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

    @model_validator(mode="after")
    def _summaries(self) -> Self:
        is_map = "query" in SITES[self.site].dims
        if self.keys is not None and not is_map:
            raise ValueError(f"'keys' are of attention maps; {self.site!r} is none")
        for how in self.reduce:
            if how.kind in MAP_ONLY and self.keys is not None:
                raise ValueError(f"{how.kind!r} is about all keys, and takes no 'keys'")
            if how.kind in MAP_ONLY and self.site != "attn_pattern":
                raise ValueError(f"{how.kind!r} is of attention patterns; {self.site!r} is none")
            over = how.over or ("position" if how.kind in ("mean", "max") else "unit")
            if is_map and how.kind not in MAP_ONLY and over == "unit":
                raise ValueError(
                    f"{how.kind!r} over units has no meaning for {self.site!r}, which has "
                    "queries and keys; reduce over 'position' or 'stimulus', or use "
                    f"{' or '.join(map(repr, MAP_ONLY))}"
                )
        kinds = [(how.kind, how.over, how.by) for how in self.reduce]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a reduction is asked for twice")
        if len({how.by for how in self.reduce if how.over == "stimulus"}) > 1:
            raise ValueError("reductions over stimuli of one capture go by one label")
        return self

    @model_validator(mode="after")
    def _gradient(self) -> Self:
        if self.gradient is None:
            return self
        of_weight = self.gradient.wrt == "weight"
        if of_weight and self.site not in ("attn_out", "mlp_out"):
            raise ValueError(f"no weight writes {self.site!r} alone: use 'attn_out' or 'mlp_out'")
        if of_weight and [how.kind for how in self.reduce] != ["norm"]:
            raise ValueError("of a gradient of weights only its size is kept: 'reduce: norm'")
        if self.site in DERIVED:
            raise ValueError(
                f"{self.site!r} is computed from other sites, and has no gradient of its own"
            )
        if self.gradient.at == "each" and self.gradient.of != "cross_entropy":
            raise ValueError(
                f"'at: each' adds up the loss at each token: it needs 'of: cross_entropy', not "
                f"{self.gradient.of!r}"
            )
        return self
