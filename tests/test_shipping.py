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
from patchclamp.engine.batches import pad
from patchclamp.engine.steps import in_order, keep_step, read_answers_at, read_step, write_steps
from patchclamp.engine.tokens import Spelling, TokenTable
from patchclamp.engine.traced import follow
from patchclamp.engine.values import edit

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
follow, inputs, steps, prefix = serialization.loads(open(given, "rb").read())
module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
model = TransformersModel(module, task="text-generation", tokenizer=tokenizer, device="cpu")
with model.trace(**inputs, use_cache=False) as tracer:
    with torch.no_grad():
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
    (tmp_path / "given").write_bytes(serialization.dumps((follow, inputs, steps, prefix)))
    (tmp_path / "server.py").write_text(SERVER)
    command = [sys.executable, "server.py", str(source.folder), "given", "out"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    there = pickle.loads((tmp_path / "out").read_bytes())
    assert there.keys() == here.keys()
    for key, value in here.items():
        assert torch.equal(there[key], value), key
