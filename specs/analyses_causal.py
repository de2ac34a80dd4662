"""Analyses that intervene on parts of the model: ablation and patching."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from patchclamp.registry.sites import WRITTEN_SITES
from patchclamp.specs.fields import (
    AnsweredRef,
    InterventionRef,
    Model,
    StimuliRef,
    one_of,
)
from patchclamp.specs.inference import Bootstrap, Correction, Metric
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
