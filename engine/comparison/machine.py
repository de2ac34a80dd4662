"""What a comparison found, for programs: JSON, annotations for GitHub, JUnit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from patchclamp.engine.comparison.compare import Comparison, Row
from patchclamp.engine.comparison.wording import details, suggestions, tolerance, verdict
from patchclamp.specs.format_github import at_most, command
from patchclamp.specs.format_junit import Case, suite

VERSION = 1
"""Of the JSON; goes up when a key changes its meaning or goes away."""


def as_json(found: Comparison, *, suggest: bool = False) -> str:
    """Return all that was found; numbers that JSON lacks are the texts `NaN` and `Infinity`."""
    data = {
        "version": VERSION,
        "verdict": found.verdict,
        "exit_code": found.exit_code,
        "summary": verdict(found),
        "a": found.a,
        "b": found.b,
        "structure": [asdict(one) for one in found.structure],
        "variables": [_row(row) for row in found.rows],
        "conclusions": [asdict(one) for one in found.conclusions],
        "reasons": [asdict(one) for one in found.reasons],
        **({"suggestions": list(suggestions(found))} if suggest else {}),
    }
    return json.dumps(_plain(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _row(row: Row) -> dict[str, Any]:
    data = asdict(row)
    if row.tolerance is not None and row.values is not None:
        scale = row.values.scale
        data["tolerance"]["allowed"] = None if scale is None else row.tolerance.allowed(scale)
    if row.meaning is not None:
        data["meaning"]["equivalent"] = row.meaning.equivalent
    return data


def _plain(value: Any) -> Any:
    """Return data with what JSON cannot hold as text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    return value


def github(found: Comparison, *, suggest: bool = False) -> str:
    """Return annotations for GitHub Actions: one for each difference, and the verdict."""
    errors = [
        command("error", {"title": f"compare: {one.where}"}, one.detail)
        for one in found.structure
        if one.fails
    ]
    errors += [
        command("error", {"title": f"compare: {row.name}"}, "\n".join([_short(row), *details(row)]))
        for row in found.different
    ]
    errors += [
        command("error", {"title": "compare: a conclusion changed"}, str(one))
        for one in found.conclusions
    ]
    head = "notice" if found.verdict == "equal" else "error"
    shown = at_most(errors, "error", rest="run 'patchclamp compare' to see them", room=1)
    lines = [command(head, {"title": "patchclamp compare"}, verdict(found)), *shown]
    return "\n".join(lines) + "\n"


def _short(row: Row) -> str:
    assert row.values is not None, "what differs has been compared"
    return f"{row.values.beyond} of {row.values.compared} beyond {tolerance(row)}"


def junit(found: Comparison, *, suggest: bool = False) -> str:
    """Return a test case for each variable, for structure, and for each conclusion."""
    return suite("compare", list(_cases(found)))


def _cases(found: Comparison) -> Iterator[Case]:
    failing = [str(one) for one in found.structure if one.fails and one.what != "not compared"]
    yield Case("structure", failure="\n".join(failing), kind="structure")
    for row in found.rows:
        if row.state == "not compared":
            yield Case(row.name, error=row.remark, kind="not compared")
        elif row.state == "different":
            text = "\n".join([_short(row), *details(row)])
            yield Case(row.name, failure=text, kind="different")
        else:
            yield Case(row.name)
    for one in found.conclusions:
        yield Case(one.about, failure=str(one), kind="conclusion")
    if found.verdict == "not comparable":
        yield Case("verdict", error=verdict(found), kind="not comparable")
