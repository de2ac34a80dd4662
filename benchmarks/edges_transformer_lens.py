"""The TransformerLens row of `edges.py`; runs in an environment that has transformer-lens 4.

Its own `attribution_patch` at edge granularity, on pairs of token ids; prints a line of JSON and
writes the scores, summed over positions, beside the ids.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis.attribution_patching import (
    EdgeAttributionConfig,
    attribution_patch,
)
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

SENDERS = {"embed": "embed", "attn_head_out": "L{0}H{1}", "mlp_out": "MLP{0}"}
RECEIVERS = {
    "q_input": "L{0}H{1}.q",
    "k_input": "L{0}H{1}.k",
    "v_input": "L{0}H{1}.v",
    "mlp_in": "MLP{0}",
    "logits": "logits",
}


def main() -> None:
    folder, data = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    module = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    bridge = TransformerBridge.boot_transformers(str(folder), hf_model=module, tokenizer=tokenizer)
    bridge.eval()
    clean, corrupt = (torch.tensor(json.loads(data.read_text())[n]) for n in ("words", "others"))
    config = EdgeAttributionConfig(granularity="edge")
    attribution_patch(bridge, clean[:1, :2], corrupt[:1, :2], difference, config)
    started = process_time()
    found = attribution_patch(bridge, clean, corrupt, difference, config)
    seconds = process_time() - started
    scores: dict[str, float] = defaultdict(float)
    for (sender, receiver), score in found.edge_scores.items():
        name = f"{name_of(SENDERS, sender)} {name_of(RECEIVERS, receiver)}"
        scores[name] += score
    data.with_suffix(".scores.json").write_text(json.dumps(scores))
    made = {"seconds": seconds, "edges": len(found.edge_scores)}
    print(json.dumps({**made, "version": version("transformer-lens")}))


def difference(logits: torch.Tensor) -> torch.Tensor:
    return logits[0, -1, 1] - logits[0, -1, 2]


def name_of(names: dict[str, str], node: Any) -> str:
    return names[node.kind].format(node.layer, node.head)


main()
