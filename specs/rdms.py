"""RDMs, and the model RDMs that they are compared with."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from patchclamp.specs.fields import CaptureRef, LabelName, Model, Name

WEIGHED = ("mahalanobis", "crossnobis")
"""Metrics that weigh units by the precision of noise."""


class Rdm(Model):
    """How dissimilar two stimuli are, from their activation patterns.

    With patterns x of d units: correlation 1 - r, cosine 1 - cos, euclidean |a - b|,
    squared_euclidean |a - b|² / d, mahalanobis (a - b) Σ⁻¹ (a - b)ᵀ / d, crossnobis the same
    between different folds.
    """

    metric: Literal[
        "correlation",
        "cosine",
        "euclidean",
        "squared_euclidean",
        "mahalanobis",
        "crossnobis",
    ] = "correlation"
    """`correlation`: 1 - Pearson r; `squared_euclidean` is divided by the number of units;
    `mahalanobis` and `crossnobis` are squared, divided so too, and weigh units by the precision of
    their noise. Only `crossnobis` has a zero: noise moves it to both sides, negative too."""
    average_by: LabelName | None = None
    """Average the patterns of each value of this label first; the RDM is then between values."""
    folds: LabelName | None = None
    """The label whose values are the independent measurements that `crossnobis` needs, such as
    the template; every value of `average_by` is in each."""
    noise: Literal["shrinkage", "diagonal", "none"] | None = None
    """Covariance of the noise that `mahalanobis` and `crossnobis` weigh by, `shrinkage` (towards
    the diagonal) unless said. It is estimated from stimuli that repeat one value of `average_by`,
    in one fold: without repeats only `none` is possible, since a value's own folds would make
    noise look like a distance."""
    missing: Literal["error", "leave_out"] = "error"
    """A pattern that is constant (a silent feature) has no correlation: an error, or its pairs
    are left out at that place, and counted."""

    @model_validator(mode="before")
    @classmethod
    def _default_noise(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("metric") in WEIGHED:
            return {**value, "noise": value.get("noise") or "shrinkage"}
        return value

    @model_validator(mode="after")
    def _weighed(self) -> Self:
        if (self.metric == "crossnobis") != (self.folds is not None):
            raise ValueError("'folds' is what 'crossnobis' needs, and no other metric has it")
        if self.metric in WEIGHED and self.average_by is None:
            raise ValueError(
                f"{self.metric!r} needs 'average_by': what is repeated, so that noise is known"
            )
        if self.metric not in WEIGHED and self.noise is not None:
            raise ValueError(
                f"'noise' belongs to 'mahalanobis' and 'crossnobis', not {self.metric!r}"
            )
        return self


class CategoryModel(Model):
    """A model RDM: 0 for two stimuli of one class, 1 for two of different classes."""

    kind: Literal["category"]
    column: LabelName
    """The label that says the class."""


class OrdinalModel(Model):
    """A model RDM: how many steps apart two classes stand in an order."""

    kind: Literal["ordinal"]
    column: LabelName
    """The label that says the class."""
    order: tuple[str, ...] = Field(min_length=2)
    """Its values, from first to last."""


class Ratings(Model):
    """A table of rated pairs; short form: its path."""

    path: str = Field(min_length=1)
    """A CSV file with a header line, relative to the spec's own folder."""
    first: str = "a"
    """The column with one item of the pair."""
    second: str = "b"
    """The column with the other; their order does not matter."""
    value: str = "dissimilarity"
    """The column with the rating."""
    scale: Literal["dissimilarity", "similarity"] = "dissimilarity"
    """Which way the rating goes; of a `similarity` the largest in the table minus it is taken."""
    where: str | None = None
    """Which rows: a condition over columns, such as `set == "MEN"`."""


def _expand_ratings(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


RatingsChoice = Annotated[
    Ratings, BeforeValidator(_expand_ratings, json_schema_input_type=str | Ratings)
]


class ContinuousModel(Model):
    """A model RDM: the absolute difference of a number, or ratings of pairs."""

    kind: Literal["continuous"]
    column: LabelName
    """The number, or with `ratings` the item that these are about."""
    ratings: RatingsChoice | None = None
    """How dissimilar people, or something else, rated two items."""
    missing: Literal["error", "leave_out"] = "error"
    """A pair that nobody rated: an error, or only rated pairs are compared, and counted."""

    @model_validator(mode="after")
    def _rated(self) -> Self:
        if self.missing == "leave_out" and self.ratings is None:
            raise ValueError("'missing' belongs to 'ratings': every number has a difference")
        return self


class InteractionModel(Model):
    """A model RDM: the product of two others, centred."""

    kind: Literal["interaction"]
    of: tuple[Name, Name]
    """The two, by their names beside this one."""


class CaptureModel(Model):
    """A model RDM: that of another capture of the same stimuli (second-order RSA).

    Its RDM is made as this analysis makes its own. Heads and positions meet those of equal label;
    a capture with one position, or without heads, meets all.
    """

    kind: Literal["capture"]
    of: CaptureRef
    """The other capture."""
    layer: int | Literal["same", "last", "all"] = "same"
    """Which of its layers; `all` compares every layer with every layer, along the dim
    `model_layer`, and stands alone under `against`."""


ModelRdm = Annotated[
    CategoryModel | OrdinalModel | ContinuousModel | InteractionModel | CaptureModel,
    Field(discriminator="kind"),
]
