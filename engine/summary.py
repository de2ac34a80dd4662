"""Summaries: the headline numbers of an analysis as a table, for a terminal or a page."""

from __future__ import annotations

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


def summarise(data: xr.Dataset, *, top: int) -> Summary | None:
    """Return a row for each place; with heads, or very many places, only `top` largest.

    Places are those of the first headline number; one that has several values at a place, such as
    that of random circuits, is shown as from the lowest to the highest. None where the analysis
    names no headline numbers, or has none.
    """
    kind = str(data.attrs.get("kind"))
    headline = [v for v in (ANALYSES[kind].headline if kind in ANALYSES else ()) if v in data]
    if not headline:
        return None
    picked = data[headline].squeeze([d for d in ("position",) if data.sizes.get(d) == 1], drop=True)
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
    forms = {v: "{:.0f}" if data[v].dtype.kind in "iu" else FORMATS.get(v, FORM) for v in headline}
    head = [str(dim) for dim in dims]
    head += [v if units[v] == "1" else f"{v} ({units[v]})" for v in headline]
    rows = []
    for row in order:
        labels = [str(part) for part in frame["place"].to_numpy()[row]]
        ends = [[float(x[v].to_numpy()[row]) for x in (frame, highest)] for v in headline]
        texts = [
            " to ".join(dict.fromkeys(_written(variable, forms[variable], end) for end in both))
            for variable, both in zip(headline, ends, strict=True)
        ]
        rows.append((*labels, *texts))
    return Summary(tuple(head), tuple(rows), len(dims), places)


def _written(variable: str, form: str, number: float) -> str:
    """Return a number as text; one that is shown as 0 has no sign, and is no p value."""
    if np.isnan(number):
        return "—"
    if variable in ("p", "p_max", "p_fdr") and 0 < number < LEAST:
        return "<0.001"
    text = form.format(number)
    return text if any(digit in text for digit in "123456789") else text.removeprefix("-")
