"""Reductions: what is kept of a tensor inside the forward pass. Torch only, plain data.

A tensor is (row, [head], position, unit), where an attention map has queries for positions and
keys for units. `mask` (row, position) is true where a row has a token; padding enters nothing.
A reduction is a mapping with `kind`, `over` and, where they matter, `k`, `codes` and `classes`.
"""

from __future__ import annotations

from typing import Any

import torch

Reduction = dict[str, Any]


def reduce(
    how: Reduction, tensor: torch.Tensor, mask: torch.Tensor, at: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the parts of one reduction by name; `""` is the main one.

    `at` holds `index` (row, position), the token that each position is, `lengths` (row,), and for a
    map `there` (row, head, query, key), true where a query has a token and a key is one that it
    has a score for.
    What has no value, because a row has no such position, is NaN.
    """
    kind, over = how["kind"], how["over"]
    of_map = at.get("there")
    there = spread(mask, tensor.ndim - 1, 1) if of_map is None else of_map
    if over == "stimulus":
        # Every head alike.
        return _over_rows(how, tensor, there, mask if of_map is None else of_map[:, 0])
    if over == "position":
        return {"": _over_positions(kind, tensor, there)}
    if kind == "column_mean":
        return {"": _column_mean(tensor, mask, at, causal=how["causal"])}
    if kind == "first_share":
        return {"": blank(tensor[..., 0].float(), mask)}
    last = int(kind == "topk")
    found = _over_units(how, tensor.float())
    return {name: blank(value, mask, last=last) for name, value in found.items()}


def blank(value: torch.Tensor, mask: torch.Tensor, *, last: int = 0) -> torch.Tensor:
    """Return a value (row, [head], position, ...) with NaN where the mask has no token.

    `last` is how many dims follow the position. Whole numbers, which have no NaN, are -1 there.
    """
    none = float("nan") if value.is_floating_point() else -1
    return value.masked_fill(~spread(mask, value.ndim - last, last), none)


def spread(mask: torch.Tensor, ndim: int, last: int = 0) -> torch.Tensor:
    """View a mask (row, position) so that it lies along the first and the `ndim`-th dim."""
    rows, positions = mask.shape
    return mask.view(rows, *[1] * (ndim - 2), positions, *[1] * last)


def _over_units(how: Reduction, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    match how["kind"]:
        case "norm":
            return {"": torch.linalg.vector_norm(tensor, dim=-1)}
        case "mean":
            return {"": tensor.mean(-1)}
        case "max":
            return {"": tensor.amax(-1)}
        case "absmax":
            largest, unit = tensor.abs().max(-1)
            return {"": largest, "unit": unit.int()}
    # topk: with their signs, in order of size
    unit = tensor.abs().topk(how["k"], dim=-1).indices
    return {"": tensor.gather(-1, unit), "unit": unit.int()}


def _over_positions(kind: str, tensor: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    if kind == "max":
        found = tensor.float().masked_fill(~there, float("-inf")).amax(-2)
    else:
        # In float64, so that a mean over many tokens is that of each of them.
        total = torch.where(there, tensor.double(), 0.0).sum(-2)
        found = (total / there.sum(-2)).float()
    return found.masked_fill(~there.any(-2), float("nan"))


def _over_rows(
    how: Reduction, tensor: torch.Tensor, there: torch.Tensor, counted: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Gather rows by their class: partial sums and counts, or maxima, to be merged over batches.

    `counted` (row, position), of a map (row, query, key), says what is counted.
    """
    codes = how["codes"].to(tensor.device)
    shape = (how["classes"], *counted.shape[1:])
    count = torch.zeros(shape, dtype=torch.int64, device=tensor.device)
    count.index_add_(0, codes, counted.long())
    shape = (how["classes"], *tensor.shape[1:])
    if how["kind"] == "max":
        largest = torch.full(shape, float("-inf"), device=tensor.device)
        kept = tensor.float().masked_fill(~there, float("-inf"))
        for code in codes.unique():
            largest[code] = kept[codes == code].amax(0)
        return {"": largest, "count": count}
    total = torch.zeros(shape, dtype=torch.float64, device=tensor.device)
    total.index_add_(0, codes, torch.where(there, tensor.double(), 0.0))
    return {"": total, "count": count}


def _column_mean(
    pattern: torch.Tensor, mask: torch.Tensor, at: dict[str, torch.Tensor], *, causal: bool
) -> torch.Tensor:
    """Return the attention that each key receives, over the chosen queries that see it."""
    keys = torch.arange(pattern.shape[-1], device=pattern.device)
    real = keys[None] < at["lengths"].to(pattern.device)[:, None]
    seen = mask[:, :, None] & real[:, None, :]
    if causal:
        seen &= keys[None, None] <= at["index"].to(pattern.device)[:, :, None]
    seen = seen[:, None]  # every head alike
    total = torch.where(seen, pattern.double(), 0.0).sum(-2)
    return (total / seen.sum(-2)).float()  # 0 / 0 is NaN: no query sees it
