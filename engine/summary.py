"""Summaries: the headline numbers of an analysis as a table, for a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from patchclamp.registry import ANALYSES

FORMATS = {"share": "{:.0%}", **dict.fromkeys(("p", "p_max", "p_fdr"), "{:.3f}")}
"""Variable -> how it is written, where three digits after the point are not the way."""

FORM = "{:.3f}"

LEAST = 0.0005
"""Below it a p value would be written as 0, which it never is."""

MOST = 60
"""Most places of a table without heads that are all listed."""


@dataclass(frozen=True)
class Summary:
    """A head, rows of text, and how many rows there would be; the first `labels` are labels."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    places: int

    @property
    def shortened(self) -> str:
        """What is left out, in words; empty where nothing is."""
        if len(self.rows) == self.places:
            return ""
        return f"{len(self.rows)} largest effects of {self.places}"


CEILING, CEILINGS = "noise ceiling", ("ceiling_low", "ceiling_high")
"""The column of what a model RDM can expect at best, and its two bounds."""


def summarise(data: xr.Dataset, *, top: int) -> Summary | None:
    """Return a row for each place; with heads, or very many places, only `top` largest.

    Places are those of the first headline number; one that has several values at a place, such as
    that of random circuits, is shown as from the lowest to the highest. The interval of the first
    number, and of every accuracy, stands beside it. None where the analysis names no headline
    numbers, or has none.
    """
    kind = str(data.attrs.get("kind"))
    headline = [v for v in (ANALYSES[kind].headline if kind in ANALYSES else ()) if v in data]
    if not headline:
        return None
    ends = {v: (f"{v}_low", f"{v}_high") for v in headline if _has_interval(data, v, headline)}
    ranges = {CEILING: CEILINGS} if CEILINGS[0] in data else {}
    beside = [end for both in (*ends.values(), *ranges.values()) for end in both]
    picked = data[[*headline, *beside]]
    picked = picked.squeeze([d for d in ("position",) if data.sizes.get(d) == 1], drop=True)
    if not picked.dims:
        picked = picked.expand_dims({"of": ["all stimuli"]})
    dims = list(picked[headline[0]].dims)
    inner = [dim for dim in picked.dims if dim not in dims]
    frame, highest = (
        one.stack(place=dims).transpose("place", ...)
        for one in (picked.min(inner, keep_attrs=True), picked.max(inner, keep_attrs=True))
    )
    # Where models of different depth stand side by side, a place may have no value.
    order = [i for i, x in enumerate(frame[headline[0]].to_numpy()) if not np.isnan(x).all()]
    places = len(order)
    if "head" in picked.dims or places > MOST:
        sizes = -np.abs(frame[headline[0]].to_numpy()[order])
        order = [order[int(row)] for row in np.argsort(sizes, kind="stable")[:top]]
    units = {variable: data[variable].attrs.get("units", "1") for variable in headline}
    head = [v if units[v] == "1" else f"{v} ({units[v]})" for v in headline]
    rows = []
    for row in order:
        texts = {str(v): _text(str(v), frame, highest, row) for v in frame.data_vars}
        cells = [_cell(texts, v, ends.get(v)) for v in headline]
        cells += [" to ".join(dict.fromkeys(texts[e] for e in both)) for both in ranges.values()]
        rows.append((*(str(part) for part in frame["place"].to_numpy()[row]), *cells))
    return Summary((*map(str, dims), *head, *ranges), tuple(rows), len(dims), places)


def _cell(texts: Mapping[str, str], variable: str, ends: tuple[str, str] | None) -> str:
    """Return a number as text, with its interval."""
    return texts[variable] + (f" [{texts[ends[0]]}, {texts[ends[1]]}]" if ends else "")


def _text(variable: str, lowest: xr.Dataset, highest: xr.Dataset, row: int) -> str:
    """Return a number of a place as text, or the lowest and highest of several."""
    both = [float(x[variable].to_numpy()[row]) for x in (lowest, highest)]
    form = "{:.0f}" if lowest[variable].dtype.kind in "iu" else FORMATS.get(variable, FORM)
    return " to ".join(dict.fromkeys(_written(variable, form, number) for number in both))


def _has_interval(data: xr.Dataset, variable: str, headline: list[str]) -> bool:
    """Return whether a number is shown with its interval, which no column of its own has."""
    ends = (f"{variable}_low", f"{variable}_high")
    if not (variable == headline[0] or variable.endswith("accuracy")) or ends[0] in headline:
        return False
    return all(end in data and data[end].dims == data[variable].dims for end in ends)


def _written(variable: str, form: str, number: float) -> str:
    """Return a number as text; one that is shown as 0 has no sign, and is no p value."""
    if np.isnan(number):
        return "—"
    if variable in ("p", "p_max", "p_fdr") and 0 < number < LEAST:
        return "<0.001"
    text = form.format(number)
    return text if any(digit in text for digit in "123456789") else text.removeprefix("-")
