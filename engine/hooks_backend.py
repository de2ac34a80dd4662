"""The hooks backend: plain PyTorch hooks, an independent second opinion on nnsight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from patchclamp.engine.backend import Step
from patchclamp.engine.body import visit


class _StopForward(Exception):  # noqa: N818 - it ends a pass, it is no error
    """Raised by the last hook when the rest of the forward pass is not needed."""


class Hooks:
    """Forward hooks on the modules that the steps name."""

    def __init__(self, module: torch.nn.Module, tokenizer: Any) -> None:
        del tokenizer
        self._module = module
        self._device = next(module.parameters()).device

    def forward(
        self, inputs: Mapping[str, torch.Tensor], steps: Sequence[Step], *, stop: bool
    ) -> dict[str, torch.Tensor]:
        """Run one batch; see `Backend.forward`."""
        found: dict[str, torch.Tensor] = {}
        pending = len(steps)

        def act(step: Step, value: Any) -> Any:
            nonlocal pending
            tensor = value[0] if isinstance(value, tuple) else value
            results, replacement = visit(step, tensor)
            found.update(results)
            pending -= 1
            if stop and pending == 0:
                raise _StopForward
            if replacement is None:
                return None
            return (replacement, *value[1:]) if isinstance(value, tuple) else replacement

        with ExitStack() as stack, torch.no_grad():
            for step in steps:
                handle = _hook(self._module.get_submodule(step["path"]), step, act)
                stack.callback(handle.remove)
            try:
                given = {name: tensor.to(self._device) for name, tensor in inputs.items()}
                self._module(**given, use_cache=False)
            except _StopForward:
                pass
        if pending:
            missed = [step["path"] for step in steps][-pending:]
            raise RuntimeError(f"{pending} steps were never reached; the last: {missed[-1]}")
        return found


def _hook(
    module: torch.nn.Module, step: Step, act: Callable[[Step, Any], Any]
) -> torch.utils.hooks.RemovableHandle:
    """Hang one step on a module's first input or on its output."""
    if step["io"] == "output":
        return module.register_forward_hook(lambda _, __, output: act(step, output))

    def before(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            changed = act(step, args[0])
            return None if changed is None else ((changed, *args[1:]), kwargs)
        name = next(iter(kwargs))
        changed = act(step, kwargs[name])
        return None if changed is None else (args, {**kwargs, name: changed})

    return module.register_forward_pre_hook(before, with_kwargs=True)
