"""The nnsight backend: the one place that touches nnsight, whose interface moves often."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from inspect import isdatadescriptor
from typing import Any

import nnsight
import torch
from nnsight import TransformersModel

from patchclamp.engine.backend import (
    Prefix,
    Step,
    given_to,
    kept_of,
    needs_gradients,
    skipped,
    unembedding,
)
from patchclamp.engine.body import arrive
from patchclamp.engine.sites import visits


def at(model: Any, path: str) -> Any:
    """Return a module of the traced model; nnsight renames those whose names it needs itself."""
    for name in path.split(".") if path else ():
        taken = isdatadescriptor(getattr(type(model), name, None))
        model = getattr(model, f"E_{name}" if taken else name)
    return model


def follow(
    model: Any, steps: Sequence[Step], prefix: Prefix | None = None
) -> dict[str, torch.Tensor]:
    """Do the steps inside a trace, place by place in execution order, which nnsight insists on."""
    found: dict[str, torch.Tensor] = {}
    paths, instead = skipped(prefix)
    for path in paths:
        at(model, path).skip(instead)
    kept: dict[tuple[str, str], Any] = {}
    for visit in visits(steps):
        place = at(model, visit["path"])
        value = getattr(place, visit["io"])
        results, replacement = arrive(visit, value, kept)
        found.update(results)
        if replacement is not value:
            setattr(place, visit["io"], replacement)
    return found


class Nnsight:
    """Local nnsight traces over a loaded model; one model, one thread."""

    def __init__(self, module: Any, tokenizer: Any) -> None:
        self._module = module
        self._device = next(module.parameters()).device
        task = "text-generation" if module.can_generate() else "feature-extraction"
        # Without its tokenizer, nnsight 0.8.1 guesses one and fails under transformers 5.23.
        with warnings.catch_warnings():
            # Of modules that it renames, which `at` knows; BERT has some called `output`.
            warnings.filterwarnings("ignore", "Module .* has a submodule named")
            # Without its device, the pipeline within moves the module to the first accelerator.
            self._model = TransformersModel(
                module, task=task, tokenizer=tokenizer, device=self._device
            )

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        steps: Sequence[Step],
        *,
        stop: bool,
        prefix: Prefix | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run one batch; see `Backend.forward`."""
        given = given_to(inputs, prefix, self._device)
        gradients = needs_gradients(steps)
        # One trace site for every use: nnsight compiles a block once. The grad mode stands inside
        # the block because only there it would reach a remote server too.
        with unembedding(self._module, steps):  # noqa: SIM117
            with self._model.trace(**given) as tracer:
                with torch.set_grad_enabled(gradients):
                    found = nnsight.save(follow(self._model, steps, prefix))
                    if stop:
                        tracer.stop()
        result: dict[str, torch.Tensor] = found
        return result | kept_of(given, prefix)
