"""The nnsight backend: traces over a model that is loaded here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nnsight import TransformersModel

from patchclamp.engine.backend import Prefix, Step, given_to, unembedding
from patchclamp.engine.traced import run_traced


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
        with unembedding(self._module, steps):
            return run_traced(self._model, given, steps, stop=stop, prefix=prefix)
