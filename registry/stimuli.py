"""The stimulus table: stimulus sets that ship with patchclamp."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from patchclamp.registry.models import DATA
from patchclamp.registry.table import Table


class BuiltinSet(NamedTuple):
    """A bundled CSV file of stimuli, with the columns and slots it offers."""

    name: str
    summary: str
    file: str
    columns: tuple[str, ...]
    slots: tuple[str, ...]
    licence: str

    @property
    def path(self) -> Path:
        """Path of the CSV file."""
        return DATA / "stimuli" / self.file


STIMULI: Table[BuiltinSet] = Table(
    "stimulus set",
    [
        BuiltinSet(
            "sequences",
            "240 sequence prompts: 48 templates x 5 categories, bare and inside short sentences",
            "sequences.csv",
            (
                "id",
                "template",
                "category",
                "form",
                "step",
                "prompt",
                "s1",
                "s2",
                "s3",
                "s4",
                "next",
                "last",
            ),
            ("s1", "s2", "s3", "s4"),
            "MIT",
        ),
    ],
)
