"""What an analysis is given beside its entry in the spec and its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import xarray as xr

from patchclamp.analyses.readings import ModelShape
from patchclamp.analyses.seeds import Seeds

MEMORY = 1 << 30
"""Bytes of a capture that an analysis holds at once, where the spec sets no budget."""


@dataclass(frozen=True)
class Context:
    """Seeds, memory and the results of other analyses.

    `memory` is how many bytes of activations may be held at once: a capture can be larger than
    that, lies in a file, and is read layer by layer and block by block. `results` are those of
    the analyses that the entry names, and `shape` the sizes of the model.
    """

    seeds: Seeds
    memory: int = MEMORY
    results: Mapping[str, xr.Dataset] = field(default_factory=dict)
    shape: ModelShape = field(default_factory=lambda: ModelShape(0, 0))
