"""Values: what an intervention puts in the place of an activation, from records of clean runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.readings import Change
from patchclamp.engine.plan import Plan, mean_name
from patchclamp.specs.interventions import Ablate, Mean

MEAN = "mean_over_stimulus"


@dataclass(frozen=True)
class Values:
    """Looks up what stands in; `means` are the measured means by the name of their capture."""

    plan: Plan
    means: Mapping[str, xr.Dataset]

    def of(self, change: Change, name: str, rows: tuple[int, ...]) -> torch.Tensor:
        """Return the value of a change for some stimuli of a set.

        It broadcasts against (row, position, unit) of its head, or against the whole site.
        """
        entry = self.plan.loaded.spec.interventions[change.intervention]
        assert isinstance(entry, Ablate), "the planner refuses other kinds"
        if not isinstance(entry.value, Mean):
            return torch.zeros(1, 1, dtype=torch.float64)
        means = self.means[mean_name(change)].sel(layer=change.layer)
        if change.head is not None:
            means = means.isel({_head_dim(means): change.head})
        total, count = means[MEAN].to_numpy(), means[f"{MEAN}_count"].to_numpy()
        if entry.value.per == "all":
            return torch.from_numpy(over_positions(total, count))
        if entry.value.per == "position":
            return torch.from_numpy(total)
        return torch.from_numpy(total[self._groups(means, name, rows)])

    def identity(self, change: Change, name: str) -> Any:
        """Return what decides the value of a change for a set: plain data, without names."""
        where = (change.site, change.layer, change.head)
        entry = self.plan.loaded.spec.interventions[change.intervention]
        assert isinstance(entry, Ablate), "the planner refuses other kinds"
        if not isinstance(entry.value, Mean):
            return (*where, "zero")
        mean = next(c for c in self.plan.captures if c.name == mean_name(change))
        groups = self.plan.sets[name].table.groups if entry.value.per == "group" else None
        return (*where, "mean", entry.value.per, self.plan.record(mean).key, groups)

    def _groups(self, means: xr.Dataset, name: str, rows: tuple[int, ...]) -> list[int]:
        """Return the number of each stimulus's group among those that means were taken of."""
        groups = self.plan.sets[name].table.groups
        assert groups is not None, "checked by the planner"
        known = {group: i for i, group in enumerate(means["class"].to_numpy().tolist())}
        return [known[groups[row]] for row in rows]


def over_positions(mean: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean over all tokens, ([head], 1, unit), of means by position and their counts.

    `mean` is ([head], position, unit) and `count` (position,): each token weighs the same.
    """
    weight = count / count.sum()
    whole: NDArray[np.float64] = np.einsum("...pu,p->...u", np.nan_to_num(mean), weight)
    return whole[..., None, :]


def _head_dim(data: xr.Dataset) -> str:
    return "kv_head" if "kv_head" in data[MEAN].dims else "head"
