"""What a backend is, and how the engine gets one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch

from patchclamp.registry import BACKENDS
from patchclamp.registry.table import load

Step = dict[str, Any]
"""One thing to do inside a forward pass; see `engine.body`."""


Prefix = dict[str, Any]
"""What a pass begins with, or leaves for others; every key may be missing:

    skip      paths of the blocks that do not run: they give `stream` instead, in a tuple if `pair`
    past      keys and values (row, head, token, channel) of earlier tokens, for each layer
    keep      leave the keys and values of all layers, as `past.keys.<layer>`, `past.values.<layer>`
"""


Begins = dict[str, Any]
"""How a pass begins with what a clean pass left, before that has run: see `begin`."""


class Pending(Exception):  # noqa: N818 - nothing is wrong
    """A pass has been sent to a server and is not waited for."""


class Backend(Protocol):
    """Runs a model on a batch and does the steps of `engine.body` on the way."""

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        steps: Sequence[Step],
        *,
        stop: bool,
        prefix: Prefix | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run one batch; `steps` stand in execution order; `stop` ends it after the last one."""


def given_to(
    inputs: Mapping[str, torch.Tensor], prefix: Prefix | None, device: torch.device | None
) -> dict[str, Any]:
    """Return the arguments of the model: tokens, and the keys and values of earlier ones.

    Without a `device` they stay where they are.
    """
    given: dict[str, Any] = {name: tensor.to(device=device) for name, tensor in inputs.items()}
    prefix = prefix or {}
    if not prefix.get("keep") and "past" not in prefix:
        return {**given, "use_cache": False}
    from transformers import DynamicCache

    # Made without the config, so that a layer with a window keeps all keys: its mask hides them.
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(prefix.get("past", ())):
        cache.update(keys.to(device=device), values.to(device=device), layer)
    return {**given, "past_key_values": cache, "use_cache": True}


def kept_of(given: Mapping[str, Any], prefix: Prefix | None) -> dict[str, torch.Tensor]:
    """Return the keys and values that a pass has left, if that was asked."""
    if not (prefix or {}).get("keep"):
        return {}
    found = {}
    for number, layer in enumerate(given["past_key_values"].layers):
        found[f"past.keys.{number}"] = layer.keys
        found[f"past.values.{number}"] = layer.values
    return found


def skipped(prefix: Prefix | None) -> list[tuple[str, Any]]:
    """Return the paths of the blocks that do not run, and what each of them gives.

    The last gives the stream; what is given by those before it is read by none that runs, and is
    small, since it goes over to a sandbox and back.
    """
    if not prefix or "skip" not in prefix:
        return []
    stream = prefix["stream"]
    given = [stream[:1, :1]] * (len(prefix["skip"]) - 1) + [stream]
    return [
        (path, (one, None) if prefix["pair"] else one)
        for path, one in zip(prefix["skip"], given, strict=True)
    ]


def begin(
    steps: list[Step], begins: Mapping[str, Any], left: Mapping[str, torch.Tensor]
) -> tuple[list[Step], Prefix]:
    """Return the steps and the prefix of a pass, with the tensors that it takes of what was left.

    Torch only, plain data in and out: a server runs this too. `begins` holds, where they matter,

        start   the first block that runs, `skip` the paths of those before it, `pair` their form
        rows    (row,) the row of the clean pass that each input row begins with
        tokens  (row, position) the token of that row that each position is
        past    (row, token) the tokens whose keys and values come before, -1 for none
        layers  how many layers have keys and values

    A step that holds `clean` numbers, (stimulus,), gets the distributions that they are of.
    """
    steps = [
        {**step, "clean": left["answers.distribution"][step["clean"]]}
        if step.get("clean") is not None
        else step
        for step in steps
    ]
    prefix: Prefix = {}
    if "skip" in begins:
        stream = left[f"stream.{begins['start']}"]
        rows = begins["rows"].to(stream.device)
        tokens = begins["tokens"].clamp(max=stream.shape[1] - 1).to(stream.device)
        prefix |= {"skip": begins["skip"], "pair": begins["pair"]}
        prefix["stream"] = stream[rows[:, None], tokens]
    if "past" in begins:
        prefix["past"] = [past_of(begins, left, layer) for layer in range(begins["layers"])]
    return steps, prefix


def past_of(
    begins: Mapping[str, Any], left: Mapping[str, torch.Tensor], layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values (row, head, token, channel) of a layer, at the tokens of `past`.

    Layers that are skipped only say how many tokens there are.
    """
    pair = left[f"past.keys.{layer}"], left[f"past.values.{layer}"]
    device, there = pair[0].device, begins["past"]
    if layer < begins["start"]:
        none = pair[0].new_zeros(1, 1, there.shape[1], 1)
        return none, none
    where, rows = there.clamp(min=0).to(device), begins["rows"].to(device)[:, None]
    keys, values = (tensor.transpose(1, 2)[rows, where].transpose(1, 2) for tensor in pair)
    return keys, values


@contextmanager
def unembedding(module: torch.nn.Module, steps: Sequence[Step]) -> Iterator[None]:
    """Let what unembeds give the logits of some tokens alone, where a step narrows to `columns`.

    A backend that does without this only computes more: what reads answers takes the columns.
    """
    asked = [s for s in steps if s["do"] == "narrow" and s["columns"] is not None]
    with ExitStack() as stack:
        for step in asked:
            last = module.get_submodule(step["place"]["parts"][0]["path"])
            if not isinstance(last, torch.nn.Linear) or last.weight.is_meta:
                continue
            for name, parameter in list(last.named_parameters(recurse=False)):
                some = parameter.detach()[step["columns"].to(parameter.device)]
                setattr(last, name, torch.nn.Parameter(some, requires_grad=False))
                stack.callback(setattr, last, name, parameter)
        yield


def needs_gradients(steps: Sequence[Step]) -> bool:
    """Return whether a pass runs backwards too."""
    return any(step["do"] in ("objective", "attribute") for step in steps)


def modules_of(steps: Sequence[Step], find: Callable[[str], Any]) -> dict[Any, Any]:
    """Return the modules whose weights steps compute with, as what is kept for them."""
    paths = {path for step in steps for path in step.get("modules", ())}
    return {("module", path): find(path) for path in sorted(paths)}


def open_backend(name: str, module: torch.nn.Module, tokenizer: Any) -> Backend:
    """Return the backend of that name around a loaded model."""
    backend: Backend = load(BACKENDS[name].factory)(module, tokenizer)
    return backend
