"""What may be done to a model while it runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from patchclamp.specs.fields import Model, Name


class Zero(Model):
    """Replace by zeros; short form `zero`."""

    kind: Literal["zero"]


class Mean(Model):
    """Replace by a mean over a stimulus set, run clean; short form `{mean_over: SET}`."""

    kind: Literal["mean"]
    mean_over: Name
    """The reference set the mean is taken over."""
    per: Literal["position", "all"]
    """`position`: a mean for each token position, counted from the first token; `all`: one mean
    over all positions. Has no default: published studies differ."""


def _expand_value(value: Any) -> Any:
    if value == "zero":
        return {"kind": "zero"}
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "mean", **value}
    return value


AblationValue = Annotated[
    Annotated[Zero | Mean, Field(discriminator="kind")],
    BeforeValidator(_expand_value, json_schema_input_type=Literal["zero"] | Zero | Mean),
]


class Ablate(Model):
    """Take a unit's contribution away by putting a fixed value in its place."""

    kind: Literal["ablate"]
    value: AblationValue
    """What stands in for the activation: `zero` or `{mean_over: SET, per: position}`."""


Intervention = Ablate
