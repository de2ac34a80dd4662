"""The backend table: what runs the forward passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Backend:
    """A way to run a model; `factory` is `"module:class"`, None while it is not implemented.

    `lacks` says what it cannot do, and why: `gradients`, `weights` (of its own, to be looked at or
    drawn), `patterns` of attention, `trust` (to run outside a sandbox). Specs that need it are
    refused. What is `remote` runs on a server, where only what is asked for comes back from.
    """

    name: str
    summary: str
    factory: str | None
    remote: bool = False
    lacks: Mapping[str, str] = field(default_factory=dict)


_NDIF = "patchclamp.engine.remote.backend:Ndif"
_THERE = "they stay on the server, which holds trained ones"

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
            lacks={
                "gradients": "no gradient comes back through the sandbox that the server runs "
                "ordinary keys in; a key that it trusts may use 'ndif_trusted'",
                "weights": _THERE,
                "trust": "the server runs ordinary keys in a sandbox",
            },
        ),
        Backend(
            "ndif_trusted",
            "nnsight on an NDIF server that trusts the key: with gradients",
            _NDIF,
            remote=True,
            lacks={"weights": _THERE},
        ),
    ],
)
