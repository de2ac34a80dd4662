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
    keep_step,
    leaf_step,
    objective_step,
    read_answers_at,
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


def lens(source: Any, there: Ndif) -> None:
    """Let each stream be the last in one session, and hold what is said against the modules."""
    last, inputs = source.shape.layers, pad([TEXTS[row] for row in ROWS], pad_id=0)
    said = ask(TOKENS, ROWS, reads=("distribution",))
    path = source.architecture.places["resid_post"].path
    every = {
        "skip": [path.format(layer=layer) for layer in range(last)],
        "rows": torch.arange(len(ROWS)),
        "tokens": torch.arange(inputs["input_ids"].shape[1])[None].expand(len(ROWS), -1),
        "pair": source.architecture.pair,
        "layers": last,
    }
    one = {"inputs": inputs, "prefix": None, "stop": False, "begins": None, "leaves": False}
    streams = [keep_step(source, layer) for layer in range(1, last)]
    clean = {**one, "steps": in_order(streams), "leaves": True}
    asked = in_order(read_answers_at(source, said, narrow=True))
    seen = [
        {**one, "steps": asked, "begins": {**every, "start": layer}} for layer in range(1, last)
    ]
    found = there.relay([clean, *seen])
    kept = source.backends["hooks"].forward(inputs, in_order(streams), stop=True)
    for layer, of in enumerate(found, start=1):
        stream = kept[f"stream.{layer}"][range(len(ROWS)), LENGTHS[ROWS] - 1]
        for name in source.architecture.unembed:
            stream = source.module.get_submodule(name)(stream)
        cap = getattr(source.config, "final_logit_softcapping", None)
        stream = stream if cap is None else cap * torch.tanh(stream / cap)
        torch.testing.assert_close(
            of["answers.distribution"], stream.detach(), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", [name for name in tiny.TWINS if name != "bert"])
def test_blocks_are_skipped_as_a_logit_lens_does(
    name: str, twin: Callable[[str], Any], connected: Callable[..., Ndif]
) -> None:
    source = twin(name)
    lens(source, connected(source, "ndif"))


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
