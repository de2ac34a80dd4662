"""Every site of every architecture is the same on a server as here, read, written and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_backends import LENGTHS, TEXTS, TOKENS

import remote
import tiny
from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import ask
from patchclamp.engine.batches import pad
from patchclamp.engine.remote.backend import Ndif
from patchclamp.engine.remote.jobs import Jobs
from patchclamp.engine.remote.wire import Wire
from patchclamp.engine.steps import (
    answers_step,
    in_order,
    leaf_step,
    objective_step,
    read_step,
    write_steps,
)
from patchclamp.engine.values import edit
from patchclamp.registry import SITES
from patchclamp.registry.errors import RemoteError
from patchclamp.specs.captures import Gradient
from patchclamp.specs.spec import Retry

ROWS = [0, 1, 2]


@pytest.fixture(scope="module")
def hosting(
    tmp_path_factory: pytest.TempPathFactory, twin: Callable[[str], Any]
) -> Iterator[remote.Served]:
    """A server that holds a tiny model of each architecture."""
    with remote.serving(models={f"{twin(name).folder}@main": str(twin(name).folder)
                                for name in tiny.TWINS}) as served:  # fmt: skip
        yield served


@pytest.fixture
def connected(hosting: remote.Served, tmp_path: Path) -> Iterator[Callable[..., Ndif]]:
    wire = Wire(hosting.url, "")
    yield lambda source, name="ndif_trusted": Ndif(
        name, source, Jobs(wire, tmp_path, Retry(attempts=1, backoff="1s"), lambda _: None)
    )
    wire.close()


def written(source: Any, site: str) -> list[dict[str, Any]]:
    """Put a number in place of a site of the middle layer, at the last token of each text."""
    head = 1 if {"head", "kv_head"} & set(SITES[site].dims) else None
    last = (LENGTHS[ROWS] - 1)[:, None]
    return write_steps(source, [(Change("x", site, 1, head), edit(torch.ones(1, 1), index=last))])


@pytest.mark.parametrize("name", tiny.TWINS)
def test_a_server_gives_what_is_given_here(
    name: str, twin: Callable[[str], Any], connected: Callable[..., Ndif]
) -> None:
    source = twin(name)
    there, here = connected(source), source.backends["nnsight"]
    reads = [
        read_step(source, (site, layer), f"{site}.{layer}", LENGTHS[ROWS])
        for site in source.architecture.sites
        for layer in (range(3) if "layer" in SITES[site].dims else (0,))
    ]
    ends = [] if source.architecture.encoder else [answers_step(source, ask(TOKENS, ROWS))]
    inputs = pad([TEXTS[row] for row in ROWS], pad_id=0)
    for writes in ([], written(source, "attn_out"), written(source, "z")):
        steps = in_order([*reads, *writes, *ends])
        ours, theirs = (b.forward(inputs, steps, stop=not ends) for b in (here, there))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=0, atol=0, equal_nan=True, msg=key)


def test_gradients_come_from_a_server_that_trusts_the_key_and_from_no_other(
    twin: Callable[[str], Any], connected: Callable[..., Ndif]
) -> None:
    source = twin("llama")
    said = ask(TOKENS, ROWS)
    read = {**read_step(source, ("z", 1), "z", LENGTHS[ROWS]), "gradient": True}
    last = objective_step(source, said, Gradient(of="logprob"))
    steps = in_order([leaf_step(source), read, last])
    inputs = pad([TEXTS[row] for row in ROWS], pad_id=0)
    here = source.backends["nnsight"].forward(inputs, steps, stop=False)
    there = connected(source).forward(inputs, steps, stop=False)
    assert torch.equal(here["z/gradient"].nan_to_num(), there["z/gradient"].nan_to_num())
    assert here["z/gradient"].nan_to_num().abs().max() > 0
    with pytest.raises(RemoteError, match="the backend 'ndif' has no gradients: none comes"):
        connected(source, "ndif").forward(inputs, steps, stop=False)


def test_nnsights_own_client_finds_the_server_of_these_tests_in_order(
    hosting: remote.Served, twin: Callable[[str], Any], connected: Callable[..., Ndif]
) -> None:
    """The server is what nnsight takes for one: over its web socket, whole or as an address."""
    import nnsight
    from nnsight.intervention.backends.remote import RemoteBackend

    source = twin("gpt2")
    ndif = connected(source)
    ids = torch.tensor([TEXTS[0]])
    for inline in (8 << 20, 0):
        hosting.fails(inline=inline)
        backend = RemoteBackend(ndif.key, host=hosting.url, env=ndif._env)
        backend.display.enabled = False
        model = ndif._model
        with model.trace(ids, backend=backend):
            found = nnsight.save(model.transformer.wte.output.clone())
        assert torch.equal(found, source.module.transformer.wte(ids))
    hosting.fails()
