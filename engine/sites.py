"""Sites: from what modules give to the tensor that a site means, and back; torch only, plain dicts.

A remote server would run this, so it knows no class of ours. A place says where a site lives:

    {"site", "layer", "form", "position", "parts": [{"path", "io", "order", ...}, ...]}

Its canonical tensor has the dims of the site table with `row` for the stimulus and without the
layer: (row, position, unit), (row, head, position, channel), (row, head, query, key), (row,
position, token); `position` is the number of the dim that counts positions or queries. `parts` are
seen in execution order, and the last is the one that is written. The forms:

    one       the last part is the site
    flat      the same, with rows and positions in one dim; the first part has them apart
    scores    the parts are what the attention is given, queries and keys
    rest      what the last part must add to the first
    logprobs  the last part is logits
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Place = dict[str, Any]

_SHARES = {"thirds": 0, "triples": 1}
"""Which dim of a fused projection tells queries, keys and values apart, after the position."""


def take(place: Place, values: Sequence[Any]) -> torch.Tensor:
    """Return a site's canonical tensor, a view where that is possible.

    `values` are what the modules of the place's parts are given or give, as they are.
    """
    form, part = place["form"], place["parts"][-1]
    if form == "scores":
        return attention_scores(place, values)
    tensor = split(part, member(part, values[-1]))
    if form == "flat":
        tensor = tensor.reshape(*first(values[0]).shape[:2], -1)
    elif form == "rest":
        tensor = first(values[0]) + tensor
    elif form == "logprobs":
        tensor = torch.log_softmax(tensor, dim=-1)
    return tensor


def put(place: Place, values: Sequence[Any], tensor: torch.Tensor) -> Any:
    """Return the last part's value with the site's tensor in place; the inverse of `take`."""
    form, part, value = place["form"], place["parts"][-1], values[-1]
    old = member(part, value)
    if form in ("scores", "logprobs"):
        raise ValueError(f"the site {place['site']!r} is computed from others and is not written")
    if form == "rest":
        tensor = tensor - first(values[0])
    new = tensor.to(old.device, old.dtype)
    if part["split"]:
        whole = old.clone()
        split(part, whole).copy_(new)
    else:
        whole = new.reshape(old.shape)
    return with_member(part, value, whole)


def first(value: Any) -> torch.Tensor:
    """Return a tensor, or the first of a tuple."""
    tensor: torch.Tensor = value[0] if isinstance(value, tuple) else value
    return tensor


def member(part: Place, value: Any) -> torch.Tensor:
    """Return the tensor that a part means of what a module is given or gives."""
    if isinstance(value, torch.Tensor):
        return value
    tensor = value[part["member"]]
    if tensor is None:
        raise ValueError(
            f"{part['path']!r} gives no attention pattern: the model was not loaded with eager "
            "attention"
        )
    found: torch.Tensor = tensor
    return found


def with_member(part: Place, value: Any, tensor: torch.Tensor) -> Any:
    """Return what a module is given or gives with another tensor in its place."""
    if isinstance(value, torch.Tensor):
        return tensor
    if isinstance(value, tuple):
        number = part["member"]
        return (*value[:number], tensor, *value[number + 1 :])
    value[part["member"]] = tensor
    return value


def split(part: Place, tensor: torch.Tensor) -> torch.Tensor:
    """View a tensor as (row, head, position, channel), if it holds heads in another way."""
    how = part["split"]
    if not how:
        return tensor
    if how == "apart":
        return tensor.transpose(1, 2)
    heads, before = part["heads"], tensor.shape[:-1]
    if how == "heads":
        return tensor.view(*before, heads, -1).transpose(1, 2)
    sizes = (3, heads, -1) if how == "thirds" else (heads, 3, -1)
    shares = tensor.view(*before, *sizes).select(2 + _SHARES[how], part["share"])
    return shares.transpose(1, 2)


def attention_scores(place: Place, values: Sequence[Any]) -> torch.Tensor:
    """Return what the softmax over keys is taken of, (row, head, query, key).

    bound(q k / sqrt(channels)), with q and k turned by their positions; -inf where a query does
    not see a key. Keys of a group are shared by its heads.
    """
    arguments = values[0][1]
    q, k = (
        split(part, member(part, value))
        for part, value in zip(place["parts"][1:3], values[1:3], strict=True)
    )
    q, k = turn(place, arguments, q), turn(place, arguments, k)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    size = place["scale_size"] or q.shape[-1]
    scale = size**-0.5 if place["scaled"] else 1.0
    scores: torch.Tensor = q @ k.transpose(2, 3) * (scale / place["divisor"])
    if place["softcap"]:
        scores = place["softcap"] * torch.tanh(scores / place["softcap"])
    mask = arguments["attention_mask"]
    if mask is None:
        return scores
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return scores.masked_fill(~seen[..., : k.shape[2]], -torch.inf)


def turn(place: Place, arguments: dict[str, Any], x: torch.Tensor) -> torch.Tensor:
    """Turn queries or keys (row, head, position, channel) by their positions, if the model does.

    Rotary embedding (Su et al. 2021): each pair of channels turns by position times a frequency;
    a pair is channel i and i + n/2 of the first n (`half`), or 2i and 2i + 1 (`pairs`).
    """
    if not place["rotary"]:
        return x
    if place["rotary"] == "half":
        cos, sin = (table[:, None] for table in arguments["position_embeddings"])
        turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
        low, high = turned.chunk(2, dim=-1)
        across = torch.cat((-high, low), dim=-1)
    else:
        n = place["rotary_size"]
        turned, rest = x[..., :n], x[..., n:]
        steps = torch.arange(0, n, 2, device=x.device).float() / n
        angles = arguments["position_ids"][..., None].float() / 10000.0**steps
        angles = angles.repeat_interleave(2, dim=-1)[:, None]
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        across = torch.stack((-turned[..., 1::2], turned[..., ::2]), dim=-1).flatten(-2)
    return torch.cat((turned * cos + across * sin, rest), dim=-1)


def visits(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the places in the module tree that steps need seen, in execution order.

    A step is done where its last part is; `keep` says that a later step needs what is there.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for step in steps:
        parts = step["place"]["parts"]
        for number, part in enumerate(parts):
            where = (part["path"], part["io"])
            visit = found.setdefault(
                where, {"path": where[0], "io": where[1], "order": part["order"], "steps": []}
            )
            visit["order"] = min(visit["order"], part["order"])
            if number == len(parts) - 1:
                visit["steps"].append(step)
            else:
                visit["keep"] = True
    return sorted(found.values(), key=lambda visit: visit["order"])
