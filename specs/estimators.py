"""Classifiers that probes can use."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from patchclamp.specs.fields import Model


def _listed(value: Any) -> Any:
    if value in ([], ()):
        raise ValueError("a penalty needs one strength at least")
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


Strengths = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...],
    BeforeValidator(_listed, json_schema_input_type=float | list[float]),
]
"""One strength of a penalty, or several to choose from."""


class Logistic(Model):
    """L2-regularised multinomial logistic regression on units standardised inside the fold."""

    kind: Literal["logistic"]
    C: Strengths = (1.0,)
    """Inverse strength of the penalty; several are chosen from inside the fold."""
    penalty: Literal["l2", "l1"] = "l2"
    """`l1` chooses units too; one class against the rest."""


class Ridge(Model):
    """Least-squares classifier with an L2 penalty; its label null is exact and nearly free."""

    kind: Literal["ridge"]
    alpha: Strengths = (1.0,)
    """Strength of the penalty; several are chosen from inside the fold."""


class LinearSvm(Model):
    """Linear support vector machine with hinge loss, one class against the rest."""

    kind: Literal["svm"]
    C: Strengths = (1.0,)
    """Inverse strength of the penalty; several are chosen from inside the fold."""


class Centroid(Model):
    """Nearest class mean, of standardised units."""

    kind: Literal["centroid"]


class Difference(Model):
    """Projection on the difference of two class means, in the units of the activations."""

    kind: Literal["difference"]


Estimator = Annotated[
    Logistic | Ridge | LinearSvm | Centroid | Difference, Field(discriminator="kind")
]
