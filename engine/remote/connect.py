"""Connect: what a server is asked before any work is sent to it, and a backend that it runs.

1. Its versions are held against those here. Another minor version of nnsight speaks another
   protocol, and another major version of transformers names modules otherwise: these are refused.
   Other differences are written into the result.
2. What it says of its models is held against the spec: the precision must be the spec's.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from patchclamp.engine.model import ModelSource
from patchclamp.engine.records import Cache
from patchclamp.engine.remote.backend import Ndif
from patchclamp.engine.remote.jobs import Jobs
from patchclamp.engine.remote.wire import Wire, host_and_key
from patchclamp.registry.errors import ModelError, RemoteError, hint
from patchclamp.specs.spec import Run

_MUST_AGREE = {"nnsight": 2, "transformers": 1}
"""Packages and how many numbers of their version must be the same."""
_COMPARED = ("nnsight", "transformers", "torch")


@dataclass(frozen=True)
class Difference:
    """A version that is another on the server."""

    package: str
    here: str
    there: str
    essential: bool = False

    def __str__(self) -> str:
        return f"{self.package} {self.there} there, {self.here} here"


def differences(env: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the versions that differ between here and what a server says of itself."""
    packages = env.get("packages", {})
    for package in _COMPARED:
        here, there = version(package), str(packages.get(package, "unknown"))
        numbers = _MUST_AGREE.get(package, 0)
        if here.partition("+")[0] != there.partition("+")[0]:
            yield Difference(
                package, here, there, here.split(".")[:numbers] != there.split(".")[:numbers]
            )
    here, there = platform.python_version(), str(env.get("python_version", "unknown")).split(" ")[0]
    if here.split(".")[:2] != there.split(".")[:2]:
        yield Difference("Python", here, there)


def check_versions(name: str, env: Mapping[str, Any]) -> list[Difference]:
    """Return which versions differ; raises `RemoteError` where this cannot work."""
    found = list(differences(env))
    essential = [one for one in found if one.essential]
    if essential:
        told = "; ".join(map(str, found))
        wanted = " and ".join(f"{one.package} as it is there" for one in essential)
        raise RemoteError(f"{name} runs other versions: {told}. Install {wanted} to use it")
    return found


def deployments(status: Any) -> list[dict[str, Any]]:
    """Return what a server says of each of its models, as far as it can be read."""
    found = status.get("deployments") if isinstance(status, dict) else None
    values = found.values() if isinstance(found, dict) else ()
    return [one for one in values if isinstance(one, dict) and one.get("repo_id")]


def deployment(source: ModelSource, status: Any) -> dict[str, Any] | None:
    """Return what a server says of a model, None where it does not have it loaded."""
    wanted = (source.choice.id, source.choice.revision or "main")
    for one in deployments(status):
        if (one["repo_id"], one.get("revision") or "main") == wanted:
            return one
    return None


def check_hosted(name: str, source: ModelSource, status: Any) -> str:
    """Return how a server holds a model; raises `ModelError` for another precision."""
    one = deployment(source, status)
    if one is None:
        known = sorted({str(other["repo_id"]) for other in deployments(status)})
        return f"not loaded when asked{hint(source.choice.id, known)}"
    there = one.get("dtype")
    if there is not None and there != source.choice.dtype:
        raise ModelError(
            f"{name} holds {source.choice.id!r} in {there}, and the spec asks for "
            f"{source.choice.dtype}: say 'dtype: {there}' under 'model', which is what its numbers "
            "would be"
        )
    return str(one.get("application_state", "unknown")).lower()


def open_wire() -> Wire:
    """Return the wire to the server that the environment or nnsight's config names."""
    return Wire(*host_and_key())


def connect(
    source: ModelSource,
    run: Run,
    cache: Cache,
    tell: Callable[[str], None],
    *,
    detach: bool = False,
) -> tuple[Ndif, dict[str, Any]]:
    """Return a backend on a server, and what is to be written down of that server."""
    wire = open_wire()
    jobs = Jobs(wire, cache.root / "jobs", run.retry, tell, detach)
    try:
        setting = handshake(source, jobs)
        return Ndif(run.backend, source, jobs), setting
    except BaseException:
        wire.close()
        raise


def handshake(source: ModelSource, jobs: Jobs) -> dict[str, Any]:
    """Ask a server what it is; raises where it cannot give what is asked for."""
    wire = jobs.wire
    env = jobs.again(lambda: wire.ask("/env"))
    differ = check_versions(wire.name, env)
    if differ:
        jobs.tell(f"{wire.name} runs other versions: {'; '.join(map(str, differ))}")
    held = check_hosted(wire.name, source, jobs.again(lambda: wire.ask("/status")))
    packages = env.get("packages", {})
    return {
        "host": wire.name,
        "model": held,
        "versions": {name: packages.get(name) for name in _COMPARED},
        "differs": [asdict(one) for one in differ],
    }
