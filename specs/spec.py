"""The spec: one experiment, as its file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from patchclamp.registry import BACKENDS
from patchclamp.specs.analyses import AnalysisEntry
from patchclamp.specs.captures import Capture
from patchclamp.specs.fields import Model, Name, one_of
from patchclamp.specs.interventions import Intervention
from patchclamp.specs.model import ModelChoice, expand_model
from patchclamp.specs.stimuli import StimulusSet


class Batch(Model):
    """How much goes through the model at once; changes speed and memory, never a number."""

    tokens: int = Field(default=8192, ge=1)
    """Tokens in a batch, padding included; a longer stimulus is a batch of its own."""


class Run(Model):
    """How the spec is run; nothing here changes what is computed."""

    backend: Annotated[str, one_of(BACKENDS)] = "nnsight"
    """What runs the forward passes (`patchclamp list backends`)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes a GPU where there is one."""
    batch: Batch = Batch()
    """Size of a batch."""


class Spec(Model):
    """A whole spec. Science keys enter its digest; `name`, `description` and `run` do not."""

    patchclamp: Literal[1]
    """Version of the grammar; first and required."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    """Name of the experiment; its results go to `runs/<name>/`."""
    description: str = ""
    """What the experiment asks, for people."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Every random choice derives its own seed from this one and from what it is for."""
    model: Annotated[
        ModelChoice, BeforeValidator(expand_model, json_schema_input_type=str | ModelChoice)
    ]
    """The model."""
    stimuli: dict[Name, StimulusSet] = Field(min_length=1)
    """Stimulus sets by name."""
    captures: dict[Name, Capture] = {}
    """What is recorded, by name."""
    interventions: dict[Name, Intervention] = {}
    """What is done to the model, by name."""
    analyses: dict[Name, AnalysisEntry] = {}
    """What is computed, by name."""
    run: Run = Run()
    """How it is run."""


SCIENCE_KEYS = ("patchclamp", "seed", "model", "stimuli", "captures", "interventions", "analyses")
"""The keys that decide what is computed; only they enter the digest."""
