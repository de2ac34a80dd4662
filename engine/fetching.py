"""Fetching from a hub: what can go wrong on the way, and what to do about it, in words."""

from __future__ import annotations

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CLIENT_ERRORS = HfHubHTTPError.__bases__
"""OSError, and what the HTTP client raises, which is no OSError."""

_UNREACHED = (OfflineModeIsEnabled, LocalEntryNotFoundError)
KEY = "give your key with 'hf auth login' or HF_TOKEN"


def brief(error: BaseException) -> str:
    """Return the first line of a library's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def reason(error: BaseException) -> str:
    """Say why something could not be fetched from a hub, and what to do.

    >>> reason(TimeoutError("timed out"))
    'timed out; what has been fetched is kept: run the same command again'
    >>> reason(ValueError("Unknown split 'test'."))
    "Unknown split 'test'"
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in causes)

    answers = (one.response.status_code for one in causes if isinstance(one, HfHubHTTPError))
    status = next(answers, None)
    if among(GatedRepoError):
        return f"its page asks for terms to be accepted: do that, and {KEY}"
    if among(RepositoryNotFoundError):
        return f"the hub has nothing of that name, or it is private: check the name, or {KEY}"
    if status in (401, 403):
        return f"the hub refuses to give it ({status}): {KEY}"
    if status == 429:
        return f"the hub asks for fewer requests: wait for some minutes, or {KEY}"
    if constants.HF_HUB_OFFLINE and among(*_UNREACHED, ConnectionError):
        return "the local cache does not hold it, and HF_HUB_OFFLINE forbids to ask"
    said = brief(error).rstrip(".")
    if not among(RevisionNotFoundError) and among(*_UNREACHED, ConnectionError, *_BROKEN):
        return f"{said}; what has been fetched is kept: run the same command again"
    return said


_BROKEN = (TimeoutError, *(kind for kind in CLIENT_ERRORS if kind is not OSError))
"""What says that the way to the hub, or the hub, is broken."""
