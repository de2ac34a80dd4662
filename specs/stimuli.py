"""What may be asked of stimuli: where they come from and what their columns mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from patchclamp.registry import STIMULI
from patchclamp.specs.fields import Model, Name, one_of

Scalar = str | int | float | bool


class Answer(Model):
    """The next token that is right, and the one it competes with; templates over columns."""

    correct: str = Field(min_length=1)
    """The right continuation, with its leading space; must be one token after the text."""
    foil: str | None = None
    """The wrong continuation that a logit difference subtracts; one token too."""


class _Source(Model):
    """What every source of stimuli has; columns are named, never counted."""

    text: str = Field(min_length=1)
    """The prompt: a template over columns, such as `"{prompt}"`; `{{` is a brace."""
    id: str | None = None
    """Column that names each stimulus; None takes a column `id`, or else numbers the rows."""
    labels: tuple[str, ...] = ()
    """Columns kept as coordinates of every result."""
    groups: str | None = None
    """Column of items that belong together (a template, a topic): a group never straddles a
    fold, and permutations respect it. `none` says that stimuli are independent."""
    answer: Answer | None = None
    """What the model should say next; metrics need it."""
    slots: tuple[str, ...] = ()
    """Columns whose values stand in the text and may be shuffled by `kind: corrupt`."""


class Builtin(_Source):
    """A stimulus set that ships with patchclamp (`patchclamp list stimuli`)."""

    kind: Literal["builtin"]
    set: Annotated[str, one_of(STIMULI)]
    """Name of the set."""


class Csv(_Source):
    """A CSV file with a header line, UTF-8; every value is text."""

    kind: Literal["csv"]
    path: str = Field(min_length=1)
    """The file, relative to the spec's own folder."""


class Jsonl(_Source):
    """A file with one JSON object a line; only its scalar members become columns."""

    kind: Literal["jsonl"]
    path: str = Field(min_length=1)
    """The file, relative to the spec's own folder."""


class Items(_Source):
    """Stimuli written into the spec itself."""

    kind: Literal["items"]
    items: tuple[dict[str, Scalar], ...] = Field(min_length=1)
    """One mapping of columns to values for each stimulus."""


class Corrupt(Model):
    """Another set with its slots rearranged, its answer kept: same words, no sequence."""

    kind: Literal["corrupt"]
    of: Name | None = None
    """The set to corrupt; may be left out where there is one other."""
    slots: Literal["shuffle"] = "shuffle"
    """`shuffle` reorders the slot values so that as few neighbours as possible stay neighbours."""


StimulusSet = Annotated[Builtin | Csv | Jsonl | Items | Corrupt, Field(discriminator="kind")]
Source = Builtin | Csv | Jsonl | Items


def is_source(entry: Any) -> bool:
    """Return whether a stimulus set has rows of its own rather than deriving them."""
    return isinstance(entry, _Source)
