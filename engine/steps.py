"""Steps: from what is to be read and changed to places in the module tree, in execution order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import Asked
from patchclamp.engine.backend import Step
from patchclamp.engine.model import ModelSource
from patchclamp.registry import SITES

_ORDER = {site: number for number, site in enumerate(SITES)}
"""A block computes its sites in the order of the site table."""

Place = tuple[str, int]
"""A site and a layer."""


def place(model: ModelSource, site: str, layer: int) -> Step:
    """Return what every step at a site says of its place."""
    location = model.architecture.sites[site]
    return {
        "path": location.path.format(layer=layer),
        "io": location.io,
        "heads": model.shape.heads if SITES[site].per_head else 0,
        "order": (layer, _ORDER[site]),
    }


def read_step(model: ModelSource, where: Place, key: str, positions: torch.Tensor | None) -> Step:
    """Read a site at chosen positions, an index tensor (row, chosen); None reads all."""
    return {"do": "read", **place(model, *where), "key": key, "positions": positions}


def sum_step(model: ModelSource, where: Place, key: str, mask: torch.Tensor) -> Step:
    """Sum a site over the rows of a batch, by position; `mask` is (row, position)."""
    return {"do": "sum", **place(model, *where), "key": key, "mask": mask}


def write_steps(
    model: ModelSource,
    changes: Iterable[Change],
    values: Mapping[tuple[str, str, int], torch.Tensor],
) -> list[Step]:
    """Put values in place; `values` holds (position, [head,] channel) by (intervention, site,
    layer), with one position if the same value stands everywhere."""
    edits: dict[Place, list[dict[str, Any]]] = {}
    for change in changes:
        value = values[change.intervention, change.site, change.layer]
        if change.head is not None:
            value = value[:, change.head]
        edit = {"head": change.head, "value": value}
        edits.setdefault((change.site, change.layer), []).append(edit)
    return [{"do": "write", **place(model, *where), "edits": e} for where, e in edits.items()]


def answers_step(model: ModelSource, asked: Asked) -> Step:
    """Read what metrics need of the logits, where the answers of `asked.ids` are due."""
    location = model.architecture.logits
    order = (model.shape.layers, 0)
    return {**asked.step, "path": location.path, "io": location.io, "order": order}


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Sort steps as the model runs them; at one place, writes come before reads."""
    return sorted(steps, key=lambda step: (step["order"], step["do"] != "write"))
