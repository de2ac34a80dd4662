"""Attribution inside a pass: changes of activations times gradients; torch only, plain dicts.

A pass holds stimuli in blocks of equal many rows: the run that is patched (`into`), the run that is
patched from (`source`), and one block for each point at which the gradient is taken (`path`), each
(start, stop), those of the path with their weight. A gradient is the weighted sum over the path.

    node     sum over positions and units of (a_source - a_into) dm/da
    edge     the same of what a sender adds to the stream, and of the gradient with respect to the
             stream as far as it reaches the metric through one receiver

What a head adds is z W_O. The gradient through one head's queries is that of its queries times
W_Q, through the norm that stands before them: its exact derivative at the stream of the point.
So no edge has to be made in the model, heads of grouped queries share their keys' receivers, and
all edges are one product of senders (sender, position x unit) and receivers.

Source: Syed, Rager & Conmy 2023, Attribution patching outperforms automated circuit discovery;
Hanna, Pezzelle & Belinkov 2024, Have faith in faithfulness (integrated gradients).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from patchclamp.engine.scoring import objective, wide
from patchclamp.engine.sites import member, split, take

_HELD = 1 << 26
"""Numbers of senders or receivers that are held at once: 256 MiB in float32."""

Block = tuple[int, int]
Tensors = Mapping[str, torch.Tensor]


def attribute(
    step: dict[str, Any], logits: torch.Tensor, kept: dict[Any, Any]
) -> dict[str, torch.Tensor]:
    """Return `<key>` (stimulus, [head]) of each node and, if asked, `edges` (stimulus, ...).

    The step is one that reads answers, with `slopes`, the keys of what gradients are taken of,
    `nodes`, `edges` and `blocks`; `stimulus` (row,) numbers the stimulus of each row of a block.
    """
    watched = {key[1]: value for key, value in kept.items() if key[0] == "watched"}
    raw = {key: member(watched[key][0]["parts"][-1], watched[key][1][-1]) for key in step["slopes"]}
    # Queries, keys and values of one projection are one tensor.
    distinct = {id(tensor): tensor for tensor in raw.values()}
    # Raises where the metric does not depend on one of them: then it is not the model's own.
    found = torch.autograd.grad(objective(step, logits).sum(), list(distinct.values()))
    by_id = dict(zip(distinct, found, strict=True))
    tensors = {key: take(place, values).detach() for key, (place, values) in watched.items()}
    slopes = {}
    for key, tensor in raw.items():
        place, values = watched[key]
        slopes[key] = take(place, [*values[:-1], by_id[id(tensor)]])
    results = {}
    for node in step["nodes"]:
        each = products(node, step["blocks"], (tensors[node["key"]], slopes[node["key"]]))
        results[node["key"]] = over_rows(step, each)
    if step["edges"] is not None:
        each = edge_scores(step, (tensors, slopes), kept)
        results["edges"] = over_rows(step, each)
    return {name: value.cpu() for name, value in results.items()}


def over_rows(step: dict[str, Any], each: torch.Tensor) -> torch.Tensor:
    """Add up the input rows of each stimulus, which has one for each way that answers go on."""
    whole = torch.zeros(step["count"], *each.shape[1:], dtype=each.dtype, device=each.device)
    return whole.index_add_(0, step["stimulus"].to(each.device), each)


def products(
    node: dict[str, Any], blocks: dict[str, Any], what: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Return change times gradient at the places of a node, (row, [head]), in float64.

    `into`, `source` and `path` of the node are positions (row, place) in these runs, -1 for none;
    `heads` those that are meant, None for all.
    """
    tensor, gradient = (of_heads(one, node["heads"]) for one in what)
    runs = [wide(at_places(tensor[slice(*blocks[run])], node[run])) for run in ("into", "source")]
    slope = torch.zeros_like(runs[0])
    for start, stop, weight in blocks["path"]:
        slope += weight * wide(at_places(gradient[start:stop], node["path"]))
    product: torch.Tensor = ((runs[1] - runs[0]) * slope).sum(dim=(-1, -2))
    return product


def of_heads(tensor: torch.Tensor, heads: list[int] | None) -> torch.Tensor:
    """Return some heads of a tensor (row, head, ...), all if None."""
    return tensor if heads is None else tensor[:, heads]


def at_places(tensor: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return (row, [head], place, unit) at positions (row, place); zeros where there is none."""
    index = index.to(tensor.device)
    where = index.view(len(index), *[1] * (tensor.ndim - 3), -1, 1)
    shape = (*tensor.shape[:-2], index.shape[1], tensor.shape[-1])
    found = tensor.gather(-2, where.clamp(min=0).expand(shape))
    return torch.where(where >= 0, found, torch.zeros_like(found))


def blend(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose blocks of the path stand between the run patched and the other.

    `shares` are those of the other run. `into` and `source` (row, place) are the positions that
    move, None for all: the rest is as in the run that is patched.
    """
    blocks, changed = step["blocks"], tensor.clone()
    into, source = (tensor[slice(*blocks[run])] for run in ("into", "source"))
    if step["into"] is not None:
        values = at_places(source, step["source"])
        source, index = into.clone(), step["into"].to(tensor.device)
        rows, places = (index >= 0).nonzero(as_tuple=True)
        at = index[rows, places]
        where: Any = (rows, slice(None), at) if tensor.ndim == 4 else (rows, at)
        moved = values.transpose(1, 2) if tensor.ndim == 4 else values
        source[where] = moved[rows, places]
    for (start, stop, _), share in zip(blocks["path"], step["shares"], strict=True):
        changed[start:stop] = torch.lerp(into, source, share)
    return changed


def edge_scores(
    step: dict[str, Any], what: tuple[Tensors, Tensors], kept: Mapping[Any, Any]
) -> torch.Tensor:
    """Return the scores of all edges, (row, sender, receiver); NaN where there is no edge.

    `senders` stand in the order in which the model computes them, and a group of receivers sees
    the first of them. `inside` (row, position) says which tokens are of the stimulus itself. Some
    positions at a time, so that what is held stays small.
    """
    tensors, slopes = what
    edges, blocks = step["edges"], step["blocks"]
    senders = [_sender(one, tensors[one["key"]], kept) for one in edges["senders"]]
    some = tensors[edges["senders"][0]["key"]]
    inside = edges["inside"].to(some.device)[:, : some.shape[-2]]
    rows, length = inside.shape
    columns = sum(group["count"] for group in edges["groups"])
    seen = sum(one["count"] for one in edges["senders"])
    scores = torch.full((rows, seen, columns), float("nan"), device=inside.device)
    first = 0
    for group in edges["groups"]:
        scores[:, : group["seen"], first : first + group["count"]] = 0.0
        first += group["count"]
    widest = max(seen, *(group["count"] for group in edges["groups"]))
    width = max(1, _HELD // (rows * widest * edges["units"]))
    for start in range(0, length, width):
        at = slice(start, min(start + width, length))
        added = torch.cat([_added(one, blocks, at, inside) for one in senders], 1)
        first = 0
        for group in edges["groups"]:
            slope = _received(group, blocks["path"], at, (tensors, slopes, kept))
            found = torch.einsum("rstu,rvtu->rsv", added[:, : group["seen"]], slope)
            scores[:, : group["seen"], first : first + group["count"]] += found
            first += group["count"]
    return scores


def _sender(one: dict[str, Any], tensor: torch.Tensor, kept: Mapping[Any, Any]) -> Any:
    """Return a sender's activations (row, head, position, channel), and what projects them."""
    if one["out"] is None:
        return tensor[:, None], None
    weight = matrix(kept["module", one["out"]])
    weight = weight.view(1, tensor.shape[1], -1, weight.shape[1])
    return of_heads(tensor, one["heads"]), of_heads(weight, one["heads"])[0]


def _added(
    sender: tuple[torch.Tensor, torch.Tensor | None],
    blocks: dict[str, Any],
    at: slice,
    inside: torch.Tensor,
) -> torch.Tensor:
    """Return the change of what a sender adds to the stream, (row, head, position, unit)."""
    tensor, weight = sender
    into, source = (tensor[slice(*blocks[run])][:, :, at] for run in ("into", "source"))
    change = (source - into) * inside[:, None, at, None]
    if weight is not None:
        change = torch.einsum("rhtc,hcu->rhtu", change, weight)
    return _single(change)


def _received(
    group: dict[str, Any],
    path: Sequence[tuple[int, int, float]],
    at: slice,
    what: tuple[Tensors, Tensors, Mapping[Any, Any]],
) -> torch.Tensor:
    """Return the gradient through each receiver of a group, (row, receiver, position, unit)."""
    tensors, slopes, kept = what
    total: Any = None
    for start, stop, weight in path:
        parts = []
        for one in group["members"]:
            slope = slopes[one["key"]][start:stop]
            if one["into"] is None:
                parts.append(slope[:, None, at])
                continue
            whole = split(one["part"], matrix(kept["module", one["into"]])[None])
            into = of_heads(whole, one["heads"])[0]
            some = of_heads(slope, one["heads"])[:, :, at]
            parts.append(torch.einsum("rhtc,huc->rhtu", some, into))
        slope = torch.cat(parts, 1)
        if group["norm"] is not None:
            stream = tensors[group["stream"]][start:stop, at]
            slope = before_norm(kept["module", group["norm"]], stream, slope)
        slope = _single(slope) if weight == 1 else weight * _single(slope)
        total = slope if total is None else total + slope
    found: torch.Tensor = total
    return found


def before_norm(norm: Any, stream: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return gradients (row, receiver, position, unit) behind a norm as gradients before it."""
    with torch.enable_grad():
        given = stream[:, None].expand(slope.shape).detach().requires_grad_(True)
        (found,) = torch.autograd.grad(norm.forward(given), given, slope.to(given.dtype))
    pulled: torch.Tensor = found
    return pulled


def matrix(module: Any) -> torch.Tensor:
    """Return the weights of a projection as (given, gives); GPT-2's own layers hold them so."""
    weight: torch.Tensor = module.weight.detach()
    return weight if hasattr(module, "nf") else weight.T


def _single(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float32 at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
