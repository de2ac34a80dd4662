"""Field types that several kinds share: names, references, and the strict base model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import core_schema

from patchclamp.registry.errors import hint
from patchclamp.registry.table import Table


class Model(BaseModel):
    """A spec model: frozen, closed and strict, so that nothing is ignored or converted.

    Validators are built when they are first needed, and defaults are made by `model_construct`,
    which needs none: together they halve the start of every command that checks specs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""A name of the user's: lower-case letters, digits and underscores; it becomes a netCDF group."""


class Ref(NamedTuple):
    """Marks a field that names an entry of a section of the spec.

    Left out, it means the only entry of the section that is a `candidate`: `rows` are stimulus
    sets with rows of their own, `answered` those of them that have an answer.
    """

    section: Literal["stimuli", "captures", "interventions", "analyses"]
    candidate: Literal["any", "rows", "answered"] = "any"
    kind: str | None = None


class Label(NamedTuple):
    """Marks a field that names a label of the stimulus set that its entry works on.

    `itself` allows `stimulus`, the label that each stimulus has for itself.
    """

    itself: bool = False


STIMULUS = "stimulus"
"""The label that each stimulus has for itself: its id."""

StimuliRef = Annotated[Name, Ref("stimuli", "rows")]
"""The name of a stimulus set."""
AnsweredRef = Annotated[Name, Ref("stimuli", "answered")]
"""The name of a stimulus set with an answer."""
CaptureRef = Annotated[Name, Ref("captures")]
"""The name of a capture."""
InterventionRef = Annotated[Name, Ref("interventions")]
"""The name of an intervention."""
AnalysisRef = Annotated[Name, Ref("analyses")]
"""The name of another analysis, whose result is used."""
SaeRef = Annotated[Name, Ref("analyses", kind="sae")]
"""The name of a sparse autoencoder under `analyses:`."""
SelectionRef = Annotated[Name, Ref("analyses", kind="selection")]
"""The name of a selection of units under `analyses:`."""
LabelName = Annotated[str, Label()]
"""The name of a label column."""

KINDLESS = Field(json_schema_extra={"kindless": True})
"""Marks a model in the type of a short form: there its `kind` may be left out."""

PATTERNS: dict[str, str] = {
    r"^[a-z][a-z0-9_]*$": "a name has lower-case letters, digits and '_', and begins with a letter",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": (
        "a name has letters, digits, '.', '_' and '-', and begins with a letter or a digit"
    ),
    r"^[a-z][a-z0-9_]*/[a-z][a-z0-9_]*$": (
        "a variable is written with its analysis, such as decode/accuracy"
    ),
}
"""What each pattern of the grammar asks for, in words."""


class NotAmongError(ValueError):
    """A value that is not one of those allowed; `allowed` lists them."""

    def __init__(self, sort: str, given: object, allowed: Iterable[str]) -> None:
        self.sort, self.given, self.allowed = sort, given, tuple(allowed)
        super().__init__(f"unknown {sort} {given!r}{hint(str(given), self.allowed)}")


class written(NamedTuple):  # noqa: N801 - it reads as what it says, where a type is declared
    """Says how a spec writes a type: what reads it, as what an editor knows it, what writes it.

    Pydantic's own validators and serializers say the same, and build a second and a third
    validator of each such field to learn what is known here.
    """

    read: Callable[[Any], Any]
    """From what a spec says to the value; `ValueError` where it cannot be read."""
    json_schema_input_type: Any
    write: Callable[[Any], Any] | None = None
    """From the value to plain data; None leaves it as it is."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Tell pydantic how a value is read and written."""
        return core_schema.no_info_plain_validator_function(
            self.read,
            serialization=core_schema.plain_serializer_function_ser_schema(self.write)
            if self.write
            else None,
            json_schema_input_schema=handler.generate_schema(self.json_schema_input_type),
        )


class one_of:  # noqa: N801 - it reads as what it does, where a field is declared
    """Accepts the names of a table as it is when a spec is checked, and proposes the nearest."""

    def __init__(self, table: Table[Any]) -> None:
        self.table = table

    @property
    def json_schema_input_type(self) -> Any:
        """The names, as a type."""
        return Literal[tuple(self.table)]

    def check(self, value: Any) -> str:
        """Return a name that the table has; raises `NotAmongError` for another value."""
        if not isinstance(value, str) or value not in self.table:
            raise NotAmongError(self.table.sort, value, self.table)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Tell pydantic how a value is checked."""
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Return the names that the table has now, with what each of them means."""
        said = [entry.summary for entry in self.table.values()]
        return {"type": "string", "enum": list(self.table), "enumDescriptions": said}
