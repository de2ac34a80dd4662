"""RSA: what may be asked of the geometry of a capture."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from patchclamp.specs.fields import (
    STIMULUS,
    CaptureRef,
    Label,
    LabelName,
    Model,
    Name,
    SelectionRef,
)
from patchclamp.specs.inference import Bootstrap, LabelPermutation
from patchclamp.specs.rdms import WEIGHED, CaptureModel, InteractionModel, ModelRdm, Rdm


class Discriminative(Model):
    """How much more alike stimuli are within classes than across: whether classes are apart.

    contrast = mean of z over pairs within a class - mean of z over pairs across classes, with
    z = arctanh r of a correlation or cosine; of other metrics the mean dissimilarity across minus
    within, in their own units.
    """

    kind: Literal["discriminative"]
    column: LabelName
    """The label that says the class."""
    target: str | None = None
    """One-sided: only pairs within this class against its pairs with the others."""


class Categorical(Model):
    """How much more alike the stimuli of one class are than those of another: their cohesion.

    contrast = mean of z over pairs within the first class - the same within the second (of
    metrics without r, the mean dissimilarity within the second minus within the first). It does
    NOT say that the classes are apart: no pair across them takes part, so two classes on top of
    each other can have a large contrast, and two far apart none. For separation use
    `discriminative`. What the literature calls categorical RSA is a model RDM of kind `category`.
    """

    kind: Literal["categorical"]
    column: LabelName
    """The label that says the class."""
    classes: tuple[str, str]
    """The two classes, first against second."""

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if self.classes[0] == self.classes[1]:
            raise ValueError(
                f"a class cannot be compared with itself; got {self.classes[0]!r} twice"
            )
        return self


Contrasting = Annotated[Discriminative | Categorical, Field(discriminator="kind")]


Comparing = Literal[
    "spearman",
    "pearson",
    "kendall_tau_a",
    "rho_a",
    "cosine",
    "whitened_cosine",
    "whitened_correlation",
    "cka",
    "cka_debiased",
    "nnls",
]
"""How an RDM is compared with a model RDM."""

PARTIAL = ("spearman", "pearson")
"""Comparisons that model RDMs can be taken out of."""

WHOLE = ("whitened_cosine", "whitened_correlation", "cka", "cka_debiased", "nnls")
"""Comparisons that exist only where every pair of stimuli has a dissimilarity."""

DRAWN = ("spearman", "pearson", "cosine", "rho_a")
"""Comparisons that have a bootstrap interval."""


class StimulusPermutation(LabelPermutation):
    """A test that exchanges stimulus labels, never pairs: p = (k + 1) / (n + 1)."""

    permute: Annotated[str, Label(itself=True)]
    """The label that is permuted: whole groups where it is constant within its groups, else
    stimuli within their group. `stimulus` permutes all that model RDMs know of a stimulus, which
    is what a test against another capture needs. An interaction is tested by one of its labels,
    exchanged where the other is the same."""


class Rsa(Model):
    """Representational similarity analysis of a capture, per layer, head and position.

    With `against`, `similarity`: the comparison of the RDM with each model RDM over all pairs of
    stimuli. With `contrast`, `contrast`: a difference of mean similarities, in Fisher z of r, never
    of 1 - r. A `discriminative` contrast asks whether classes are apart; a `categorical` one
    compares the cohesion of two classes and says nothing about their separation, since no pair
    across them takes part (the literature's categorical RSA is `against` a model RDM of kind
    `category`). `p` comes from permuted labels: pairs share stimuli, so they are no samples, and
    a t test over them is not offered.
    """

    kind: Literal["rsa"]
    of: CaptureRef | None = None
    """The capture; may be left out where there is one."""
    rdm: Rdm = Rdm.model_construct()
    """The dissimilarity."""
    pattern: Literal["units", "positions"] = "units"
    """What a pattern runs over: `units` at one place, or `positions`, the time course of each
    unit or feature, which gives a result for each of them."""
    features: SelectionRef | None = None
    """A `selection` whose chosen units make up the pattern, one result for each of its methods on
    this capture; None takes all. About the label that they were chosen by, on the same stimuli,
    there is no p and no interval: noise would pass, since a test does not know of the choice."""
    against: dict[Name, ModelRdm] | None = None
    """Model RDMs to compare with, by name. Give this or `contrast`."""
    compare: Comparing | None = None
    """How an RDM is compared with a model RDM, over the pairs of stimuli; `spearman` unless said.
    `cka` needs the metric `squared_euclidean`, of which it is the whitened cosine; it goes to 1
    where units outnumber stimuli, `cka_debiased` does not. `nnls` weighs several model RDMs and
    tells how well they predict stimuli held out. A contrast has nothing to compare with."""
    folds: int | None = Field(default=None, ge=2, le=100)
    """Parts of the stimuli, whole groups, that `nnls` is cross-validated over; 5 unless said."""
    partial: tuple[Name, ...] = ()
    """Model RDMs whose linear influence (`spearman`: that of their ranks) is taken out first, of
    the RDM and of the other model RDMs; a bent influence leaves something that is found."""
    contrast: Contrasting | None = None
    """A difference between mean similarities. Give this or `against`."""
    test: StimulusPermutation
    """Inference: stimulus labels are permuted."""
    bootstrap: Bootstrap | None = None
    """An interval over stimuli; None gives none."""
    noise_ceiling: Literal["none", "seeds", "models"] = "none"
    """The repetitions that bound how well any model RDM could do; stores the RDMs."""
    store_rdm: bool = False
    """Also store the RDM of each place, as `rdm`, and the model RDMs."""
    compat: Literal["none", "feature-study-2025"] = "none"
    """`feature-study-2025` reproduces a published formula, arctanh(1 - r) with negatives dropped
    and missing tokens filled with zeros, so that its effect can be shown beside the right one."""

    @model_validator(mode="before")
    @classmethod
    def _default_comparison(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("against") is not None:
            value = {**value, "compare": value.get("compare") or "spearman"}
            if value["compare"] == "nnls":
                value["folds"] = value.get("folds") or 5
        return value

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.against is None and self.contrast is None:
            raise ValueError("an rsa needs either 'against' (model RDMs) or 'contrast'")
        if self.against is not None and self.contrast is not None:
            raise ValueError("an rsa takes either 'against' (model RDMs) or 'contrast', not both")
        if self.against is not None and not self.against:
            raise ValueError("'against' names no model RDM")
        if self.contrast is not None and self.compare is not None:
            raise ValueError("'compare' belongs to 'against': a contrast compares with nothing")
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        compare = self.compare
        if compare in ("cka", "cka_debiased") and self.rdm.metric != "squared_euclidean":
            raise ValueError(
                f"{compare!r} is made of squared distances: set rdm.metric to 'squared_euclidean'"
            )
        if (compare == "nnls") != (self.folds is not None):
            raise ValueError("'folds' is what 'nnls' is cross-validated over")
        if self.partial and compare not in PARTIAL:
            raise ValueError(f"'partial' goes with {' or '.join(PARTIAL)}, not {compare!r}")
        if self.partial and set(self.partial) >= set(self.against or ()):
            raise ValueError("'partial' takes every model RDM out, so that none is left to test")
        if self.bootstrap and self.contrast is None and (self.partial or compare not in DRAWN):
            raise ValueError(
                f"a bootstrap goes with a contrast or with {', '.join(DRAWN)}, without 'partial'"
            )
        if self.noise_ceiling != "none" and (self.contrast is not None or compare == "nnls"):
            raise ValueError("a noise ceiling bounds a comparison with model RDMs, not this")
        return self

    @model_validator(mode="after")
    def _every_pair(self) -> Self:
        gaps = [model for model in (self.against or {}).values() if hasattr(model, "missing")]
        if all(one.missing == "error" for one in (self.rdm, *gaps)):
            return self
        if self.compare in WHOLE:
            raise ValueError(
                f"{self.compare!r} needs the dissimilarity of every pair of stimuli, and 'missing: "
                "leave_out' leaves some without"
            )
        if self.noise_ceiling != "none":
            raise ValueError(
                "a noise ceiling is of all pairs of stimuli, and bounds nothing that 'missing: "
                "leave_out' leaves some out of"
            )
        return self

    @model_validator(mode="after")
    def _about_stimuli(self) -> Self:
        for name, model in (self.against or {}).items():
            tested = name not in self.partial
            if isinstance(model, CaptureModel) and tested and self.test.permute != STIMULUS:
                raise ValueError(
                    f"the model RDM {name!r} is about stimuli, not about {self.test.permute!r}: "
                    f"set test.permute to {STIMULUS!r}"
                )
            if isinstance(model, CaptureModel) and not tested and model.layer in ("same", "all"):
                raise ValueError(f"{name!r} under 'partial' needs one 'layer', a number or 'last'")
            if isinstance(model, InteractionModel):
                for part in model.of:
                    found = (self.against or {}).get(part)
                    if isinstance(found, CaptureModel | InteractionModel):
                        raise ValueError(f"an interaction is one of labels; {part!r} is no label's")
        return self

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        captures = [m for m in (self.against or {}).values() if isinstance(m, CaptureModel)]
        if self.compare == "nnls" and any(m.layer in ("same", "all") for m in captures):
            raise ValueError(
                "'nnls' weighs the RDM of one 'layer' of a capture, a number or 'last'"
            )
        if any(m.layer == "all" for m in captures) and len(self.against or {}) > 1:
            raise ValueError("'layer: all' makes a table of layers: give it an analysis of its own")
        if self.features is not None and (self.pattern != "units" or self.noise_ceiling != "none"):
            raise ValueError("'features' choose what a pattern over units is made of, no other one")
        if self.pattern == "positions":
            if self.rdm.metric in WEIGHED:
                raise ValueError(f"time courses have no {self.rdm.metric!r}: noise is per unit")
            if captures or self.compare == "nnls" or self.store_rdm:
                raise ValueError(
                    "time courses have one RDM for each unit: no captures, no 'nnls' and no "
                    "'store_rdm' go with 'pattern: positions'"
                )
        if self.compat != "none" and (
            self.pattern != "positions" or not self._has_two_sets or self.bootstrap is not None
        ):
            raise ValueError(
                f"{self.compat!r} computed a contrast of 'pattern: positions', 'discriminative' "
                "with a 'target' or 'categorical', without a bootstrap"
            )
        return self

    @property
    def _has_two_sets(self) -> bool:
        contrast = self.contrast
        return isinstance(contrast, Categorical) or (
            isinstance(contrast, Discriminative) and contrast.target is not None
        )
