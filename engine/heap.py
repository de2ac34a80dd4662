"""The heap: memory that a model frees on a CPU stays with the process, which soon needs it again.

Every block of a model makes and frees the same hundred megabytes. glibc hands them back to the
system as soon as they lie at the end of the heap, and the system clears and maps them page by page
when they are asked for again: 400 to 650 thousand pages in capturing 4,096 tokens of a GPT-2-small
shape, 1.0 to 1.4 s of 9.3 s on one thread, and 80 thousand, 0.3 s, where they are kept. No number
changes by it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), in bytes."""
_APART = 32 << 20
"""Blocks from here on are apart from the heap and always given back; glibc allows no more."""
_KEPT = 256 << 20
"""Bytes at the end of the heap that stay: what a block frees of 2,048 tokens, and some to spare."""
_DEFAULT = 2 * _APART
"""What glibc arrives at by itself once blocks of `_APART` have been freed."""

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
    library.mallopt(_MMAP_THRESHOLD, _APART)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        _holders -= 1
        if not _holders:
            library.mallopt(_TRIM_THRESHOLD, _DEFAULT)
            library.malloc_trim(0)
