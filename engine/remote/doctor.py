"""Doctor for servers: whether one is there, takes the key, fits what is here, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from patchclamp.engine.environment import Fact
from patchclamp.engine.remote.connect import deployments, differences, open_wire
from patchclamp.engine.remote.wire import Again, Gone, Wire
from patchclamp.registry.errors import RemoteError


def server() -> Iterator[Fact]:
    """Yield what a server says, each question by itself: one that fails hides no other."""
    try:
        wire = open_wire()
    except RemoteError as error:
        yield Fact("server", "address", "", "WRONG", str(error))
        return
    yield Fact("server", "address", wire.name)
    try:
        yield from _answers(wire)
    finally:
        wire.close()


def _answers(wire: Wire) -> Iterator[Fact]:
    alive = _ask(wire, "/ping")
    if isinstance(alive, Fact):
        yield alive
        return
    yield Fact("server", "there", "yes")
    yield _key(wire, _ask(wire, "/whoami"))
    env = _ask(wire, "/env")
    yield from [env] if isinstance(env, Fact) else _versions(env)
    status = _ask(wire, "/status")
    yield from [status] if isinstance(status, Fact) else _models(status)


def _ask(wire: Wire, path: str) -> Any:
    """Return what the server says, or the fact that it does not."""
    try:
        return wire.ask(path)
    except (Again, Gone, RemoteError) as error:
        return Fact("server", path.lstrip("/"), "no answer", "WRONG", str(error))


def _key(wire: Wire, said: Any) -> Fact:
    if isinstance(said, Fact):
        return said
    known = isinstance(said, dict) and said.get("email")
    tags = said.get("tags") or [] if isinstance(said, dict) else []
    if known:
        sort = "trusted: ndif_trusted may be used" if "trusted" in tags else "ordinary: use ndif"
        return Fact("server", "key", f"known, {sort}")
    if wire.key:
        return Fact("server", "key", "not known", "NOTE", "it is wrong, or none is wanted there")
    return Fact("server", "key", "none", "NOTE", "NDIF_API_KEY, or 'nnsight login', gives one")


def _versions(env: dict[str, Any]) -> Iterator[Fact]:
    differ = list(differences(env))
    if not differ:
        yield Fact("versions", "all", "as here")
    for one in differ:
        reason = "it must be the same" if one.essential else "numbers may differ"
        yield Fact("versions", one.package, str(one), "WRONG" if one.essential else "NOTE", reason)


def _models(status: Any) -> Iterator[Fact]:
    found = deployments(status)
    if not found:
        yield Fact("models", "", "none is loaded", "NOTE", "the first request has one loaded")
    for one in found:
        state = str(one.get("application_state", "unknown"))
        facts = [str(one.get(name)) for name in ("dtype", "deployment_level") if one.get(name)]
        name = f"{one['repo_id']}@{one.get('revision') or 'main'}"
        if state == "RUNNING":
            yield Fact("models", name, ", ".join(facts))
        else:
            yield Fact("models", name, ", ".join(facts), "NOTE", state.lower())
