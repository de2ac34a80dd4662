"""What may be computed: one closed set of parameters for each kind of analysis."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from patchclamp.registry import METRICS
from patchclamp.specs.fields import LayerChoice, Model, Name, one_of


class Rdm(Model):
    """How dissimilar two stimuli are, from their activation patterns over units."""

    metric: Literal["correlation"] = "correlation"
    """`correlation`: 1 - Pearson r over units."""


class CategoryModel(Model):
    """A model RDM: 0 for two stimuli of one class, 1 for two of different classes."""

    kind: Literal["category"]
    column: str
    """The label that says the class."""


class Discriminative(Model):
    """Mean dissimilarity across classes minus within classes, in Fisher z (z = arctanh r).

    contrast = mean of z over pairs within a class - mean of z over pairs across classes.
    """

    kind: Literal["discriminative"]
    column: str
    """The label that says the class."""
    target: str | None = None
    """One-sided: only pairs within this class against its pairs with the others."""


class Categorical(Model):
    """Cohesion of one class against another, in Fisher z; says nothing about their separation.

    contrast = mean of z over pairs within the first class - the same within the second.
    """

    kind: Literal["categorical"]
    column: str
    """The label that says the class."""
    classes: tuple[str, str]
    """The two classes, first against second."""

    @model_validator(mode="after")
    def _two_classes(self) -> Categorical:
        if self.classes[0] == self.classes[1]:
            raise ValueError(
                f"a class cannot be compared with itself; got {self.classes[0]!r} twice"
            )
        return self


Contrast = Annotated[Discriminative | Categorical, Field(discriminator="kind")]


class LabelPermutation(Model):
    """A test that exchanges stimulus labels, never pairs: p = (k + 1) / (n + 1)."""

    permute: str
    """The label column that is permuted: whole groups where it is constant within its groups,
    else stimuli within their group."""
    n: int = Field(default=1000, ge=99, le=1_000_000)
    """Number of permutations; 1000 resolves p to 0.001."""


class Rsa(Model):
    """Representational similarity analysis of a capture, per layer and position."""

    kind: Literal["rsa"]
    of: Name | None = None
    """The capture; may be left out where there is one."""
    rdm: Rdm = Rdm()
    """The dissimilarity."""
    against: dict[Name, CategoryModel] | None = None
    """Model RDMs to compare with, by name. Give this or `contrast`."""
    compare: Literal["spearman", "pearson"] | None = None
    """How an RDM is compared with a model RDM, over the pairs of stimuli; `spearman` unless said.
    A contrast has nothing to compare with."""
    contrast: Contrast | None = None
    """A difference between mean similarities. Give this or `against`."""
    test: LabelPermutation
    """Inference: stimulus labels are permuted."""

    @model_validator(mode="before")
    @classmethod
    def _default_comparison(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("against") is not None:
            return {**value, "compare": value.get("compare") or "spearman"}
        return value

    @model_validator(mode="after")
    def _one_question(self) -> Rsa:
        if self.against is None and self.contrast is None:
            raise ValueError("an rsa needs either 'against' (model RDMs) or 'contrast'")
        if self.against is not None and self.contrast is not None:
            raise ValueError("an rsa takes either 'against' (model RDMs) or 'contrast', not both")
        if self.against is not None and not self.against:
            raise ValueError("'against' names no model RDM")
        if self.contrast is not None and self.compare is not None:
            raise ValueError("'compare' belongs to 'against': a contrast compares with nothing")
        return self


class Logistic(Model):
    """L2-regularised multinomial logistic regression on units standardised inside the fold."""

    kind: Literal["logistic"]
    C: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Inverse strength of the L2 penalty."""


class CrossValidation(Model):
    """Folds over whole groups, drawn without looking at labels."""

    folds: int = Field(default=5, ge=2, le=100)
    """Number of folds."""


class Probe(Model):
    """Cross-validated linear read-out of a label from a capture, per layer and position."""

    kind: Literal["probe"]
    of: Name | None = None
    """The capture; may be left out where there is one."""
    target: str
    """The label column to read out."""
    estimator: Logistic = Logistic(kind="logistic")
    """The classifier."""
    cv: CrossValidation = CrossValidation()
    """How stimuli are held out."""
    controls: tuple[Literal["majority", "shuffled_labels"], ...] = ("majority", "shuffled_labels")
    """What accuracy is compared with; a probe without a control needs an explicit `[]`."""
    shuffles: int = Field(default=20, ge=19, le=10_000)
    """Number of label shuffles of the `shuffled_labels` control; 19 is the least that reaches
    p = 0.05."""


class Units(Model):
    """The parts of the model that an analysis removes, one at a time."""

    site: Literal["z"]
    """`z`: attention heads."""
    layers: LayerChoice = "all"
    """Which blocks."""
    heads: Literal["all"] = "all"
    """Which heads of each block."""


class MetricChoice(Model):
    """The number per stimulus that an intervention moves."""

    kind: Annotated[str, one_of(METRICS)]
    """Name of the metric (`patchclamp list metrics`)."""


class Ablation(Model):
    """Effect of removing each unit, one at a time, on a metric per stimulus."""

    kind: Literal["ablation"]
    stimuli: Name | None = None
    """The stimulus set; may be left out where there is one with an answer."""
    with_: Name | None = Field(default=None, alias="with")
    """The intervention; may be left out where there is one."""
    units: Units
    """What is removed."""
    metric: MetricChoice
    """What is measured."""
    share: bool = False
    """Also report the metric as a share of the clean baseline; an error where that baseline is
    not reliably positive, because a share of it would mean nothing."""


AnalysisEntry = Annotated[Rsa | Probe | Ablation, Field(discriminator="kind")]
