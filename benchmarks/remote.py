"""Bytes on the wire for each stimulus of a run on a server, everything counted.

A server in a process of its own holds a model of GPT-2-small's shape (12 layers x 768) with random
weights, which compress no better than real ones; the client has its config alone. The bodies of
all requests and answers count: source, tokens, states, results, and the passes that guards make.

    python benchmarks/remote.py [--stimuli 120] [--dtype bfloat16]

`residuals` records the last position of all layers. `metrics` ablates the heads
of two layers, and counts what a condition more adds to a run, for each stimulus.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import huggingface_hub
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

from patchclamp.engine.results import open_result
from patchclamp.engine.run import run
from patchclamp.registry import MODELS

MODEL, COMMIT = "bench/twelve-layers", "c0ffee" + "0" * 34

SPEC = """\
patchclamp: 1
name: bytes
model: {{id: {model}, revision: "{commit}", dtype: {dtype}}}
stimuli:
  words: {{kind: builtin, set: sequences, text: "{{prompt}}", labels: [category], groups: template,
    take: {{n: {stimuli}}}, answer: {{correct: " {{next}}", foil: " {{last}}"}}}}
{asked}
run: {{backend: ndif}}
allow: {{P605: bytes are what is asked}}
"""

CAPTURE = "captures: {resid: {site: resid_post, layers: all, positions: last}}"
CLEAN = """\
interventions: {zero: {kind: ablate, value: zero}}
analyses:
  one: {kind: ablation, with: zero, units: {site: z, layers: 0, heads: 0}, metric: logit_diff}
"""
HEADS = CLEAN.replace("layers: 0, heads: 0", "layers: [0, 6]")


def make(folder: Path, dtype: str) -> Path:
    """Write a model with the bundled tokenizer, and what a client has of it: no weights."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS["bundled:sequences"].path("main"))
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_layer=12, n_embd=768, n_head=12)
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    cached = folder.with_name("hub") / f"models--{MODEL.replace('/', '--')}" / "snapshots" / COMMIT
    config.save_pretrained(cached)
    tokenizer.save_pretrained(cached)
    return folder


def measured(root: Path, asked: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a spec on the server and return what went over the wire."""
    path = root / "bytes.yaml"
    given = {"model": MODEL, "commit": COMMIT, **vars(arguments)}
    path.write_text(SPEC.format(asked=asked, **given))
    cache = Path(tempfile.mkdtemp(dir=root))
    wire: dict[str, Any] = open_result(run(path, out=root, cache=cache).path).made["wire"]
    return wire


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stimuli", type=int, default=120)
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = make(root / "model", arguments.dtype)
        huggingface_hub.constants.HF_HUB_CACHE = str(root / "hub")
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from remote import serving

        with serving(models={f"{MODEL}@{COMMIT}": str(folder)}, dtype=arguments.dtype) as server:
            os.environ["NDIF_HOST"] = server.url
            resid, one, heads = (measured(root, a, arguments) for a in (CAPTURE, CLEAN, HEADS))
    n, more = arguments.stimuli, 2 * 12 - 1
    print(f"{n} stimuli in {arguments.dtype}, {resid['requests']} and {heads['requests']} requests")
    down, up = resid["received"] / n, resid["sent"] / n
    print(f"residuals  {down / 1e3:8.2f} kB down {up / 1e3:8.2f} kB up   for each stimulus")
    down, up = ((heads[way] - one[way]) / more / n for way in ("received", "sent"))
    print(f"metrics    {down / 1e3:8.3f} kB down {up / 1e3:8.3f} kB up   and under each condition")


if __name__ == "__main__":
    main()
