"""NDIF's own code gives the same, where it is installed in an environment of its own.

    python -m venv ndif && ndif/bin/pip install torch "nnsight>=0.8.1,<0.9" fastapi uvicorn \
        fakeredis boto3 python-multipart psutil influxdb-client asyncpg python-logging-loki
    ndif/bin/pip install --no-deps --ignore-requires-python ndif==0.1.2
    NDIF_PYTHON=ndif/bin/python python -m pytest tests/test_remote_ndif.py
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_backends import LENGTHS, TEXTS, TOKENS

import remote
from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import ask
from patchclamp.engine.backend import Backend
from patchclamp.engine.batches import pad
from patchclamp.engine.remote.backend import Ndif
from patchclamp.engine.remote.jobs import Jobs
from patchclamp.engine.remote.wire import Wire
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
from patchclamp.specs.spec import Retry

PYTHON = os.environ.get("NDIF_PYTHON")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="NDIF_PYTHON names no environment with ndif")

ROWS = [0, 1, 2]
INPUTS = pad([TEXTS[row] for row in ROWS], pad_id=0)


@pytest.fixture(scope="module", params=[False, True], ids=["trusted", "sandbox"])
def hosting(
    request: pytest.FixtureRequest, twin: Callable[[str], Any]
) -> Iterator[tuple[remote.Served, bool]]:
    folder = str(twin("llama").folder)
    how = {"models": {folder: folder}, "sandbox": request.param}
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
