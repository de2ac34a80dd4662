"""The spec: one experiment, as its file says it."""

from functools import cache
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, create_model, model_validator

from patchclamp.registry import ANALYSES, BACKENDS
from patchclamp.registry.table import load
from patchclamp.specs.analyses import analysis_entry
from patchclamp.specs.captures import Capture
from patchclamp.specs.codes import LINTS
from patchclamp.specs.fields import Model, Name, one_of
from patchclamp.specs.grammar import tagged
from patchclamp.specs.interventions import Intervention
from patchclamp.specs.matrix import Extends, Matrix
from patchclamp.specs.model import ModelChoice, expand_model
from patchclamp.specs.quantities import Duration, Size
from patchclamp.specs.stimuli import StimulusSet


class Batch(Model):
    """How much goes through the model at once; changes speed and memory, never a number."""

    tokens: int = Field(default=8192, ge=1)
    """Tokens in a batch, padding included; a longer stimulus is a batch of its own."""
    result: Size = 64 << 20
    """Bytes that a server sends back for one request, at most, before they are compressed; batches
    are smaller where they would give more."""


class Budget(Model):
    """What a run may cost; a plan that needs more is refused before anything is loaded."""

    time: Duration | None = None
    """Wall time, such as `20m`."""
    memory: Size | None = None
    """Peak memory, such as `8GiB`."""
    disk: Size | None = None
    """Bytes written, such as `4GiB`."""
    download: Size | None = None
    """Bytes that a remote backend sends back."""


class Retry(Model):
    """How often a remote request is tried again where that is safe."""

    attempts: int = Field(default=5, ge=1, le=100)
    """Tries in all."""
    backoff: Duration = 30.0
    """Wait before the second try; doubled before each next one."""
    patience: Duration = 3600.0
    """Longest time without news of a request before a run gives up waiting for it."""


class Run(Model):
    """How the spec is run; nothing here changes what is computed."""

    backend: Annotated[str, one_of(BACKENDS)] = "nnsight"
    """What runs the forward passes (`patchclamp list backends`)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes a GPU where there is one."""
    batch: Batch = Batch.model_construct()
    """Size of a batch."""
    threads: int | None = Field(default=None, ge=1)
    """Threads on a CPU; None lets the size of the model decide."""
    budget: Budget = Budget.model_construct()
    """What it may cost."""
    optimise: bool = True
    """False takes none of the planner's savings: the oracle that they are compared with."""
    on_error: Literal["stop", "continue"] = "stop"
    """Whether the other cells of a matrix run on when one fails."""
    retry: Retry = Retry.model_construct()
    """For remote backends."""


class Expectation(Model):
    """A claim of the experiment about a result, checked when it has run."""

    var: str = Field(pattern=r"^[a-z][a-z0-9_]*/[a-z][a-z0-9_]*$")
    """Analysis and variable, such as `decode/accuracy`."""
    sel: dict[Name, str | int | Literal["last"]] = {}
    """Labels that pick one value, or several that must all meet the claim; `last` is the largest
    layer."""
    ge: float | None = None
    """At least."""
    gt: float | None = None
    """More than."""
    le: float | None = None
    """At most."""
    lt: float | None = None
    """Less than."""
    near: float | None = None
    """Within `atol` of this."""
    atol: float | None = Field(default=None, gt=0)
    """For `near`, in the variable's units."""
    interval: bool = False
    """Whether the whole interval of the variable must meet the claim."""

    @model_validator(mode="after")
    def _claim(self) -> Self:
        bounds = (self.ge, self.gt, self.le, self.lt)
        if (self.near is None) != (self.atol is None):
            raise ValueError("'near' and 'atol' go together")
        if (self.near is None) == all(bound is None for bound in bounds):
            raise ValueError("a claim needs a bound (ge, gt, le, lt), or 'near' with 'atol'")
        if (self.ge is not None and self.gt is not None) or (
            self.le is not None and self.lt is not None
        ):
            raise ValueError("a claim has one lower and one upper bound at most")
        return self


Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True})]


def _one_seed(value: Any) -> Any:
    return value  # a list is taken apart before a cell is checked (`matrix`)


if TYPE_CHECKING:
    StimulusEntry = StimulusSet
    CaptureEntry = Capture
    InterventionEntry = Intervention
else:
    StimulusEntry = CaptureEntry = InterventionEntry = Any  # see `spec_model`


class Spec(Model):
    """A whole spec. Science keys enter its digest; `name`, `description` and `run` do not."""

    patchclamp: Literal[1]
    """Version of the grammar; first and required."""
    extends: Extends = Field(default=(), exclude=True)
    """Specs that this one builds on: mappings merge by key, lists and scalars replace, `null`
    takes a key away. None is left when a spec is checked."""
    matrix: Matrix | None = Field(default=None, exclude=True)
    """Other values at some paths; each combination is a cell, checked like a spec of its own."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    """Name of the experiment; its results go to `runs/<name>/`."""
    description: str = ""
    """What the experiment asks, for people."""
    seed: Annotated[Seed, BeforeValidator(_one_seed, json_schema_input_type=Seed | Seeds)] = 0
    """Every random choice derives its own seed from this one and from what it is for. A list runs
    the spec with each, a cell for each as under `matrix`, and `seed` is a dim of the result."""
    model: Annotated[
        ModelChoice, BeforeValidator(expand_model, json_schema_input_type=str | ModelChoice)
    ]
    """The model."""
    stimuli: dict[Name, StimulusEntry] = Field(min_length=1)
    """Stimulus sets by name."""
    captures: dict[Name, CaptureEntry] = {}
    """What is recorded, by name."""
    interventions: dict[Name, InterventionEntry] = {}
    """What is done to the model, by name."""
    analyses: dict[Name, Any] = {}
    """What is computed, by name."""
    expect: tuple[Expectation, ...] = ()
    """What the result should show."""
    run: Run = Run.model_construct()
    """How it is run."""
    allow: dict[Annotated[str, one_of(LINTS)], Annotated[str, Field(min_length=1)]] = {}
    """Lints that are meant, each with the reason, as `{P605: the study measured in float16}`. They
    are counted and not shown; one that never fires is told."""


@cache
def _with_kinds(analyses: tuple[str, ...]) -> type[Spec]:
    """Return the spec model over the kinds of every section, and these kinds of analysis."""
    sections: Any = {
        "stimuli": (GenericAlias(dict, (Name, StimulusSet)), Field(min_length=1)),
        "captures": (GenericAlias(dict, (Name, Capture)), {}),
        "interventions": (GenericAlias(dict, (Name, Intervention)), {}),
        "analyses": (GenericAlias(dict, (Name, analysis_entry())), {}),
    }
    return create_model("Spec", __base__=Spec, __doc__=Spec.__doc__, **sections)


def spec_model() -> type[Spec]:
    """Return the whole grammar as one model, with what plugins have added.

    It is what errors, editors and explanations are told by. A spec is an instance of `Spec`
    alone, whose entries were validated each by the model of its kind (`entry_model`): building
    the models of all kinds takes longer than all else that checking a spec does.
    """
    return _with_kinds(tuple(ANALYSES))


def entry_model(section: str, entry: Any) -> type[BaseModel] | None:
    """Return the model of an entry, told by its kind; None where it is of no known kind."""
    if section == "captures":
        return Capture
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if not isinstance(kind, str):
        return None
    if section == "analyses":
        return load(ANALYSES[kind].spec) if kind in ANALYSES else None
    return _KINDS[section].get(kind)


_KINDS = {"stimuli": tagged(StimulusSet), "interventions": tagged(Intervention)}

SECTIONS = ("stimuli", "captures", "interventions", "analyses")
"""The keys that hold entries by name."""

SCIENCE_KEYS = ("patchclamp", "seed", "model", "stimuli", "captures", "interventions", "analyses")
"""The keys that decide what is computed; only they enter the digest."""
