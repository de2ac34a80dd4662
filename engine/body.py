"""What happens inside a forward pass: torch only, plain dicts in and out.

A backend visits the steps in the order in which the model computes them and hands each the
tensor at its place. This is the code that a remote server would run, so it knows no class of
ours. A step is one of

    {"do": "read", "key", "path", "io", "heads", "positions"}      keep chosen positions
    {"do": "sum", "key", "path", "io", "heads", "mask"}            sum over rows, by position
    {"do": "write", "path", "io", "heads", "edits"}                put fixed values in place
    {"do": "answers", "key", "path", "io", "rows", "positions", ...}  see `scoring`

`heads` is the number of heads that the last dim is split into, or 0 for none.
"""

from __future__ import annotations

from typing import Any

import torch

from patchclamp.engine.scoring import read_answers


def visit(step: dict[str, Any], tensor: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor | None]:
    """Do one step at its tensor; returns what is read, by key, and what replaces the tensor."""
    if step["do"] == "write":
        return {}, write(step, tensor)
    if step["do"] == "sum":
        return {step["key"]: sum_rows(step, tensor)}, None
    if step["do"] == "answers":
        found = read_answers(step, tensor)
        return {f"{step['key']}.{name}": value for name, value in found.items()}, None
    return {step["key"]: read(step, tensor)}, None


def split_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """View (row, position, unit) as (row, position, head, channel); 0 heads changes nothing."""
    return tensor.view(*tensor.shape[:-1], heads, -1) if heads else tensor


def read(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of the chosen positions, (row, chosen, ...), in float32 on the CPU.

    `positions` holds indexes (row, chosen); None keeps every position, padding included.
    """
    value = split_heads(tensor, step["heads"])
    if step["positions"] is not None:
        index = step["positions"].to(value.device)
        value = value[torch.arange(value.shape[0], device=value.device)[:, None], index]
    return value.detach().to("cpu", torch.float32, copy=True)


def sum_rows(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Sum over rows where `mask` (row, position) is 1, in float64: (position, ...)."""
    value = split_heads(tensor, step["heads"]).detach().to("cpu", torch.float64)
    mask = step["mask"].to(torch.bool)
    mask = mask.view(*mask.shape, *[1] * (value.ndim - 2))
    return torch.where(mask, value, 0.0).sum(0)


def write(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor with each edit's value in its head, or everywhere if `head` is None.

    An edit's `value` is (position, channel), or (1, channel) for the same at every position.
    """
    changed = tensor.clone()
    view = split_heads(changed, step["heads"])
    for edit in step["edits"]:
        value = edit["value"].to(view.device, view.dtype)
        if value.shape[0] > 1:
            value = value[: view.shape[1]]
        if edit["head"] is None:
            view[:] = value
        else:
            view[:, :, edit["head"]] = value
    return changed
