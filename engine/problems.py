"""Problems that only stimuli, tokenizer or model config can tell, collected while planning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from patchclamp.registry.errors import SpecError
from patchclamp.specs.diagnostics import Diagnostic, report
from patchclamp.specs.load import Loaded


@dataclass
class Problems:
    """Collects every problem of a plan, so that all are reported at once."""

    loaded: Loaded
    found: list[Diagnostic] = field(default_factory=list)

    def add(
        self,
        path: tuple[str | int, ...],
        code: str,
        message: str,
        *,
        allowed: tuple[str, ...] = (),
        suggestion: str | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Note a problem at a place of the spec."""
        found = self.loaded.diagnose(path, code, message, allowed=allowed, suggestion=suggestion)
        self.found.append(found._replace(severity=severity))

    def __len__(self) -> int:
        return len(self.found)

    def raise_if_any(self) -> None:
        """Raise one `SpecError` with all problems found so far, if any of them is an error."""
        if any(found.severity == "error" for found in self.found):
            raise SpecError(report(self.found, self.loaded.document.texts), tuple(self.found))
