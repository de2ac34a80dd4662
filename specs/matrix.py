"""The keys that say what a spec is put together from: `extends` and `matrix`."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from patchclamp.specs.fields import Model

UNSWEPT = ("patchclamp", "name", "extends", "matrix", "allow")
"""Keys that are the same in every cell."""

Values = Annotated[tuple[Any, ...], Field(min_length=1)]
"""The values of one path, each as it would be written there."""


class Matrix(Model):
    """Repeats a spec with other values at some paths, such as `model.revision`; a cell each."""

    grid: dict[str, Values] = {}
    """Path -> values. Every value goes with every value of the other paths."""
    zip: dict[str, Values] = {}
    """Path -> values, lists of one length: the first values together, the second together, ..."""
    exclude: tuple[Annotated[dict[str, Any], Field(min_length=1)], ...] = ()
    """Cells that are left out: path -> a value, or a list of several."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.grid and not self.zip:
            raise ValueError("a matrix needs 'grid' or 'zip': paths, each with a list of values")
        return self


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Extends = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...]),
]
"""Spec files that a spec builds on, relative to its own; the names of shipped specs, too."""


class Composition(Model):
    """The keys of a spec that say what it is put together from, and are gone once it is."""

    model_config = ConfigDict(extra="ignore")

    extends: Extends = ()
    """Spec files that this one builds on."""
    matrix: Matrix | None = None
    """Repeats the spec with other values at some paths; null runs it once."""
