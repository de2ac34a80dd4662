"""The heap: memory that a model frees on a CPU stays with the process, which soon needs it again.

glibc gives every large block back to the system and asks for a new one the next time, whose pages
the system must clear and map one by one. A forward pass makes and frees dozens of blocks of
megabytes: of a GPT-2-small shape's time on one thread that is about a twentieth. No number changes
by it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Parameters of mallopt(3)."""
_DEFAULTS = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65536}
"""What glibc arrives at by itself once large blocks have been freed, and stays at."""
_KEPT = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}
"""Never give memory back, and have no block apart from the heap."""

_holders = 0


@contextmanager
def kept_heap() -> Iterator[None]:
    """Let freed memory stay with the process; what is left over goes back in the end.

    Where the C library is another than glibc, nothing is done.
    """
    global _holders
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        yield
        return
    _holders += 1
    _set(library, _KEPT)
    try:
        yield
    finally:
        _holders -= 1
        if not _holders:
            _set(library, _DEFAULTS)
            library.malloc_trim(0)


def _set(library: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        library.mallopt(parameter, value)
