"""What may be recorded: a site, at which layers and positions."""

from __future__ import annotations

from typing import Annotated, Literal

from patchclamp.registry import SITES
from patchclamp.specs.fields import LayerChoice, Model, Name, one_of


class Capture(Model):
    """Activations of one stimulus set at one site."""

    of: Name | None = None
    """The stimulus set; may be left out where there is one."""
    site: Annotated[str, one_of(SITES)]
    """Where to record (`patchclamp list sites`)."""
    layers: LayerChoice = "all"
    """Which blocks, counted from 0: `all`, `last`, `3`, `[0, 4]`, `0..11` (both ends included)."""
    positions: Literal["first", "last", "all"] = "last"
    """Which tokens; padding never counts as one."""
