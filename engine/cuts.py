"""Cuts: what a sender would give instead, seen by some receivers only; torch only, plain dicts.

The residual stream is a sum, so that an edge is cut without another pass: the receiver is computed
from its stream plus what the sender would add instead, less what it adds. Everything else sees the
sender as it is. Of queries, keys and values, what changes is the difference of what the norm gives
with and without that, times their projection: a difference of nothing changes no bit.

Source: Miller, Chughtai & Saunders 2024, Transformer circuit faithfulness metrics are not robust
(edge patching); Wang et al. 2022, path patching with everything else frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from patchclamp.engine.products import matrix
from patchclamp.engine.sites import split, take


def receive(
    step: dict[str, Any], what: tuple[torch.Tensor, Sequence[Any]], kept: dict[Any, Any]
) -> torch.Tensor:
    """Return a receiving site's tensor, each of its heads computed from a stream of its own.

    `cuts` say, for input `rows` (start, stop), which `senders` (key and head, -1 for none) each of
    `heads` sees otherwise, as `mask` (head, sender); a site without heads has one. `stream` is
    what is read, through the `norm`, and `into` projects it; None where these are not.
    """
    tensor, values = what
    changed = tensor.clone()
    for cut in step["cuts"]:
        rows = slice(*cut["rows"])
        added = torch.stack([_added(step, one, cut["rows"], kept) for one in cut["senders"]], 1)
        mask = cut["mask"].to(added.device, added.dtype)
        change = torch.einsum("hs,rstu->rhtu", mask, added)
        if step["norm"] is not None:
            norm = kept["module", step["norm"]]
            stream = take(step["stream"], values[: len(step["stream"]["parts"])])[rows, None]
            change = norm.forward(stream + change) - norm.forward(stream)
        if step["into"] is None:
            changed[rows] = changed[rows] + change[:, 0]
            continue
        part = step["place"]["parts"][-1]
        into = split(part, matrix(kept["module", step["into"]])[None])[0][cut["heads"]]
        moved = torch.einsum("rhtu,huc->rhtc", change, into)
        changed[rows.start : rows.stop, cut["heads"]] += moved
    return changed


def _added(
    step: dict[str, Any], sender: tuple[str, int], rows: tuple[int, int], kept: dict[Any, Any]
) -> torch.Tensor:
    """Return what a sender would add to the stream, less what it adds: (row, position, unit)."""
    key, head = sender
    held = ("added", key, head, rows)
    if held not in kept:
        change = kept["withheld", key][slice(*rows)]
        if head >= 0:
            out = step["outs"][key]
            weight = matrix(kept["module", out]).view(change.shape[1], -1, step["units"])
            change = change[:, head] @ weight[head]
        kept[held] = change
    found: torch.Tensor = kept[held]
    return found


def union(cuts: Mapping[int, Sequence[tuple[str, int]]]) -> dict[str, Any]:
    """Return the heads of a cut, its senders, each once, and which head sees which otherwise."""
    senders = list(dict.fromkeys(one for of in cuts.values() for one in of))
    mask = torch.tensor([[one in of for one in senders] for of in map(set, cuts.values())])
    return {"heads": list(cuts), "senders": senders, "mask": mask}
