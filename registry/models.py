"""The model table: models that ship with patchclamp."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from patchclamp.registry.table import Table

DATA = Path(__file__).parent / "data"
"""Folder of the bundled weights and stimuli."""


class BundledModel(NamedTuple):
    """A model in the package, one Hugging Face folder per revision; `main` is the default."""

    name: str
    summary: str
    folder: str
    revisions: tuple[str, ...]
    licence: str

    def path(self, revision: str) -> Path:
        """Return the folder that holds a revision."""
        return DATA / "models" / self.folder / revision


MODELS: Table[BundledModel] = Table(
    "bundled model",
    [
        BundledModel(
            "bundled:sequences",
            "3-layer GPT-NeoX that continues sequences and copies; trained by engine/bundle.py",
            "sequences",
            ("step0", "step80", "main"),
            "MIT",
        ),
    ],
)
