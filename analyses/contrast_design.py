"""The design of a contrast: cells, what is independent, and the weights of each effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.cell_means import Array
from patchclamp.analyses.patterns import Capture, Labels, checked_capture
from patchclamp.registry.errors import AnalysisError, hint
from patchclamp.specs.analyses_representation import Contrast


@dataclass(frozen=True)
class Design:
    """Who takes part, in which cell, and what is compared.

    `rows` choose stimuli; `cell` and `item` (row,) say the cell of each and what it belongs to:
    itself, or its group. With `within` every item has all cells, else one, `cells` (item,).
    `weights` (effect, cell) of `effects`; `first` minus `second` is what each effect is of.
    """

    capture: Capture
    rows: NDArray[np.intp]
    cell: NDArray[np.int64]
    item: NDArray[np.int64]
    grouped: bool
    within: bool
    effects: tuple[str, ...]
    weights: Array
    first: tuple[str, ...]
    second: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """The ids of all stimuli."""
        return self.capture.ids

    @property
    def n_items(self) -> int:
        """How many independent items there are."""
        return int(self.item.max()) + 1

    @property
    def cells(self) -> NDArray[np.int64]:
        """The cell of each item, where it has one."""
        return self.cell[np.unique(self.item, return_index=True)[1]]

    @property
    def exchanged(self) -> NDArray[np.int64]:
        """Labels that a permutation exchanges: of stimuli inside items, or of items."""
        return self.cell if self.within else self.cells

    @property
    def blocks(self) -> NDArray[np.int64] | None:
        """Inside what they are exchanged."""
        return self.item if self.within else None

    def items(self, values: Array) -> Array:
        """Return the mean of each item: (item, unit)."""
        return values if not self.grouped else _means(values, self.item, self.n_items)

    def item_cells(self, values: Array) -> Array:
        """Return the mean of each item's cells: (item, cell, unit)."""
        n_cells = self.weights.shape[1]
        means = _means(values, self.item * n_cells + self.cell, self.n_items * n_cells)
        return means.reshape(self.n_items, n_cells, -1)


def _means(values: Array, number: NDArray[np.int64], n: int) -> Array:
    member = (np.arange(n)[:, None] == number).astype(np.float64)
    return np.asarray(member @ values / member.sum(axis=1, keepdims=True))


def make_design(entry: Contrast, data: xr.Dataset) -> Design:
    """Return the design of a contrast; raises `AnalysisError` saying why there is none."""
    capture = checked_capture(data)
    if entry.factors is not None:
        return _factorial(capture, *(_two(capture.labels(name)) for name in entry.factors))
    assert entry.column is not None, "the grammar asks for it"
    assert entry.classes is not None, "the grammar asks for them"
    labels, classes = capture.labels(entry.column), entry.classes
    for name in classes:
        if name not in labels.classes:
            raise AnalysisError(
                f"column {labels.column!r} has no class {name!r}{hint(name, labels.classes)}"
            )
    numbers = [labels.classes.index(name) for name in classes]
    rows = np.flatnonzero(np.isin(labels.codes, numbers))
    cell = (labels.codes[rows] == numbers[1]).astype(np.int64)
    item, grouped = _items(capture, rows)
    within = _within(cell, item, [f"{labels.column} {name!r}" for name in classes], grouped)
    weights = np.array([[1.0, -1.0]])
    sides = (classes[0],), (classes[1],)
    return Design(capture, rows, cell, item, grouped, within, (labels.column,), weights, *sides)


def _factorial(capture: Capture, first: Labels, second: Labels) -> Design:
    """Return the design of two factors: the effect of each, and their interaction."""
    rows = np.arange(len(capture.ids))
    cell = 2 * first.codes + second.codes
    item, grouped = _items(capture, rows)
    cells = [
        f"{first.column} {a!r} with {second.column} {b!r}"
        for a in first.classes
        for b in second.classes
    ]
    within = _within(cell, item, cells, grouped)
    effects = first.column, second.column, f"{first.column}:{second.column}"
    weights = np.array([[0.5, 0.5, -0.5, -0.5], [0.5, -0.5, 0.5, -0.5], [1, -1, -1, 1]])
    one, other = ((first.classes[i], second.classes[i]) for i in (0, 1))
    return Design(capture, rows, cell, item, grouped, within, effects, weights, one, other)


def _two(labels: Labels) -> Labels:
    if len(labels.classes) != 2:
        named = ", ".join(map(repr, labels.classes[:5]))
        raise AnalysisError(
            f"a factor has two values, and column {labels.column!r} has {len(labels.classes)} "
            f"({named}{', ...' if len(labels.classes) > 5 else ''})"
        )
    return labels


def _items(capture: Capture, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], bool]:
    """Return the number of each row's item, and whether items are groups."""
    groups = capture.groups()
    if groups is None:
        return np.arange(len(rows)), False
    return np.unique(groups[rows], return_inverse=True)[1].astype(np.int64), True


def _within(
    cell: NDArray[np.int64], item: NDArray[np.int64], names: Sequence[str], grouped: bool
) -> bool:
    """Return whether every item has all cells; raises `AnalysisError` for a mixed design."""
    held = np.zeros((int(item.max()) + 1, len(names)), dtype=bool)
    held[item, cell] = True
    if held.all() and len(held) >= 2:
        return True
    if not (held.sum(axis=1) == 1).all():
        some = int((held.sum(axis=1) > 1).sum())
        raise AnalysisError(
            f"{some} of {len(held)} groups hold more than one cell of the design and not all hold "
            f"all {len(names)}, so that neither groups nor differences within them can be "
            "compared: keep complete groups ('where'), or give groups that hold one cell each"
        )
    for name, count in zip(names, held.sum(axis=0).tolist(), strict=True):
        if count < 2:
            sort = "groups" if grouped else "stimuli"
            raise AnalysisError(f"{count} {sort} of {name}: a variance needs at least 2")
    return False
