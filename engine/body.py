"""What happens inside a forward pass: torch only, plain dicts in and out.

A backend sees the places of the steps in the order in which the model computes them, and does each
step at its place's canonical tensor (see `engine.sites`). This is the code that a remote server
would run, so it knows no class of ours. A step has its `place` and is one of

    {"do": "read", "key", "positions"}                keep chosen positions
    {"do": "sum", "key", "mask"}                      sum over rows, by position
    {"do": "write", "edits"}                          put fixed values in place
    {"do": "answers", "rows", "positions", ...}       see `engine.scoring`
"""

from __future__ import annotations

from typing import Any

import torch

from patchclamp.engine.scoring import read_answers
from patchclamp.engine.sites import put, take


def arrive(
    visit: dict[str, Any], value: Any, kept: dict[Any, Any]
) -> tuple[dict[str, torch.Tensor], Any]:
    """Do all steps of a place that a pass has come to; returns what is read and what goes on.

    `value` is what the module is given or gives; it goes on as it is, the same object, unless a
    step writes. `kept` holds values of earlier places that later steps need, and what was written.
    """
    found: dict[str, torch.Tensor] = {}
    here = (visit["path"], visit["io"])
    for step in visit["steps"]:
        place = step["place"]
        seen = [(part["path"], part["io"]) for part in place["parts"]]
        values = [value if where == here else kept[where] for where in seen]
        results, replacement = do(step, take(place, values, kept))
        found.update(results)
        if replacement is not None:
            value = put(place, values, replacement)
            if place["form"] in ("scores", "pattern"):
                kept[place["site"], place["layer"]] = replacement
    if visit.get("keep"):
        kept[here] = value
    return found, value


def do(step: dict[str, Any], tensor: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor | None]:
    """Do one step at its tensor; returns what is read, by key, and what replaces the tensor."""
    if step["do"] == "write":
        return {}, write(step, tensor)
    if step["do"] == "sum":
        return {step["key"]: sum_rows(step, tensor)}, None
    if step["do"] == "answers":
        found = read_answers(step, tensor)
        return {f"{step['key']}.{name}": value for name, value in found.items()}, None
    return {step["key"]: read(step, tensor)}, None


def read(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy with the chosen positions, dims as in the site table, in float32 on the CPU.

    `positions` holds indexes (row, chosen); None keeps every position, padding included.
    """
    value, dim = tensor, step["place"]["position"]
    if step["positions"] is not None:
        index = step["positions"].to(value.device)
        rows = torch.arange(value.shape[0], device=value.device)[:, None]
        value = value.movedim(dim, 1)[rows, index].movedim(1, dim)
    return value.detach().to("cpu", torch.float32, copy=True)


def sum_rows(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Sum over rows where `mask` (row, position) is 1, in float64: (position, ...)."""
    value = tensor.movedim(step["place"]["position"], 1).detach().to("cpu", torch.float64)
    mask = step["mask"].to(torch.bool)
    mask = mask.view(*mask.shape, *[1] * (value.ndim - 2))
    return torch.where(mask, value, 0.0).sum(0)


def write(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor with each edit's value in its head, or everywhere if `head` is None.

    An edit's `value` is (position, channel), or (1, channel) for the same at every position.
    """
    changed = tensor.clone()
    view = changed.movedim(step["place"]["position"], 1)
    for edit in step["edits"]:
        value = edit["value"].to(view.device, view.dtype)
        if value.shape[0] > 1:
            value = value[: view.shape[1]]
        if edit["head"] is None:
            view[:] = value
        else:
            view[:, :, edit["head"]] = value
    return changed
