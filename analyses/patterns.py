"""The labelled side of captures: patterns place by place, labels and groups, and the way back.

A *place* is one combination of layer, head and position; the places of a capture are the family
that a maximum statistic corrects for. Stimuli are always taken in the order of their ids, so
that no random choice, and so no number, depends on the order of rows in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.permutation import p_fdr
from patchclamp.registry.errors import AnalysisError, hint

PLACE = ("layer", "head", "kv_head", "position", "query")
"""Dims of a place, in the order in which results have them."""

FEATURES = ("unit", "neuron", "channel", "feature", "token", "key")
"""The dim that a pattern extends over."""

NAMED = 5
"""So many stimuli are named in a message, the others counted."""

Variables = dict[str, tuple[tuple[str, ...], ArrayLike, Mapping[str, str | float]]]
"""Name to (dims, values, attributes)."""


@dataclass(frozen=True)
class Labels:
    """A label column: the class names in alphabetical order, and the class of each stimulus."""

    column: str
    classes: tuple[str, ...]
    codes: NDArray[np.int64]


@dataclass(frozen=True)
class Capture:
    """A checked capture; `order` sorts its rows by stimulus id."""

    data: xr.Dataset
    dims: tuple[str, ...]
    order: NDArray[np.intp]

    @property
    def ids(self) -> list[str]:
        """Stimulus ids, sorted."""
        return [str(name) for name in self.data["stimulus"].values[self.order]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of layers, heads and positions, as far as the capture has them."""
        return tuple(self.data.sizes[dim] for dim in self.dims)

    def columns(self) -> list[str]:
        """Return the label columns that can be asked for."""
        coords = self.data.coords
        return [str(c) for c in coords if coords[c].dims == ("stimulus",) and c != "stimulus"]

    def labels(self, column: str) -> Labels:
        """Return a label column; `AnalysisError` if it is unknown or a stimulus has no label."""
        known = self.columns()
        if column not in known:
            raise AnalysisError(f"the stimuli have no label column {column!r}{hint(column, known)}")
        values = self.data[column].values[self.order]
        for name, value in zip(self.ids, values.tolist(), strict=True):
            if value is None or value != value or str(value).strip() == "":
                raise AnalysisError(f"stimulus {name!r} has no label in column {column!r}")
        classes, codes = np.unique(values.astype(str), return_inverse=True)
        return Labels(column, tuple(classes.tolist()), codes.astype(np.int64))

    def refuse_taken(self, names: set[str]) -> None:
        """Refuse labels that have the names of numbers, whose place they would take."""
        for label in self.columns():
            if label in names:
                raise AnalysisError(
                    f"the label {label!r} is also the name of a number that this analysis gives; "
                    "rename the column"
                )

    def groups(self) -> NDArray[np.int64] | None:
        """Return the group number of each stimulus, or None where stimuli are independent."""
        return self.labels("group").codes if "group" in self.data.coords else None

    def result(
        self,
        variables: Variables,
        coords: Mapping[str, ArrayLike],
        attrs: Mapping[str, str | int | float],
    ) -> xr.Dataset:
        """Return a labelled result; what runs over stimuli comes back in the capture's order.

        The coordinates of the variables' dims, and those that hang on them, such as the labels
        of stimuli, are copied from the capture; `coords` are those of new dims.
        """
        dims = {dim for entry in variables.values() for dim in entry[0]}
        made = {name: (name, np.asarray(values)) for name, values in coords.items()}
        result = xr.Dataset(variables, coords=made, attrs=dict(attrs))
        if "stimulus" in dims:
            self.refuse_taken({*variables, *coords})
            result = result.isel(stimulus=np.argsort(self.order))
        given = self.data.coords
        return result.assign_coords(
            {n: given[n].variable for n in given if n != "mask" and dims.issuperset(given[n].dims)}
        )


def units_of(data: xr.Dataset) -> str:
    """Return what a capture's units are units of, its site: other ones have nothing in common.

    >>> units_of(xr.Dataset({"activation": ("unit", [0.0], {"site": "resid_post"})}))
    'resid_post: unit'
    """
    (dim,) = (dim for dim in data["activation"].dims if dim in FEATURES)
    return f"{data['activation'].attrs.get('site', 'unknown')}: {dim}"


def meaning(units: str, long_name: str, estimand: str) -> dict[str, str]:
    """Return the attributes that every number of a result carries.

    >>> meaning("1", "share of stimuli", "probe_accuracy/1")["units"]
    '1'
    """
    return {"units": units, "long_name": long_name, "estimand": estimand}


def p_variables(
    dims: tuple[str, ...], p: ArrayLike, p_max: ArrayLike, *, of: str, permutations: int
) -> Variables:
    """Return the p values of a test as variables: of each place alone, and of the family.

    `of` names the variable that was tested. Their attribute `tolerance` is one permutation: of
    many, one may come as near to what was observed as rounding.

    >>> list(p_variables(("layer",), [0.01], [0.04], of="contrast", permutations=99))
    ['p', 'p_max', 'p_fdr']
    """
    corrected = "permutation p, corrected over all places by the"
    about: dict[str, str | float] = {"of": of, "tolerance": 1 / (permutations + 1)}
    found = {
        "p": (p, "permutation p, each place alone", "permutation_p/1"),
        "p_max": (p_max, f"{corrected} maximum", "permutation_p_max/1"),
        "p_fdr": (p_fdr(p), f"{corrected} false discovery rate", "p_fdr/1"),
    }
    return {
        name: (dims, values, {**meaning("1", words, estimand), **about})
        for name, (values, words, estimand) in found.items()
    }


def checked_capture(data: xr.Dataset, *, masked: bool = False) -> Capture:
    """Return a capture that can be analysed, or raise `AnalysisError` saying why it cannot.

    `data`: variable `activation`, or the only one that a capture's reductions left, over
    stimulus, layer, head and position as far as it has them, and unit or channel, in any order
    and all with coordinates; `mask(stimulus, position)`, if there is one, must be True
    throughout, since a missing token has no activation, unless `masked` allows gaps.
    """
    data = _with_activation(data)
    dims = [str(dim) for dim in data["activation"].dims]
    features = [dim for dim in dims if dim in FEATURES]
    expected = {"stimulus", *PLACE, *FEATURES}
    if not {"stimulus"} <= set(dims) <= expected or len(features) != 1:
        raise AnalysisError(
            "an activation needs the dims stimulus, layer, head or position where it has them, "
            f"and one of {', '.join(FEATURES)}; got ({', '.join(dims)})"
        )
    for dim in dims:
        if dim not in features and (dim not in data.coords or not data.indexes[dim].is_unique):
            raise AnalysisError(f"dim {dim!r} of an activation needs a coordinate without repeats")
        if data.sizes[dim] == 0:
            raise AnalysisError(f"dim {dim!r} of an activation is empty")
    if "mask" in data and not masked:
        _refuse_masked(data["mask"])
    if features == ["key"] and data.attrs.get("site") == "attn_pattern":
        _refuse_ragged(data["activation"])
    order = np.argsort(data["stimulus"].values.astype(str), kind="stable")
    return Capture(data, tuple(dim for dim in PLACE if dim in dims), order)


def _with_activation(data: xr.Dataset) -> xr.Dataset:
    """Return a capture whose only pattern, such as a mean over positions, is its activation."""
    if "activation" in data:
        return data
    found = [
        str(name)
        for name, variable in data.data_vars.items()
        if "stimulus" in variable.dims and set(variable.dims) & set(FEATURES)
    ]
    if len(found) != 1:
        raise AnalysisError(
            "an analysis needs one pattern for each stimulus, and the capture has "
            f"{', '.join(found) or 'none'}: capture without 'reduce', or with one mean or maximum"
        )
    return data.rename({found[0]: "activation"})


def _refuse_masked(mask: xr.DataArray) -> None:
    mask = mask.transpose("stimulus", ...)
    missing = np.argwhere(~mask.values.astype(bool))
    if missing.size:
        row, column = missing[0]
        raise AnalysisError(
            f"stimulus {str(mask['stimulus'].values[row])!r} has no token at position "
            f"{mask[mask.dims[1]].values[column]} ({len(missing)} of {mask.size} tokens are "
            "missing): choose positions that every stimulus has"
        )


def _refuse_ragged(patterns: xr.DataArray) -> None:
    """Refuse attention over the keys of texts of several lengths: patterns of several lengths."""
    one = patterns.isel({dim: 0 for dim in patterns.dims if dim not in ("stimulus", "key")})
    missing = np.argwhere(np.isnan(one.transpose("stimulus", "key").to_numpy()))
    if missing.size:
        row, column = missing[0]
        raise AnalysisError(
            f"stimulus {str(patterns['stimulus'].values[row])!r} has no token at key "
            f"{patterns['key'].values[column]} ({len(missing)} of {one.size} tokens are missing): "
            "choose 'keys' that every stimulus has"
        )
