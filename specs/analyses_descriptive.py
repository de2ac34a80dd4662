"""Analyses that describe: attention, lenses, norms, counterfactuals, choices, autoencoders."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchclamp.specs.fields import AnsweredRef, CaptureRef, LabelName, Model, StimuliRef
from patchclamp.specs.positions import Anchor

CaptureList = Annotated[tuple[CaptureRef, ...], Field(min_length=1)]


class Attention(Model):
    """Where heads look, what patterns they have, and what their OV circuits write."""

    kind: Literal["attention"]
    of: CaptureRef | None = None
    """A capture of `attn_pattern` or `attn_scores`; may be left out where there is one."""
    pairs: tuple[tuple[Anchor, Anchor], ...] = ()
    """Query and key positions whose attention is tabulated."""
    offsets: tuple[int, ...] = ()
    """Relative positions, such as -1, whose attention is averaged over queries."""
    scores: tuple[
        Literal[
            "entropy",
            "first_token",
            "logsumexp",
            "previous_token",
            "duplicate",
            "induction",
            "successor",
            "copying",
        ],
        ...,
    ] = ("entropy", "first_token")
    """Numbers per head; `successor` and `copying` are read through OV from `input`."""
    input: CaptureRef | None = None
    """The residual stream that OV scores start from."""
    top: int = Field(default=5, ge=1)
    """An OV score counts where the token is among so many of what the head writes."""
    signs: tuple[Literal[1, -1], ...] = (1,)
    """-1 looks at what the head suppresses."""


class Lens(Model):
    """What the residual stream would say if it were the last: logit lens and attribution."""

    kind: Literal["lens"]
    of: CaptureRef | None = None
    """A capture of the residual stream; may be left out where there is one."""
    norm: Literal["final", "none"] = "final"
    """Whether the final norm is applied at each layer."""
    top: int = Field(default=5, ge=1)
    """How many of the most probable tokens are named."""
    attribute: bool = False
    """Also split the answer's logit by component (direct logit attribution)."""


class Massive(Model):
    """When an activation is called massive."""

    least: float = Field(default=100.0, gt=0)
    """At least so large,"""
    ratio: float = Field(default=1000.0, gt=1)
    """and so many times the median of its layer and token."""


class Norms(Model):
    """Layer by position maps of size, layer profiles, massive activations and covariance."""

    kind: Literal["norms"]
    of: CaptureList
    """Captures, reduced to norms or whole."""
    give: tuple[Literal["map", "profile", "massive", "covariance", "shape"], ...] = (
        "map",
        "profile",
    )
    """`map`: mean over stimuli by layer and position; `profile`: l2 over positions of it, by
    layer; `massive`: the largest and where; `covariance` of units across layers; `shape`: how
    U-, D-, first-token- or last-layer-like a map is."""
    log: bool = True
    """Natural logarithm, after the mean."""
    massive: Massive = Massive.model_construct()
    """The threshold."""
    by: LabelName | None = None
    """A label to report by."""


class Align(Model):
    """How sets of different length are brought to one."""

    kind: Literal["dtw", "interpolate", "bins", "truncate", "none"]
    """Dynamic time warping, linear interpolation, `n` equal bins, the shortest, or not at all."""
    n: int = Field(default=3, ge=1)
    """Number of bins."""


class Counterfactual(Model):
    """What is specific to a stimulus set, after what all sets have in common is taken away."""

    kind: Literal["counterfactual"]
    of: CaptureList
    """One capture for each set, all of one site."""
    common: Literal["all", "others"] = "all"
    """Whether a set's own activations are part of what it is compared with."""
    space: Literal["norms", "vectors"] = "vectors"
    """Whether sizes or vectors are subtracted; vectors can be added to a model."""
    align: Align
    """How lengths are matched. Has no default: maps differ."""


class Choice(Model):
    """Multiple choice: accuracy, mass of the answers, option bias, rank and calibration."""

    kind: Literal["choice"]
    stimuli: AnsweredRef | None = None
    """The stimulus set; may be left out where there is one with an answer."""
    by: LabelName | None = None
    """A label to report by."""
    bins: int = Field(default=10, ge=2)
    """Bins of the calibration curve."""


class SaeTraining(Model):
    """How a sparse autoencoder is trained."""

    on: CaptureRef
    """The activations."""
    features: int = Field(ge=1)
    """Width."""
    encoder: Literal["relu", "topk"] = "relu"
    """`topk` keeps the `k` largest."""
    k: int | None = Field(default=None, ge=1)
    """For `topk`."""
    l1: float = Field(default=1.0, ge=0)
    """Weight of the penalty, for `relu`."""
    penalty_over: Literal["sum", "mean"] = "sum"
    """Whether the penalty is summed or averaged over features; averaging all but removes it."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Of Adam."""
    batch: int = Field(default=2048, ge=1)
    """Activation vectors in a step."""
    steps: int = Field(default=10_000, ge=1)
    """Steps."""
    warm_up: float = Field(default=0.05, ge=0, le=1)
    """Share of steps over which the penalty grows to its weight."""
    decay: float = Field(default=0.2, ge=0, le=1)
    """Share of steps, the last, over which the learning rate falls to zero."""
    hold_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of activations that its quality is measured on."""

    @model_validator(mode="after")
    def _topk(self) -> Self:
        if (self.encoder == "topk") != (self.k is not None):
            raise ValueError("'k' is what the encoder 'topk' needs, and no other has it")
        return self


class Require(Model):
    """What an autoencoder must reach; else the run is an error."""

    l0_below: float | None = Field(default=None, gt=0)
    """Mean number of active features."""
    variance_explained: float | None = Field(default=None, gt=0, le=1)
    """At least this share."""


class Cards(Model):
    """What makes features fire: the stimuli and tokens of their largest activations."""

    stimuli: StimuliRef
    """The texts that are scanned."""
    top: int = Field(default=20, ge=1)
    """How many of each feature."""
    context: int = Field(default=10, ge=0)
    """Tokens shown before and after."""
    random: int = Field(default=0, ge=0)
    """As many random ones, to judge beside them."""


class Sae(Model):
    """Train or load a sparse autoencoder, report its quality, and scan texts with it."""

    kind: Literal["sae"]
    train: SaeTraining | None = None
    """How it is trained; with `path`, only where the file is missing."""
    path: str | None = None
    """A safetensors file, relative to the spec's own folder."""
    require: Require = Require.model_construct()
    """What it must reach."""
    cards: Cards | None = None
    """Feature cards."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.train is None and self.path is None:
            raise ValueError("an sae needs 'train', 'path', or both")
        return self
