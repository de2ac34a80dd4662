"""Reports: where they go, for a program or for people."""

from __future__ import annotations

import sys
from pathlib import Path

from patchclamp.registry.errors import StoreError


def deliver(report: str, output: str | None, for_people: str) -> None:
    """Print a report; or write it to a file, and print what people read beside it.

    Raises `StoreError` where the file cannot be written.
    """
    if output is None:
        sys.stdout.write(report)
        return
    try:
        Path(output).write_text(report, encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise StoreError(f"cannot write {output!r}: {error.strerror}") from error
    sys.stdout.write(for_people)
