"""The backend table: what runs the forward passes."""

from __future__ import annotations

from dataclasses import dataclass

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Backend:
    """A way to run a model; `factory` is `"module:class"`, None while it is not implemented."""

    name: str
    summary: str
    factory: str | None


BACKENDS: Table[Backend] = Table(
    "backend",
    [
        Backend("nnsight", "local nnsight traces", "patchclamp.engine.nnsight_backend:Nnsight"),
        Backend(
            "hooks",
            "plain PyTorch hooks: the independent second opinion",
            "patchclamp.engine.hooks_backend:Hooks",
        ),
        Backend("ndif", "nnsight on a remote NDIF server, reduced there", None),
    ],
)
