"""Packing keeps every stimulus once and within budget; padding never hides a token."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from patchclamp.engine.batches import pack, pad


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_every_stimulus_stands_in_exactly_one_batch_within_budget(
    lengths: list[int], tokens: int
) -> None:
    batches = pack(lengths, tokens)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        assert batch.length == max(lengths[row] for row in batch.rows)
        assert len(batch.rows) == 1 or batch.length * len(batch.rows) <= tokens


def test_padding_is_on_the_right_and_masked() -> None:
    inputs = pad([[5, 6, 7], [8]], pad_id=0)
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert all(tensor.dtype == torch.long for tensor in inputs.values())
