"""Rendering: sketches as PNG and SVG. matplotlib is used through its objects, never `pyplot`.

The notebook's or the user's own settings are left alone, and nothing depends on a display.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from patchclamp.engine.figures.axes import draw_panel, panel_size
from patchclamp.engine.figures.sketch import Panel, Sketch
from patchclamp.engine.figures.themes import LIGHT, PAGE, Theme, with_variables
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import StoreError

COLUMNS = 3
"""Panels side by side in a saved figure."""

DPI = 150

SUFFIXES = (".png", ".svg")


def save(sketch: Sketch, path: Path) -> Path:
    """Write a sketch as PNG or SVG; raises `StoreError` for another suffix."""
    if path.suffix not in SUFFIXES:
        raise StoreError(f"figures are saved as {' or '.join(SUFFIXES)}; got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_png(sketch) if path.suffix == ".png" else to_svg(sketch).encode())
    return path


def to_png(sketch: Sketch, theme: Theme = LIGHT) -> bytes:
    """Return a sketch as PNG."""
    with _settings(theme, sketch.name):
        figure = _figure(sketch.panels, theme)
        stream = io.BytesIO()
        cast("Any", FigureCanvasAgg(figure)).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def to_svg(sketch: Sketch, theme: Theme = LIGHT) -> str:
    """Return a sketch as SVG, the same text for the same sketch."""
    with _settings(theme, sketch.name):
        return _svg(_figure(sketch.panels, theme))


def panels_for_page(sketch: Sketch) -> list[str]:
    """Return each panel as an SVG that takes its colours from the page it stands in."""
    drawings = []
    for number, panel in enumerate(sketch.panels):
        with _settings(PAGE, f"{sketch.name}-{number}"):
            drawings.append(with_variables(_svg(_figure((panel,), PAGE))))
    return drawings


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    cast("Any", FigureCanvasSVG(figure)).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _figure(panels: tuple[Panel, ...], theme: Theme) -> Figure:
    """Return a figure with its panels in rows."""
    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    sizes = [panel_size(panel) for panel in panels]
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    for number, panel in enumerate(panels):
        draw_panel(figure.add_subplot(rows, columns, number + 1), panel, theme)
    return figure


@contextmanager
def _settings(theme: Theme, salt: str) -> Iterator[None]:
    """Draw with our own settings, whatever the user's are."""
    settings: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.ink,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.facecolor": "none" if theme is PAGE else theme.paper,
        "savefig.facecolor": "auto",
        "figure.constrained_layout.w_pad": 0.12,
        "figure.constrained_layout.h_pad": 0.08,
        "figure.dpi": DPI,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "savefig.dpi": DPI,
        "svg.fonttype": "none",  # text stays text: it can be searched, and is small
        "svg.hashsalt": salt,
        "text.color": theme.ink,
        "text.parse_math": False,  # a label with a $ is no formula
        "xtick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.color": theme.muted,
        "ytick.labelcolor": theme.ink,
    }
    # A backend that is set here would stay set.
    defaults: dict[Any, Any] = {
        key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"
    }
    with mpl.rc_context({**defaults, **settings}), warnings.catch_warnings():
        # A PNG shows a box for a character that the font lacks; an SVG shows it in any case.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield
