"""CPU time of edge attribution, beside TransformerLens doing the same in its own environment.

Both attribute a logit difference to all edges of a model (random weights: what a weight holds
changes no time), with the gradient in the corrupt run, for the same pairs of prompts, in
process time on one thread. Ours is the time of attributing in a run, guards and files included;
theirs that of `attribution_patch` at edge granularity. The scores are held against one another.

    python benchmarks/edges.py [--shape gpt2-small] [--pairs 8] [--tokens 15]
        [--transformer-lens PYTHON]

`--transformer-lens` names the interpreter of an environment that has transformer-lens 4; without it
ours runs alone, and where heads share keys it must: theirs refuses them.

What differs in the work: TransformerLens takes one pair at a time, gives every head queries, keys
and values of its own input in the model, keeps edges of each position apart, as Python objects (so
many more numbers come out), and its backward pass reaches all of that and the weights. Ours takes
all pairs in one pass of the model as it is, pulls the gradients of queries, keys and values back
through their weights and norms, and sums over positions within a matrix product.
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
from ablation import SHAPES, make_model, write_texts

from patchclamp.engine.measure import Measured, dataset_of, measure_scores
from patchclamp.engine.plan import make_plan
from patchclamp.engine.records import open_cache
from patchclamp.engine.rig import rig_of
from patchclamp.specs.load import load

SPEC = """\
patchclamp: 1
name: edges
model: {id: MODEL}
stimuli:
  words:
    kind: jsonl
    path: words.jsonl
    text: "{text}"
    groups: none
    answer: {correct: " w1", foil: " w2"}
  others: {kind: jsonl, path: others.jsonl, text: "{text}", groups: none,
    partners: {of: words, by: order}}
analyses:
  edges:
    kind: attribution
    of: edges
    clean: words
    corrupt: others
    direction: denoising
    metric: logit_diff
    GRADIENT
run: {backend: BACKEND, threads: 1}
"""

TASKS = {
    "gradient at one run": "gradient_at: corrupt",
    "integrated over 5 points": "{gradient_at: integrated, steps: 5}",
}


def ours(folder: Path, gradient: str, backend: str) -> dict[str, Any]:
    """Attribute in a run whose model is there already."""
    spec = folder / "edges.yaml"
    text = SPEC.replace("MODEL", str(folder / "model")).replace("BACKEND", backend)
    spec.write_text(text.replace("GRADIENT", gradient.strip("{}").replace(", ", "\n    ")))
    plan = make_plan(load(spec), open_cache(Path(tempfile.mkdtemp())))
    with rig_of(plan, open_cache(Path(tempfile.mkdtemp())), lambda *_: None) as rig:
        rig.checked()
        measured = Measured()
        started = process_time()
        measure_scores(rig, measured, plan.score_readings())
        seconds = process_time() - started
        (reading,) = plan.score_readings()
        edges = dataset_of(rig, measured, reading)["edge"].mean("stimulus")
        ids = {name: [list(row) for row in of.tokens.ids] for name, of in plan.given.items()}
        return {"seconds": seconds, "edges": edges, "ids": ids}


def theirs(folder: Path, python: str, ids: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do the same with TransformerLens; returns what it says, and its scores by edge."""
    data = folder / "ids.json"
    data.write_text(json.dumps(ids))
    script = Path(__file__).with_name("edges_transformer_lens.py")
    done = subprocess.run(
        [python, str(script), str(folder / "model"), str(data)],
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return said, json.loads(data.with_suffix(".scores.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=15)
    parser.add_argument("--backend", default="nnsight")
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-small")
    parser.add_argument("--transformer-lens", metavar="PYTHON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    make_model(folder / "model", arguments.shape)
    write_texts(folder, arguments.pairs, arguments.tokens)
    for task, gradient in TASKS.items():
        found = ours(folder, gradient, arguments.backend)
        count = int(np.isfinite(found["edges"]).sum())
        line = f"{task}: ours {found['seconds']:.2f} s for {count} edges"
        if arguments.transformer_lens and gradient == "gradient_at: corrupt":
            said, scores = theirs(folder, arguments.transformer_lens, found["ids"])
            pairs = [name.split(" ") for name in scores]
            same = [float(found["edges"].sel(sender=a, receiver=b)) for a, b in pairs]
            values = np.array(list(scores.values()))
            worst = np.abs(same - values).max() / np.abs(values).max()
            line += (
                f"; TransformerLens {said['version']} {said['seconds']:.2f} s for {said['edges']} "
                f"edges of positions, {said['seconds'] / found['seconds']:.1f} times; "
                f"{len(values)} edges compared, largest difference {worst:.1g} of scale"
            )
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
