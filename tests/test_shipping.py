"""What runs inside a trace can be shipped: another process, without patchclamp, runs it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnsight
import torch
from nnsight.intervention import serialization

from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import ask
from patchclamp.engine.backend import needs_gradients
from patchclamp.engine.batches import Batch, pad
from patchclamp.engine.edge_steps import change_steps
from patchclamp.engine.plan import make_plan
from patchclamp.engine.score_steps import score_inputs
from patchclamp.engine.steps import in_order, keep_step, read_answers_at, read_step, write_steps
from patchclamp.engine.tokens import Spelling, TokenTable
from patchclamp.engine.traced import follow
from patchclamp.engine.values import edit
from patchclamp.specs.load import load

TEXTS = ((3, 4, 5, 6, 7), (12, 13, 14, 15, 16))
SAID = Spelling("correct", ("answer", "correct"), ("?",) * 2, ((7,), (8,)))

SERVER = """\
import pickle, sys
sys.modules["patchclamp"] = None  # as on a server that does not have it
import nnsight, torch
from nnsight import TransformersModel
from nnsight.intervention import serialization
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, given, out = sys.argv[1:]
follow, inputs, steps, prefix, gradients = serialization.loads(open(given, "rb").read())
module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
model = TransformersModel(module, task="text-generation", tokenizer=tokenizer, device="cpu")
with model.trace(**inputs, use_cache=False) as tracer:
    with torch.set_grad_enabled(gradients):
        found = nnsight.save(follow(model, steps, prefix))
pickle.dump(found, open(out, "wb"))
"""


def test_another_process_runs_what_is_shipped_without_patchclamp(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    source = twin("llama")
    nnsight.register("patchclamp")
    asked = ask(TokenTable(TEXTS, (SAID,), (0, 0)), (0, 1))
    backend, inputs = source.backends["nnsight"], pad(TEXTS, pad_id=0)
    stream = backend.forward(inputs, [keep_step(source, 1)], stop=True)["stream.1"]
    index = torch.tensor([[4], [-1]])
    zero = edit(torch.zeros(1, 1), index=index)
    steps = in_order(
        [
            *write_steps(source, [(Change("zero", "z", 1, 2), zero)]),
            read_step(source, ("z", 2), "z", torch.tensor([5, 5])),
            *read_answers_at(source, asked, narrow=True),
        ]
    )
    prefix = {"skip": ["model.layers.0"], "stream": stream, "pair": False}
    here = backend.forward(inputs, steps, stop=False, prefix=prefix)
    plain = backend.forward(inputs, steps, stop=False)
    torch.testing.assert_close(here, plain, rtol=0, atol=1e-5)
    hold(source.folder, tmp_path, (inputs, steps, prefix), here)


def hold(folder: Path, out: Path, what: tuple[Any, Any, Any], here: dict[str, Any]) -> None:
    """Run steps in another process, and hold what it finds against what was found here."""
    given = (follow, *what, needs_gradients(what[1]))
    (out / "given").write_bytes(serialization.dumps(given))
    (out / "server.py").write_text(SERVER)
    command = [sys.executable, "server.py", str(folder), "given", "out"]
    subprocess.run(command, cwd=out, check=True, capture_output=True, text=True)
    there = pickle.loads((out / "out").read_bytes())
    assert there.keys() == here.keys()
    for key, value in here.items():
        assert torch.equal(there[key].nan_to_num(), value.nan_to_num()), key


SPEC = """\
patchclamp: 1
name: edges
model: {id: MODEL}
stimuli:
  words:
    kind: items
    text: "{text}"
    groups: none
    answer: {correct: " w1", foil: " w2"}
    items: [{text: w1 w2 w3 w4 w5}, {text: w8 w9 w10 w11 w12}]
  others:
    kind: items
    text: "{text}"
    groups: none
    partners: {of: words, by: order}
    items: [{text: w11 w12 w13 w14 w15}, {text: w18 w19 w20 w21 w22}]
analyses:
  edges: {kind: attribution, of: edges, clean: words, corrupt: others, direction: noising,
    gradient_at: integrated, steps: 2, metric: logit_diff}
"""


def test_attribution_and_cut_edges_are_shipped_too(
    twin: Callable[[str], Any], tmp_path: Path
) -> None:
    source = twin("llama")
    nnsight.register("patchclamp")
    backend = source.backends["nnsight"]
    (tmp_path / "spec.yaml").write_text(SPEC.replace("MODEL", str(source.folder)))
    plan = make_plan(load(tmp_path / "spec.yaml"))
    (reading,) = plan.score_readings()
    made = score_inputs(plan, reading, Batch((0, 1), 5))
    here = backend.forward(made.tensors, made.steps, stop=False)
    assert here["edges"].shape == (2, 1 + 3 * 5, 3 * 9 + 1)
    hold(source.folder, tmp_path, (made.tensors, made.steps, None), here)
    ends = (("k", 2, 0), ("mlp_in", 1, None), ("resid_post", 2, None))
    cut = Change("zero", "z", 0, 1, into=ends)
    asked = ask(TokenTable(TEXTS, (SAID,), (0, 0)), (0, 1))
    steps = in_order(
        [
            *change_steps(plan.model, [(cut, {**edit(torch.zeros(1, 1)), "rows": (0, 1)})]),
            *read_answers_at(source, asked, narrow=True),
        ]
    )
    inputs = pad(TEXTS, pad_id=0)
    here = backend.forward(inputs, steps, stop=False)
    hold(source.folder, tmp_path, (inputs, steps, None), here)
    plain = backend.forward(inputs, read_answers_at(source, asked, narrow=True), stop=False)
    moved = (here["answers.logit_correct"] - plain["answers.logit_correct"]).abs()
    assert moved[0] > 1e-3
    assert moved[1] < 1e-5
