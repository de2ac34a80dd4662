"""Bytes on the wire for each stimulus of a run on a server, everything counted.

A server in a process of its own holds a model of GPT-2-small's shape (12 layers x 768) with random
weights, which compress no better than real ones; the client has its config alone. The bodies of
all requests and answers count: source, tokens, states, results, and the passes that guards make.

    python benchmarks/remote.py [--stimuli 120] [--dtype bfloat16]
    python benchmarks/remote.py --sessions [--stimuli 24] [--dtype float32]

`residuals` records the last position of all layers. `logit_diff` and `kl` ablate the heads of a
layer, and count what a condition more adds to a run, for each stimulus. With `--sessions`, heads of
three layers are ablated at the last position, with and without what sessions save: requests, bytes,
and CPU seconds of the server, all of the run, guards too.
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
run: {{backend: {backend}, optimise: {optimise}}}
allow: {{P605: bytes are what is asked}}
"""

CAPTURE = "captures: {resid: {site: resid_post, layers: all, positions: last}}"
HEADS = """\
interventions: {{zero: {{kind: ablate, value: zero, allow_no_effect: true}}}}
analyses:
  heads: {{kind: ablation, with: zero, units: {{site: z, {units}}}, metric: {metric}}}
"""
ONE, LAYER = "layers: 6, heads: 0", "layers: 6"
LATE = "layers: [3, 6, 9], positions: last"


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


def measured(root: Path, asked: str, **given: Any) -> dict[str, Any]:
    """Run a spec on the server and return what went over the wire."""
    path = root / "bytes.yaml"
    given = {"model": MODEL, "commit": COMMIT, "backend": "ndif", "optimise": "true", **given}
    path.write_text(SPEC.format(asked=asked, **given))
    cache = Path(tempfile.mkdtemp(dir=root))
    wire: dict[str, Any] = open_result(run(path, out=root, cache=cache).path).made["wire"]
    return wire


def show_bytes(root: Path, given: dict[str, Any]) -> None:
    """Print the bytes of residuals for each stimulus, and of metrics under each condition too."""
    n = given["stimuli"]
    wire = measured(root, CAPTURE, **given)
    down, up = wire["received"] / n, wire["sent"] / n
    print(f"{n} stimuli in {given['dtype']}, {wire['requests']} requests")
    print(f"residuals   {down / 1e3:8.2f} kB down {up / 1e3:8.2f} kB up   for each stimulus")
    for metric in ("logit_diff", "kl"):
        one, heads = (
            measured(root, HEADS.format(units=units, metric=metric), **given)
            for units in (ONE, LAYER)
        )
        down, up = ((heads[way] - one[way]) / (12 - 1) / n for way in ("received", "sent"))
        print(f"{metric:<10}  {down / 1e3:8.3f} kB down {up / 1e3:8.3f} kB up   and each condition")


def show_sessions(root: Path, given: dict[str, Any], server: Any) -> None:
    """Print what 36 conditions take with and without what sessions save."""
    asked = HEADS.format(units=LATE, metric="kl")
    print(f"36 conditions of {given['stimuli']} stimuli in {given['dtype']}, last position, kl")
    ways = [("ndif", "false"), ("ndif", "true"), ("ndif_trusted", "true")]
    for backend, optimise in ways:
        before = len(server.log())
        wire = measured(root, asked, **given, backend=backend, optimise=optimise)
        cpu = sum(job["cpu"] for job in server.log()[before:])
        how = f"{backend}, {'sessions' if optimise == 'true' else 'a condition a session'}"
        print(
            f"{how:<30} {wire['requests']:4} requests {wire['sent'] / 1e3:8.0f} kB up "
            f"{wire['received'] / 1e3:8.0f} kB down {cpu:8.1f} CPU s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stimuli", type=int)
    parser.add_argument("--dtype")
    parser.add_argument("--sessions", action="store_true")
    arguments = parser.parse_args()
    default = (24, "float32") if arguments.sessions else (120, "bfloat16")
    n, dtype = arguments.stimuli or default[0], arguments.dtype or default[1]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = make(root / "model", dtype)
        huggingface_hub.constants.HF_HUB_CACHE = str(root / "hub")
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from remote import serving

        with serving(models={f"{MODEL}@{COMMIT}": str(folder)}, dtype=dtype) as server:
            os.environ["NDIF_HOST"] = server.url
            given = {"stimuli": n, "dtype": dtype}
            if arguments.sessions:
                show_sessions(root, given, server)
            else:
                show_bytes(root, given)


if __name__ == "__main__":
    main()
