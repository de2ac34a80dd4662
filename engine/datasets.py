"""Datasets: raw measurements become labelled xarray datasets, by the schema."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from patchclamp.analyses.readings import CaptureReading, MetricReading, Reading
from patchclamp.engine.measure import Answers, Measured
from patchclamp.engine.plan import CapturePlan, Plan, SetPlan
from patchclamp.registry import METRICS, SITES
from patchclamp.registry.table import load


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
    ids = _padded(tokens.ids)
    used = np.unique(ids[ids >= 0])
    data = xr.Dataset(
        {
            "text": ("stimulus", np.asarray(table.texts)),
            "n_tokens": ("stimulus", np.asarray([len(t) for t in tokens.ids], dtype=np.int32)),
            "token_id": (("stimulus", "position"), ids),
            "token_text": ("token", np.asarray(_pieces(plan, used))),
        },
        coords={
            **stimulus_coords(of_set),
            "position": np.arange(ids.shape[1], dtype=np.int32),
            "token": used,
        },
    )
    for part in ("correct", "foil"):
        texts, chosen = getattr(table, part), tokens.first_spelling(part)
        if texts is not None:
            data[part] = ("stimulus", np.asarray(texts))
        if texts is not None and chosen is not None and all(len(one) == 1 for one in chosen):
            ids_of = np.asarray([one[0] for one in chosen], dtype=np.int32)
            data[f"{part}_id"] = ("stimulus", ids_of)
    for variable, (units, long_name) in _STIMULI_MEANING.items():
        if variable in data:
            data[variable].attrs = {"units": units, "long_name": long_name}
    data["position"].attrs = {"long_name": "token position, counted from the first token"}
    data["token"].attrs = {"long_name": "token id in the model's vocabulary"}
    return data.assign_attrs(digest=table.digest)


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


def _padded(ids: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return token ids (stimulus, position), -1 where a stimulus has no such token."""
    padded = np.full((len(ids), max(map(len, ids))), -1, dtype=np.int32)
    for row, sequence in enumerate(ids):
        padded[row, : len(sequence)] = sequence
    return padded


def capture_dataset(plan: Plan, capture: CapturePlan, activation: np.ndarray) -> xr.Dataset:
    """Label a capture: variable `activation` with the dims of its site, and its token ids."""
    of_set = plan.sets[capture.stimuli]
    site = SITES[capture.site]
    sizes = dict(zip(site.dims, activation.shape, strict=True))
    counted = {dim: np.arange(size, dtype=np.int32) for dim, size in sizes.items()}
    ids = _padded(of_set.tokens.ids)
    coords: dict[str, object] = {
        **counted,
        **stimulus_coords(of_set),
        "layer": np.asarray(capture.layers, dtype=np.int32),
    }
    match capture.positions:
        case "all":
            coords["mask"] = (("stimulus", "position"), ids >= 0)
            chosen = ids
        case "first":
            chosen = ids[:, :1]
        case _:
            lengths = (ids >= 0).sum(1)
            chosen = np.take_along_axis(ids, lengths[:, None] - 1, axis=1)
    coords["token_id"] = (("stimulus", "position"), chosen)
    data = xr.Dataset({"activation": (site.dims, activation)}, coords=coords)
    anchor = "last" if capture.positions == "last" else "first"
    data["position"].attrs = {
        "long_name": f"token position relative to the {anchor} token",
        "anchor": anchor,
    }
    data["activation"].attrs = {
        "units": "activation",
        "long_name": site.summary,
        "site": capture.site,
        "precision": plan.model.choice.dtype,
    }
    return data.assign_attrs(stimuli=capture.stimuli)


def metric_dataset(plan: Plan, reading: MetricReading, measured: Measured) -> xr.Dataset:
    """Compute a metric, clean (stimulus) and under each condition (condition, stimulus)."""
    metric = METRICS[reading.metric]
    function = load(metric.function)

    def values(answers: Answers) -> np.ndarray:
        return np.asarray(function(answers), dtype=np.float64)

    changed = [
        values(measured.changed[reading.stimuli, condition.changes])
        for condition in reading.conditions
    ]
    labels: dict[str, list[int]] = {}
    for condition in reading.conditions:
        for name, number in condition.labels:
            labels.setdefault(name, []).append(number)
    return xr.Dataset(
        {
            "clean": ("stimulus", values(measured.clean[reading.stimuli])),
            "value": (("condition", "stimulus"), np.stack(changed)),
        },
        coords={
            **stimulus_coords(plan.sets[reading.stimuli]),
            **{name: ("condition", np.asarray(v, np.int32)) for name, v in labels.items()},
        },
    )


def measured_dataset(
    plan: Plan,
    reading: Reading,
    captures: Mapping[str, xr.Dataset],
    measured: Measured,
) -> xr.Dataset:
    """Return the labelled dataset that answers a reading."""
    if isinstance(reading, CaptureReading):
        return captures[reading.capture]
    return metric_dataset(plan, reading, measured)
