"""Sweeps: the cells of a matrix become one result, along dims that say which cell is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import xarray as xr

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.joining import Part, join
from patchclamp.engine.plan import Plan
from patchclamp.engine.problems import Problems
from patchclamp.registry import ANALYSES
from patchclamp.registry.errors import AnalysisError
from patchclamp.registry.table import load as load_reference
from patchclamp.specs.cells import Cell, name_of, on_one_line
from patchclamp.specs.load import Loaded


@dataclass(frozen=True)
class Failure:
    """A cell that failed while others ran on, and why."""

    cell: str
    message: str


def axes(loaded: Loaded) -> tuple[tuple[str, ...], ...]:
    """Return the paths that each axis of the matrix sets; those of a zip move together."""
    return tuple(tuple(path.name for path in axis) for axis in loaded.cells[0].composed.cells.axes)


def place_of(cell: Cell, loaded: Loaded) -> dict[str, Any]:
    """Return where a cell stands: dim -> label, by the first path of each axis."""
    return {loaded.dims[first]: _label(cell.label[first]) for first, *_ in axes(loaded)}


def _label(value: Any) -> str | int | float:
    """Return a value of the matrix as a label: a number or text as it is, others as YAML."""
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value if plain else on_one_line(value)


def together(
    loaded: Loaded, cells: Sequence[tuple[Cell, Mapping[str, xr.Dataset]]]
) -> dict[str, xr.Dataset]:
    """Return the groups of all cells as one, with a dim for each axis of the matrix.

    `cells` are those that have a result, each with its groups. What does not depend on an axis,
    such as the texts of a model sweep, does not get its dim.
    """
    groups = {}
    for group in dict.fromkeys(path for _, found in cells for path in found):
        parts = [
            Part(place_of(cell, loaded), found[group].load(), name_of(cell.label))
            for cell, found in cells
            if group in found
        ]
        joined = join(parts, shared=group.startswith("/stimuli/"))
        joined = joined.assign_coords(_partners(loaded, joined, [cell for cell, _ in cells]))
        groups[group] = _across(loaded, group, joined)
    return groups


def _across(loaded: Loaded, group: str, joined: xr.Dataset) -> xr.Dataset:
    """Return the joined result of an analysis with what all cells say together, if it asks so."""
    name = group.removeprefix("/analyses/")
    entry = loaded.spec.analyses.get(name)
    across = ANALYSES[entry.kind].across if entry is not None and name != group else None
    if across is None:
        return joined
    try:
        seeds = Seeds(loaded.spec.seed, f"analyses.{name}")
        return cast("xr.Dataset", load_reference(across)(entry, joined, seeds))
    except AnalysisError as error:
        raise AnalysisError(f"{name}: {error}") from error


def _partners(
    loaded: Loaded, joined: xr.Dataset, cells: Sequence[Cell]
) -> dict[str, tuple[str, np.ndarray]]:
    """Return the values of the paths that move together with the first of their axis."""
    coords = {}
    for first, *others in axes(loaded):
        dim = loaded.dims[first]
        if dim not in joined.dims:
            continue
        of_label = {_label(cell.label[first]): cell for cell in cells}
        of_dim = [of_label[label] for label in joined[dim].to_numpy().tolist()]
        for other in others:
            values = np.asarray([_label(cell.label[other]) for cell in of_dim])
            coords[loaded.dims[other]] = (dim, values)
    return coords


def check_weights(plans: Sequence[Plan], problems: Problems) -> None:
    """P426: two revisions of a sweep are two models; checkpoints on hubs are known to repeat."""
    seen: dict[tuple[str, str], str] = {}
    for plan in plans:
        choice = plan.model.choice
        if choice.weights == "random":
            continue
        said = f"{choice.id}@{plan.model.revision}"
        other = seen.setdefault((choice.id, plan.weights), said)
        if other != said:
            problems.add(
                ("model", "revision"),
                "P426",
                f"{other} and {said} have the same weights (sha256 {plan.weights[:12]}): a sweep "
                "over them would show no change where there may have been one; exclude one of them",
            )
            return
