"""Sketches: what a figure shows, as labelled data, before anything is drawn.

A figure function turns a labelled dataset into sketches; `render` draws them. So tests hold the
numbers that a figure shows, and every theme shows the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

Role = Literal["data", "control", "muted"]
"""`data` is what the figure is about, `control` what it is compared with, `muted` is context."""


@dataclass(frozen=True)
class Curve:
    """Values over x, with an interval where there is one; `filled` marks what is significant."""

    label: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    filled: Flags | None = None
    role: Role = "data"


@dataclass(frozen=True)
class Band:
    """What chance gives: the range between two bounds over x."""

    label: str
    x: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Level:
    """A value that is the same everywhere, such as a base rate."""

    label: str
    value: float


@dataclass(frozen=True)
class Bars:
    """A value for each name, from 0, the first on top; with intervals where there are any."""

    names: tuple[str, ...]
    values: Array
    low: Array | None = None
    high: Array | None = None
    filled: Flags | None = None
    label: str = ""


@dataclass(frozen=True)
class Points:
    """Points of one group in a plane."""

    label: str
    x: Array
    y: Array
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """What colours stand for: from `low` to `high`, `diverging` around 0 or not."""

    low: float
    high: float
    label: str
    diverging: bool = False


@dataclass(frozen=True)
class Matrix:
    """Values by row and column as colours; NaN is where there is no value.

    `marks` are where something is significant; `text` is written into the cells.
    """

    values: Array
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    scale: Scale
    marks: Flags | None = None
    text: tuple[tuple[str, ...], ...] | None = None
    square: bool = False
    """Whether rows and columns are the same things, as in an RDM."""


@dataclass(frozen=True)
class Strip:
    """Lines of tokens, each coloured by its value; `names` stand before the lines."""

    names: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...]
    values: tuple[Array, ...]
    scale: Scale


@dataclass(frozen=True)
class Node:
    """A part of a circuit at its place; `value` is its effect, None where it has none."""

    name: str
    column: float
    row: float
    value: float | None = None


@dataclass(frozen=True)
class Graph:
    """A circuit: its nodes, and its edges by the names of their ends with their weights."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str, float], ...]
    scale: Scale


Layer = Curve | Band | Level | Bars | Points | Matrix | Strip | Graph


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows, its limits, its ticks with their text."""

    label: str = ""
    limits: tuple[float | None, float | None] = (None, None)
    ticks: tuple[tuple[float, str], ...] | None = None
    whole: bool = False
    """Whether only whole numbers are marked."""
    zero: bool = False
    """Whether 0, which means none of it, is always in view and marked by a line."""
    log: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    layers: tuple[Layer, ...]
    x: Axis = Axis()
    y: Axis = Axis()


@dataclass(frozen=True)
class Facts:
    """What stands under a figure: what it rests on, each in a few words, empty where unknown."""

    dims: str = ""
    n: str = ""
    test: str = ""
    correction: str = ""
    units: str = ""
    interval: str = ""

    def items(self) -> list[tuple[str, str]]:
        """Return the facts that are known, each with its name."""
        return [(name, text) for name, text in vars(self).items() if text]


@dataclass(frozen=True)
class Sketch:
    """A figure: its panels, the sentence that says what it shows, and what it rests on."""

    name: str
    title: str
    sentence: str
    panels: tuple[Panel, ...]
    facts: Facts = field(default_factory=Facts)

    def save(self, path: str | Path) -> Path:
        """Write the figure as PNG or SVG, by the suffix of the path."""
        from patchclamp.engine.figures.render import save

        return save(self, Path(path))

    def _repr_svg_(self) -> str:
        from patchclamp.engine.figures.render import to_svg

        return to_svg(self)

    def layers(self, kind: type[Any]) -> list[Any]:
        """Return all layers of a kind, over all panels."""
        return [one for panel in self.panels for one in panel.layers if isinstance(one, kind)]
