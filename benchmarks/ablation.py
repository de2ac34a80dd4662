"""CPU time of sweeps of interventions, against a plain-hooks forward for each of them.

One process does both, on one thread, in process time (user and system). Models have the shapes of
GPT-2 small, a Llama and Pythia-160m, and random weights: what a weight holds changes no time. The
plain loop is what one writes by hand: a forward of the same prompt for each intervention, with one
PyTorch hook that puts the value in place, and the logits of the last token read. Ours is the time
of measuring the answers of a planned spec, guards and files included, with the model and means
there already.

    python benchmarks/ablation.py [--shape gpt2-small] [--tokens 16] [--transformer-lens PYTHON]

Tasks: all heads, mean-ablated at every position; the same at the last position, read by a logit
difference and by a log-probability; patching the residual stream at every layer and position from
another prompt. `work` is how many whole passes the planner's passes are worth; the numbers are held
against the loop's, and against the oracle's, which takes no saving. `--transformer-lens` names the
interpreter of an environment that has transformer-lens 4, which then ablates the heads of the first
shape with `run_with_hooks`, beside a plain loop of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from patchclamp.engine.efforts import changed_effort
from patchclamp.engine.measure import Measured, dataset_of, measure_answers, measure_clean
from patchclamp.engine.plan import make_plan
from patchclamp.engine.records import open_cache
from patchclamp.engine.rig import rig_of
from patchclamp.specs.load import load

SHAPES: dict[str, Any] = {
    "gpt2-small": GPT2Config(),
    "llama": LlamaConfig(
        vocab_size=32000,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        intermediate_size=2048,
    ),
    "pythia-160m": GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        rotary_pct=0.25,
    ),
}

LAYERS, HEADS = 12, 12

TASKS = {
    "heads": "kind: ablation, with: mean, units: {site: z}, metric: logit_diff",
    "heads, last position": "kind: ablation, with: mean, units: {site: z, positions: last}, "
    "metric: logit_diff",
    "heads, last position, log-probability": "kind: ablation, with: mean, "
    "units: {site: z, positions: last}, metric: logprob",
    "residual grid": "kind: patching, clean: words, corrupt: others, direction: denoising, "
    "units: {site: resid_post}, metric: logit_diff",
}

SPEC = """\
patchclamp: 1
name: sweep
model: {{id: {model}}}
stimuli:
  words: {{kind: jsonl, path: words.jsonl, text: "{{text}}", groups: none, answer: {answer}}}
  others: {{kind: jsonl, path: others.jsonl, text: "{{text}}", groups: none, partners: {of}}}
interventions:
  mean: {{kind: ablate, value: {{mean_over: others, per: position}}}}
analyses:
  sweep: {{{task}}}
run: {{backend: {backend}, threads: 1, optimise: {optimise}}}
"""


def make_model(folder: Path, shape: str) -> None:
    """Write a model of a shape with random weights, and a tokenizer of words."""
    torch.manual_seed(0)
    config = SHAPES[shape]
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = {f"w{number}": number for number in range(config.vocab_size)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)


def write_texts(folder: Path, prompts: int, tokens: int) -> None:
    """Write prompts of random words, and others of equal length."""
    rng = np.random.default_rng(0)
    for name in ("words", "others"):
        rows = [
            {"id": f"s{i}", "text": " ".join(f"w{w}" for w in rng.integers(1, 32000, tokens))}
            for i in range(prompts)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def ours(folder: Path, task: str, backend: str, *, optimise: bool) -> dict[str, Any]:
    """Measure the conditions of a planned spec; model, means and clean answers are there."""
    spec = folder / "sweep.yaml"
    made = SPEC.format(
        model=folder / "model",
        task=TASKS[task],
        backend=backend,
        optimise=str(optimise).lower(),
        answer='{correct: " w1", foil: " w2"}',
        of="{of: words, by: id}",
    )
    spec.write_text(made)
    cache = open_cache(Path(tempfile.mkdtemp()))
    plan = make_plan(load(spec), cache)
    with rig_of(plan, cache, lambda *_: None) as rig, torch.no_grad():
        measured = Measured()
        measure_clean(rig, measured, plan.answered())
        started = process_time()
        measure_answers(rig, measured, plan.conditions())
        seconds = process_time() - started
        (reading,) = (r for r in plan.metric_readings().values() if r.conditions)
        values = dataset_of(rig, measured, reading)["value"].to_numpy()
        means = None if task == "residual grid" else np.stack(_means(rig, measured))
        return {
            "seconds": seconds,
            "values": values,
            "work": changed_effort(plan).work,
            "places": {n: plan.model.architecture.places[n].path for n in ("z", "resid_post")},
            "ids": {n: np.array(of.tokens.ids) for n, of in plan.sets.items()},
            "module": rig.module,
            "means": means,
        }


def _means(rig: Any, measured: Any) -> list[np.ndarray]:
    from patchclamp.engine.datasets import capture_dataset

    (capture,) = measured.internal
    data = capture_dataset(rig.plan, capture, measured.captures[capture.name])
    return [data["mean_over_stimulus"].sel(layer=layer).to_numpy() for layer in range(LAYERS)]


def loop(task: str, found: dict[str, Any]) -> tuple[float, np.ndarray]:
    """Do the same by hand: a forward with one hook for each intervention."""
    module, ids = found["module"], {n: torch.from_numpy(v) for n, v in found["ids"].items()}
    grid = task == "residual grid"
    run, source = (ids["others"], ids["words"]) if grid else (ids["words"], None)
    streams: list[torch.Tensor] = []
    values = []

    def at(site: str, layer: int) -> torch.nn.Module:
        return module.get_submodule(found["places"][site].format(layer=layer))

    def forward() -> None:
        logits = module(run, use_cache=False).logits[:, -1]
        if "log-probability" in task:
            values.append(logits.double().log_softmax(-1)[:, 1].numpy())
        else:
            values.append((logits[:, 1] - logits[:, 2]).double().numpy())

    with torch.no_grad():
        if grid:
            handles = [
                at("resid_post", layer).register_forward_hook(
                    lambda _, __, output: streams.append(stream_of(output))
                )
                for layer in range(LAYERS)
            ]
            module(source, use_cache=False)
            for handle in handles:
                handle.remove()
        started = process_time()
        for layer in range(LAYERS):
            for number in range(run.shape[1] if grid else HEADS):
                if grid:

                    def put(_: Any, __: Any, output: Any, p: int = number, n: int = layer) -> Any:
                        stream = stream_of(output).clone()
                        stream[:, p] = streams[n][:, p]
                        return (stream, *output[1:]) if isinstance(output, tuple) else stream

                    handle = at("resid_post", layer).register_forward_hook(put)
                else:
                    mean = torch.from_numpy(found["means"][layer][number]).float()

                    def cut(_: Any, args: Any, h: int = number, mean: torch.Tensor = mean) -> Any:
                        z = args[0].clone()
                        where = slice(-1, None) if "last" in task else slice(None)
                        z[:, where, 64 * h : 64 * (h + 1)] = mean[where]
                        return (z, *args[1:])

                    handle = at("z", layer).register_forward_pre_hook(cut)
                forward()
                handle.remove()
        return process_time() - started, np.stack(values)


def stream_of(output: Any) -> torch.Tensor:
    """Return what a block gives, which some put into a tuple."""
    stream: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return stream


def transformer_lens(python: str, folder: Path, found: dict[str, Any]) -> str:
    """Return what TransformerLens takes for all heads, beside a plain loop in its own process."""
    arrays = folder / "arrays.npz"
    means = np.asarray(found["means"], dtype=np.float32)
    np.savez(arrays, ids=found["ids"]["words"], means=means)
    script = Path(__file__).with_name("ablation_transformer_lens.py")
    done = subprocess.run(
        [python, str(script), str(folder / "model"), str(arrays)],
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout.strip().splitlines()[-1])
    beside = np.abs(np.asarray(said["values"]) - found["values"]).max()
    return (
        f"  TransformerLens {said['version']}, all heads: plain hooks {said['plain']:.2f} s, "
        f"run_with_hooks {said['theirs']:.2f} s, {said['plain'] / said['theirs']:.2f} times; "
        f"largest difference {said['worst']:.1g} of scale to plain hooks, "
        f"{beside / np.abs(found['values']).max():.1g} to ours\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--backend", default="nnsight")
    parser.add_argument("--shape", action="append", choices=list(SHAPES))
    parser.add_argument("--transformer-lens", metavar="PYTHON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for shape in arguments.shape or SHAPES:
        sys.stdout.write(f"{shape}, {arguments.prompts} x {arguments.tokens} tokens\n")
        folder = Path(tempfile.mkdtemp())
        make_model(folder / "model", shape)
        write_texts(folder, arguments.prompts, arguments.tokens)
        for task in TASKS:
            quick = ours(folder, task, arguments.backend, optimise=True)
            seconds, values = loop(task, quick)
            oracle = ours(folder, task, arguments.backend, optimise=False)
            scale = np.abs(values).max()
            worst, apart = (
                float(np.abs(quick["values"] - other).max() / scale)
                for other in (values, oracle["values"])
            )
            sys.stdout.write(
                f"  {task}: plain hooks {seconds:.2f} s, ours {quick['seconds']:.2f} s, "
                f"{seconds / quick['seconds']:.1f} times; {len(values)} interventions are worth "
                f"{quick['work']:.1f} passes; largest difference {worst:.2g} of scale to plain "
                f"hooks, {apart:.2g} to no savings\n"
            )
            sys.stdout.flush()
            if task == "heads" and shape == "gpt2-small" and arguments.transformer_lens:
                sys.stdout.write(transformer_lens(arguments.transformer_lens, folder, quick))


if __name__ == "__main__":
    main()
