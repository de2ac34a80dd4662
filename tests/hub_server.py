"""A hub of models and datasets on loopback: the routes that its clients ask, over real HTTP.

It holds repositories with revisions, each a folder of files, and answers as huggingface.co does:
`/api/models/<name>/revision/<revision>` with the commit and the files, `/<name>/resolve/...` with
`ETag`, `X-Repo-Commit` and ranges, and the same under `datasets`, with listings of trees. Faults
are set by the path that they hit.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """Revisions by name, each with the folder of its files."""

    sort: str
    name: str
    revisions: dict[str, Path]
    key: str = ""
    """The token that reading it needs; empty for a public one."""

    def commit(self, revision: str) -> str | None:
        """Return the commit of a revision, or of a commit itself; None for neither."""
        commits = {name: _commit(folder) for name, folder in self.revisions.items()}
        return revision if revision in commits.values() else commits.get(revision)

    def folder(self, commit: str) -> Path:
        """Return the folder of a commit."""
        return next(folder for folder in self.revisions.values() if _commit(folder) == commit)


def _commit(folder: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@dataclass
class Hub:
    """What a server holds, what goes wrong, and what it has been asked."""

    repositories: list[Repository] = field(default_factory=list)
    faults: dict[str, int | str] = field(default_factory=dict)
    """By a pattern of paths: a status to answer with, or `cut`, half of what was promised, or
    `stall`, half of it and then nothing as long as the fault is there."""
    log: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    """Whether somebody has half of a file."""
    url: str = ""

    def add(self, sort: str, name: str, key: str = "", **revisions: Path) -> Repository:
        """Hold a repository."""
        made = Repository(sort, name, revisions, key)
        self.repositories.append(made)
        return made

    def fault(self, path: str) -> int | str | None:
        """Return what goes wrong with a path."""
        return next((what for part, what in self.faults.items() if re.search(part, path)), None)


@contextmanager
def serving() -> Iterator[Hub]:
    """Start a hub and stop it afterwards."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing; what was asked is in the hub's log."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append(f"{self.command} {path}")
        fault = self.hub.fault(path)
        if isinstance(fault, int):
            return self._fail(fault, "the server has a fault")
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w[\w-]*)/(.*))?", path)
        file = re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if file is not None:
            return self._file(file[1] or "models", file[2], (file[3], file[4]), fault)
        if api is None:
            return self._fail(404, "no such page")
        what, rest = api[3] or "revision", (api[4] or "main").split("/", 1)
        found = self._found(api[1], api[2], rest[0])
        if found is None:
            return None
        commit, folder = found
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = [_entry(path, folder) for path in files]
        if what == "revision":
            siblings = [{"rfilename": one["path"], "size": one["size"]} for one in listed]
            sort = {"id": api[2], "sha": commit, "siblings": siblings, "private": False}
            return self._json({**sort, "tags": [], "downloads": 0, "likes": 0, "gated": False})
        if what == "tree":
            under = folder / (rest[1] if len(rest) > 1 else "")
            if not under.is_dir():
                return self._fail(404, f"{rest[1]} does not exist", "EntryNotFound")
            deep = "recursive=True" in self.path or "recursive=true" in self.path
            inside = sorted(under.rglob("*") if deep else under.iterdir())
            return self._json([_entry(path, folder) for path in inside])
        if what == "paths-info":
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else _form(body)
            return self._json([one for one in listed if one["path"] in wanted])
        return self._fail(404, "no such page")

    def _found(self, sort: str, name: str, revision: str) -> tuple[str, Path] | None:
        """Return a commit and its folder; None after saying what is missing."""
        for repository in self.hub.repositories:
            if (repository.sort, repository.name) == (sort, name):
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                if repository.key and key != repository.key:
                    return self._fail(401, f"Access to {name} is restricted", "GatedRepo")
                commit = repository.commit(revision)
                if commit is None:
                    return self._fail(404, f"Invalid rev id: {revision}", "RevisionNotFound")
                return commit, repository.folder(commit)
        return self._fail(401, "Repository not found", "RepoNotFound")

    def _file(self, sort: str, name: str, where: tuple[str, str], fault: object) -> None:
        found = self._found(sort, name, where[0])
        if found is None:
            return
        commit, folder = found
        path = folder / where[1]
        if not path.is_file():
            self._fail(404, "Entry not found", "EntryNotFound", commit)
            return
        data, status, start = path.read_bytes(), 200, 0
        if (
            ranged := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        ) is not None:
            start, stop, size = int(ranged[1]), ranged[2], len(data)
            data, status = data[start : int(stop) + 1 if stop else None], 206
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if fault else data)
            while fault == "stall" and self.hub.faults:
                self.wfile.flush()
                self.hub.stalled.set()
                time.sleep(0.01)
        if fault:
            self.close_connection = True

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _fail(self, status: int, message: str, code: str = "", commit: str = "") -> None:
        data = json.dumps({"error": message}).encode()
        self.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Repo-Commit", commit)):
            if value:
                self.send_header(name, value)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    """Return what a listing says of a file."""
    if path.is_dir():
        return {"type": "directory", "path": str(path.relative_to(folder)), "size": 0, "oid": "0"}
    data = path.read_bytes()
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": str(path.relative_to(folder)), "size": len(data), "oid": digest}


def _form(body: bytes) -> list[str]:
    """Return the paths of a form."""
    return [unquote(part[6:].replace("+", " ")) for part in body.decode().split("&")
            if part.startswith("paths=")]  # fmt: skip
