"""Figures: functions from a labelled dataset to sketches, drawn as PNG, SVG or on a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import xarray as xr

from patchclamp.engine.figures.sketch import Sketch
from patchclamp.registry import ANALYSES, FIGURES
from patchclamp.registry.figures import OF_CAPTURES
from patchclamp.registry.table import load

__all__ = ["Sketch", "Undrawn", "attempted", "sketches"]


@dataclass(frozen=True)
class Undrawn:
    """A kind of figure that failed on a dataset, and why."""

    name: str
    reason: str


def sketches(data: xr.Dataset) -> Iterator[Sketch]:
    """Yield the figures of an analysis' result: all that its kind names and it has the data for.

    A kind that names none, such as a plugin's, gets those of its headline numbers.
    """
    for name in _names(data):
        yield from load(FIGURES[name].draw)(data)


def attempted(data: xr.Dataset) -> Iterator[Sketch | Undrawn]:
    """Yield the figures of an analysis' result; one that fails takes no other with it."""
    for name in _names(data):
        try:
            yield from load(FIGURES[name].draw)(data)
        except Exception as error:  # of a dataset that nobody thought of; the numbers are fine
            yield Undrawn(name, f"{type(error).__name__}: {error}")


def _names(data: xr.Dataset) -> tuple[str, ...]:
    if "site" in data.attrs and "kind" not in data.attrs:
        return OF_CAPTURES
    kind = str(data.attrs.get("kind"))
    names = ANALYSES[kind].figures if kind in ANALYSES else ()
    return names or ("layer_curves", "head_maps", "position_maps")
