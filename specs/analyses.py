"""The analysis kinds of a spec: a union built from the registry, so that plugins can add to it."""

from __future__ import annotations

from typing import Annotated, Any, Union

from pydantic import Field

from patchclamp.registry import ANALYSES
from patchclamp.registry.table import load


def analysis_entry() -> Any:
    """Return the type of an entry under `analyses:`, told apart by `kind`."""
    models = tuple(load(analysis.spec) for analysis in ANALYSES.values())
    return Annotated[Union[models], Field(discriminator="kind")]  # noqa: UP007 - built at run time
