"""Structure: which groups, variables and labels two results share, and what differs in their form.

The order of labels and of axes is no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import xarray as xr

from patchclamp.engine.comparison.labels import (
    AmbiguousLabelsError,
    Match,
    labels_of,
    listed,
    match,
)
from patchclamp.engine.results import StoredResult


@dataclass(frozen=True)
class Difference:
    """Something in the form of two results that differs.

    `fails` tells a difference from a remark: numbers of another width hold the same values.
    """

    where: str
    what: str
    detail: str
    fails: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


@dataclass(frozen=True)
class Candidate:
    """A variable that both results have; `obstacle` says why its values cannot be compared."""

    name: str
    a: xr.DataArray
    b: xr.DataArray
    matches: Mapping[str, Match] = field(default_factory=dict)
    obstacle: str | None = None
    coordinate: bool = False

    @property
    def per_stimulus(self) -> bool:
        """Whether there is a number for each stimulus."""
        numbers = self.a.dtype.kind in "fiub" and self.b.dtype.kind in "fiub"
        return numbers and not self.coordinate and "stimulus" in self.a.dims


Selected = Callable[[str], bool]


@dataclass
class Structure:
    """What both results have, and what differs in their form."""

    differences: list[Difference] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)

    def differ(self, where: str, what: str, detail: str, *, fails: bool = True) -> None:
        """Note a difference."""
        self.differences.append(Difference(where, what, detail, fails))


def compare_structure(a: StoredResult, b: StoredResult, selected: Selected) -> Structure:
    """Return what two results share of the variables that are selected by name."""
    found = Structure()
    for path in dict.fromkeys((*a.groups, *b.groups)):
        group = path.removeprefix("/")
        left, right = a.groups.get(path), b.groups.get(path)
        one = left if right is None else right
        if left is None or right is None:
            assert one is not None, "a group is in one of the two"
            if any(selected(f"{group}/{name}") for name in one.data_vars):
                found.differ(group, "only", f"only in {'B' if left is None else 'A'}")
            continue
        _Group(group, left, right, found).compare(selected)
    return found


@dataclass
class _Group:
    """One group of two results; labels are matched once for all of its variables."""

    name: str
    a: xr.Dataset
    b: xr.Dataset
    found: Structure
    matches: dict[str, Match | str] = field(default_factory=dict)

    def compare(self, selected: Selected) -> None:
        names = dict.fromkeys(map(str, (*self.a.data_vars, *self.b.data_vars)))
        chosen = [name for name in names if selected(f"{self.name}/{name}")]
        used: set[str] = set()
        for name in chosen:
            if self._in_both(name):
                used |= set(map(str, self.a[name].dims))
                self._variable(name, coordinate=False)
        for name in self._coordinates(used):
            if self._in_both(name):
                self._variable(name, coordinate=True)

    def _coordinates(self, used: set[str]) -> Iterator[str]:
        """Yield the coordinates that describe the labels in use, such as a stimulus' category."""
        for name in dict.fromkeys(map(str, (*self.a.coords, *self.b.coords))):
            coords = (self.a if name in self.a.coords else self.b).coords
            if name not in coords[name].dims and set(map(str, coords[name].dims)) <= used:
                yield name

    def _in_both(self, name: str) -> bool:
        """Note a variable that one side lacks."""
        lacks = "B" if name not in self.b else "A" if name not in self.a else None
        if lacks:
            side = "A" if lacks == "B" else "B"
            self.found.differ(f"{self.name}/{name}", "only", f"only in {side}")
        return lacks is None

    def _variable(self, name: str, *, coordinate: bool) -> None:
        a, b, where = self.a[name], self.b[name], f"{self.name}/{name}"
        matches, obstacle = self._matched(a, b)
        obstacle = obstacle or _meaning_differs(a, b)
        if obstacle:
            self.found.differ(where, "not compared", f"not compared: {obstacle}")
        elif a.dtype.kind != b.dtype.kind and {a.dtype.kind, b.dtype.kind} - set("UO"):
            self.found.differ(where, "dtype", f"dtype {a.dtype} in A, {b.dtype} in B")
        elif a.dtype != b.dtype and a.dtype.kind not in "UO":
            remark = f"dtype {a.dtype} in A, {b.dtype} in B"
            self.found.differ(where, "dtype", remark, fails=False)
        self.found.candidates.append(Candidate(where, a, b, matches, obstacle, coordinate))

    def _matched(self, a: xr.DataArray, b: xr.DataArray) -> tuple[dict[str, Match], str | None]:
        """Return how the labels of each dim match, or what stands in the way."""
        dims_a, dims_b = (tuple(map(str, data.dims)) for data in (a, b))
        if set(dims_a) != set(dims_b):
            both = (", ".join(dims) or "none" for dims in (dims_a, dims_b))
            return {}, "dims {} in A, {} in B".format(*both)
        matches = {}
        for dim in dims_a:
            one = self._match(dim, a, b)
            if isinstance(one, str):
                return {}, one
            matches[dim] = one
        empty = [dim for dim, one in matches.items() if not one.size]
        return matches, f"no label of {empty[0]} is in both" if empty else None

    def _match(self, dim: str, a: xr.DataArray, b: xr.DataArray) -> Match | str:
        """Match the labels of a dim, once for the group, and note those on one side only."""
        if dim in self.matches:
            return self.matches[dim]
        found = self._anchored(dim) or self._match_labels(dim, a, b)
        self.matches[dim] = found
        if isinstance(found, Match):
            for side, labels in (("A", found.only_a), ("B", found.only_b)):
                if labels:
                    detail = f"only in {side}: {dim} {listed(labels)}"
                    self.found.differ(self.name, "labels", detail)
        return found

    def _match_labels(self, dim: str, a: xr.DataArray, b: xr.DataArray) -> Match | str:
        try:
            return match(dim, labels_of(a, dim), labels_of(b, dim))
        except AmbiguousLabelsError as error:
            return str(error)

    def _anchored(self, dim: str) -> str | None:
        """Return why the same numbers are other places: they count from different anchors."""
        anchors = [
            str(data.coords[dim].attrs.get("anchor", "")) if dim in data.coords else ""
            for data in (self.a, self.b)
        ]
        if anchors[0] == anchors[1]:
            return None
        return "{} counts from {!r} in A, from {!r} in B".format(dim, *anchors)


def _meaning_differs(a: xr.DataArray, b: xr.DataArray) -> str | None:
    """Return why two variables are different quantities, if they are."""
    for what in ("units", "estimand"):
        left, right = a.attrs.get(what), b.attrs.get(what)
        if left != right:
            return f"{what} {_said(left)} in A, {_said(right)} in B"
    texts = [data.dtype.kind in "UOS" for data in (a, b)]
    if texts[0] != texts[1]:
        return f"{_sort(texts[0])} in A, {_sort(texts[1])} in B"
    return None


def _said(value: object) -> str:
    return "not stated" if value is None else repr(str(value))


def _sort(text: bool) -> str:
    return "text" if text else "numbers"
