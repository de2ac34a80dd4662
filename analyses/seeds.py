"""Seeds derived by name, so that adding an analysis changes no other one's random choices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seeds:
    """The random generators of one purpose, such as `analyses.decode`."""

    seed: int
    purpose: str

    def generator(self, name: str) -> np.random.Generator:
        """Return a fresh generator for a named choice; equal names give equal streams.

        >>> seeds = Seeds(0, "analyses.decode")
        >>> a, b = seeds.generator("cv"), seeds.generator("cv")
        >>> a.integers(1000) == b.integers(1000)
        np.True_
        """
        text = f"{self.seed}/{self.purpose}.{name}"
        digest = hashlib.sha256(text.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))
