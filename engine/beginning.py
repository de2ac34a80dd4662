"""Beginning: a pass from what the clean run had: its stream at a layer, its keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from patchclamp.engine.backend import Prefix
from patchclamp.engine.model import ModelSource
from patchclamp.engine.passes import Inputs
from patchclamp.engine.savings import Pack


@dataclass
class Clean:
    """What a clean pass of a batch left, by input row; `first` is the first row of a stimulus."""

    first: dict[int, int] = field(default_factory=dict)
    streams: dict[int, torch.Tensor] = field(default_factory=dict)
    past: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    distribution: dict[int, torch.Tensor] = field(default_factory=dict)


def begun(
    model: ModelSource,
    pack: Pack,
    clean: Clean,
    what: tuple[Inputs, torch.Tensor, torch.Tensor],
) -> Inputs:
    """Return a pass that begins with what the clean run had: its stream, its keys and values."""
    given, source, cut = what
    inputs = dict(given.tensors)
    length = inputs["input_ids"].shape[1]
    prefix: Prefix = {}
    if pack.start:
        stream = clean.streams[pack.start]
        where = (cut[:, None] + torch.arange(length)).clamp(max=stream.shape[1] - 1)
        path = model.architecture.places["resid_post"].path
        prefix |= {
            "skip": [path.format(layer=layer) for layer in range(pack.start)],
            "stream": stream[source[:, None].to(stream.device), where.to(stream.device)],
            "pair": model.architecture.pair,
        }
    if pack.past:
        before = int(cut.max())
        # What was before stands at the end of the past, so that distances stay what they are.
        there = torch.arange(before) - (before - cut[:, None])
        prefix["past"] = _past(clean.past, pack.start, source, there)
        inputs["attention_mask"] = torch.cat([(there >= 0).long(), inputs["attention_mask"]], dim=1)
        inputs["position_ids"] = inputs["position_ids"] + cut[:, None]
    return Inputs(inputs, given.steps, prefix)


def _past(
    past: Sequence[tuple[torch.Tensor, torch.Tensor]],
    start: int,
    source: torch.Tensor,
    there: torch.Tensor,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return keys and values (row, head, token, channel) of each layer, at the tokens `there`.

    Layers that are skipped only say how many tokens there are.
    """
    found = []
    for layer, pair in enumerate(past):
        if layer < start:
            none = pair[0].new_zeros(1, 1, there.shape[1], 1)
            found.append((none, none))
            continue
        where = there.clamp(min=0).to(pair[0].device)
        rows = source.to(pair[0].device)[:, None]
        keys, values = (tensor.transpose(1, 2)[rows, where].transpose(1, 2) for tensor in pair)
        found.append((keys, values))
    return found
