"""The backend table: what runs the forward passes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from patchclamp.registry.table import Table


class Backend(NamedTuple):
    """A way to run a model; `factory` is `"module:class"`, None while it is not implemented.

    `lacks` says what it cannot do, and why: `gradients`, `weight reads` where the model runs,
    `weights drawn anew`, `generation`, attention `patterns`, `trust` (to run outside a sandbox).
    Specs that need it are refused. What is `remote` runs on a server, which sends back what is
    asked for alone.
    """

    name: str
    summary: str
    factory: str | None
    remote: bool = False
    lacks: Mapping[str, str] = MappingProxyType({})
    past: str = "free"
    """How tokens count whose keys and values are given: see `engine.savings.sweep_of`."""


_NDIF = "patchclamp.engine.remote.backend:Ndif"
_REMOTE = {
    "weights drawn anew": "a server holds trained ones",
    "generation": "each token would be a request of its own",
}
_SANDBOXED = {
    "gradients": "none comes back through the sandbox; a key that the server trusts has "
    "'ndif_trusted'",
    "weight reads": "weights have no numbers in the sandbox; a key that the server trusts has "
    "'ndif_trusted'",
    "trust": "the server runs ordinary keys in a sandbox",
}

BACKENDS: Table[Backend] = Table(
    "backend",
    [
        Backend("nnsight", "local nnsight traces", "patchclamp.engine.nnsight_backend:Nnsight"),
        Backend(
            "hooks",
            "plain PyTorch hooks: the independent second opinion",
            "patchclamp.engine.hooks_backend:Hooks",
        ),
        Backend(
            "ndif",
            "nnsight on an NDIF server, in its sandbox, reduced there",
            _NDIF,
            remote=True,
            lacks=_SANDBOXED | _REMOTE,
            past="none",
        ),
        Backend(
            "ndif_trusted",
            "nnsight on an NDIF server that trusts the key: with gradients and weights",
            _NDIF,
            remote=True,
            lacks=_REMOTE,
            past="counted",
        ),
    ],
)
