"""What an RDM is between: stimuli, or the mean patterns of those that share a label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.patterns import Capture, Labels
from patchclamp.registry.errors import AnalysisError

STIMULUS = "stimulus"
"""The label that every stimulus has for itself."""


@dataclass(frozen=True)
class Items:
    """Rows and columns of an RDM, in the order of their names.

    `rows`: which of the capture's stimuli, sorted by id, take part; `member`: (row,), the item of
    each; `groups`: (item,), or None where items are independent.
    """

    capture: Capture
    names: tuple[str, ...]
    rows: NDArray[np.intp]
    member: NDArray[np.intp]
    groups: NDArray[np.int64] | None
    averaged: str | None

    def __len__(self) -> int:
        return len(self.names)

    def labels(self, column: str) -> Labels:
        """Return a label of each item; `AnalysisError` if the stimuli of one disagree."""
        if column == STIMULUS:
            return Labels(column, self.names, np.arange(len(self), dtype=np.int64))
        labels = self.capture.labels(column)
        codes = labels.codes[self.rows]
        first = np.unique(self.member, return_index=True)[1]
        wrong = np.flatnonzero(codes != codes[first][self.member])
        if wrong.size:
            item = self.member[wrong[0]]
            values = sorted({labels.classes[code] for code in codes[self.member == item]})
            raise AnalysisError(
                f"patterns are averaged by {self.averaged!r}, but the stimuli of "
                f"{self.names[item]!r} differ in {column!r}: {', '.join(values[:3])}; ask about a "
                "label that each value has once"
            )
        present, numbers = np.unique(codes[first], return_inverse=True)
        classes = tuple(labels.classes[code] for code in present)
        return Labels(column, classes, numbers.astype(np.int64))

    def columns(self) -> dict[str, NDArray[np.str_]]:
        """Return the labels that are the same for all stimuli of each item: column -> (item,)."""
        found = {}
        first = np.unique(self.member, return_index=True)[1]
        for column in self.capture.columns():
            values = self.capture.data[column].values[self.capture.order][self.rows].astype(str)
            if (values == values[first][self.member]).all():
                found[column] = values[first]
        return found

    def only(self, kept: NDArray[np.bool_]) -> Items:
        """Return those items alone, with their stimuli."""
        number = np.cumsum(kept) - 1
        rows = kept[self.member]
        names = tuple(name for name, keep in zip(self.names, kept, strict=True) if keep)
        groups = None if self.groups is None else self.groups[kept]
        member = number[self.member[rows]]
        return Items(self.capture, names, self.rows[rows], member, groups, self.averaged)


def items_of(capture: Capture, average_by: str | None) -> Items:
    """Return the items of a capture: its stimuli, or the values of a label.

    The mean over a group of each value belongs to no group. So where a value's stimuli are of
    several groups, every value must have the same ones, in the same shares: else what sets two
    values apart may be their groups, and `AnalysisError` says so.
    """
    groups = capture.groups()
    if average_by is None:
        n = len(capture.ids)
        return Items(capture, tuple(capture.ids), np.arange(n), np.arange(n), groups, None)
    labels = capture.labels(average_by)
    member = labels.codes.astype(np.intp)
    rows = np.arange(len(member))
    of_items = None if groups is None else _groups(labels, member, groups)
    return Items(capture, labels.classes, rows, member, of_items, average_by)


def _groups(
    labels: Labels, member: NDArray[np.intp], groups: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    held = np.zeros((len(labels.classes), int(groups.max()) + 1))
    np.add.at(held, (member, groups), 1)
    if ((held > 0).sum(axis=1) == 1).all():
        return np.asarray(held.argmax(axis=1), dtype=np.int64)
    share = held / held.sum(axis=1, keepdims=True)
    other = np.flatnonzero(np.abs(share - share[0]).max(axis=1) > 1e-9)
    if other.size:
        first, second = labels.classes[0], labels.classes[other[0]]
        raise AnalysisError(
            f"patterns are averaged by {labels.column!r}, but {first!r} and {second!r} are means "
            "over different groups, so that their groups may be what sets them apart: give every "
            "value the same groups, in the same shares"
        )
    return None
