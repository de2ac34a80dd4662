"""What may be done to a model while it runs."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from patchclamp.registry.sites import WRITTEN_SITES
from patchclamp.specs.fields import (
    KINDLESS,
    AnalysisRef,
    InterventionRef,
    Model,
    SaeRef,
    SelectionRef,
    StimuliRef,
    one_of,
)
from patchclamp.specs.positions import ALL, Positions
from patchclamp.specs.selections import HeadChoice, LayerChoice


class Zero(Model):
    """Replace by zeros; short form `zero`."""

    kind: Literal["zero"]


class Mean(Model):
    """Replace by a mean over a stimulus set, run clean; short form `{mean_over: SET}`."""

    kind: Literal["mean"]
    mean_over: StimuliRef
    """The reference set the mean is taken over."""
    per: Literal["position", "group", "all"]
    """`position`: a mean for each token position, counted from the first token; `group`: for each
    position within each group; `all`: one mean over all positions. Has no default: published
    studies differ."""


class Resample(Model):
    """Replace by the activation of another stimulus; short form `{resample: SET}`."""

    kind: Literal["resample"]
    resample: StimuliRef
    """The set that stimuli are drawn from, seeded; its partner where the sets are partners."""


class Along(Model):
    """Take away what lies along a direction; short form `{along: ANALYSIS}`."""

    kind: Literal["along"]
    along: AnalysisRef
    """A probe (its direction) or a contrast (its mean difference). With u of length one in that
    direction, an activation x becomes x - (x · u) u: nothing is left along it."""
    toward: str | None = None
    """The class that it points to, for a probe of more than two."""


def _expand_value(value: Any) -> Any:
    if value == "zero":
        return {"kind": "zero"}
    if isinstance(value, dict) and "kind" not in value:
        kind = next((name for name in ("resample", "along") if name in value), "mean")
        return {"kind": kind, **value}
    return value


AblationValue = Annotated[
    Annotated[Zero | Mean | Resample | Along, Field(discriminator="kind")],
    BeforeValidator(
        _expand_value,
        json_schema_input_type=Literal["zero"]
        | Zero
        | Annotated[Mean, KINDLESS]
        | Annotated[Resample, KINDLESS]
        | Annotated[Along, KINDLESS],
    ),
]


class Place(Model):
    """Where an intervention acts, for analyses that do not say it themselves."""

    site: Annotated[str, one_of(WRITTEN_SITES)] | None = None
    """The site; None leaves it to the analysis."""
    layers: LayerChoice = "all"
    """Which blocks."""
    heads: HeadChoice = "all"
    """Which heads, at sites that have them."""
    positions: Positions = ALL
    """Which tokens."""
    units: tuple[int, ...] = ()
    """Which units of the site; none means all of them."""
    during: Literal["prompt", "generation", "both"] = "both"
    """Where a text is continued: at these tokens of the prompt, at every generated one, or both."""
    allow_no_effect: bool = False
    """Whether it may change no logit at all, which is an error otherwise: it then hardly ever
    reached the model."""


class Ablate(Place):
    """Take a unit's contribution away by putting a fixed value in its place."""

    kind: Literal["ablate"]
    value: AblationValue
    """What stands in for the activation: `zero`, `{mean_over: SET, per: position}`,
    `{resample: SET}`, or the activation itself without what lies `{along: ANALYSIS}`."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if isinstance(self.value, Along) and self.units:
            raise ValueError("a direction runs over all units of its site: leave 'units' out")
        return self


class Patch(Place):
    """Put in the activation that the partner stimulus has at the same place."""

    kind: Literal["patch"]
    source: StimuliRef
    """The set whose activations are put in, partner by partner."""


class Vector(Model):
    """A direction in the residual stream; short form: the name of the analysis that finds it."""

    of: AnalysisRef
    """A probe (its direction), a contrast (its mean difference) or a counterfactual."""
    toward: str | None = None
    """The class that it points to, for a probe of more than two. Of two a probe points to the
    second in alphabetical order, and a contrast to its first; naming the other turns it around."""
    normalise: Literal["none", "unit", "residual"] = "none"
    """`unit`: length one; `residual`: the mean length of the residual stream where it is added,
    over the stimuli and positions that it was found at."""


def _expand_vector(value: Any) -> Any:
    return {"of": value} if isinstance(value, str) else value


class Add(Place):
    """Add a vector to the residual stream."""

    kind: Literal["add"]
    vector: Annotated[Vector, BeforeValidator(_expand_vector, json_schema_input_type=str | Vector)]
    """What is added."""
    scale: tuple[float, ...] = (1.0,)
    """How much of it; several give one condition each."""


def vector_of(entry: object) -> Vector | None:
    """Return the direction of an analysis that an intervention acts along, None for others."""
    if isinstance(entry, Add):
        return entry.vector
    if isinstance(entry, Ablate) and isinstance(entry.value, Along):
        return Vector(of=entry.value.along, toward=entry.value.toward, normalise="unit")
    return None


class Clamp(Place):
    """Hold features of a sparse autoencoder, or units of a site, at a value."""

    kind: Literal["clamp"]
    sae: SaeRef | None = None
    """The autoencoder (`kind: sae`) whose features are held; None holds `units` of the site."""
    features: tuple[int, ...] = ()
    """Which features."""
    chosen_by: SelectionRef | None = None
    """A `selection` whose chosen features are held, with its signs."""
    value: tuple[float, ...] = (0.0,)
    """At what; several give one condition each. With `chosen_by`, in units of its weights."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        given = [bool(self.features), self.chosen_by is not None, bool(self.units)]
        if sum(given) != 1:
            raise ValueError("a clamp needs one of 'features', 'chosen_by' and 'units'")
        return self


class Replace(Place):
    """Put a reconstruction, or noise of the same size as its error, in place of the activation."""

    kind: Literal["replace"]
    by: Literal["reconstruction", "noise"]
    """`reconstruction` of a sparse autoencoder; `noise`: a random vector of equal norm, the
    control for it."""
    sae: SaeRef | None = None
    """The autoencoder; noise is as large as its error where it is given."""

    @model_validator(mode="after")
    def _by_what(self) -> Self:
        if self.by == "reconstruction" and self.sae is None:
            raise ValueError("'by: reconstruction' needs the autoencoder that reconstructs, 'sae'")
        return self


class Together(Model):
    """Several interventions at once, each where it says itself, as one condition."""

    kind: Literal["together"]
    of: tuple[InterventionRef, ...] = Field(min_length=1)
    """Which; at one place they act in this order."""


Acting = Ablate | Patch | Add | Clamp | Replace
"""What is done at one choice of places."""

Intervention = Annotated[Acting | Together, Field(discriminator="kind")]
