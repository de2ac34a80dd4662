"""A server of `ndif_server`, started for tests, and what is asked of it beside the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from patchclamp.registry import MODELS

BUNDLED = {
    f"{name}@{revision}": str(model.path(revision))
    for name, model in MODELS.items()
    for revision in model.revisions
}


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str

    def fails(self, **faults: Any) -> None:
        """Let it fail from here on as `ndif_server.FAULTS` says, and in no other way."""
        httpx.post(f"{self.url}/faults", json=faults).raise_for_status()

    def log(self) -> list[dict[str, Any]]:
        """Return what it has run: a mapping for each job."""
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/log").json()["jobs"]
        return found

    def events(self) -> list[str]:
        """Return what it has been asked, by the first part of the path."""
        found: list[str] = httpx.get(f"{self.url}/log").json()["events"]
        return [event for event in found if event != "log"]


@contextmanager
def serving(
    program: str = "ndif_server.py", *, python: str | None = None, **given: Any
) -> Iterator[Served]:
    """Start a server and stop it afterwards."""
    command = [python or sys.executable, str(Path(__file__).with_name(program))]
    process = subprocess.Popen(
        [*command, json.dumps({"models": BUNDLED, **given})], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Served(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
