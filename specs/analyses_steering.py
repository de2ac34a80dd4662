"""The analysis that acts on what a model writes: steering."""

from typing import Literal, Self

from pydantic import Field, model_validator

from patchclamp.specs.fields import (
    InterventionRef,
    LabelName,
    Model,
    StimuliRef,
)
from patchclamp.specs.inference import LabelPermutation, Metric


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
