"""Attention, computed again from queries, keys and values; torch only, plain dicts.

Models give their patterns only where attention runs step by step, which is slower and changes
every number a little. Scores and patterns are therefore computed here, from what the attention of
the model is given, and written through what comes of them, `z`. `pattern v = z` is checked in
every run. `tensors` holds `given`, the keyword arguments of the attention module, and `q`, `k`,
`v`, `z`, each (row, head, position, channel), keys and values with one head for each group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def take(
    place: dict[str, Any], tensors: dict[str, Any], written: Mapping[Any, torch.Tensor]
) -> torch.Tensor:
    """Return scores or pattern (row, head, query, key): what was `written`, or what comes of it."""
    layer = place["layer"]
    if ("attn_pattern", layer) in written and place["form"] == "pattern":
        return written["attn_pattern", layer]
    raw = written.get(("attn_scores", layer))
    if raw is None:
        raw = scores(place, tensors)
    return raw if place["form"] == "scores" else softmax(raw)


def mix(
    place: dict[str, Any], tensors: dict[str, Any], old: torch.Tensor, new: torch.Tensor
) -> torch.Tensor:
    """Return the z (row, head, position, channel) that changed scores or a changed pattern give.

    A query of which nothing is changed keeps what the model gave it, to the last bit.
    """
    pattern = softmax(new) if place["form"] == "scores" else new
    v, z = tensors["v"], tensors["z"]
    v = v.repeat_interleave(z.shape[1] // v.shape[1], dim=1)
    changed = (new != old).any(-1, keepdim=True)
    return torch.where(changed, pattern.to(v.dtype) @ v, z)


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the softmax over keys, taken in float32; all zero for a query that sees no key."""
    blind = scores.isneginf().all(-1, keepdim=True)
    return scores.float().softmax(-1).masked_fill(blind, 0.0).to(scores.dtype)


def scores(place: dict[str, Any], tensors: dict[str, Any]) -> torch.Tensor:
    """Return what the softmax over keys is taken of, (row, head, query, key).

    bound(q k / sqrt(channels)), with q and k turned by their positions; -inf where a query does
    not see a key. The keys of a group are shared by its heads.
    """
    given = tensors["given"]
    q, k = turn(place, given, tensors["q"]), turn(place, given, tensors["k"])
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    size = place["scale_size"] or q.shape[-1]
    scale = size**-0.5 if place["scaled"] else 1.0
    raw: torch.Tensor = q @ k.transpose(2, 3) * (scale / place["divisor"])
    if place["softcap"]:
        raw = place["softcap"] * torch.tanh(raw / place["softcap"])
    return raw.masked_fill(~seen(place, given["attention_mask"], raw), -torch.inf)


def seen(place: dict[str, Any], mask: torch.Tensor | None, raw: torch.Tensor) -> torch.Tensor:
    """Return whether a query sees a key; no mask means all, or in a causal model all before it."""
    if mask is None:
        everything = torch.ones(raw.shape[-2:], dtype=torch.bool, device=raw.device)
        return everything.tril() if place["causal"] else everything
    if mask.ndim != 4:
        raise ValueError(f"an attention mask of {mask.ndim} dims is not understood; 4 are")
    mask = mask[..., : raw.shape[-1]]
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def turn(place: dict[str, Any], given: dict[str, Any], x: torch.Tensor) -> torch.Tensor:
    """Turn queries or keys (row, head, position, channel) by their positions, if the model does.

    Rotary embedding (Su et al. 2021): each pair of channels turns by position times a frequency;
    a pair is channel i and i + n/2 of the first n (`half`), or 2i and 2i + 1 (`pairs`).
    """
    if not place["rotary"]:
        return x
    if place["rotary"] == "half":
        cos, sin = (table[:, None] for table in given["position_embeddings"])
        turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
        low, high = turned.chunk(2, dim=-1)
        across = torch.cat((-high, low), dim=-1)
    else:
        n = place["rotary_size"]
        turned, rest = x[..., :n], x[..., n:]
        steps = torch.arange(0, n, 2, device=x.device).float() / n
        angles = given["position_ids"][..., None].float() / 10000.0**steps
        angles = angles.repeat_interleave(2, dim=-1)[:, None]
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        across = torch.stack((-turned[..., 1::2], turned[..., ::2]), dim=-1).flatten(-2)
    return torch.cat((turned * cos + across * sin, rest), dim=-1)
