"""Characters that a spec cannot hold, and where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from patchclamp.specs.diagnostics import Span, split_lines

REPORTED = 20
"""Most unreadable characters that are listed; a binary file is nothing else."""

# C0 and C1 controls, DEL, surrogates, non-characters, a byte order mark inside the text, and the
# three line breaks that YAML 1.1 readers fold and YAML 1.2 editors do not see.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
)
UNHOLDABLE = re.compile("[\x00\ud800-\udfff]")
"""What no text in a netCDF file can hold, escaped or not."""
NOT_HELD = "this text holds an escape (NUL or half a surrogate pair) that no file can keep"


def unreadable(text: str) -> Iterator[tuple[str, Span]]:
    """Yield each character that may not stand in a spec: what to do about it, and its place."""
    for found in list(_UNREADABLE.finditer(text))[:REPORTED]:
        lines = split_lines(text[: found.start()])
        line, column = len(lines), len(lines[-1]) + 1
        message = (
            f"the character U+{ord(found[0]):04X} cannot stand in a spec; "
            "write it as an escape in double quotes"
        )
        yield message, Span(line, column, line, column + 1)
