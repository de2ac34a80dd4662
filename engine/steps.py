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
from patchclamp.registry.locations import Location

_ORDER = {site: number for number, site in enumerate(SITES)}
"""A block computes its sites in the order of the site table."""

Place = tuple[str, int]
"""A site and a layer."""


def place(model: ModelSource, site: str, layer: int, *, write: bool = False) -> Step:
    """Return where a site lives in a model, as the plain data that `engine.sites` works on.

    `layer` means nothing for sites that no layer has. Some sites are written elsewhere than they
    are read.
    """
    row, config = model.architecture, model.config
    where = row.places[site]
    if write:
        where = row.writes.get(site, where)
    kind = SITES[site.removesuffix("_normed")]
    dims = tuple(dim for dim in kind.dims if dim not in ("stimulus", "layer"))
    names = [*where.needs, site]
    places = [*(row.places[name] for name in where.needs), where]
    return {
        "site": site,
        "layer": layer,
        "form": where.form,
        "position": 1 + dims.index("query" if "query" in dims else "position"),
        "parts": [_part(model, name, at, layer) for name, at in zip(names, places, strict=True)],
        "causal": not (row.encoder or getattr(config, "use_bidirectional_attention", False)),
        "rotary": row.rotary,
        "rotary_size": getattr(config, "rotary_dim", None),
        "softcap": getattr(config, row.softcap) if row.softcap else None,
        "scaled": getattr(config, "scale_attn_weights", True),
        "scale_size": getattr(config, "query_pre_attn_scalar", None),
        "divisor": layer + 1 if getattr(config, "scale_attn_by_inverse_layer_idx", False) else 1,
    }


def _part(model: ModelSource, name: str, where: Location, layer: int) -> Step:
    """Return a tensor in the module tree as plain data; keys and values have their own heads."""
    heads = int(model.config.num_attention_heads)
    if name in ("k", "k_normed", "v"):
        heads = int(getattr(model.config, "num_key_value_heads", None) or heads)
    at = (where.path, where.io)
    order = [(place.path, place.io) for place in model.architecture.places.values()].index(at)
    if "{layer}" not in where.path:
        layer = -1 if name == "embed" else model.shape.layers
    return {
        "path": where.path.format(layer=layer),
        "io": where.io,
        "member": where.member,
        "split": where.split,
        "share": where.share,
        "heads": heads,
        "order": (layer, order),
    }


def read_step(model: ModelSource, where: Place, key: str, positions: torch.Tensor | None) -> Step:
    """Read a site at chosen positions, an index tensor (row, chosen); None reads all."""
    return {"do": "read", "place": place(model, *where), "key": key, "positions": positions}


def sum_step(model: ModelSource, where: Place, key: str, mask: torch.Tensor) -> Step:
    """Sum a site over the rows of a batch, by position; `mask` is (row, position)."""
    return {"do": "sum", "place": place(model, *where), "key": key, "mask": mask}


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
    return [
        {"do": "write", "place": place(model, *where, write=True), "edits": e}
        for where, e in edits.items()
    ]


def answers_step(model: ModelSource, asked: Asked) -> Step:
    """Read what metrics need of the logits, where the answers of `asked.ids` are due."""
    return {**asked.step, "place": place(model, "logits", 0)}


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Sort steps as the model runs them; at one place, writes come before reads."""

    def order(step: Step) -> tuple[object, ...]:
        where = step["place"]
        return (where["parts"][-1]["order"], step["do"] != "write", _ORDER.get(where["site"], 0))

    return sorted(steps, key=order)
