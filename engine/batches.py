"""Batches: stimuli packed by length, right-padded, with masks and positions spelled out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Batch:
    """Row numbers of the stimuli that go through the model together, and their longest length."""

    rows: tuple[int, ...]
    length: int


def pack(lengths: Sequence[int], tokens: int, most: int | None = None) -> tuple[Batch, ...]:
    """Pack stimuli into batches of at most `tokens` tokens, padding included, longest first.

    Sorting by length keeps padding small; the longest first shows a lack of memory at once.
    A stimulus longer than `tokens` is a batch of its own, and none has more stimuli than `most`.

    >>> [batch.rows for batch in pack([3, 5, 4], tokens=8)]
    [(1,), (2, 0)]
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[Batch] = []
    while order:
        length = lengths[order[0]]
        count = tokens // length if most is None else min(tokens // length, most)
        count = max(1, count)
        batches.append(Batch(tuple(order[:count]), length))
        order = order[count:]
    return tuple(batches)


def pad(ids: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-pad token ids to one length; returns what a causal model takes.

    Real tokens stand at the left, so position p is the same token in any batch. Mask and
    positions are always given: models that guess them from padding are silently wrong.
    Dims of each tensor: (row, position).
    """
    length = max(map(len, ids))
    tokens = np.full((len(ids), length), pad_id, dtype=np.int64)
    for row, sequence in enumerate(ids):
        tokens[row, : len(sequence)] = sequence
    lengths = torch.tensor([len(sequence) for sequence in ids])
    places = torch.arange(length).expand(len(ids), -1)
    mask = (places < lengths[:, None]).long()
    # Behind the end they stay at the last token, which every model has a place for.
    positions = places.minimum((lengths - 1).clamp(min=0)[:, None])
    return {
        "input_ids": torch.from_numpy(tokens),
        "attention_mask": mask,
        "position_ids": positions,
    }
