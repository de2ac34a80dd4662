"""Notices: what a run says of its spec and stimuli, on the terminal and in the result alike.

Lints are known from the spec, the others from stimuli and tokenizer, while a plan is made. What a
spec allows is not shown, and stands in the result with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchclamp.engine.plan import Plan
from patchclamp.specs.cells import name_of, tells_its_cell
from patchclamp.specs.diagnostics import Diagnostic, dotted, in_order
from patchclamp.specs.load import Loaded


def warnings_of(loaded: Loaded, plans: Sequence[Plan]) -> tuple[Diagnostic, ...]:
    """Return what is to be told of a spec and the plans of its cells, each thing once."""
    found: dict[Diagnostic, list[Plan]] = {}
    for plan in plans:
        for warning in plan.warnings:
            found.setdefault(warning, []).append(plan)
    planned = [
        of_cell(warning, having[0].loaded.label if len(having) < len(plans) else None)
        for warning, having in found.items()
    ]
    return (*loaded.warnings, *in_order(planned, loaded.document.texts))


def of_cell(warning: Diagnostic, label: Mapping[str, Any] | None) -> Diagnostic:
    """Return a problem that names a cell which has it, by its label; None for all of them."""
    if label is None or tells_its_cell(warning):
        return warning
    return warning._replace(message=f"{warning.message} (in the cell {name_of(label)})")


def as_records(loaded: Loaded, plans: Sequence[Plan]) -> list[dict[str, str]]:
    """Return warnings as plain data, for the provenance; those that are allowed say why."""

    def plain(warning: Diagnostic, **more: str) -> dict[str, str]:
        place = {"code": warning.code, "at": dotted(warning.path)}
        return {**place, "message": warning.message, **more}

    return [
        *(plain(warning) for warning in warnings_of(loaded, plans)),
        *(plain(one, allowed=loaded.spec.allow[one.code]) for one in _allowed(loaded, plans)),
    ]


def _allowed(loaded: Loaded, plans: Sequence[Plan]) -> Iterator[Diagnostic]:
    yield from dict.fromkeys((*loaded.allowed, *(one for plan in plans for one in plan.allowed)))
