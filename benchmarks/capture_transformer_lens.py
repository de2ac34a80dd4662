"""The TransformerLens row of `capture.py`; runs in an environment that has transformer-lens 4.

Residual streams of all layers by `run_with_cache`, kept in memory, against a plain forward of the
same model and batches in this process; prints one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def main() -> None:
    folder, data, lengths, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    module = AutoModelForCausalLM.from_pretrained(folder).eval()
    other = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"))
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    bridge = TransformerBridge.boot_transformers(folder, hf_model=other, tokenizer=tokenizer)
    ids = [torch.tensor(batch) for batch in json.loads(Path(data).read_text())]
    masks = [
        (torch.arange(batch.shape[1]) < torch.tensor(each)[:, None]).long()
        for batch, each in zip(ids, json.loads(Path(lengths).read_text()), strict=True)
    ]
    times: dict[str, list[float]] = {"forward": [], "cached": []}
    for _ in range(rounds + 1):
        times["forward"].append(
            timed(lambda i, m: module(i, attention_mask=m, use_cache=False), ids, masks)
        )
        times["cached"].append(timed(lambda i, m: cached(bridge, i, m), ids, masks))
    found = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    print(json.dumps({**found, "version": version("transformer-lens")}))


def forward(module: Any, ids: torch.Tensor, mask: torch.Tensor) -> None:
    module(ids, attention_mask=mask, use_cache=False)


def cached(bridge: Any, ids: torch.Tensor, mask: torch.Tensor) -> None:
    _, cache = bridge.run_with_cache(
        ids, attention_mask=mask, names_filter=lambda name: name.endswith("hook_resid_post")
    )
    assert len(cache) == bridge.cfg.n_layers, list(cache)


def timed(function: Any, ids: list[torch.Tensor], masks: list[torch.Tensor]) -> float:
    start = process_time()
    with torch.no_grad():
        for batch, mask in zip(ids, masks, strict=True):
            function(batch, mask)
    return process_time() - start


if __name__ == "__main__":
    main()
