"""What runs inside an nnsight trace, here or on a server: one trace site, and functions in modules.

A server has none of our package: nnsight sends it the source of these functions and of what they
call (`engine.body` and below), so that they know torch alone, and plain dicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import isdatadescriptor
from typing import Any

import nnsight
import torch

from patchclamp.engine.backend import (
    Prefix,
    Step,
    begin,
    given_to,
    kept_of,
    modules_of,
    needs_gradients,
    skipped,
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
    for path, instead in skipped(prefix):
        at(model, path).skip(instead)
    kept = modules_of(steps, lambda path: at(model, path)._module)
    for visit in visits(steps):
        place = at(model, visit["path"])
        value = getattr(place, visit["io"])
        results, replacement = arrive(visit, value, kept)
        found.update(results)
        if replacement is not value:
            setattr(place, visit["io"], replacement)
    return found


def run_traced(
    model: Any,
    given: Mapping[str, Any],
    steps: Sequence[Step],
    *,
    stop: bool,
    prefix: Prefix | None = None,
) -> dict[str, torch.Tensor]:
    """Run a model on what it is given and do the steps on the way.

    The one trace site for every use: nnsight compiles a block once. The grad mode stands inside
    the block because only there it reaches a server too.
    """
    gradients = needs_gradients(steps)
    with model.trace(**given) as tracer:  # noqa: SIM117
        with torch.set_grad_enabled(gradients):
            found = nnsight.save(follow(model, steps, prefix))
            if stop:
                tracer.stop()
    result: dict[str, torch.Tensor] = found
    return result | kept_of(given, prefix)


def relay(model: Any, passes: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Run passes one after the other; what one that `leaves` gives stays for those behind it.

    Returns what the others found, each under its number among them, and the `precision` that any
    of them found.
    """
    left: dict[str, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    number = 0
    for one in passes:
        steps, prefix = one["steps"], one["prefix"]
        if one["begins"] is not None:
            steps, prefix = begin(steps, one["begins"], left)
        given = given_to(one["inputs"], prefix, None)
        results = run_traced(model, given, steps, stop=one["stop"], prefix=prefix)
        if "precision" in results:
            found["precision"] = results.pop("precision")
        if one["leaves"]:
            left = results
            continue
        found.update({f"{number}/{key}": value for key, value in results.items()})
        number += 1
    return found


def relayed(
    model: Any, passes: Sequence[Mapping[str, Any]], backend: Any
) -> dict[str, torch.Tensor]:
    """Run passes as one session, which `backend` takes elsewhere: one request for all of them."""
    with model.session(backend=backend):
        found = nnsight.save(relay(model, passes))
    result: dict[str, torch.Tensor] = found
    return result
