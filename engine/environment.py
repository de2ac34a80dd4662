"""Environment: what patchclamp runs in, and whether anything in it is wrong."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from patchclamp.engine.records import open_cache

ROOM = 1 << 30
"""Bytes of free disk below which a capture of any size is likely to fail."""

Verdict = Literal["OK", "NOTE", "WRONG"]


@dataclass(frozen=True)
class Fact:
    """One thing about the environment; only what is wrong is a finding."""

    sort: str
    name: str
    value: str
    verdict: Verdict = "OK"
    reason: str = ""


def environment_command(arguments: Namespace) -> int:
    """Print the environment; returns 1 if anything in it is wrong."""
    if arguments.remote:
        from patchclamp.engine.remote.doctor import server

        facts = list(server())
    else:
        facts = list(environment())
    if arguments.format == "json":
        text = json.dumps([asdict(fact) for fact in facts], indent=2, ensure_ascii=False)
        sys.stdout.write(text + "\n")
    else:
        show(facts, Console())
    return int(any(fact.verdict == "WRONG" for fact in facts))


def environment() -> Iterator[Fact]:
    """Yield what there is: Python, packages, devices, caches, and what a server would be asked."""
    yield Fact("program", "patchclamp", version("patchclamp"))
    yield Fact("program", "Python", f"{platform.python_version()} on {platform.platform()}")
    for text in requires("patchclamp") or ():
        need = Requirement(text)
        if need.marker is None:
            yield package(need)
    yield from _devices()
    yield _folder("capture cache", open_cache().root)
    yield from _hub()
    yield from _server()


def package(need: Requirement) -> Fact:
    """Say which version of a package there is, and whether it is one that was tested.

    >>> package(Requirement("numpy>=1000")).reason
    'patchclamp needs numpy>=1000'
    """
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return Fact("package", need.name, "", "WRONG", f"it is not installed; needed is {need}")
    if not need.specifier.contains(found, prereleases=True):
        return Fact("package", need.name, found, "WRONG", f"patchclamp needs {need}")
    return Fact("package", need.name, found)


def _devices() -> Iterator[Fact]:
    import torch

    threads = f"{torch.get_num_threads()} threads, {os.cpu_count()} cores"
    yield Fact("device", "cpu", threads)
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = f"{properties.total_memory / 2**30:.1f} GiB"
        yield Fact("device", f"cuda:{number}", f"{properties.name}, {memory}")
    if torch.backends.mps.is_available():
        yield Fact("device", "mps", "Apple GPU")


def _hub() -> Iterator[Fact]:
    from huggingface_hub import constants

    yield _folder("model cache", Path(constants.HF_HUB_CACHE))
    if constants.HF_HUB_OFFLINE:
        reason = "models are taken from the cache alone (HF_HUB_OFFLINE)"
        yield Fact("hub", "network", "off", "NOTE", reason)


def _server() -> Iterator[Fact]:
    from nnsight import CONFIG

    yield Fact("server", "NDIF", str(CONFIG.API.HOST))
    if not (os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY):
        reason = "models on a server need one (NDIF_API_KEY); models here do not"
        yield Fact("server", "key", "none", "NOTE", reason)
    else:
        yield Fact("server", "key", "there")


def _folder(name: str, folder: Path) -> Fact:
    """Say whether a folder, or where it would be made, can be written and has room."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        return Fact("folder", name, str(folder), "WRONG", "it cannot be written")
    free = shutil.disk_usage(there).free
    value = f"{folder}, {free / 2**30:.1f} GiB free"
    if free < ROOM:
        return Fact("folder", name, value, "NOTE", "there is little room")
    return Fact("folder", name, value)


def show(facts: list[Fact], console: Console) -> None:
    """Print a table of facts."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "name", "is", "verdict"):
        table.add_column(column, overflow="fold")
    colours = {"OK": "green", "NOTE": "yellow", "WRONG": "bold red"}
    sort = ""
    for fact in facts:
        said = f"[{colours[fact.verdict]}]{fact.verdict}[/]"
        reason = f": {fact.reason}" if fact.reason else ""
        heading = fact.sort if fact.sort != sort else ""
        table.add_row(heading, fact.name, fact.value, said + reason)
        sort = fact.sort
    console.print(table)
