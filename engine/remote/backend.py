"""The NDIF backend: the traces of `engine.traced`, sent to a server that holds the weights.

Here is only the model's tree of modules, without weights. What a pass is given and what it leaves
are all that travels; the server runs our functions from their source.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import nnsight
import torch
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import save
from nnsight.tracing.util import push
from nnsight.util import to_import_path

from patchclamp.engine.backend import Pending, Prefix, Step, needs_gradients
from patchclamp.engine.model import ModelSource
from patchclamp.engine.remote.jobs import Jobs, request_digest
from patchclamp.engine.steps import in_order, place
from patchclamp.engine.traced import relayed
from patchclamp.registry import BACKENDS
from patchclamp.registry.errors import ModelError, RemoteError
from patchclamp.specs.backends import GENERATION, GRADIENTS, READS

_PRECISION = "precision"
"""Key of an empty tensor, as precise as the embeddings of the server's model."""

Pass = Mapping[str, Any]
"""A pass as plain data: see `engine.traced.relay`."""

nnsight.register("patchclamp")


class Ndif:
    """A model on a server; `name` is the backend's, whose row says what it cannot do."""

    def __init__(self, name: str, source: ModelSource, jobs: Jobs) -> None:
        self._name, self._source, self.jobs = name, source, jobs
        self._model = client_model(source)
        self.key = model_key(source)
        self._env = self._model._remoteable_get_env()

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        steps: Sequence[Step],
        *,
        stop: bool,
        prefix: Prefix | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run one batch on the server; see `Backend.forward`."""
        one = {"inputs": dict(inputs), "steps": list(steps), "stop": stop, "prefix": prefix}
        (found,) = self.relay([{**one, "begins": None, "leaves": False}])
        return found

    def relay(self, passes: Sequence[Pass]) -> list[dict[str, torch.Tensor]]:
        """Run passes in one request, and return what those found that leave nothing for others."""
        refuse(self._name, passes)
        first, *others = passes  # which skips nothing
        embed = {"do": _PRECISION, "key": _PRECISION, "place": place(self._source, "embed", 0)}
        first = {**first, "steps": in_order([embed, *first["steps"]])}
        passes = compact([first, *others], {})
        digest = request_digest(self.key, self._env, passes)
        together = relayed(self._model, passes, _Courier(self, digest))
        self._check_precision(together.pop(_PRECISION, None))
        found: list[dict[str, torch.Tensor]] = [{} for one in passes if not one["leaves"]]
        for key, value in together.items():
            number, _, name = key.partition("/")
            found[int(number)][name] = value
        return found

    def send(self, passes: Sequence[Pass]) -> None:
        """Let the server have passes in one request, which `relay` then collects."""
        with self.jobs.only_sending(), suppress(Pending):
            self.relay(passes)

    def fetch(self, digest: str, blob: Callable[[], bytes]) -> dict[str, Any]:
        """Send a traced block, unless it has been sent, and return what it saved."""
        jobs = self.jobs
        return jobs.result(digest, lambda: jobs.wire.submit(self.key, self._env, blob()))

    def _check_precision(self, sample: torch.Tensor | None) -> None:
        """The server computes in the precision that the spec says its numbers have."""
        there = "an unknown precision" if sample is None else str(sample.dtype).rpartition(".")[2]
        asked = self._source.choice.dtype
        if there != asked:
            raise ModelError(
                f"{self.jobs.wire.name} holds {self._source.choice.id!r} in {there}, and the spec "
                f"asks for {asked}: say 'dtype: {there}' under 'model', which is what its numbers "
                "would be"
            )


class _Courier(Backend):  # type: ignore[misc]
    """Takes a traced block to the server, and what it saved back into the frame it came from."""

    def __init__(self, ndif: Ndif, digest: str) -> None:
        self._ndif, self._digest = ndif, digest

    def __call__(self, tracer: Any = None) -> None:
        found = self._ndif.fetch(self._digest, partial(RequestModel.serialize, tracer, True))
        tensors = found.get("found")
        if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
            name = self._ndif.jobs.wire.name
            raise RemoteError(f"{name} sent something else than what was asked for: {list(found)}")
        for value in found.values():
            save(value)
        push(tracer.info.frame, found)


def client_model(source: ModelSource) -> Any:
    """Return the model's tree of modules as nnsight knows it, on the meta device: no weights."""
    how = {"attn_implementation": "eager"} if source.architecture.softcap else {}
    with warnings.catch_warnings():
        # Of modules that it renames, which `at` knows; BERT has some called `output`.
        warnings.filterwarnings("ignore", "Module .* has a submodule named")
        return TransformersModel(
            str(source.folder),
            task=_task(source),
            # Without its tokenizer, nnsight 0.8.1 guesses one and fails under transformers 5.23.
            tokenizer=source.tokenizer,
            config=source.config,
            dtype=getattr(torch, source.choice.dtype),
            **how,
        )


def _task(source: ModelSource) -> str:
    return "fill-mask" if source.architecture.encoder else "text-generation"


def model_key(source: ModelSource) -> str:
    """Return the name by which a server knows a model; nnsight would ask the hub for its case."""
    named = {
        "repo_id": source.choice.id,
        "revision": source.choice.revision,
        "task": _task(source),
    }
    return f"{to_import_path(TransformersModel)}:{json.dumps(named)}"


def refuse(name: str, passes: Sequence[Pass]) -> None:
    """Raise `RemoteError` for passes that the backend cannot do, before anything is sent."""
    lacks = BACKENDS[name].lacks
    steps = [step for one in passes for step in one["steps"]]
    needs = {
        GRADIENTS: needs_gradients(steps),
        READS: any(step.get("modules") for step in steps),
        GENERATION: any(one["prefix"] and "past" in one["prefix"] for one in passes),
    }
    for capability, needed in needs.items():
        if needed and capability in lacks:
            raise RemoteError(f"the backend {name!r} has no {capability}: {lacks[capability]}")


def compact(value: Any, seen: dict[int, torch.Tensor]) -> Any:
    """Return plain data whose tensors hold no more than they show: a view would be sent whole.

    A tensor that stands in several places stays one, which is sent once.
    """
    if isinstance(value, torch.Tensor):
        if id(value) not in seen:
            whole = value.untyped_storage().nbytes() > value.numel() * value.element_size()
            seen[id(value)] = value.detach().clone() if whole else value
        return seen[id(value)]
    if isinstance(value, dict):
        return {key: compact(member, seen) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(compact(member, seen) for member in value)
    return value
