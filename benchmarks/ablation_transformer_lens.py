"""The TransformerLens row of `ablation.py`; runs in an environment that has transformer-lens 4.

Every head mean-ablated, one at a time, with a hook of `run_with_hooks`, against plain PyTorch hooks
on the same model in this process. Prints one line of JSON.

    ablation_transformer_lens.py MODEL ARRAYS

ARRAYS is an npz with `ids` (row, token) and `means` (layer, head, token, channel).
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def main() -> None:
    folder, arrays = Path(sys.argv[1]), np.load(sys.argv[2])
    torch.set_num_threads(1)
    ids, means = (torch.from_numpy(arrays[name]) for name in ("ids", "means"))
    module = AutoModelForCausalLM.from_pretrained(folder).eval()
    other = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    bridge = TransformerBridge.boot_transformers(folder, hf_model=other, tokenizer=tokenizer)
    with torch.no_grad():
        plain, expected = timed(lambda: by_hooks(module, ids, means))
        theirs, found = timed(lambda: by_bridge(bridge, ids, means))
    worst = float(np.abs(found - expected).max() / np.abs(expected).max())
    said = {"plain": plain, "theirs": theirs, "worst": worst, "values": found.tolist()}
    print(json.dumps({**said, "version": version("transformer-lens")}))


def difference(logits: torch.Tensor) -> np.ndarray:
    return (logits[:, -1, 1] - logits[:, -1, 2]).double().numpy()


def by_hooks(module: Any, ids: torch.Tensor, means: torch.Tensor) -> np.ndarray:
    values = []
    size = means.shape[-1]
    for layer, block in enumerate(module.transformer.h):
        for head in range(means.shape[1]):

            def cut(_: Any, args: Any, at: int = layer, h: int = head) -> Any:
                z = args[0].clone()
                z[..., size * h : size * (h + 1)] = means[at, h]
                return (z, *args[1:])

            handle = block.attn.c_proj.register_forward_pre_hook(cut)
            values.append(difference(module(ids, use_cache=False).logits))
            handle.remove()
    return np.stack(values)


def by_bridge(bridge: Any, ids: torch.Tensor, means: torch.Tensor) -> np.ndarray:
    values = []
    for layer in range(means.shape[0]):
        for head in range(means.shape[1]):

            def cut(z: torch.Tensor, hook: Any, at: int = layer, h: int = head) -> torch.Tensor:
                z = z.clone()
                if z.ndim == 4:
                    z[:, :, h] = means[at, h].to(z.dtype)
                else:
                    size = means.shape[-1]
                    z[..., size * h : size * (h + 1)] = means[at, h].to(z.dtype)
                return z

            hooks = [(f"blocks.{layer}.attn.hook_z", cut)]
            values.append(difference(bridge.run_with_hooks(ids, fwd_hooks=hooks)))
    return np.stack(values)


def timed(function: Any) -> tuple[float, Any]:
    start = process_time()
    result = function()
    return process_time() - start, result


if __name__ == "__main__":
    main()
