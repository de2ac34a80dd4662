"""Records: what has been measured, kept under a key of everything that decides its numbers.

    <cache>/<sort>/<key>/key.json     the parts of the key in clear, how and when it was made
    <cache>/<sort>/<key>/data.nc      the finished record, or data.safetensors
    <cache>/<sort>/<key>/shards/      what is there of one that is not finished
    <cache>/<sort>/<key>.lock         held by the run that measures it
    <cache>/results/<path>.lock       held by the run that writes a result there
    <cache>/digests/                  digests of files that have not changed

A name, a path, a batch size or a device is no part of a key; weights, config, precision, tokens,
site, layers, positions and reductions are. So two specs share what they both need, and a run that
was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from patchclamp.engine.shards import Shards, State, digest_of_file, open_shards
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import GuardError, StoreError

ALGORITHM = 5
"""Version of what is measured under a key; it goes up when a key would mean other numbers."""


@dataclass(frozen=True)
class Record:
    """Something to measure: a name for people, and what decides its numbers."""

    sort: str
    name: str
    parts: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """sha256 of the parts."""
        text = json.dumps({"algorithm": ALGORITHM, **self.parts}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Cache:
    """A folder of records; looking at them changes nothing, and only who holds one writes it."""

    root: Path
    intact: set[State] = field(default_factory=set, repr=False, compare=False)
    """Shards that this process has looked through, as they were."""

    def folder(self, record: Record) -> Path:
        """Return where a record is, or would be."""
        return self.root / record.sort / record.key[:32]

    def shards(self, record: Record) -> Path:
        """Return where the shards of an unfinished record are; the folder is made."""
        folder = self.folder(record) / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def open_shards(self, record: Record) -> Shards:
        """Return the intact shards of an unfinished record."""
        return open_shards(self.folder(record) / "shards", self.intact)

    def find(self, record: Record) -> dict[str, Any] | None:
        """Return how a finished record was made; None for one that is not there or damaged."""
        folder = self.folder(record)
        try:
            made: dict[str, Any] = json.loads((folder / "key.json").read_text())
            whole = file_digest(folder / made["file"], self.root) == made["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return made if whole else None

    def finish(self, record: Record, file: Path, made: Mapping[str, Any]) -> None:
        """Say that a record's file is complete, and drop its shards."""
        folder = self.folder(record)
        content = {
            **made,
            "name": record.name,
            "parts": {"algorithm": ALGORITHM, **record.parts},
            "file": file.name,
            "sha256": file_digest(file, self.root),
        }
        text = json.dumps(content, indent=1, sort_keys=True)
        write_whole(folder / "key.json", text.encode())
        shutil.rmtree(folder / "shards", ignore_errors=True)

    def tidy(self, record: Record) -> None:
        """Remove the shards of a finished record that a run, killed as it finished, has left."""
        left = self.folder(record) / "shards"
        if left.exists():
            with self.locked([record]):
                if self.find(record) is not None:
                    shutil.rmtree(left, ignore_errors=True)

    def discard(self, record: Record) -> None:
        """Remove what is there of a record, of which its holder has found that it is wrong."""
        shutil.rmtree(self.folder(record), ignore_errors=True)

    def refuse_damaged(self, record: Record, cause: BaseException | None = None) -> None:
        """Raise `StoreError` if a finished record's file is not what was written, and remove it.

        Other than in `find`, nothing that is remembered of the file is believed.
        """
        folder = self.folder(record)
        made = json.loads((folder / "key.json").read_text())
        if digest_of_file(folder / made["file"]) == made["sha256"]:
            return
        with self.locked([record]):
            self.discard(record)
        raise StoreError(
            f"the record of {record.name!r} was damaged after it had been written, in "
            f"{str(folder)!r}; it has been removed. Run the same command again: it is measured anew"
        ) from cause

    def finished(self, record: Record) -> dict[str, Any]:
        """Return how a record was made that has been finished; what is left beside it goes.

        Raises `StoreError` where its file is damaged.
        """
        made = self.find(record)
        assert made is not None, "it was finished before"
        self.tidy(record)
        self.refuse_damaged(record)
        return made

    @contextmanager
    def distrusted(self, records: Sequence[Record]) -> Iterator[None]:
        """Throw away what was measured if a guard fails on it, so that it is never gone on with."""
        try:
            yield
        except GuardError:
            for record in records:
                self.discard(record)
            raise

    @contextmanager
    def locked(
        self, records: Sequence[Record], waiting: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Hold records against other runs, which wait and then find them finished.

        `waiting` is called if another run holds one. What a killed run left half written is
        removed.
        """
        # In one order for everybody, so that no two runs wait for each other.
        folders = sorted({self.folder(record) for record in records})
        with ExitStack() as held:
            for folder in folders:
                held.enter_context(self._holding(folder.with_suffix(".lock"), waiting))
                for left in (*folder.glob(".*.tmp"), *folder.glob("shards/.*.tmp")):
                    left.unlink(missing_ok=True)
            yield

    @contextmanager
    def writing(self, folder: Path) -> Iterator[None]:
        """Hold the folder of a result, made anew, against other runs that write to it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(
                f"cannot make the folder {str(folder)!r}: {reason}; what was measured is safe in "
                f"{str(self.root)!r}"
            ) from error
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
        with self._holding(self.root / "results" / f"{name}.lock", lambda: None):
            for left in folder.rglob(".*.tmp"):
                left.unlink(missing_ok=True)
            yield

    @contextmanager
    def _holding(self, path: Path, waiting: Callable[[], None]) -> Iterator[None]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                lock.acquire()
        except OSError as error:
            raise StoreError(f"cannot write to the cache {str(self.root)!r}: {error}") from error
        try:
            yield
        finally:
            lock.release()

    def why_not(self, record: Record) -> str:
        """Say how a record that is not there differs from the most similar one that is."""
        own = {"algorithm": ALGORITHM, **record.parts}
        best: tuple[int, list[str]] | None = None
        for file in (self.root / record.sort).glob("*/key.json"):
            try:
                other = dict(json.loads(file.read_text())["parts"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            changed = [part for part in sorted({*own, *other}) if own.get(part) != other.get(part)]
            if best is None or len(changed) < best[0]:
                best = (len(changed), [_change(p, other.get(p), own.get(p)) for p in changed])
        if best is None:
            return "nothing like it has been measured"
        return "; ".join(best[1])


def _change(part: str, before: Any, after: Any) -> str:
    return f"{part} changed: {_short(before)} → {_short(after)}"


def _short(value: Any) -> str:
    """Return a value as a message says it: a digest by its first digits."""
    if isinstance(value, str) and len(value) == 64:
        return value[:4]
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def open_cache(folder: str | Path | None = None) -> Cache:
    """Return the cache in a folder; None is `PATCHCLAMP_CACHE`, or the user's cache folder."""
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = os.environ.get("PATCHCLAMP_CACHE") or Path(home) / "patchclamp"
    return Cache(Path(folder).expanduser())


def digest_of(content: Any) -> str:
    """Return the sha256 of plain data."""
    return hashlib.sha256(repr(content).encode()).hexdigest()


def file_digest(path: Path, root: Path, *, linked: bool = True) -> str:
    """Return the sha256 of a file, remembered for as long as the file does not change.

    Hashing a large model's weights takes a second for each 1.6 GB; size, time of change and
    inode tell whether the file is the one that was hashed. Archives and copies set that time as
    they like, and not the one of the inode's own change; a new hard link sets it too, so that it
    says nothing of files that are `linked`.
    """
    state = path.stat()
    known = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}"
    if not linked:
        known += f"|{state.st_ctime_ns}"
    memory = root / "digests" / hashlib.sha256(known.encode()).hexdigest()[:32]
    try:
        digest, check = memory.read_text().split()
        if check == _check(known, digest):
            return digest
    except (OSError, ValueError):
        pass  # not remembered, or damaged
    digest = digest_of_file(path)
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        # Not whole or not at all: what is torn does not pass its check.
        memory.write_text(f"{digest} {_check(known, digest)}")
    except OSError:
        pass  # a cache that cannot be written makes it slower, not wrong
    return digest


def _check(known: str, digest: str) -> str:
    """Return what shows that a remembered digest is still what was remembered."""
    return hashlib.sha256(f"{known}|{digest}".encode()).hexdigest()[:16]
