"""The wire: what is asked of a server, counted in bytes, and its refusals told apart.

What may be mended by asking again raises `Again`, a job that a server does not know (any more)
`Gone`, and everything else `RemoteError`. The key goes into one header, and no text that leaves
this module holds it, nor the part of an address that is a secret.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx
import torch
import zstandard
from nnsight import CONFIG
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel

from patchclamp.registry.errors import RemoteError

PUBLIC = "https://api.ndif.us"
"""The hosted service, which wants a key."""
CONNECT, READ = 10.0, 600.0
"""Seconds to wait for a connection, and for the next bytes of an answer."""

GO_ON = "what was measured is kept, and the same command goes on from there"

_ADDRESS = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


class Again(Exception):  # noqa: N818 - the one who asks decides whether it is an error
    """Something that may go well when it is tried again."""


class Gone(Exception):  # noqa: N818 - the job is sent again
    """A job, or its result, that the server does not know (any more)."""


def host_and_key() -> tuple[str, str]:
    """Return the address of the server and the key, from the environment or nnsight's config."""
    host = os.environ.get("NDIF_HOST") or str(CONFIG.API.HOST)
    return host.rstrip("/"), os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY or ""


def shown(host: str) -> str:
    """Return an address as people may see it: without a user, a password or a query.

    >>> shown("https://me:secret@ndif.example.org:8443/?key=1")
    'https://ndif.example.org:8443'
    """
    parts = urlsplit(host)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


@dataclass
class Wire:
    """A server; `sent` and `received` count the bytes of all bodies."""

    host: str = field(repr=False)
    key: str = field(repr=False)
    sent: int = 0
    received: int = 0
    requests: int = 0

    def __post_init__(self) -> None:
        try:
            known = urlsplit(self.host)
            usable = known.scheme in ("http", "https") and known.hostname and known.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise RemoteError(
                "the address of the server is no http:// or https:// address; it is taken from "
                "NDIF_HOST, or API.HOST in nnsight's config.yaml"
            )
        self.name = shown(self.host)
        if not self.key and self.name == PUBLIC:
            raise RemoteError(
                f"{PUBLIC} wants a key and there is none: get one at https://login.ndif.us and put "
                "it into NDIF_API_KEY, or keep it with 'nnsight login'"
            )
        timeout = httpx.Timeout(READ, connect=CONNECT)
        self._client = httpx.Client(timeout=timeout)

    def account(self) -> dict[str, int]:
        """Return what has gone over the wire, in bytes, and in how many requests."""
        return {"requests": self.requests, "sent": self.sent, "received": self.received}

    def close(self) -> None:
        """Close what is open."""
        self._client.close()

    def clean(self, text: str) -> str:
        """Return a text without the key and without what stands behind addresses."""
        text = text.replace(self.key, "***") if self.key else text
        return _ADDRESS.sub(r"\1", text.replace(self.host, self.name))

    def ask(self, path: str) -> Any:
        """Return what the server says, as plain data."""
        response = self._request("GET", f"{self.host}{path}")
        return self._plain(response)

    def submit(self, model_key: str, env: Mapping[str, Any], blob: bytes) -> ResponseModel:
        """Post a request that no socket waits for; its states are looked at."""
        envelope = RequestModel(model_key=model_key, compress=True, env=dict(env))
        self.requests += 1
        response = self._request(
            "POST",
            f"{self.host}/request",
            data={"data": envelope.metadata()},
            files={"blob": ("request", blob, "application/octet-stream")},
            headers={
                "ndif-timestamp": repr(time.time()),
                "nnsight-version": version("nnsight"),
                "python-version": sys.version,
            },
        )
        return self._state(response)

    def look(self, job: str) -> ResponseModel:
        """Return the state of a job; raises `Gone` where the server has none of it."""
        response = self._request("GET", f"{self.host}/response/{job}", known=True)
        return self._state(response)

    def fetch(self, address: str) -> dict[str, Any]:
        """Return a result: tensors only, since nothing that a server sends is run here."""
        if address.startswith("/"):
            address = f"{self.host}{address}"
        response = self._request("GET", address, known=True, foreign=True)
        try:
            data = zstandard.ZstdDecompressor().decompress(response.content)
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # whatever stands in half a file, or in none
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Again(f"a result that cannot be read came ({self.clean(reason)})") from error
        if not isinstance(found, dict):
            raise Again(f"a result that is {type(found).__name__!r} came, and no mapping")
        return found

    def _request(
        self, method: str, address: str, *, known: bool = False, foreign: bool = False, **given: Any
    ) -> httpx.Response:
        """Ask something; `known` says that a 404 is about a job, `foreign` that the key stays."""
        headers = dict(given.pop("headers", {}))
        if self.key and not foreign:
            headers["ndif-api-key"] = self.key
        try:
            # The key must not follow a server's word to another one.
            response = self._client.request(
                method, address, headers=headers, follow_redirects=foreign, **given
            )
        except httpx.TimeoutException as error:
            raise Again(f"{self.name} did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = self.clean(str(error)) or type(error).__name__
            raise Again(f"the connection to {self.name} failed ({reason})") from error
        self.sent += int(response.request.headers.get("content-length", 0))
        self.received += len(response.content)
        if response.is_success:
            return response
        if known and response.status_code in (403, 404, 410):
            raise Gone(f"{self.name} does not know the job (any more)")
        self._refuse(response)
        raise AssertionError("a refusal raises")

    def _refuse(self, response: httpx.Response) -> None:
        """Raise what an answer with an error code means."""
        code, detail = response.status_code, self.clean(_detail(response))
        if response.is_redirect:
            # The key does not follow a server's word to another place.
            there = shown(str(response.next_request.url)) if response.next_request else "elsewhere"
            raise RemoteError(f"{self.name} sends on to {there}: put that address into NDIF_HOST")
        if code >= 500 or code in (408, 425, 429):
            raise Again(f"{self.name} answered {code}: {detail}")
        if code == 401:
            raise RemoteError(
                f"{self.name} wants a key and there is none: put yours into NDIF_API_KEY, or keep "
                "it with 'nnsight login'"
            )
        if code == 403 or "API key" in detail:
            raise RemoteError(
                f"{self.name} does not take the key that it was given ({code}); look at "
                "NDIF_API_KEY, which goes before the one that 'nnsight login' keeps"
            )
        if "version" in detail:
            raise RemoteError(f"{self.name} does not take this version: {detail}")
        if code == 404:
            raise RemoteError(f"{self.name} is no NDIF server: it knows no {response.url.path!r}")
        raise RemoteError(f"{self.name} refused the request ({code}): {detail}")

    def _plain(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise RemoteError(
                f"{self.name} is no NDIF server: what it says of {response.url.path!r} is no JSON"
            ) from error

    def _state(self, response: httpx.Response) -> ResponseModel:
        try:
            return ResponseModel.model_validate_json(response.text)
        except ValueError as error:
            raise Again(f"{self.name} gave a state that cannot be read") from error


def _detail(response: httpx.Response) -> str:
    """Return what a server says of its refusal, on one line."""
    try:
        said = response.json()
        said = said.get("detail", said) if isinstance(said, dict) else said
    except ValueError:
        said = response.text
    return " ".join(str(said).split())[:300]
