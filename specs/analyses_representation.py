"""Analyses of captured activations: probes, contrasts, and choosing features by them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from patchclamp.specs.estimators import Estimator, Ridge
from patchclamp.specs.fields import (
    CaptureRef,
    LabelName,
    Model,
    Name,
    SelectionRef,
    StimuliRef,
)
from patchclamp.specs.inference import Correction, CrossValidation, LabelPermutation
from patchclamp.specs.selections import LayerChoice, Layers


class LabelTarget(Model):
    """Read out a label; short form: its name."""

    kind: Literal["label"]
    column: LabelName
    """The label."""


class LayerTarget(Model):
    """Read out which layer an activation comes from; each stimulus stays in one fold."""

    kind: Literal["layer"]
    layers: LayerChoice = "all"
    """Among which layers, two or more."""

    @field_validator("layers")
    @classmethod
    def _several(cls, layers: Layers) -> Layers:
        one = isinstance(layers, tuple) and len(layers) == 1 and ".." not in str(layers[0])
        if layers == "last" or one:
            raise ValueError("one layer has no other to be told from: give two or more")
        return layers


class PositionTarget(Model):
    """Read out which position an activation comes from."""

    kind: Literal["position"]


class CorrectTarget(Model):
    """Read out whether the model's own answer is right: the most probable of its options, or
    where there are none of all tokens."""

    kind: Literal["correct"]


def _expand_target(value: Any) -> Any:
    return {"kind": "label", "column": value} if isinstance(value, str) else value


Target = Annotated[
    Annotated[
        LabelTarget | LayerTarget | PositionTarget | CorrectTarget, Field(discriminator="kind")
    ],
    BeforeValidator(
        _expand_target,
        json_schema_input_type=str | LabelTarget | LayerTarget | PositionTarget | CorrectTarget,
    ),
]


ABOUT_WORDS = ("bag_of_words", "control_task")
"""Controls that know no more of an activation than the words of its stimulus."""


class Probe(Model):
    """Cross-validated linear read-out from a capture, per layer, head and position."""

    kind: Literal["probe"]
    of: CaptureRef | None = None
    """The capture; may be left out where there is one."""
    target: Target
    """What is read out."""
    estimator: Estimator = Ridge.model_construct(kind="ridge")
    """The classifier; `ridge` makes permuted labels nearly free, `logistic` gives probabilities."""
    features: SelectionRef | None = None
    """A `selection`, done anew inside each training part, whose units are used; None takes all."""
    cv: CrossValidation = CrossValidation.model_construct()
    """How stimuli are held out."""
    test_on: StimuliRef | None = None
    """Another set to test on, recorded as the capture is: trained on all of one set, tested on
    all of the other. Groups that both have are held out of training when they are tested on."""
    controls: tuple[
        Literal["majority", "shuffled_labels", "bag_of_words", "random_twin", "control_task"], ...
    ] = ("majority", "shuffled_labels")
    """What accuracy is compared with: the most frequent class, permuted labels, word counts, the
    same model with random weights, classes drawn at random for each token (selectivity). A probe
    without a control needs an explicit `[]`."""
    shuffles: int = Field(default=200, ge=19, le=10_000)
    """Number of label shuffles of the `shuffled_labels` control; 19 is the least that reaches
    p = 0.05."""
    erase: bool = False
    """Also report what is left after LEACE has erased the label, fitted inside the fold: about
    chance, if it worked; and the share of variance that erasing it took."""

    @model_validator(mode="after")
    def _controls_of_words(self) -> Self:
        wrong = [name for name in self.controls if name in ABOUT_WORDS]
        if wrong and isinstance(self.target, LayerTarget | PositionTarget):
            raise ValueError(
                f"the control {wrong[0]!r} reads the target out of a stimulus' words, which are "
                f"the same at every {self.target.kind}: leave it out"
            )
        return self


class Contrast(Model):
    """Univariate maps: Welch t and Cohen's d per unit and position, or a factorial design."""

    kind: Literal["contrast"]
    of: CaptureRef | None = None
    """The capture; may be left out where there is one."""
    column: LabelName | None = None
    """The label whose two `classes` are compared."""
    classes: tuple[str, str] | None = None
    """First against second."""
    factors: tuple[LabelName, LabelName] | None = None
    """Two labels of two values each: main effects and interaction."""
    correct: Correction = "fdr"
    """Over units, positions, heads and layers; `max` needs a `test`."""
    test: LabelPermutation | None = None
    """The permuted labels whose largest |t| `correct: max` compares with."""

    @model_validator(mode="after")
    def _design(self) -> Self:
        pair = self.column is not None and self.classes is not None
        if pair == (self.factors is not None):
            raise ValueError("a contrast needs either 'column' with 'classes', or 'factors'")
        if self.factors is not None and self.factors[0] == self.factors[1]:
            raise ValueError(f"two factors are two labels; got {self.factors[0]!r} twice")
        if self.classes is not None and self.classes[0] == self.classes[1]:
            raise ValueError(
                f"a class cannot be compared with itself; got {self.classes[0]!r} twice"
            )
        if (self.correct == "max") != (self.test is not None):
            raise ValueError("'test' is what 'correct: max' needs, and no other correction has it")
        if self.test is not None and self.factors is not None:
            raise ValueError(
                "'correct: max' permutes one label, under which an interaction has no exact test: "
                "take 'correct: fdr' with 'factors'"
            )
        if self.test is not None and self.test.permute != self.column:
            raise ValueError(
                f"the test permutes {self.test.permute!r}, and the contrast is about "
                f"{self.column!r}: permute that"
            )
        return self


class Method(Model):
    """One way of scoring units."""

    kind: Literal["discriminative", "categorical", "contrast", "maximum", "l1", "random"]
    """The two RSA contrasts of each unit's time courses, |Welch t|, the largest activation of any
    stimulus, the first units of an L1 path, chance. All but the first two go by means over
    positions."""
    of: CaptureRef
    """The capture whose units are scored."""
    pattern: Literal["positions"] | None = None
    """RSA per unit needs a pattern, its time course: of one number per stimulus it would be an F
    test in disguise."""

    @model_validator(mode="after")
    def _pattern(self) -> Self:
        if (self.kind in ("discriminative", "categorical")) != (self.pattern is not None):
            raise ValueError(
                "'pattern: positions' is what RSA per unit needs, and no other method has it"
            )
        return self


class Selection(Model):
    """Ways of choosing units, compared by the held-out accuracy of what they choose."""

    kind: Literal["selection"]
    column: LabelName
    """The label that units are chosen for."""
    target: str
    """The class that chosen units should stand for."""
    methods: dict[Name, Method] = Field(min_length=1)
    """The ways, by name."""
    k: int = Field(default=8, ge=1)
    """How many units each chooses; a tie at the border is an error."""
    cv: CrossValidation = CrossValidation.model_construct()
    """Choosing and fitting happen inside the training part."""
    test: LabelPermutation | None = None
    """Whether held-out accuracy is tested against permuted labels."""

    @model_validator(mode="after")
    def _same_column(self) -> Self:
        if self.test is not None and self.test.permute != self.column:
            raise ValueError(
                f"the test permutes {self.test.permute!r}, and units are chosen for "
                f"{self.column!r}: permute that"
            )
        return self
