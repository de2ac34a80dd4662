"""What a backend is, and how the engine gets one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from patchclamp.registry import BACKENDS
from patchclamp.registry.table import load

Step = dict[str, Any]
"""One thing to do inside a forward pass; see `engine.body`."""


class Backend(Protocol):
    """Runs a model on a batch and does the steps of `engine.body` on the way."""

    def forward(
        self, inputs: Mapping[str, torch.Tensor], steps: Sequence[Step], *, stop: bool
    ) -> dict[str, torch.Tensor]:
        """Run one batch; `steps` stand in execution order; `stop` ends it after the last one."""


def needs_gradients(steps: Sequence[Step]) -> bool:
    """Return whether a pass runs backwards too."""
    return any(step["do"] == "objective" for step in steps)


def open_backend(name: str, module: torch.nn.Module, tokenizer: Any) -> Backend:
    """Return the backend of that name around a loaded model."""
    backend: Backend = load(BACKENDS[name].factory)(module, tokenizer)
    return backend
