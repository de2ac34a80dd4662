"""Figures: functions from a labelled dataset to sketches, drawn as PNG, SVG or on a page."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from patchclamp.engine.figures.sketch import Sketch
from patchclamp.registry import ANALYSES, FIGURES
from patchclamp.registry.table import load

__all__ = ["Sketch", "sketches"]


def sketches(data: xr.Dataset) -> Iterator[Sketch]:
    """Yield the figures of an analysis' result: all that its kind names and it has the data for.

    A kind that names none, such as a plugin's, gets those of its headline numbers.
    """
    kind = str(data.attrs.get("kind"))
    names = ANALYSES[kind].figures if kind in ANALYSES else ()
    for name in names or ("layer_curves", "head_maps", "position_maps"):
        yield from load(FIGURES[name].draw)(data)
