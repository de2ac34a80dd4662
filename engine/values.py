"""Values: what interventions put in the place of activations, as plain data for `engine.body`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.readings import Aside, Change
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.datasets import capture_dataset
from patchclamp.engine.directions import direction
from patchclamp.engine.plan import Plan
from patchclamp.engine.positions import Chosen, choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.records import digest_of
from patchclamp.engine.sources import entry_of, find, source_of, stand_ins
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.interventions import Ablate, Add, Clamp, Mean, Replace, Vector, vector_of
from patchclamp.specs.positions import ALL

MEAN = "mean_over_stimulus"

Edit = dict[str, Any]
"""`how` a value is put in place, the `value`, and the `index` of the tokens: see `body.write`."""


def edit(value: torch.Tensor, *, how: str = "set", index: torch.Tensor | None = None) -> Edit:
    """Return an edit as plain data."""
    return {"how": how, "value": value, "index": index}


@dataclass
class Values:
    """Looks up what stands in, from the files of captures and the results of analyses.

    `held` keeps each capture's file open, and one layer of it, since conditions come sorted by
    layer.
    """

    plan: Plan
    captures: Sequence[CapturePlan] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    results: Mapping[str, xr.Dataset] = field(default_factory=dict)
    held: dict[Any, Any] = field(default_factory=dict)

    def of(self, change: Change, name: str, rows: Sequence[int]) -> Edit:
        """Return what a change does to some stimuli of a set.

        Its value broadcasts against (row, position, unit) of its head, or against the whole site;
        where it has an `index` (row, place), position is place.
        """
        entry, index = entry_of(self.plan.loaded, change), self.index(change, name)
        at = None if index is None else torch.from_numpy(index[list(rows)].astype(np.int64))
        if isinstance(entry, Aside):
            return edit(torch.zeros(1, 1), how="copy", index=at)
        if isinstance(entry, Ablate) and isinstance(entry.value, Mean):
            return edit(self._mean(change, name, rows, entry.value), index=at)
        along = vector_of(entry)
        if along is not None:
            vector = self._vector(change, along)
            if isinstance(entry, Add):
                return edit(vector * entry.scale[change.dose], how="add", index=at)
            return edit(vector, how="project", index=at)
        if source_of(self.plan.loaded, change) is not None:
            return edit(self._activations(change, name, rows), index=at)
        if isinstance(entry, Clamp):
            return edit(torch.full((1, 1, 1), entry.value[change.dose]), index=at)
        if isinstance(entry, Replace):
            return edit(self._noise(change, name, rows), how="turn", index=at)
        return edit(torch.zeros(1, 1, dtype=torch.float64), index=at)

    def of_generated(self, change: Change, name: str, rows: Sequence[int], tokens: int) -> Edit:
        """Return what a change does to so many tokens that follow some stimuli of a set.

        Its value is as that of `of`, with a place for each of these tokens or one for all.
        """
        entry = entry_of(self.plan.loaded, change)
        if isinstance(entry, Replace):
            return edit(self._noise(change, name, rows, generated=tokens), how="turn")
        if source_of(self.plan.loaded, change) is not None and not isinstance(entry, Add):
            assert isinstance(entry, Ablate), "checked by the planner"
            assert isinstance(entry.value, Mean), "checked by the planner"
            return edit(self._mean(change, name, rows, entry.value))
        return {**self.of(change, name, rows), "index": None}

    def identity(self, change: Change, name: str) -> Any:
        """Return what decides the value of a change for a set: plain data, without names."""
        loaded = self.plan.loaded
        entry, source = entry_of(loaded, change), source_of(loaded, change)
        index = self.index(change, name)
        at = None if index is None else digest_of((index.shape, index.tobytes()))
        where: tuple[Any, ...] = (change.site, change.layer, change.head, change.units, at)
        where += (change.aside, *((change.into,) if change.into else ()))
        if source is not None and not isinstance(entry, Add):
            capture = find(source, change.layer, self.captures)
            key = None if capture is None else self._key(capture)
            if source.mean is not None:
                groups = self.plan.sets[name].table.groups if source.mean.per == "group" else None
                return (*where, "mean", source.mean.per, key, groups)
            rows = self._stand_ins(change, name)
            return (*where, "activations", key, digest_of(rows), change.place)
        along = vector_of(entry)
        if along is not None:
            # What is not known yet is not measured yet, and no other run can have it.
            known = along.of in self.results
            vector = digest_of(self._vector(change, along).tolist()) if known else None
            drawn = () if change.draw is None else ("draw", change.draw)
            if isinstance(entry, Add):
                return (*where, "add", vector, entry.scale[change.dose], *drawn)
            return (*where, "along", vector, *drawn)
        if isinstance(entry, Clamp):
            return (*where, "clamp", entry.value[change.dose])
        if isinstance(entry, Aside):
            return (*where, "aside")
        if isinstance(entry, Replace):
            return (*where, "noise", loaded.spec.seed, self.plan.sets[name].table.ids)
        return (*where, "zero")

    def _key(self, capture: CapturePlan) -> str:
        if ("key", capture.name) not in self.held:
            self.held["key", capture.name] = self.plan.record(capture).key
        key: str = self.held["key", capture.name]
        return key

    def chosen(self, change: Change, name: str) -> Chosen:
        """Return the places that a change's positions have in a set."""
        key = ("chosen", change.positions, name)
        if key not in self.held:
            problems = Problems(self.plan.loaded)
            self.held[key] = choose(change.positions, self.plan.sets[name], (), problems)
        chosen: Chosen | None = self.held[key]
        if chosen is None:
            raise AnalysisError(f"positions {change.positions!r} are not there in all of {name!r}")
        return chosen

    def index(self, change: Change, name: str) -> NDArray[np.int32] | None:
        """Return the tokens that are changed, (stimulus, place), -1 for none; None means all."""
        source = source_of(self.plan.loaded, change)
        whole = source is None or source.summed
        if change.positions == ALL and change.place is None and whole:
            return None  # answers that stand behind the text too
        key = ("index", change.positions, change.place, name)
        if key not in self.held:
            chosen = self.chosen(change, name)
            index = np.full((len(self.plan.sets[name].table), chosen.index.shape[1]), -1, np.int32)
            index[list(chosen.rows)] = chosen.index
            self.held[key] = index if change.place is None else index[:, [change.place]]
        found: NDArray[np.int32] = self.held[key]
        return found

    def _mean(self, change: Change, name: str, rows: Sequence[int], value: Mean) -> torch.Tensor:
        capture, arrays = self._layer(change)
        total, count = arrays[MEAN], arrays[f"{MEAN}_count"]
        total = _part(change, total, leading=value.per == "group")
        if value.per == "all":
            return torch.from_numpy(over_positions(total, count))
        if value.per == "group":
            total = total[self._groups(capture, name, rows)]
        index = self.index(change, name)
        if index is None:
            return torch.from_numpy(total)
        at = index[list(rows)].clip(0)
        each = total if value.per == "group" else np.broadcast_to(total, (len(rows), *total.shape))
        return torch.from_numpy(_at(each, at))

    def _activations(self, change: Change, name: str, rows: Sequence[int]) -> torch.Tensor:
        capture, arrays = self._layer(change)
        place_of = {row: number for number, row in enumerate(capture.chosen.rows)}
        stand_ins = self._stand_ins(change, name)
        assert stand_ins is not None, "checked by the planner"
        values = arrays["activation"][[place_of[stand_ins[row]] for row in rows]]
        if change.place is not None:
            values = values[..., change.place : change.place + 1, :]
        return torch.from_numpy(np.ascontiguousarray(_part(change, values, leading=True)))

    def _layer(self, change: Change) -> tuple[CapturePlan, Mapping[str, NDArray[Any]]]:
        """Return a source's capture, and its variables at the layer of a change, as arrays."""
        source = source_of(self.plan.loaded, change)
        assert source is not None, "asked of changes that have one"
        capture = find(source, change.layer, self.captures)
        assert capture is not None, "measured before"
        held = self.held.get(("layer", capture.name))
        if held is None or held[0] != change.layer:
            data = self._opened(capture)
            at = data.sel(layer=change.layer) if capture.layered else data
            arrays = {str(key): variable.to_numpy() for key, variable in at.items()}
            held = self.held["layer", capture.name] = (change.layer, arrays)
        return capture, held[1]

    def _opened(self, capture: CapturePlan) -> xr.Dataset:
        """Return a capture's file, opened once: opening it takes longer than reading a layer."""
        key = ("file", capture.name)
        if key not in self.held:
            self.held[key] = capture_dataset(self.plan, capture, self.files[capture.name])
        data: xr.Dataset = self.held[key]
        return data

    def _stand_ins(self, change: Change, name: str) -> list[int] | None:
        key = ("rows", source_of(self.plan.loaded, change), name)
        if key not in self.held:
            loaded, sets = self.plan.loaded, self.plan.sets
            self.held[key] = stand_ins(loaded, sets, name, change)
        rows: list[int] | None = self.held[key]
        return rows

    def _groups(self, capture: CapturePlan, name: str, rows: Sequence[int]) -> list[int]:
        """Return the number of each stimulus's group among those that means were taken of."""
        groups = self.plan.sets[name].table.groups
        assert groups is not None, "checked by the planner"
        known = {group: i for i, group in enumerate(capture.classes["group"])}
        return [known[groups[row]] for row in rows]

    def _vector(self, change: Change, along: Vector) -> torch.Tensor:
        """Return the direction that another analysis found at a change's layer, (1, 1, unit)."""
        vector = direction(self.results[along.of], along, change.layer)
        if change.draw is not None:
            seeds = Seeds(self.plan.loaded.spec.seed, "random directions")
            rng = seeds.generator(f"{along.of}.{change.layer}.{change.draw}")
            other = rng.standard_normal(len(vector))
            vector = other * (np.linalg.norm(vector) / np.linalg.norm(other))
        if along.normalise == "residual":
            _, arrays = self._layer(change)
            vector = vector * np.nanmean(arrays["norm"])
        return torch.from_numpy(vector)[None, None]

    def _noise(
        self, change: Change, name: str, rows: Sequence[int], *, generated: int = 0
    ) -> torch.Tensor:
        """Return directions that are random, one for each stimulus and token: length one.

        They are for the tokens that are changed of a text, or for so many that are `generated`.
        """
        table, seeds = self.plan.sets[name].table, Seeds(self.plan.loaded.spec.seed, "noise")
        size = self._size(change)
        index = self.index(change, name)
        tokens = self.plan.sets[name].tokens.reach if index is None else index.shape[1]
        purpose = f"{change.site}.{change.layer}.{change.head}"
        if generated:
            tokens, purpose = generated, f"{purpose}.generated"
        drawn = [
            seeds.generator(f"{purpose}.{table.ids[row]}").standard_normal((tokens, size))
            for row in rows
        ]
        noise = np.stack(drawn)
        return torch.from_numpy(noise / np.linalg.norm(noise, axis=-1, keepdims=True))

    def _size(self, change: Change) -> int:
        shape, config = self.plan.model.shape, self.plan.model.config
        if change.units:
            return len(change.units)
        if change.site in HEADED:
            return int(getattr(config, "head_dim", None) or shape.units // shape.heads)
        if change.site == "logits":
            return int(config.vocab_size)
        return shape.neurons if change.site == "mlp_act" else shape.units


HEADED = ("q", "k", "v", "z")
"""Sites whose tensors have heads and channels."""


def over_positions(mean: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean over all tokens, ([head], 1, unit), of means by position and their counts.

    `mean` is ([head], position, unit) and `count` (position,): each token weighs the same.
    """
    weight = count / count.sum()
    whole: NDArray[np.float64] = np.einsum("...pu,p->...u", np.nan_to_num(mean), weight)
    return whole[..., None, :]


def _part(change: Change, values: NDArray[Any], *, leading: bool) -> NDArray[Any]:
    """Return the values of a change's head and units; `leading` are stimuli or groups in front."""
    if change.head is not None:
        values = values.take(change.head, axis=int(leading))
    return values[..., list(change.units)] if change.units else values


def _at(values: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """Return the values (row, [head], position, unit) at the positions (row, place)."""
    where = index.reshape(len(index), *[1] * (values.ndim - 3), -1, 1)
    return np.take_along_axis(values, where, axis=-2)
