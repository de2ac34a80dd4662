"""Grids: matrices as colours, lines of tokens, and circuits as graphs."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import FancyArrowPatch, Rectangle

from patchclamp.engine.figures.sketch import Array, Graph, Matrix, Scale, Strip
from patchclamp.engine.figures.themes import DIVERGING, SEQUENTIAL, Theme

CELL = 0.27
"""Inches of a cell, where there is room."""

SMALLEST, LARGEST = 1.6, 6.0
"""Inches of the sides of a matrix, beside its labels."""

SQUARE = (2.2, 2.9)
"""Inches of the sides of a square matrix, of which several stand side by side."""

NAMED = 40
"""Labels of an axis that are written at 7 points; of more, every so many."""

LETTER = 0.068
"""Inches of a letter of the tokens' monospaced text."""

LINE = 0.3
"""Inches of a line of tokens."""


def colour_of(scale: Scale, values: Array) -> Array:
    """Return the colours (…, 4) of values."""
    span = Normalize(scale.low, scale.high, clip=True)
    return np.asarray(colormaps[DIVERGING if scale.diverging else SEQUENTIAL](span(values)))


def ink_on(colour: Array) -> str:
    """Return black or white, whichever is read better on a colour (WCAG relative luminance)."""
    linear = np.where(
        colour[:3] <= 0.03928, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4
    )
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def matrix_size(layer: Matrix) -> tuple[float, float]:
    """Return the size of a panel that holds a matrix: its cells, labels and colour bar."""
    rows, columns = layer.values.shape
    cell = CELL * (1.6 if layer.text is not None else 1.0)
    width = float(np.clip(columns * cell, SMALLEST, LARGEST))
    height = float(np.clip(rows * CELL, SMALLEST * 0.8, LARGEST))
    if layer.square:
        width = height = float(np.clip(rows * CELL, *SQUARE))
    before = 0.7 + 0.065 * max((len(name) for name in layer.rows), default=0)
    below = 0.7 + (0.065 * _longest(layer.columns) if _upright(layer.columns) else 0.15)
    return width + before + 0.9, height + below + 0.35


def _longest(names: tuple[str, ...]) -> int:
    return max(map(len, names), default=0)


def _upright(names: tuple[str, ...]) -> bool:
    """Return whether labels are turned: words do not fit side by side."""
    return _longest(names) > 3


def draw_matrix(layer: Matrix, axes: Axes, theme: Theme) -> None:
    """Draw a matrix with its colour bar; cells without a value have the colour of gaps."""
    rows, columns = layer.values.shape
    axes.set_facecolor(theme.gap)
    image = axes.imshow(
        np.ma.masked_invalid(layer.values),
        cmap=DIVERGING if layer.scale.diverging else SEQUENTIAL,
        norm=Normalize(layer.scale.low, layer.scale.high),
        aspect="equal" if layer.square else "auto",
        interpolation="nearest",
        origin="upper",
    )
    for which, names in (("x", layer.columns), ("y", layer.rows)):
        _name(axes, which, names)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    bar.set_label(layer.scale.label)
    bar.outline.set_visible(False)
    colours = colour_of(layer.scale, np.nan_to_num(layer.values))
    for row, column in np.ndindex(rows, columns):
        if layer.text is not None and layer.text[row][column]:
            axes.text(
                column, row, layer.text[row][column], ha="center", va="center", fontsize=7,
                color=ink_on(colours[row, column]),
            )  # fmt: skip
        if layer.marks is not None and layer.marks[row, column]:
            place = (column, row) if layer.text is None else (column + 0.38, row - 0.32)
            axes.plot(*place, marker="o", markersize=2.6, color=ink_on(colours[row, column]))


def _name(axes: Axes, which: str, names: tuple[str, ...]) -> None:
    """Write the labels of an axis, every so many where they would touch."""
    there = [place for place, name in enumerate(names) if name]
    places = there[:: max(1, -(-len(there) // NAMED))]
    labels = [names[place] for place in places]
    turned = which == "x" and _upright(names)
    getattr(axes, f"set_{which}ticks")(
        places, labels, fontsize=7 if len(there) > 12 else 8, rotation=90 if turned else 0
    )


def strip_size(layer: Strip) -> tuple[float, float]:
    """Return the size of a panel that holds lines of tokens."""
    longest = max(sum(len(token) + 1 for token in line) for line in layer.tokens)
    names = LETTER * (max(map(len, layer.names), default=0) + 1)
    return max(3.6, LETTER * longest + names + 0.4), LINE * len(layer.tokens) + 1.1


def draw_strip(layer: Strip, axes: Axes, theme: Theme) -> None:
    """Draw lines of tokens, each on its colour."""
    longest = max(sum(len(token) + 1 for token in line) for line in layer.tokens)
    for row, (line, values) in enumerate(zip(layer.tokens, layer.values, strict=True)):
        start = 0.0
        for token, value in zip(line, values, strict=True):
            width = len(token) + 1
            known = bool(np.isfinite(value))
            colour = colour_of(layer.scale, np.asarray(value if known else 0.0))
            face = tuple(colour) if known else theme.gap
            axes.add_patch(Rectangle((start, row - 0.42), width - 0.12, 0.84, facecolor=face, lw=0))
            axes.text(
                start + width / 2 - 0.06, row, token, ha="center", va="center", fontsize=7.5,
                family="monospace", color=ink_on(colour) if known else theme.ink,
            )  # fmt: skip
            start += width
    axes.set_xlim(0, longest)
    axes.set_ylim(len(layer.tokens) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks(range(len(layer.names)), layer.names, family="monospace", fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _bar(layer.scale, axes)


def _bar(scale: Scale, axes: Axes) -> None:
    """Add a colour bar for what is no image."""
    from matplotlib.cm import ScalarMappable

    colours = DIVERGING if scale.diverging else SEQUENTIAL
    shown = ScalarMappable(Normalize(scale.low, scale.high), colours)
    bar = axes.figure.colorbar(
        shown, ax=axes, location="bottom", shrink=0.6, pad=0.04, aspect=30, anchor=(0.0, 0.5)
    )
    bar.set_label(scale.label)
    bar.outline.set_visible(False)


def graph_size(layer: Graph) -> tuple[float, float]:
    """Return the size of a panel that holds a circuit."""
    columns = 2 * max((abs(node.column) for node in layer.nodes), default=0) + 1
    rows = len({node.row for node in layer.nodes})
    return float(np.clip(0.8 * columns + 1.2, 3.6, 8.5)), float(np.clip(0.6 * rows + 1.3, 2.6, 9))


def _bend(start: tuple[float, float], end: tuple[float, float]) -> float:
    """Return how much an edge is bent: one that passes layers goes around their nodes."""
    return 0.06 + 0.1 * max(0.0, abs(end[1] - start[1]) - 1)


def draw_graph(layer: Graph, axes: Axes, theme: Theme) -> None:
    """Draw a circuit from its first layer, below, to its last, above."""
    places = {node.name: (node.column, node.row) for node in layer.nodes}
    widest = max((abs(weight) for *_, weight in layer.edges), default=1.0) or 1.0
    for start, end, weight in layer.edges:
        line = theme.series[0 if weight >= 0 else 1]
        axes.add_patch(
            FancyArrowPatch(
                places[start], places[end], arrowstyle="-|>", mutation_scale=8, shrinkA=10,
                shrinkB=11, lw=0.6 + 2.2 * abs(weight) / widest, color=line, zorder=1,
                connectionstyle=f"arc3,rad={_bend(places[start], places[end])}",
            )
        )  # fmt: skip
    for node in layer.nodes:
        known = node.value is not None and np.isfinite(node.value)
        colour = colour_of(layer.scale, np.asarray(node.value if known else 0.0))
        axes.text(
            node.column, node.row, node.name, ha="center", va="center", fontsize=7.5, zorder=2,
            color=ink_on(colour) if known else theme.ink,
            bbox={"boxstyle": "round,pad=0.35", "lw": 0.8, "edgecolor": theme.muted,
                  "facecolor": tuple(colour) if known else theme.gap},
        )  # fmt: skip
    rows = sorted({node.row for node in layer.nodes})
    columns = [node.column for node in layer.nodes] or [0]
    axes.set_xlim(min(columns) - 0.7, max(columns) + 0.7)
    axes.set_ylim(min(rows, default=0) - 0.7, max(rows, default=0) + 0.7)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    _bar(layer.scale, axes)
