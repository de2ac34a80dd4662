"""Problems that only stimuli, tokenizer or model config can tell, collected while planning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from patchclamp.registry.errors import SpecError
from patchclamp.specs.codes import DEEP
from patchclamp.specs.diagnostics import Diagnostic, report
from patchclamp.specs.load import Loaded, never_fires


@dataclass
class Problems:
    """Collects every problem of a plan, so that all are reported at once."""

    loaded: Loaded
    found: list[Diagnostic] = field(default_factory=list)
    allowed: list[Diagnostic] = field(default_factory=list)
    """Warnings that the spec allows, with its reasons."""

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
        meant = severity == "warning" and code in self.loaded.spec.allow
        (self.allowed if meant else self.found).append(found._replace(severity=severity))

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What is to be told of a plan that has no errors, each thing once."""
        told = [found for found in self.found if found.severity == "warning"]
        for code in self.loaded.spec.allow:
            if code in DEEP and all(found.code != code for found in self.allowed):
                told.append(never_fires(self.loaded, code))
        return tuple(dict.fromkeys(told))

    def __len__(self) -> int:
        return len(self.found)

    @property
    def errors(self) -> bool:
        """Whether a problem is an error."""
        return any(found.severity == "error" for found in self.found)

    def raise_if_any(self) -> None:
        """Raise one `SpecError` with all problems found so far, if any of them is an error."""
        if self.errors:
            raise SpecError(report(self.found, self.loaded.document.texts), tuple(self.found))
