"""Axes: one panel, and how each sort of layer is drawn on it."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from patchclamp.engine.figures.grids import (
    draw_graph,
    draw_matrix,
    draw_strip,
    graph_size,
    matrix_size,
    strip_size,
)
from patchclamp.engine.figures.names import ROOM, sides
from patchclamp.engine.figures.sketch import (
    Array,
    Axis,
    Band,
    Bars,
    Curve,
    Flags,
    Graph,
    Layer,
    Level,
    Matrix,
    Panel,
    Points,
    Strip,
)
from patchclamp.engine.figures.themes import Theme

WIDTH, HEIGHT = 4.4, 3.0
"""Inches of a panel of curves, at which 9-point text reads well in half a column."""

MARKERS = "osD^vP"
"""Series differ in form as well as in colour."""

DASHES = ("--", ":", "-.", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 3)), (0, (9, 3)))
"""Lines of controls, which differ in form as well."""

TICKS = 5
"""Most ticks of the axes of a plane, so that both have the same."""

LEGEND = 4.6
"""Letters of the legend's size between the axis and the legend: ticks and label stand there."""

BAR = 0.24
"""Inches of a bar with its gap."""


def panel_size(panel: Panel) -> tuple[float, float]:
    """Return width and height in inches."""
    for layer in panel.layers:
        match layer:
            case Matrix():
                return matrix_size(layer)
            case Strip():
                return strip_size(layer)
            case Graph():
                return graph_size(layer)
            case Bars():
                longest = max(map(len, layer.names), default=0)
                legend = 0.3 * any(isinstance(other, Level | Points) for other in panel.layers)
                height = 0.9 + legend + BAR * len(layer.names)
                return WIDTH + 0.05 * max(0, longest - 12), height
            case Points():
                return HEIGHT + 0.6, HEIGHT + 0.7
    return WIDTH, HEIGHT


def draw_panel(axes: Axes, panel: Panel, theme: Theme) -> None:
    """Draw all layers of a panel, then its axes and legend."""
    axes.set_title(panel.title)
    curves = sum(isinstance(layer, Curve) and layer.role == "data" for layer in panel.layers)
    lying = any(isinstance(layer, Bars) for layer in panel.layers)
    order = _Order(theme, curves=curves, lying=lying)
    for layer in panel.layers:
        _draw(layer, axes, order)
    if not any(isinstance(layer, Matrix | Strip | Graph) for layer in panel.layers):
        _finish(axes, panel, theme)
        _add_legend(axes, panel)
    else:
        axes.set_xlabel(panel.x.label)
        axes.set_ylabel(panel.y.label)


class _Order:
    """The series that were drawn so far, so that each has its own colour and form."""

    def __init__(self, theme: Theme, *, curves: int, lying: bool) -> None:
        self.theme, self.drawn, self.controls = theme, 0, 0
        self.curves, self.lying = curves, lying

    def next(self, role: str) -> dict[str, Any]:
        """Return colour, marker and line of the next series.

        The first is the heaviest, so that one that lies under others is seen.
        """
        if role == "data":
            number, self.drawn = self.drawn, self.drawn + 1
            return {
                "color": self.theme.series[number % len(self.theme.series)],
                "marker": MARKERS[number % len(MARKERS)],
                "linestyle": "-",
                "weight": max(0.0, 1 - number / (self.curves - 1)) if self.curves > 1 else 0.0,
            }
        number, self.controls = self.controls, self.controls + 1
        style = {"linestyle": DASHES[number % len(DASHES)], "marker": ""}
        others = self.theme.series[:0:-1]  # the first is that of the data
        colour = self.theme.muted if role == "muted" else others[number % len(others)]
        return {"color": colour, **style}


@singledispatch
def _draw(layer: Layer, axes: Axes, order: _Order) -> None:
    raise TypeError(f"nothing draws a {type(layer).__name__}")


@_draw.register
def _(layer: Curve, axes: Axes, order: _Order) -> None:
    style = order.next(layer.role)
    marker, weight = style.pop("marker"), style.pop("weight", 0.0)
    axes.plot(layer.x, layer.y, label=layer.label or None, linewidth=1.6 + 2 * weight, **style)
    if layer.low is not None and layer.high is not None:
        axes.fill_between(layer.x, layer.low, layer.high, color=style["color"], alpha=0.18, lw=0)
        alone = _alone(layer.y)  # an area has no width there
        axes.vlines(
            layer.x[alone], layer.low[alone], layer.high[alone], color=style["color"], lw=1.1
        )
    if not marker:
        return
    filled = np.ones(len(layer.x), dtype=bool) if layer.filled is None else layer.filled
    for chosen, face in ((filled, style["color"]), (~filled, order.theme.paper)):
        axes.plot(
            layer.x[chosen], layer.y[chosen], linestyle="", marker=marker,
            markersize=5 + 3 * weight, color=style["color"], markerfacecolor=face,
        )  # fmt: skip


def _alone(values: Array) -> Flags:
    """Return where a value has no neighbour that a line could join it to."""
    there = np.isfinite(values)
    beside = np.zeros(len(values), dtype=bool)
    beside[1:] |= there[:-1]
    beside[:-1] |= there[1:]
    return there & ~beside


@_draw.register
def _(layer: Band, axes: Axes, order: _Order) -> None:
    axes.fill_between(
        layer.x, layer.low, layer.high, color=order.theme.muted, alpha=0.25, lw=0,
        label=layer.label or None, zorder=0.5,
    )  # fmt: skip
    alone = _alone(layer.low)
    axes.vlines(
        layer.x[alone], layer.low[alone], layer.high[alone], color=order.theme.muted, alpha=0.25,
        lw=9, zorder=0.5,
    )  # fmt: skip


@_draw.register
def _(layer: Level, axes: Axes, order: _Order) -> None:
    draw = axes.axvline if order.lying else axes.axhline
    draw(layer.value, color=order.theme.ink, linestyle=":", linewidth=1.2, label=layer.label)


@_draw.register
def _(layer: Bars, axes: Axes, order: _Order) -> None:
    style = order.next("data")
    places = np.arange(len(layer.names))
    filled = np.ones(len(places), dtype=bool) if layer.filled is None else layer.filled
    bars = axes.barh(places, layer.values, height=0.7, color=style["color"], linewidth=1)
    for bar, solid in zip(bars, filled, strict=True):
        if not solid:
            bar.set(facecolor="none", edgecolor=style["color"])
    if layer.low is not None and layer.high is not None:
        reach = np.stack([layer.values - layer.low, layer.high - layer.values])
        axes.errorbar(
            layer.values, places, xerr=np.abs(reach), fmt="none", ecolor=order.theme.ink, lw=1.1,
            capsize=2,
        )  # fmt: skip
    axes.axvline(0, color=order.theme.muted, linewidth=0.8)
    axes.set_yticks(places, layer.names)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


@_draw.register
def _(layer: Points, axes: Axes, order: _Order) -> None:
    style = order.next("data")
    axes.scatter(
        layer.x, layer.y, s=16, color=style["color"], marker=style["marker"], alpha=0.75, lw=0,
        label=layer.label or None,
    )  # fmt: skip
    if not any(layer.names):
        return
    reach = float(np.abs([layer.x, layer.y]).max())
    placed = sides(layer.x, layer.y, layer.names, ROOM * reach)
    for x, y, name, side in zip(layer.x, layer.y, layer.names, placed, strict=True):
        if side is not None:
            axes.annotate(
                name, (x, y), xytext=(4 if side == "right" else -4, 0), fontsize=7,
                textcoords="offset points", ha="left" if side == "right" else "right", va="center",
                bbox={"facecolor": order.theme.paper, "alpha": 0.75, "lw": 0, "pad": 0.5},
            )  # fmt: skip


@_draw.register
def _(layer: Matrix, axes: Axes, order: _Order) -> None:
    draw_matrix(layer, axes, order.theme)


@_draw.register
def _(layer: Strip, axes: Axes, order: _Order) -> None:
    draw_strip(layer, axes, order.theme)


@_draw.register
def _(layer: Graph, axes: Axes, order: _Order) -> None:
    draw_graph(layer, axes, order.theme)


def _finish(axes: Axes, panel: Panel, theme: Theme) -> None:
    """Label and limit the axes."""
    bars = any(isinstance(layer, Bars) for layer in panel.layers)
    axes.grid(axis="x" if bars else "y", color=theme.grid, linewidth=0.8)
    _axis(axes, "x", panel.x)
    if not bars:
        _axis(axes, "y", panel.y)
    if not bars and any(isinstance(layer, Points) for layer in panel.layers):
        axes.set_aspect("equal")
        axes.grid(color=theme.grid, linewidth=0.8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(TICKS))
    if panel.y.zero:
        low, high = axes.get_ylim()
        axes.axhline(0, color=theme.muted, linewidth=0.8, zorder=0.6)
        room = 0.04 * (max(high, 0) - min(low, 0))
        axes.set_ylim(low if low < 0 else -room, high if high > 0 else room)


def _axis(axes: Axes, which: str, axis: Axis) -> None:
    low, high = axis.limits
    getattr(axes, f"set_{which}label")(axis.label)
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
    if low is not None or high is not None:
        getattr(axes, f"set_{which}lim")(low, high)
    if which == "x" and axis.ticks is None and not axis.log:
        axes.xaxis.set_major_locator(MaxNLocator(TICKS))  # numbers stand side by side
    if axis.ticks is not None:
        getattr(axes, f"set_{which}ticks")(
            [place for place, _ in axis.ticks], [text for _, text in axis.ticks]
        )
    elif axis.whole:
        getattr(axes, f"{which}axis").set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _add_legend(axes: Axes, panel: Panel) -> None:
    """Name the series above the data, where none can hide behind it."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels or (len(labels) == 1 and isinstance(panel.layers[0], Curve)):
        return
    axes.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(len(labels), 2),
        borderaxespad=LEGEND,
    )  # fmt: skip
