"""Variables: which of a dataset a figure shows, along which dims, under which names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from patchclamp.engine.figures.facts import squeezed
from patchclamp.registry import ANALYSES

T = TypeVar("T")

HEADS = ("head", "kv_head")

BESIDE = r"(p|q|null)(_.*)?|.*_(p|q|p_max|low|high)|control_.*"
"""Names of variables that stand beside another: tests, bounds, controls."""

COUNTLESS = ("stimulus", "other", "permutation", "draw")
"""Dims of which no label is of interest by itself, however few there are."""

PANELS = 6
"""Most panels of one figure; beyond that nobody compares them."""


def headline(data: xr.Dataset) -> list[str]:
    """Return the numbers that an analysis is known by, without p values."""
    kind = str(data.attrs.get("kind"))
    known = ANALYSES[kind].headline if kind in ANALYSES else ()
    names = known or tuple(map(str, data.data_vars))
    numbers = [n for n in names if n in data and data[n].dtype.kind == "f"]
    return [name for name in numbers if not re.fullmatch(BESIDE, name)]


def spanning(data: xr.Dataset, dims: Sequence[str], names: Sequence[str] = ()) -> Iterator[str]:
    """Yield the variables that have all of some dims, and beside them only few small ones."""
    for name in names or headline(data):
        values = squeezed(data[name], keep=tuple(dims)) if name in data else None
        if values is None or not set(dims) <= set(values.dims):
            continue
        others = [dim for dim in values.dims if dim not in dims]
        if all(values.sizes[dim] <= PANELS and dim not in COUNTLESS for dim in others):
            yield name


def each(values: xr.DataArray, dims: Sequence[str]) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield a variable for each combination of labels of the dims beside `dims`, named by them."""
    values = squeezed(values, keep=tuple(dims))
    others = [str(dim) for dim in values.dims if dim not in dims]
    for index in np.ndindex(*(values.sizes[dim] for dim in others)):
        here = values.isel(dict(zip(others, index, strict=True)))
        names = (f"{dim.replace('_', ' ')} {here[dim].item()}" for dim in others)
        yield ", ".join(names), here.transpose(*dims)


def spread(panels: Sequence[T], most: int = PANELS) -> tuple[T, ...]:
    """Return at most so many of a list, evenly spread, with the first and the last.

    >>> spread(range(9), 3)
    (0, 4, 8)
    """
    if len(panels) <= most:
        return tuple(panels)
    steps = np.linspace(0, len(panels) - 1, most).round().astype(int)
    return tuple(panels[int(step)] for step in steps)


def upwards(values: xr.DataArray) -> xr.DataArray:
    """Return a variable with its last layer first, which a matrix draws on top."""
    return values.sortby("layer", ascending=False) if "layer" in values.dims else values


def names_along(values: xr.DataArray, dim: str) -> tuple[str, ...]:
    """Return the labels of a dim as text; positions with their token or name, where they have one.

    A position is named by what the spec calls it (`position_name`), else by its token, where all
    stimuli share it (`position_token`) or there is one text (`token_text`).
    """
    labels = [str(label) for label in values[dim].to_numpy().tolist()]
    if dim not in ("position", "query", "key"):
        return tuple(labels)
    for name in ("position_name", "key_name", "position_token", "token_text"):
        words = _over(values, name, dim)
        if words is not None and name.endswith("_name"):
            return words
        if words is not None:
            both = zip(words, labels, strict=True)
            return tuple(f"{label} {shown(word)}" if word else label for word, label in both)
    return tuple(labels)


def _over(values: xr.DataArray, name: str, dim: str) -> tuple[str, ...] | None:
    """Return a coordinate over a dim; keys are the same tokens as queries with the same labels."""
    words = values.coords.get(name)
    if words is None:
        return None
    alike = dim == "key" and words.dims == ("query",) and are_alike(values)
    if (alike and np.array_equal(values["key"], values["query"])) or words.dims == (dim,):
        return tuple(map(str, words.to_numpy().tolist()))
    return None


def are_alike(attention: xr.DataArray) -> bool:
    """Return whether queries and keys of the same number are the same token."""
    query, key = (attention[dim].attrs.get("anchor") for dim in ("query", "key"))
    return query == key


def shown(token: str) -> str:
    """Return a token so that its spaces and line breaks are seen.

    >>> shown(" cat"), shown("Ġcat"), shown("a\\n")
    ('·cat', '·cat', 'a⏎')
    """
    text = re.sub("^[ Ġ▁]", "·", token)
    return text.replace("\n", "⏎").replace("Ċ", "⏎").replace("\t", "⇥").replace(" ", "·")


def unit_name(data: xr.DataArray) -> str:
    """Return the name of a place in a model, such as L4H10, from its scalar coordinates."""
    ends = [str(data.coords[end].item()) for end in ("sender", "receiver") if end in data.coords]
    parts = [str(data.coords["node"].item())] if "node" in data.coords else [" → ".join(ends)]
    for dim, letter in (("layer", "L"), ("head", "H"), ("kv_head", "K"), ("neuron", "N"),
                        ("feature", "F"), ("unit", "U"), ("position", "P")):  # fmt: skip
        if dim in data.coords and data.coords[dim].ndim == 0:
            parts.append(f"{letter}{data.coords[dim].item()}")
    return "".join(parts)


def in_order(labels: Sequence[Any]) -> list[Any]:
    """Return labels in the order of the numbers in them, as step80 before step1000.

    >>> in_order(["step1000", "step80", "main"])
    ['step80', 'step1000', 'main']
    """

    def key(label: Any) -> tuple[float, str]:
        numbers = re.findall(r"\d+", str(label))
        return (float(numbers[-1]) if numbers else np.inf, str(label))

    return sorted(labels, key=key)
