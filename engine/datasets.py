"""Datasets: records become labelled xarray datasets, by the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.lazy import Rows, lazy_variable
from patchclamp.engine.plan import Plan
from patchclamp.engine.sets import SetPlan
from patchclamp.engine.store import open_data
from patchclamp.registry.errors import AnalysisError

_AT_ONCE = 4096
"""Stimuli whose tokens are looked at at once."""


def stimulus_coords(of_set: SetPlan) -> dict[str, tuple[str, np.ndarray]]:
    """Return the coordinates that every dataset over a set's stimuli has."""
    table = of_set.table
    coords = {"stimulus": ("stimulus", np.asarray(table.ids))}
    for name, values in table.labels.items():
        coords[name] = ("stimulus", np.asarray(values))
    if table.groups is not None:
        coords["group"] = ("stimulus", np.asarray(table.groups))
    return coords


def stimuli_dataset(plan: Plan, name: str) -> xr.Dataset:
    """Texts, labels and tokens of a set: dims (stimulus, position, token)."""
    of_set = plan.sets[name]
    table, tokens = of_set.table, of_set.tokens
    shape = (len(table), tokens.longest)
    used = np.array(sorted({token for ids in tokens.ids for token in ids}), dtype=np.int32)
    data = xr.Dataset(
        {
            "text": _texts(table.texts),
            "n_tokens": ("stimulus", of_set.lengths.astype(np.int32)),
            "token_id": lazy_variable(
                ("stimulus", "position"),
                shape,
                np.int32,
                lambda rows: tokens.ids.padded(rows, tokens.longest),
            ),
            "token_text": ("token", np.asarray(_pieces(plan, used))),
        },
        coords={
            **stimulus_coords(of_set),
            "position": np.arange(tokens.longest, dtype=np.int32),
            "token": used,
        },
    )
    for part in ("correct", "foil"):
        texts, chosen = getattr(table, part), tokens.first_spelling(part)
        if texts is not None:
            data[part] = _texts(texts)
        if texts is not None and chosen is not None and all(len(one) == 1 for one in chosen):
            ids_of = np.asarray([one[0] for one in chosen], dtype=np.int32)
            data[f"{part}_id"] = ("stimulus", ids_of)
    for variable, (units, long_name) in _STIMULI_MEANING.items():
        if variable in data:
            data[variable].attrs = {"units": units, "long_name": long_name}
    data["position"].attrs = {"long_name": "token position, counted from the first token"}
    data["token"].attrs = {"long_name": "token id in the model's vocabulary"}
    screened = {f"n_{what}": number for what, number in table.screened.items()}
    return data.assign_attrs(digest=table.digest, **screened)


def _texts(texts: Sequence[str]) -> xr.Variable:
    """Return texts as they are: in an array of characters each would be as long as the longest."""

    def some(rows: Rows) -> np.ndarray:
        return np.array([texts[row] for row in rows], dtype=object)

    return lazy_variable(("stimulus",), (len(texts),), object, some)


_STIMULI_MEANING = {
    "text": ("text", "the prompt as the tokenizer got it"),
    "n_tokens": ("token", "number of tokens, special ones included"),
    "token_id": ("token id", "token at each position; -1 is padding"),
    "token_text": ("text", "vocabulary entry of each token id in use"),
    "correct": ("text", "the right continuation"),
    "foil": ("text", "the wrong continuation it competes with"),
    "correct_id": ("token id", "token of the right continuation"),
    "foil_id": ("token id", "token of the foil"),
}


def _pieces(plan: Plan, ids: np.ndarray) -> list[str]:
    """Return vocabulary entries as text that netCDF can hold, which NUL is not."""
    pieces = plan.model.tokenizer.convert_ids_to_tokens([int(i) for i in ids])
    return [str(piece).replace("\0", "\\0") for piece in pieces]


def shared_tokens(plan: Plan, name: str, rows: Sequence[int], index: np.ndarray) -> np.ndarray:
    """Return the token at each place (row, place) of some of a set's texts that all have there.

    Empty where they differ; rows that have no such place, -1, have no say.
    """
    tokens = plan.sets[name].tokens.ids
    none = np.iinfo(np.int32).max
    most, least = np.full(index.shape[1], -1), np.full(index.shape[1], none)
    for at in range(0, len(rows), _AT_ONCE):
        some = slice(at, at + _AT_ONCE)
        ids = tokens.at(rows[some], index[some])
        most = np.maximum(most, ids.max(axis=0))
        least = np.minimum(least, np.where(ids < 0, none, ids).min(axis=0))
    shared = most == least
    pieces = _pieces(plan, np.where(shared, least, 0))
    return np.asarray([p if s else "" for p, s in zip(pieces, shared, strict=True)])


def capture_dataset(plan: Plan, capture: CapturePlan, file: Path) -> xr.Dataset:
    """Label a capture's file: its variables, opened and not yet read, with every coordinate.

    A variable is read when it is asked for, and only the part that is asked for: `isel` first.
    """
    bare = open_data(file)
    if "every" in bare.dims:
        bare = bare.isel(every=0)
    data = bare.assign_coords(capture_coords(plan, capture, dict(bare.sizes)))
    for variable in capture.variables():
        if variable.name in data:
            data[variable.name].attrs = capture.attributes(variable, plan.model.choice.dtype)
    keys = "first" if capture.keys is None else capture.keys.anchor
    anchors = {"position": capture.chosen.anchor, "query": capture.chosen.anchor, "key": keys}
    for dim, anchor in anchors.items():
        if dim in data.coords:
            listed = anchor == "list"
            about = (
                "place in the list of positions"
                if listed
                else f"token position relative to {anchor}"
            )
            data[dim].attrs = {"long_name": about, "anchor": anchor}
    dropped = len(plan.sets[capture.stimuli].table) - len(capture.chosen.rows)
    attrs = {"stimuli": capture.stimuli, "site": capture.site}
    return data.assign_attrs(attrs | ({"stimuli_dropped": dropped} if dropped else {}))


def capture_coords(plan: Plan, capture: CapturePlan, sizes: dict[Any, int]) -> dict[str, Any]:
    """Return the coordinates of a capture's dims, and what hangs on them."""
    of_set, chosen = plan.sets[capture.stimuli], capture.chosen
    coords: dict[str, Any] = {
        str(dim): np.arange(size, dtype=np.int32) for dim, size in sizes.items()
    }
    if "layer" in sizes:
        coords["layer"] = np.asarray(capture.layers, dtype=np.int32)
    coords |= _head_coords(capture, sizes)
    place = next((dim for dim in ("query", "position") if dim in sizes), None)
    if place is not None:
        coords[place] = np.asarray(chosen.labels, dtype=np.int32)
        if chosen.names:
            coords["position_name"] = (place, np.asarray(chosen.names))
        tokens = shared_tokens(plan, capture.stimuli, chosen.rows, chosen.index)
        if (tokens != "").any():
            coords["position_token"] = (place, tokens)
    if "key" in sizes and capture.keys is not None:
        coords["key"] = np.asarray(capture.keys.labels, dtype=np.int32)
        if capture.keys.names:
            coords["key_name"] = ("key", np.asarray(capture.keys.names))
    if "class" in sizes:
        ((label, classes),) = capture.classes.items()
        coords["class"] = ("class", np.asarray(classes), {"label": label})
    if "stimulus" in sizes:
        rows = np.asarray(chosen.rows)
        of_stimuli = stimulus_coords(of_set)
        if len(rows) < len(of_set.table):
            of_stimuli = {name: (dim, values[rows]) for name, (dim, values) in of_stimuli.items()}
        coords |= of_stimuli
        if place is not None:
            ids = of_set.tokens.ids
            coords["token_id"] = lazy_variable(
                ("stimulus", place),
                chosen.index.shape,
                np.int32,
                lambda some: ids.at(rows[some], chosen.index[some]),
            )
            if not chosen.mask.all() or chosen.every:
                coords["mask"] = (("stimulus", place), chosen.mask)
        if "key" in sizes and capture.keys is not None and not capture.keys.mask.all():
            coords["key_mask"] = (("stimulus", "key"), capture.keys.mask)
    return coords


def _head_coords(capture: CapturePlan, sizes: dict[Any, int]) -> dict[str, Any]:
    """Return the coordinates of heads: their numbers, or names where their layers differ."""
    dim = next((dim for dim in ("head", "kv_head") if dim in sizes), None)
    if dim is None or capture.heads is None:
        return {}
    if not capture.named:
        return {dim: np.asarray(capture.heads[0], dtype=np.int32)}
    pairs = [(n, h) for n, of in zip(capture.layers, capture.heads, strict=True) for h in of]
    return {
        dim: np.asarray([f"L{layer}H{head}" for layer, head in pairs]),
        "layer": (dim, np.asarray([layer for layer, _ in pairs], dtype=np.int32)),
    }


def check_labels(name: str, data: Mapping[str, xr.Dataset], result: xr.Dataset) -> None:
    """Refuse a result in which a number has taken the place of a label."""
    for part in data.values():
        for label, given in part.coords.items():
            kept = result.variables.get(label)
            if label == "stimulus" or given.dims != ("stimulus",) or kept is None:
                continue
            overwritten = kept.dims != given.dims or kept.dtype.kind != given.dtype.kind
            if "stimulus" in result.dims and (overwritten or label in result.data_vars):
                raise AnalysisError(
                    f"analyses.{name}: the label {label!r} is also the name of a number that this "
                    "analysis gives; rename the column"
                )
