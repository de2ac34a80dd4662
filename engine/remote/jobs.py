"""Jobs: what has been sent to a server, remembered until its result is here.

1. A request is known by a digest of all that decides its result; a job that is remembered for it
   is asked about, and only without one is the request sent.
2. Its state is looked at, seldom while nothing changes, and shown.
3. Its result is fetched, and the job forgotten.

A request changes nothing on the server, so that it may always be sent again: where the server is
out of reach, fails, or has lost the job, this happens after a wait that doubles each time. What the
server says of the request itself is not asked twice. A run that is stopped or killed leaves what it
sent remembered, and the next run collects it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from nnsight.schema.response import ResponseModel, Status

from patchclamp.engine.backend import Pending
from patchclamp.engine.remote.wire import GO_ON, Again, Gone, Wire
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import RemoteError
from patchclamp.specs.spec import Retry

T = TypeVar("T")

_SOON, _SELDOM, _SLOWER = 0.01, 5.0, 1.5
"""Seconds between the first looks at a job, between late ones, and by what they grow."""

_PASSING = (
    "try again later",
    "cancelled or preempted",
    "payload could not be read",
    "internal server error",
)
"""What a server says of failures of its own, in small letters."""

_FRAME = re.compile(r'File "\[\w+:\d+\] [^"]*?([\w.]+\.py)", line (\d+), in (\w+)')
"""A line of a traceback that is of a function which was sent as source."""

_KEPT = 7 * 86400
"""Seconds after which a job is forgotten whose result nobody has asked for."""


@dataclass
class Jobs:
    """Sends requests and collects results; `tell` is called with what the server says.

    `folder` is where jobs are remembered. With `detach`, one that is not done raises `Pending`.
    """

    wire: Wire
    folder: Path
    retry: Retry
    tell: Callable[[str], None]
    detach: bool = False
    sending: bool = field(default=False, init=False)
    """Whether requests are sent and not looked at."""

    def __post_init__(self) -> None:
        for path in self.folder.glob("*.json"):
            if self._age(path.stem) > _KEPT:
                path.unlink(missing_ok=True)

    @contextmanager
    def only_sending(self) -> Iterator[None]:
        """Send requests and look at none of them; each raises `Pending`."""
        self.sending = True
        try:
            yield
        finally:
            self.sending = False

    def result(self, digest: str, send: Callable[[], ResponseModel]) -> dict[str, Any]:
        """Return the result of a request, sending it where no job is remembered for it."""
        job = self._remembered(digest)
        if self.sending:
            if job is None:
                self._remember(digest, self.again(send).id)
            raise Pending
        told, wait = "", self.retry.backoff
        for _ in range(self.retry.attempts):
            try:
                if job is None:
                    job = self.again(send).id
                    self._remember(digest, job)
                state = self._wait(job, digest)
                if state.status is Status.ERROR:
                    self._forget(digest)
                    self._fail(state.description)
                found = self.again(partial(self.wire.fetch, str(state.data)))
                self._forget(digest)
                return found
            except Gone as error:
                self._forget(digest)
                job, told = None, str(error)
                self.tell(f"{told}; sending the request again")
            except Again as error:
                self._forget(digest)
                job, told = None, str(error)
                self.tell(f"{told}; sending the request again in {wait:g} s")
                time.sleep(wait)
                wait *= 2
        raise RemoteError(f"{told}; sent {self.retry.attempts} times; {GO_ON}")

    def again(self, action: Callable[[], T]) -> T:
        """Do something until it goes well, with waits between, as often as the spec allows."""
        wait = self.retry.backoff
        for attempt in range(1, self.retry.attempts + 1):
            try:
                return action()
            except Again as error:
                if attempt == self.retry.attempts:
                    raise RemoteError(f"{error}; tried {attempt} times; {GO_ON}") from error
                self.tell(f"{error}; trying again in {wait:g} s")
                time.sleep(wait)
                wait *= 2
        raise AssertionError("there is at least one attempt")

    def _wait(self, job: str, digest: str) -> ResponseModel:
        """Look at a job until it is done or has failed, and return its last state.

        One that does not come to an end is forgotten if it has had its turn, and remembered if it
        still waits for it.
        """
        last, since, pause = "", time.monotonic(), _SOON
        while True:
            try:
                state: ResponseModel | None = self.again(partial(self.wire.look, job))
            except Gone:
                # A job is not known until its first state is written down.
                if last or self._age(digest) > self.retry.backoff:
                    raise
                state = None
            if state is not None:
                if state.status in (Status.COMPLETED, Status.ERROR):
                    return state
                said = self.wire.clean(f"{state.status.value}: {state.description}".rstrip(": "))
                if said != last:
                    last, since, pause = said, time.monotonic(), _SOON
                self.tell(said)
            if self.detach:
                raise Pending
            if time.monotonic() - since > self.retry.patience:
                waits = last and not last.startswith(Status.RUNNING.value)
                if not waits:
                    self._forget(digest)
                then = "the job is remembered" if waits else "the request will be sent again"
                raise RemoteError(
                    f"{self.wire.name} has said {last or 'nothing'!r} of a job for "
                    f"{self.retry.patience:g} s, which is as long as run.retry.patience allows; "
                    f"{then}: {GO_ON}"
                )
            time.sleep(pause)
            pause = min(pause * _SLOWER, _SELDOM)

    def _fail(self, said: str) -> None:
        """Raise what a job's failure means."""
        said = self.wire.clean(said.strip())
        line = said.splitlines()[-1] if said else "it gave no reason"
        small = said.lower()
        if any(words in small for words in _PASSING):
            raise Again(f"{self.wire.name}: {line}")
        if "out of memory" in small:
            raise MemoryError(line)
        if "could not deploy" in small:
            raise RemoteError(f"{self.wire.name} does not hold the model: {line}")
        if "architecture on this server" in small:
            raise RemoteError(
                f"{self.wire.name} builds the model otherwise than it is built here, mostly "
                f"because versions of transformers differ ('patchclamp doctor --remote' says "
                f"which): {said.splitlines()[0]}"
            )
        if "cancelled by operator" in small:
            raise RemoteError(f"{self.wire.name}: {line}")
        if "execution timeout" in small:
            raise RemoteError(
                f"{self.wire.name}: {line} A smaller run.batch.tokens makes jobs short"
            )
        frames = _FRAME.findall(said)
        where = "{}, line {}, in {}".format(*frames[-1]) if frames else "outside our code"
        raise RemoteError(f"{self.wire.name} failed in the block: {line} ({where})")

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest[:32]}.json"

    def _age(self, digest: str) -> float:
        """Return for how many seconds a job has been remembered."""
        try:
            return time.time() - self._path(digest).stat().st_mtime
        except OSError:
            return 0.0

    def _remembered(self, digest: str) -> str | None:
        try:
            kept = json.loads(self._path(digest).read_text())
            return str(kept["job"]) if kept["host"] == self.wire.name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, digest: str, job: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"host": self.wire.name, "job": job, "at": time.time()})
        write_whole(self._path(digest), text.encode())

    def _forget(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)


def request_digest(*parts: Any) -> str:
    """Return a digest of plain data and tensors: equal requests have equal ones."""
    digest = hashlib.sha256()
    for piece in _pieces(parts):
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield (
            value.detach().contiguous().view(torch.uint8).numpy().tobytes()
            if value.ndim
            else (repr(value.item()).encode())
        )
    elif isinstance(value, dict):
        yield f"dict {len(value)}".encode()
        for key, member in value.items():
            yield repr(key).encode()
            yield from _pieces(member)
    elif isinstance(value, list | tuple):
        yield f"list {len(value)}".encode()
        for member in value:
            yield from _pieces(member)
    else:
        yield repr(value).encode()
