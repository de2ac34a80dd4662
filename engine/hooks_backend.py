"""The hooks backend: plain PyTorch hooks, an independent second opinion on nnsight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch

from patchclamp.engine.backend import (
    Prefix,
    Step,
    given_to,
    kept_of,
    modules_of,
    needs_gradients,
    skipped,
    unembedding,
)
from patchclamp.engine.body import arrive
from patchclamp.engine.sites import visits


class _StopForward(Exception):  # noqa: N818 - it ends a pass, it is no error
    """Raised by the last hook when the rest of the forward pass is not needed."""


class Hooks:
    """Forward hooks on the modules that the steps name."""

    def __init__(self, module: torch.nn.Module, tokenizer: Any) -> None:
        del tokenizer
        self._module = module
        self._device = next(module.parameters()).device

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        steps: Sequence[Step],
        *,
        stop: bool,
        prefix: Prefix | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run one batch; see `Backend.forward`."""
        found: dict[str, torch.Tensor] = {}
        kept = modules_of(steps, self._module.get_submodule)
        pending = visits(steps)
        last = pending[-1] if stop and pending else None

        def act(visit: dict[str, Any], value: Any) -> Any:
            results, replacement = arrive(visit, value, kept)
            found.update(results)
            pending.remove(visit)
            if visit is last:
                raise _StopForward
            return None if replacement is value else replacement

        with ExitStack() as stack, torch.set_grad_enabled(needs_gradients(steps)):
            for visit in list(pending):
                handle = _hook(self._module.get_submodule(visit["path"]), visit, act)
                stack.callback(handle.remove)
            for path, instead in skipped(prefix):
                block = self._module.get_submodule(path)
                # Hides the class's own.
                block.forward = lambda *_, instead=instead, **__: instead
                stack.callback(block.__dict__.pop, "forward")
            given = given_to(inputs, prefix, self._device)
            stack.enter_context(unembedding(self._module, steps))
            stack.enter_context(suppress(_StopForward))
            self._module(**given)
        if pending:
            raise RuntimeError(
                f"{len(pending)} places were never reached; the first: {pending[0]['path']}"
            )
        return found | kept_of(given, prefix)


def _hook(
    module: torch.nn.Module, visit: dict[str, Any], act: Callable[[dict[str, Any], Any], Any]
) -> torch.utils.hooks.RemovableHandle:
    """Hang the steps of a place on what its module is given, or on what it gives."""
    if visit["io"] == "output":
        return module.register_forward_hook(lambda _, __, output: act(visit, output))

    def before(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if visit["io"] == "inputs":
            act(visit, (args, kwargs))
            return None
        if args:
            changed = act(visit, args[0])
            return None if changed is None else ((changed, *args[1:]), kwargs)
        name = next(iter(kwargs))
        changed = act(visit, kwargs[name])
        return None if changed is None else (args, {**kwargs, name: changed})

    return module.register_forward_pre_hook(before, with_kwargs=True)
