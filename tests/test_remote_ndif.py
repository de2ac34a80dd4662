"""NDIF's own code gives the same, where it is installed in an environment of its own.

    python -m venv ndif && ndif/bin/pip install torch "nnsight>=0.8.1,<0.9" fastapi uvicorn \
        fakeredis boto3 python-multipart psutil influxdb-client asyncpg python-logging-loki
    ndif/bin/pip install --no-deps --ignore-requires-python ndif==0.1.2
    NDIF_PYTHON=ndif/bin/python python -m pytest tests/test_remote_ndif.py
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nnsight import CONFIG
from test_backends import LENGTHS, TEXTS, TOKENS
from test_remote import differences, written
from test_remote_sessions import here
from test_remote_sites import lens

import remote
from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import ask
from patchclamp.engine.backend import Backend
from patchclamp.engine.batches import pad
from patchclamp.engine.efforts import changed_effort
from patchclamp.engine.plan import make_plan
from patchclamp.engine.remote.backend import Ndif
from patchclamp.engine.remote.jobs import Jobs
from patchclamp.engine.remote.wire import Wire
from patchclamp.engine.run import run
from patchclamp.engine.steps import (
    in_order,
    leaf_step,
    objective_step,
    read_answers_at,
    read_step,
    write_steps,
)
from patchclamp.engine.values import edit
from patchclamp.registry.errors import RemoteError
from patchclamp.specs.captures import Gradient
from patchclamp.specs.load import loads
from patchclamp.specs.spec import Retry

PYTHON = os.environ.get("NDIF_PYTHON")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="NDIF_PYTHON names no environment with ndif")

ROWS = [0, 1, 2]
INPUTS = pad([TEXTS[row] for row in ROWS], pad_id=0)


COMMIT = "c0ffee" + "0" * 34

STUDY = """\
patchclamp: 1
name: study
model: {id: tiny/llama, revision: COMMIT}
stimuli:
  words: {kind: items, text: "{text}", answer: {correct: " w1", foil: " w2"}, groups: none,
    items: [{text: w1 w2 w3 w4 w5 w6 w7}, {text: w8 w9 w10 w11}, {text: w12 w13 w14 w15 w16}]}
captures:
  resid: {of: words, site: resid_post}
  maps: {of: words, site: attn_pattern, positions: all}
interventions:
  zero: {kind: ablate, value: zero}
  mean: {kind: ablate, value: {mean_over: words, per: position}}
analyses:
  heads: {kind: ablation, stimuli: words, with: zero, units: {site: z}, metric: logit_diff}
  late: {kind: ablation, stimuli: words, with: mean, units: {site: z, positions: last}, metric: kl}
  maps: {kind: ablation, stimuli: words, with: zero, units: {site: attn_pattern, layers: 1},
    metric: logprob}
run: {backend: BACKEND, retry: {attempts: 1, backoff: 5s, patience: 120s}, threads: 1}
"""


@pytest.fixture(scope="module", params=[False, True], ids=["trusted", "sandbox"])
def hosting(
    request: pytest.FixtureRequest,
    twin: Callable[[str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[remote.Served, bool]]:
    """A server that knows a model by its folder, and as one of the hub, where its sandbox looks."""
    folder, home = str(twin("llama").folder), tmp_path_factory.mktemp("home")
    snapshot = home / "hub" / "models--tiny--llama" / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    models = {folder: folder, "tiny/llama": str(snapshot)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(home))
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
        how = {"models": models, "sandbox": request.param}
        with remote.serving("ndif_real.py", python=PYTHON, **how) as served:
            yield served, request.param


@pytest.fixture
def there(
    hosting: tuple[remote.Served, bool], twin: Callable[[str], Any], tmp_path: Path
) -> Iterator[Ndif]:
    wire = Wire(hosting[0].url, "")
    retry = Retry(attempts=1, backoff="5s", patience="120s")
    # Without the check before the wire, so that it is seen what happens behind it.
    yield Ndif("ndif_trusted", twin("llama"), Jobs(wire, tmp_path, retry, lambda _: None))
    wire.close()


def same(here: Backend, there: Backend, steps: list[dict[str, Any]], *, stop: bool) -> None:
    ours, theirs = (of.forward(INPUTS, in_order(steps), stop=stop) for of in (here, there))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(theirs[key].nan_to_num(), value.nan_to_num()), key


def reads(source: Any, *sites: str) -> list[dict[str, Any]]:
    return [
        read_step(source, (site, layer), f"{site}.{layer}", LENGTHS[ROWS])
        for site in sites
        for layer in range(3)
    ]


def test_captures_and_attention_maps(twin: Callable[[str], Any], there: Ndif) -> None:
    source = twin("llama")
    sites = ("resid_pre", "q", "k", "v", "attn_scores", "attn_pattern", "z", "resid_post")
    same(source.backends["nnsight"], there, reads(source, *sites), stop=True)


def test_ablations_and_answers(twin: Callable[[str], Any], there: Ndif) -> None:
    source = twin("llama")
    last = (LENGTHS[ROWS] - 1)[:, None]
    zero = edit(torch.zeros(1, 1), index=last)
    for site in ("z", "attn_pattern", "resid_post"):
        head = None if site == "resid_post" else 2
        steps = write_steps(source, [(Change("zero", site, 1, head), zero)])
        steps += read_answers_at(source, ask(TOKENS, ROWS), narrow=True)
        same(source.backends["nnsight"], there, steps, stop=False)


def test_a_whole_study_differs_by_nothing(
    hosting: tuple[remote.Served, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captures, maps, ablations, divergences: in sessions, which skip the blocks that are as they
    were, and where the server trusts the key the tokens too."""
    served, sandbox = hosting
    monkeypatch.setenv("NDIF_HOST", served.url)
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    backend = "ndif" if sandbox else "ndif_trusted"
    text = STUDY.replace("COMMIT", f'"{COMMIT}"').replace("BACKEND", backend)
    there = run(written(tmp_path, text), out=tmp_path / "there", cache=tmp_path / "there-cache")
    assert differences(there, here(tmp_path, text, monkeypatch, backend)) == {}
    plan = make_plan(loads(text))
    assert changed_effort(plan).work < changed_effort(plan, optimise=False).work


def test_blocks_are_skipped_as_a_logit_lens_does(twin: Callable[[str], Any], there: Ndif) -> None:
    lens(twin("llama"), there)


def test_what_the_sandbox_cannot_is_what_we_say_that_it_cannot(
    twin: Callable[[str], Any], there: Ndif, hosting: tuple[remote.Served, bool]
) -> None:
    source = twin("llama")
    read = {**read_step(source, ("z", 1), "z", LENGTHS[ROWS]), "gradient": True}
    last = objective_step(source, ask(TOKENS, ROWS), Gradient(of="logprob"))
    steps = in_order([leaf_step(source), read, last])
    if hosting[1]:
        with pytest.raises(RemoteError, match="failed in the block"):
            there.forward(INPUTS, steps, stop=False)
    else:
        same(source.backends["nnsight"], there, steps, stop=False)
