"""Steps: from what is to be read and changed to places in the module tree, in execution order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import Asked
from patchclamp.engine.backend import Step
from patchclamp.engine.captures import CapturePlan, name_of, over_of
from patchclamp.engine.model import ModelSource
from patchclamp.registry import SITES
from patchclamp.registry.locations import Location
from patchclamp.specs.captures import Gradient, Reduction

_ORDER = {site: number for number, site in enumerate(SITES)}
"""A block computes its sites in the order of the site table."""

Place = tuple[str, int]
"""A site and a layer."""

_LIKE = {"attn_in": "resid_pre", "mlp_in": "mlp_out"}
"""Sites of the same dims as what is between sites."""


def place(model: ModelSource, site: str, layer: int, *, write: bool = False) -> Step:
    """Return where a site lives in a model, as the plain data that `engine.sites` works on.

    `layer` means nothing for sites that no layer has. Some sites are written elsewhere than they
    are read.
    """
    row, config = model.architecture, model.config
    where = row.places[site]
    if write:
        where = row.writes.get(site, where)
    kind = SITES[_LIKE.get(site, site.removesuffix("_normed"))]
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
        "softcap": getattr(config, row.softcap, None) if row.softcap else None,
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


def capture_steps(
    model: ModelSource, capture: CapturePlan, rows: Sequence[int], lengths: torch.Tensor
) -> list[Step]:
    """Read a capture of some stimuli of its set, `lengths` (row,) tokens long, at each layer.

    Stimuli that do not take part have no positions, and so enter nothing.
    """
    chosen, keys = capture.chosen, capture.keys
    index = None if chosen.every else torch.from_numpy(chosen.of(rows))
    reduce = [_reduction(how, capture, rows) for how in capture.reduce]
    steps = []
    for number, layer in enumerate(capture.layers):
        step: Step = {
            **read_step(model, (capture.site, layer), f"{capture.name}/{layer}", lengths),
            "heads": None if capture.heads is None else list(capture.heads[number]),
            "index": index,
            "keys": None if keys is None else torch.from_numpy(keys.of(rows)),
            "reduce": [{**how, "causal": not model.architecture.encoder} for how in reduce],
            "gradient": capture.gradient is not None,
        }
        if capture.gradient is not None and capture.gradient.wrt == "weight":
            step["times"] = step["key"]
            source = place(model, WRITTEN_FROM[capture.site], layer)
            steps.append({"do": "hold", "place": source, "key": step["key"]})
        steps.append(step)
    return steps


def read_step(model: ModelSource, where: Place, key: str, lengths: torch.Tensor) -> Step:
    """Read a site whole, of rows that are `lengths` (row,) tokens long; see `engine.body.read`."""
    return {
        "do": "read",
        "place": place(model, *where),
        "key": key,
        "map": where[0] in SITES and "query" in SITES[where[0]].dims,
        "heads": None,
        "index": None,
        "keys": None,
        "lengths": lengths,
        "rows": None,
        "first": None,
        "reduce": [],
        "gradient": False,
        "times": None,
    }


WRITTEN_FROM = {"attn_out": "z", "mlp_out": "mlp_act"}
"""Sites that a weight writes, and what that weight is multiplied with."""


def _reduction(how: Reduction, capture: CapturePlan, rows: Sequence[int]) -> dict[str, Any]:
    """Return a reduction as plain data."""
    plain = {"kind": how.kind, "over": over_of(how), "k": how.k, "name": name_of(how)}
    if plain["over"] != "stimulus":
        return plain
    codes = np.zeros(max(rows) + 1, dtype=np.int64)
    if how.by is not None:
        codes = capture.codes[how.by]
    kinds = len(capture.classes[how.by]) if how.by is not None else 1
    return {**plain, "codes": torch.from_numpy(codes[list(rows)]), "classes": kinds}


def whole_step(model: ModelSource, where: Place, value: torch.Tensor) -> Step:
    """Put a whole site's tensor in place, dims as in the site table, of every row alike."""
    how = {"rows": None, "head": None, "units": None, "index": None, "how": "set", "value": value}
    return {"do": "write", "place": place(model, *where, write=True), "edits": [how]}


def write_steps(model: ModelSource, edits: Iterable[tuple[Change, Step]]) -> list[Step]:
    """Put values in place: what is said of each change; see `engine.body.write`."""
    places: dict[Place, list[Step]] = {}
    held: dict[int, list[Step]] = {}
    for change, how in edits:
        if change.site == "norms":
            held.setdefault(change.layer, []).append(how)
            continue
        one = {"rows": None, "head": change.head, "units": list(change.units) or None, **how}
        places.setdefault((change.site, change.layer), []).append(one)
    scaled = [
        {"do": "scale", "place": where, "edits": edits, "modules": [where["parts"][0]["path"]]}
        for layer, edits in held.items()
        for where in norm_places(model, layer)
    ]
    written = [
        {"do": "write", "place": place(model, *where, write=True), "edits": edits}
        for where, edits in places.items()
    ]
    return [*scaled, *written]


def norm_places(model: ModelSource, layer: int) -> list[Step]:
    """Return where a block's norms of the stream are, each once; behind the last block, the last.

    A norm is seen where what is computed from it is: just before that.
    """
    row, at = model.architecture, list(model.architecture.places)
    if layer == model.shape.layers:
        return [_norm_place(row.unembed[0], (layer, -2.0))]
    where = {path: at.index("resid_pre") + 0.5 for path in [row.reads.get("attn_in")] if path}
    for site, path in (*row.reads.items(), *row.norms.items()):
        where.setdefault(path, at.index(site) - 0.25)
    return [_norm_place(path.format(layer=layer), (layer, order)) for path, order in where.items()]


def _norm_place(path: str, order: tuple[int, float]) -> Step:
    part = {"path": path, "member": 0, "split": "", "share": 0, "heads": 0}
    layer, number = order
    return {
        "site": "norms",
        "layer": layer,
        "form": "bare",
        "position": 1,
        "parts": [
            {**part, "io": "input", "order": (layer, number - 0.125)},
            {**part, "io": "output", "order": (layer, number)},
        ],
    }


def read_answers_at(model: ModelSource, asked: Asked, *, narrow: bool) -> list[Step]:
    """Read answers; if `narrow`, unembed only where they are read, which changes no number."""
    step = answers_step(model, asked)
    return list(narrow_step(model, step)) if narrow and step["text"] is None else [step]


def read_answers_of(model: ModelSource, asked: Asked) -> list[Step]:
    """Read the logits of answers alone: unembed only where, and for the tokens that they are of.

    Answers of several tokens need all logits at each of them, and one step then tells them all.
    """
    tokens = asked.step["tokens"]
    if tokens is None or tokens.shape[-1] > 1:
        return read_answers_at(model, asked, narrow=True)
    columns = tokens[tokens >= 0].unique()
    if len(columns) > _COLUMNS * model.config.vocab_size:
        return read_answers_at(model, asked, narrow=True)
    numbered = torch.where(tokens >= 0, torch.searchsorted(columns, tokens.clamp(min=0)), -1)
    narrowed, read = narrow_step(model, answers_step(model, asked))
    return [{**narrowed, "columns": columns}, {**read, "tokens": numbered, "columns": columns}]


_COLUMNS = 0.25
"""Share of the vocabulary up to which taking some tokens' weights pays for copying them."""


def narrow_step(model: ModelSource, answers: Step) -> tuple[Step, Step]:
    """Unembed only where answers are read; returns that step and the one that reads them."""
    path = model.architecture.unembed[-1]
    part = {"path": path, "io": "input", "member": 0, "split": "", "share": 0, "heads": 0}
    where = {
        "site": "unembedded",
        "layer": 0,
        "form": "bare",
        "position": 1,
        "parts": [{**part, "order": (model.shape.layers, -1)}],
    }
    rows, positions = answers["rows"], answers["positions"]
    narrowed = {"do": "narrow", "place": where, "rows": rows, "positions": positions}
    read = {"rows": torch.zeros_like(rows), "positions": torch.arange(len(rows))}
    return {**narrowed, "columns": None}, {**answers, **read}


def unread_step(model: ModelSource) -> Step:
    """Unembed nothing, in a pass that only leaves something for others."""
    none = torch.zeros(0, dtype=torch.long)
    asked = {"rows": none, "positions": none}
    return narrow_step(model, asked)[0]


def keep_step(model: ModelSource, layer: int) -> Step:
    """Keep the stream that a block receives, where it is, for passes that begin there."""
    return {"do": "keep", "key": f"stream.{layer}", "place": place(model, "resid_pre", layer)}


def leaf_step(model: ModelSource) -> Step:
    """Let gradients begin at the token embeddings: weights have none."""
    return {"do": "leaf", "place": place(model, "embed", 0)}


def objective_step(model: ModelSource, asked: Asked, gradient: Gradient) -> Step:
    """Differentiate a metric at the logits."""
    where = place(model, "logits", 0)
    return {**asked.step, "do": "objective", "place": where, "of": gradient.of, "at": gradient.at}


def answers_step(model: ModelSource, asked: Asked) -> Step:
    """Read what metrics need of the logits, where the answers of `asked.ids` are due."""
    return {**asked.step, "place": place(model, "logits", 0)}


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Sort steps as the model runs them; at one place, writes come before reads.

    Gradients begin between them: at what was written, and before what is read of it.
    """

    def order(step: Step) -> tuple[object, ...]:
        where, done = step["place"], {"write": 0, "leaf": 1}.get(step["do"], 2)
        return (where["parts"][-1]["order"], done, _ORDER.get(where["site"], 0))

    return sorted(steps, key=order)
