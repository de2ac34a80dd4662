"""RDMs, and the model RDMs that they are compared with."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchclamp.specs.fields import CaptureRef, LabelName, Model, Name


class Rdm(Model):
    """How dissimilar two stimuli are, from their activation patterns."""

    metric: Literal[
        "correlation",
        "cosine",
        "euclidean",
        "squared_euclidean",
        "mahalanobis",
        "crossnobis",
    ] = "correlation"
    """`correlation`: 1 - Pearson r; `squared_euclidean` is divided by the number of units;
    `mahalanobis` and `crossnobis` weigh units by shrinkage noise precision."""
    average_by: LabelName | None = None
    """Average the patterns of each value of this label first; the RDM is then between values."""
    folds: LabelName | None = None
    """The label whose values are the independent measurements that `crossnobis` needs."""

    @model_validator(mode="after")
    def _folds(self) -> Self:
        if (self.metric == "crossnobis") != (self.folds is not None):
            raise ValueError("'folds' is what 'crossnobis' needs, and no other metric has it")
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


class ContinuousModel(Model):
    """A model RDM: the absolute difference of a number, or a table of ratings of pairs."""

    kind: Literal["continuous"]
    column: LabelName
    """The number, or with `ratings` the label that the table names."""
    ratings: str | None = None
    """A CSV file with columns a, b and dissimilarity, relative to the spec's own folder."""


class InteractionModel(Model):
    """A model RDM: the product of two others, centred."""

    kind: Literal["interaction"]
    of: tuple[Name, Name]
    """The two, by their names beside this one."""


class CaptureModel(Model):
    """A model RDM: that of another capture of the same stimuli, layer by layer or at one."""

    kind: Literal["capture"]
    of: CaptureRef
    """The other capture."""
    layer: int | Literal["same", "last"] = "same"
    """Which of its layers."""


ModelRdm = Annotated[
    CategoryModel | OrdinalModel | ContinuousModel | InteractionModel | CaptureModel,
    Field(discriminator="kind"),
]
