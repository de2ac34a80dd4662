"""What is said of a server's answers, and that a key goes to no other place."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from patchclamp.engine.remote.wire import Again, Gone, Wire
from patchclamp.registry.errors import RemoteError

KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"


def wire(answer: Callable[[httpx.Request], httpx.Response]) -> Wire:
    made = Wire("https://ndif.example.org", KEY)
    made.close()
    made._client = httpx.Client(transport=httpx.MockTransport(answer))
    return made


def answering(code: int, **given: object) -> Wire:
    return wire(lambda _: httpx.Response(code, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "given", "said"),
    [
        (404, {}, "https://ndif.example.org is no NDIF server: it knows no '/env'"),
        (200, {"text": "<html>"}, "is no NDIF server: what it says of '/env' is no JSON"),
        (
            400,
            {"json": {"detail": "Client nnsight version 0.8.1 is below the minimum supported 0.9"}},
            "does not take this version: Client nnsight version 0.8.1 is below the minimum",
        ),
        (422, {"json": {"detail": "Invalid JSON"}}, r"refused the request \(422\): Invalid JSON"),
        (
            301,
            {"headers": {"location": "https://user:secret@other.example/env?key=1"}},
            "ndif.example.org sends on to https://other.example: put that address into NDIF_HOST",
        ),
        (401, {}, "wants a key and there is none: put yours into NDIF_API_KEY"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, given: dict[str, object], said: str) -> None:
    with pytest.raises(RemoteError, match=said):
        answering(code, **given).ask("/env")


def test_what_may_pass_is_told_from_what_does_not() -> None:
    def slow(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("read")

    with pytest.raises(Again, match="did not answer in time"):
        wire(slow).ask("/env")
    for code in (408, 425, 429, 500, 503):
        with pytest.raises(Again, match=f"answered {code}"):
            answering(code).ask("/env")
    with pytest.raises(Again, match="gave a state that cannot be read"):
        answering(200, text="{}").look("job")
    with pytest.raises(Gone, match="does not know the job"):
        answering(404).look("job")
    with pytest.raises(Gone, match="does not know the job"):
        answering(403).fetch("https://store.example/result")


def test_a_key_goes_to_the_server_alone() -> None:
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("ndif-api-key")))
        return httpx.Response(200, content=b"")

    one = wire(answer)
    with pytest.raises(Again):
        one.fetch("https://store.example/result?signature=abc")
    with pytest.raises(RemoteError):
        one.ask("/env")
    assert seen == [("store.example", None), ("ndif.example.org", KEY)]
    assert KEY not in repr(one)
    assert one.clean(f"{KEY} at https://a.example/x?signature=abc") == "*** at https://a.example/x"


@pytest.mark.parametrize("host", ["ndif.example.org", "ftp://x", "http://", "http://[", ""])
def test_an_address_that_is_none(host: str) -> None:
    with pytest.raises(RemoteError, match="is no http:// or https:// address; it is taken from"):
        Wire(host, "")
