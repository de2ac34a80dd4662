"""Many results at once: what each analysis found in each run, labelled by what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from patchclamp.engine.comparison.labels import format_label
from patchclamp.engine.comparison.reasons import differing
from patchclamp.engine.expectations import UnjudgedError, picked
from patchclamp.engine.figures.facts import CHOSEN
from patchclamp.engine.merge import LABELS
from patchclamp.engine.results import StoredResult
from patchclamp.engine.store import sweep_dims
from patchclamp.registry import ANALYSES
from patchclamp.registry.errors import UsageError
from patchclamp.specs.scalars import read_plain

FINE, NOT_COMPARABLE = 0, 4

UNTESTED = "the largest of many may be so by luck: no test here knows of that choice"

NOTHING = "no analysis is in two of these results"

KEYS = {"model": "model.id", "revision": "model.revision", "seed": "seed"}
"""Dim of a sweep -> the key of the spec that its labels are values of."""


@dataclass(frozen=True)
class Line:
    """What an analysis found in one run: its headline numbers at one place.

    `place` is that of the largest first headline number, by size, among those selected.
    """

    run: str
    labels: Mapping[str, str]
    place: Mapping[str, Any]
    values: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """An analysis over runs; `units` by variable."""

    analysis: str
    units: Mapping[str, str]
    lines: tuple[Line, ...]
    remarks: tuple[str, ...] = ()


def tabulate(
    runs: Sequence[tuple[str, StoredResult]], *, select: Mapping[str, str] | None = None
) -> tuple[Table, ...]:
    """Return a table for each analysis that at least two rows can be shown of.

    `select` picks labels by dim, as `layer=last`. A run whose variable is another quantity (units,
    estimand) is left out of its table with a remark. Raises `NothingToTabulateError`.
    """
    labels = _labels(runs)
    names = dict.fromkeys(name for _, result in runs for name in result.analyses)
    tables, told = [], list[str]()
    for name in names:
        found = _Rows(name, dict(select or {}))
        for (run, result), label in zip(runs, labels, strict=True):
            if name in result.analyses:
                found.add(run, _of_analysis(label, name), result.analyses[name])
        told += found.remarks
        if len(found.lines) > 1:
            tables.append(Table(name, found.units, tuple(found.lines), tuple(found.remarks)))
    if not tables:
        raise NothingToTabulateError("; ".join(dict.fromkeys(told)) or NOTHING)
    return tuple(tables)


class NothingToTabulateError(ValueError):
    """Why there is no table."""


def _labels(runs: Sequence[tuple[str, StoredResult]]) -> list[dict[str, str]]:
    """Return what names each run: what its spec says that others do not.

    Where one of them is a sweep, the others say where they would stand in it.
    """
    labels = differing([result for _, result in runs])
    dims = [
        {dim for data in result.analyses.values() for dim in sweep_dims(data.dims)}
        for _, result in runs
    ]
    for dim in (dim for dim in LABELS if any(dim in one for one in dims)):
        for label, (_, result), own in zip(labels, runs, dims, strict=True):
            label.pop(KEYS[dim], None)
            if dim not in own:
                label[dim] = str(LABELS[dim](result.made))
    return labels


def _of_analysis(labels: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the labels that concern an analysis: what others do does not."""
    own = f"analyses.{name}."
    return {
        key.removeprefix(own): value
        for key, value in labels.items()
        if key.startswith(own) or not key.startswith("analyses.")
    }


class _Rows:
    """The rows of one analysis, as runs are added."""

    def __init__(self, name: str, select: Mapping[str, str]) -> None:
        self.name, self.select = name, select
        self.units: dict[str, str] = {}
        self.meanings: dict[str, tuple[Any, Any]] = {}
        self.lines: list[Line] = []
        self.remarks: list[str] = []

    def add(self, run: str, labels: Mapping[str, str], data: xr.Dataset) -> None:
        kind = str(data.attrs.get("kind"))
        headline = ANALYSES[kind].headline if kind in ANALYSES else ()
        variables = [v for v in headline if v in data and self._same_quantity(run, v, data[v])]
        if not variables:
            return
        for label, cell in _cells(data[variables]):
            line = self._line(cell, of_many=kind in CHOSEN and "p_max" not in variables)
            if line is not None:
                self.lines.append(Line(run, {**labels, **label}, *line))

    def _same_quantity(self, run: str, variable: str, data: xr.DataArray) -> bool:
        meaning = (data.attrs.get("units"), data.attrs.get("estimand"))
        known = self.meanings.setdefault(variable, meaning)
        self.units.setdefault(variable, str(meaning[0]))
        if known != meaning:
            self.remarks.append(f"{variable} of {run} is another quantity: {meaning}, not {known}")
        return known == meaning

    def _line(
        self, data: xr.Dataset, *, of_many: bool
    ) -> tuple[dict[str, Any], dict[str, float]] | None:
        """Return the place of the largest first number, and all numbers there.

        With `of_many`, no test knows that it is the largest of many, and a remark says so.
        """
        first, *_ = data.data_vars
        try:
            for dim, label in self.select.items():
                if dim in data[first].coords:
                    where = picked(data[first], dim, read_plain(label))
                    data = data.sel({d: where[d] for d in where.dims if d in where.indexes})
        except UnjudgedError as error:
            self.remarks.append(str(error))
            return None
        values = np.abs(data[first].to_numpy())
        if not np.isfinite(values).any():
            return None
        if of_many and values.size > 1 and UNTESTED not in self.remarks:
            self.remarks.append(UNTESTED)
        at = np.unravel_index(int(np.nanargmax(values)), values.shape)
        there = data.isel(dict(zip(data[first].dims, map(int, at), strict=True)))
        place = {
            str(dim): there[dim].item() for dim in data[first].dims if data.sizes[dim] > 1
            or dim in self.select
        }  # fmt: skip
        return place, {str(v): float(one) for v, one in there.data_vars.items() if one.ndim == 0}


def _cells(data: xr.Dataset) -> Iterator[tuple[dict[str, str], xr.Dataset]]:
    """Yield the datasets of all runs that one result holds, each with its labels."""
    dims = list(sweep_dims(data.dims))
    if not dims:
        yield {}, data
        return
    for index in np.ndindex(*(data.sizes[dim] for dim in dims)):
        cell = data.isel(dict(zip(dims, index, strict=True)))
        yield {dim: str(cell[dim].item()) for dim in dims}, cell.drop_vars(dims)


def read_selection(given: Sequence[str]) -> dict[str, str]:
    """Read `DIM=LABEL` as the command line gives them."""
    selection = {}
    for text in given:
        dim, sign, label = text.partition("=")
        if not sign or not dim or not label:
            raise UsageError(f"--sel takes DIM=LABEL, such as layer=last; got {text!r}")
        selection[dim] = label
    return selection


def human(tables: Sequence[Table]) -> str:
    """Return the tables for a terminal."""
    return "\n".join(f"{_title(table)}\n{_aligned(_grid(table))}" for table in tables)


def _title(table: Table) -> str:
    remarks = "".join(f"\n  {remark}" for remark in table.remarks)
    return f"{table.analysis}, where {next(iter(table.units))} is largest{remarks}"


def _grid(table: Table) -> list[list[str]]:
    """Return the cells of a table, its head first."""
    keys = list(dict.fromkeys(key for line in table.lines for key in line.labels))
    dims = list(dict.fromkeys(dim for line in table.lines for dim in line.place))
    heads = [name if unit == "1" else f"{name} ({unit})" for name, unit in table.units.items()]
    rows = [["run", *keys, *dims, *heads]]
    for line in table.lines:
        row = [line.run, *(line.labels.get(key, "—") for key in keys)]
        row += [format_label(line.place[d]) if d in line.place else "—" for d in dims]
        row += [f"{line.values[n]:.4g}" if n in line.values else "—" for n in table.units]
        rows.append(row)
    return rows


def _aligned(grid: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = []
    for row in grid:
        first, *rest = (cell for cell in row)
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells))
    return "\n".join(lines) + "\n"


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables as Markdown."""
    parts = []
    for table in tables:
        head, *rows = _grid(table)
        lines = [f"**{_title(table)}**", "", _row(head), "|" + "---|" * len(head)]
        parts.append("\n".join([*lines, *(_row(row) for row in rows), ""]))
    return "\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def as_json(tables: Sequence[Table]) -> str:
    """Return the tables as data."""
    data = {"version": 1, "tables": [asdict(table) for table in tables]}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


FORMATS = {"human": human, "markdown": markdown, "json": as_json}
"""Format -> the function that writes it."""
