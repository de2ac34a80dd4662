"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from patchclamp.registry.errors import StoreError


def check_place(folder: Path) -> None:
    """Raise `StoreError` if a folder cannot be written to, or not be made where it is named."""
    whole = folder.absolute()
    there = next(place for place in (whole, *whole.parents) if os.path.lexists(place))
    reason = ""
    if not there.is_dir():
        reason = f"{str(there)!r} is no folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        reason = f"{str(there)!r} may not be written to"
    if reason:
        raise StoreError(
            f"no result can be written to {str(folder)!r}: {reason}; --out names another folder"
        )


def write_whole(path: Path, *data: bytes | memoryview) -> None:
    """Put new content into a file's place at once, with the old one's permissions.

    `data` are its parts. It is written under a temporary name beside it, synced and renamed: a
    reader, or a process that is killed, meets the old content or the new. Raises `StoreError`.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as stream:
                for part in data:
                    stream.write(part)
                stream.flush()
                os.fsync(stream.fileno())
            if path.exists():
                shutil.copymode(path, name)
            else:
                Path(name).chmod(0o644)  # mkstemp's own 0600 would hide it from colleagues
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
