"""Sites: from what modules give to the tensor that a site means, and back; torch only, plain dicts.

A remote server would run this, so it knows no class of ours. A place says where a site lives:

    {"site", "layer", "form", "position", "parts": [{"path", "io", "order", ...}, ...]}

Its canonical tensor has the dims of the site table with `row` for the stimulus and without the
layer: (row, position, unit), (row, head, position, channel), (row, head, query, key), (row,
position, token); `position` is the number of the dim that counts positions or queries. `parts` are
seen in execution order, and the last is the one that is written. The forms:

    one       the last part is the site
    flat      the same, with rows and positions in one dim; the first part has them apart
    scores    computed from what the attention is given, queries and keys; written through `z`
    pattern   the same, after the softmax
    rest      what the last part must add to the first
    logprobs  the last part is logits
    bare      the last part is the tensor, which may be replaced by one of another size
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from patchclamp.engine.attention import mix, seen
from patchclamp.engine.attention import take as attend

Place = dict[str, Any]

_SHARES = {"thirds": 0, "triples": 1}
"""Which dim of a fused projection tells queries, keys and values apart, after the position."""


def take(
    place: Place, values: Sequence[Any], written: Mapping[Any, torch.Tensor] | None = None
) -> torch.Tensor:
    """Return a site's canonical tensor, a view where that is possible.

    `values` are what the modules of the place's parts are given or give, as they are. `written`
    holds scores and patterns that were put in place before, by site and layer.
    """
    form, part = place["form"], place["parts"][-1]
    if form in ("scores", "pattern"):
        return attend(place, attended(place, values), written or {})
    tensor = split(part, member(part, values[-1]))
    if form == "flat":
        tensor = tensor.reshape(*first(values[0]).shape[:2], -1)
    elif form == "rest":
        tensor = first(values[0]) + tensor
    elif form == "logprobs":
        tensor = torch.log_softmax(tensor, dim=-1)
    return tensor


def put(
    place: Place, values: Sequence[Any], tensor: torch.Tensor, before: torch.Tensor | None = None
) -> Any:
    """Return the last part's value with the site's tensor in place; the inverse of `take`.

    `before` is what `take` gave, which scores and patterns are held against.
    """
    form, part, value = place["form"], place["parts"][-1], values[-1]
    old = member(part, value)
    if form == "bare":
        return with_member(part, value, tensor)
    if form == "logprobs":
        raise ValueError("the site 'logprobs' is computed from logits and is not written")
    if form in ("scores", "pattern"):
        assert before is not None, "it is taken before it is changed"
        tensor = mix(place, attended(place, values), before, tensor)
    elif form == "rest":
        tensor = tensor - first(values[0])
    new = tensor.to(old.device, old.dtype)
    if part["split"]:
        whole = old.clone()
        split(part, whole).copy_(new)
    else:
        whole = new.reshape(old.shape)
    return with_member(part, value, whole)


def only_seen(
    place: Place, values: Sequence[Any], tensors: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Return the second of two tensors of a site, the first where a query does not see a key.

    Whatever is put in place of scores or a pattern, no query sees what comes after it; and what
    another query did not see, which has no score there, it does not see in its place.
    """
    old, new = tensors
    if place["form"] not in ("scores", "pattern"):
        return new
    mask = attended(place, values)["given"]["attention_mask"]
    none = -torch.inf if place["form"] == "scores" else 0.0
    return torch.where(seen(place, mask, old), new.masked_fill(new.isnan(), none), old)


def attended(place: Place, values: Sequence[Any]) -> dict[str, Any]:
    """Return what attention is computed from: its keyword arguments, and the heads' tensors."""
    heads = [
        split(part, member(part, value))
        for part, value in zip(place["parts"][1:], values[1:], strict=True)
    ]
    return {"given": values[0][1], **dict(zip("qkvz", heads, strict=True))}


def first(value: Any) -> torch.Tensor:
    """Return a tensor, or the first of a tuple."""
    tensor: torch.Tensor = value[0] if isinstance(value, tuple) else value
    return tensor


def member(part: Place, value: Any) -> torch.Tensor:
    """Return the tensor that a part means of what a module is given or gives."""
    if isinstance(value, torch.Tensor):
        return value
    tensor: torch.Tensor = value[part["member"]]
    return tensor


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


def visits(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the places in the module tree that steps need seen, in execution order.

    A step is done where its last part is; `keep` says that a later step needs what is there, and
    `drop` names the places that no step behind this one needs.
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
    ordered = sorted(found.values(), key=lambda visit: visit["order"])
    last = {
        (part["path"], part["io"]): visit
        for visit in ordered
        for step in visit["steps"]
        for part in step["place"]["parts"][:-1]
    }
    for where, visit in last.items():
        visit.setdefault("drop", []).append(where)
    return ordered
