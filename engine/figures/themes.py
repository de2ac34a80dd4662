"""Themes: the colours of figures, on paper, on a dark screen, and as the variables of a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"
"""Both keep their order for readers of any colour vision, and cividis in grey, too."""


@dataclass(frozen=True)
class Theme:
    """Colours of text, of what recedes, of grids, gaps and paper, and of series in turn."""

    ink: str
    muted: str
    grid: str
    gap: str
    series: tuple[str, ...]
    paper: str


LIGHT = Theme(
    ink="#1c1f24",
    muted="#6b7280",
    grid="#e3e6ea",
    gap="#d4d7db",
    series=("#0072b2", "#d55e00", "#009e73", "#b0578d", "#8a6d00", "#3b3b3b"),
    paper="#ffffff",
)
"""Okabe & Ito 2008, their yellow and pink darkened for white paper."""

DARK = Theme(
    ink="#e6e8eb",
    muted="#9aa3ae",
    grid="#343a42",
    gap="#3d444d",
    series=("#56b4e9", "#e69f00", "#2fc79a", "#dd93c0", "#f0e442", "#c9ced6"),
    paper="#14171b",
)

PAGE = Theme(
    ink="#010101",
    muted="#010102",
    grid="#010103",
    gap="#010104",
    series=tuple(f"#01020{number}" for number in range(6)),
    paper="#010105",
)
"""Stand-ins that become variables of the page, so that one drawing suits light and dark."""

VARIABLES: Mapping[str, str] = {
    PAGE.ink: "--ink",
    PAGE.muted: "--muted",
    PAGE.grid: "--grid",
    PAGE.gap: "--gap",
    PAGE.paper: "--paper",
    **{colour: f"--series-{number}" for number, colour in enumerate(PAGE.series)},
}
"""Stand-in -> the variable of a page that it becomes."""


def with_variables(svg: str) -> str:
    """Return a drawing in the colours of `PAGE` with variables in their place."""
    return re.sub("#0[0-9a-f]{5}", lambda found: _variable(found.group()), svg)


def _variable(colour: str) -> str:
    name = VARIABLES.get(colour)
    return f"var({name})" if name else colour


def css(theme: Theme) -> str:
    """Return the variables of a page in the colours of a theme."""
    colours = [theme.ink, theme.muted, theme.grid, theme.gap, theme.paper, *theme.series]
    return "".join(
        f"{name}:{colour};" for name, colour in zip(VARIABLES.values(), colours, strict=True)
    )
