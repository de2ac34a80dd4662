"""Captures: what a capture asks of every stimulus, what it gives, and what decides its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchclamp.engine.positions import Chosen
from patchclamp.engine.records import digest_of
from patchclamp.registry import METRICS, SITES
from patchclamp.specs.captures import Gradient, Reduction
from patchclamp.specs.selections import parse_head_name

PARTIAL = ("class", "every")
"""First dims of what is gathered over stimuli: for each value of a label, or for all."""


@dataclass(frozen=True)
class Variable:
    """One variable that a capture gives: its dims, and what it means.

    `partial` is true where stimuli are gathered: each batch gives a part of it.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    meaning: str
    partial: bool = False
    whole: bool = False
    """Whether it holds whole numbers."""


@dataclass(frozen=True)
class CapturePlan:
    """A capture with layers, heads and tokens as numbers.

    `keys` are the tokens that are attended to, None for all and where the site is no map.
    `heads` are those of each layer, None for all; `named` says that they were named with their
    layer, so that one dim `head` holds them all. `classes` and `codes` say which stimuli a
    reduction over stimuli puts together.
    """

    name: str
    stimuli: str
    site: str
    layers: tuple[int, ...]
    chosen: Chosen
    keys: Chosen | None = None
    heads: tuple[tuple[int, ...], ...] | None = None
    named: bool = False
    reduce: tuple[Reduction, ...] = ()
    gradient: Gradient | None = None
    codes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    internal: bool = False
    """Whether it is needed on the way, and no entry under `captures` asks for it."""
    of_source: Any = None
    """What of an intervention it is: see `engine.sources`."""

    @property
    def layered(self) -> bool:
        """Whether the site is in every layer."""
        return "layer" in SITES[self.site].dims

    def keys_of(self, longest: int) -> int:
        """Return the number of keys, in a set whose longest text has so many tokens."""
        return longest if self.keys is None else self.keys.index.shape[1]

    @property
    def is_map(self) -> bool:
        """Whether it is an attention map: queries for positions, keys for units."""
        return "query" in SITES[self.site].dims

    def dims(self) -> tuple[str, ...]:
        """Dims of the activations, before any reduction."""
        return tuple(d for d in SITES[self.site].dims if not (self.named and d == "layer"))

    def variables(self) -> tuple[Variable, ...]:
        """Return what the capture gives."""
        dims, site = self.dims(), SITES[self.site]
        sort = units = "activation"
        if self.gradient is not None:
            sort = "gradient"
            units = f"{METRICS[self.gradient.of].units} per {self.gradient.wrt}"
        if not self.reduce:
            return (Variable(sort, dims, units, f"{sort}: {site.summary}"),)
        return tuple(
            variable for how in self.reduce for variable in reduced(how, dims, (sort, units))
        )

    def attributes(self, variable: Variable, precision: str) -> dict[str, str]:
        """Return what a variable's numbers are: none of it is a name that the spec gives."""
        return {
            "units": variable.units,
            "long_name": variable.meaning,
            "site": self.site,
            "precision": precision,
        }

    def stored(self, variable: Variable) -> tuple[str, ...]:
        """Return the names that a variable has in a shard: one for each layer that it has."""
        if "layer" not in variable.dims:
            return (variable.name,)
        return tuple(f"{variable.name}/{layer}" for layer in self.layers)


def reduced(how: Reduction, dims: tuple[str, ...], what: tuple[str, str]) -> tuple[Variable, ...]:
    """Return the variables of one reduction of an activation with these dims."""
    (sort, units), name, last = what, name_of(how), dims[-1]
    place = next(d for d in ("query", "position") if d in dims)
    over = over_of(how)
    if over == "stimulus":
        first = "class" if how.by is not None else "every"
        given = (first, *dims[1:])
        of = f" of each value of {how.by!r}" if how.by is not None else ""
        words = f"{how.kind} over the stimuli{of}: {sort}"
        counted = tuple(d for d in given if d in (first, "position", "query", "key"))
        told = "stimuli that have a token"
        count = Variable(f"{name}_count", counted, "stimulus", told, partial=True, whole=True)
        return (Variable(name, given, units, words, partial=True), count)
    if over == "position":
        left = tuple(d for d in dims if d != place)
        return (Variable(name, left, units, f"{how.kind} over {place}s: {sort}"),)
    if how.kind == "column_mean":
        left = tuple(d for d in dims if d != "query")
        return (
            Variable(
                name, left, "1", "mean attention that a key receives from queries that see it"
            ),
        )
    left = dims[:-1]
    if how.kind == "first_share":
        return (Variable(name, left, "1", "attention of each query to the first token"),)
    if how.kind == "topk":
        left = (*left, "rank")
    words = {
        "norm": f"l2 norm over {last}s: {sort}",
        "absmax": f"largest absolute value over {last}s: {sort}",
        "topk": f"values of the largest absolute value, in order of size: {sort}",
    }.get(how.kind, f"{how.kind} over {last}s: {sort}")
    main = Variable(name, left, units, words)
    if how.kind not in ("absmax", "topk"):
        return (main,)
    return (main, Variable(f"{name}_unit", left, "1", f"{last} that has it", whole=True))


def over_of(how: Reduction) -> str:
    """Return the dim that a reduction takes away.

    >>> over_of(Reduction(kind="norm")), over_of(Reduction(kind="mean"))
    ('unit', 'position')
    """
    if how.over is not None:
        return how.over
    return "position" if how.kind in ("mean", "max") else "unit"


def name_of(how: Reduction) -> str:
    """Return the name of a reduction's variable.

    >>> name_of(Reduction(kind="norm")), name_of(Reduction(kind="mean", over="stimulus"))
    ('norm', 'mean_over_stimulus')
    """
    return f"{how.kind}_over_{over_of(how)}" if how.kind in ("mean", "max") else how.kind


def split_heads(
    heads: str | Sequence[int | str], layers: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...] | None, bool]:
    """Return layers, the heads of each of them, and whether they were named with their layer.

    >>> split_heads(("L4H4", "L4H7", "L1H5"), (0, 1, 2, 3, 4))
    ((1, 4), ((5,), (4, 7)), True)
    """
    if isinstance(heads, str):
        return layers, None, False
    named = [parse_head_name(head) for head in heads if isinstance(head, str)]
    if not named:
        numbers = tuple(int(head) for head in heads)
        return layers, (numbers,) * len(layers), False
    chosen = tuple(sorted({layer for layer, _ in named}))
    return chosen, tuple(tuple(sorted(h for n, h in named if n == layer)) for layer in chosen), True


def content_of(capture: CapturePlan) -> dict[str, Any]:
    """Return what decides a capture's numbers beside the model and its stimuli; no name does."""
    gradient = capture.gradient
    return {
        "site": capture.site,
        "layers": list(capture.layers),
        "heads": capture.heads and [list(of) for of in capture.heads],
        "named": capture.named,
        "positions": capture.chosen.digest,
        **({} if capture.keys is None else {"keys": capture.keys.digest}),
        "reduce": [how.model_dump(exclude={"by"}) for how in capture.reduce],
        "classes": {name: digest_of(codes.tolist()) for name, codes in capture.codes.items()},
        "gradient": None if gradient is None else gradient.model_dump(),
    }
