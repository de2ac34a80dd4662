"""Beginning: a pass from what a clean pass left: its stream at a layer, its keys and values.

How a pass begins is said in plain data before there is anything to begin with, and done where the
clean pass ran: here, or in the same request on a server, so that nothing of it travels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from patchclamp.engine.backend import Begins
from patchclamp.engine.model import ModelSource
from patchclamp.engine.passes import Found, Inputs
from patchclamp.engine.savings import Pack


@dataclass(frozen=True)
class Clean:
    """The clean pass of a batch: the number in it of each stimulus, and its first input row.

    `left` is what it left, None where it has not run yet.
    """

    numbers: Mapping[int, int]
    first: Mapping[int, int]
    left: Found | None = None


def begun(
    model: ModelSource, pack: Pack, what: tuple[Inputs, torch.Tensor, torch.Tensor]
) -> Inputs:
    """Return a pass that begins with what the clean pass had.

    `what` are the pass, the clean pass's row that each input row begins with, and how many tokens
    of it are not run.
    """
    given, source, cut = what
    inputs = dict(given.tensors)
    begins: Begins = {"start": pack.start, "rows": source, "layers": model.shape.layers}
    if pack.start:
        path = model.architecture.places["resid_post"].path
        begins |= {
            "skip": [path.format(layer=layer) for layer in range(pack.start)],
            "tokens": cut[:, None] + torch.arange(inputs["input_ids"].shape[1]),
            "pair": model.architecture.pair,
        }
    if pack.past:
        before = int(cut.max())
        # What was before stands at the end of the past, so that distances stay what they are.
        there = torch.arange(before) - (before - cut[:, None])
        begins["past"] = there
        inputs["attention_mask"] = torch.cat([(there >= 0).long(), inputs["attention_mask"]], dim=1)
        inputs["position_ids"] = inputs["position_ids"] + cut[:, None]
    return Inputs(inputs, given.steps, begins=begins)
