"""Shared fixtures: the real material beside the project, where it is present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The suite is offline; the hub client reads this when it is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real models and stimuli kept beside the project; tests that need them skip without."""
    if not (SHARED / "models" / "stories260k").is_dir():
        pytest.skip("the material beside the project is not here")
    return SHARED
