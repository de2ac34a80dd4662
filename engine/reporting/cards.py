"""Cards: what a reader of a page must know first, in a few words each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from patchclamp.engine.check import MARKS, judged
from patchclamp.engine.expectations import Claim
from patchclamp.engine.results import StoredResult
from patchclamp.specs.formats import count


def cards(result: StoredResult) -> Iterator[str]:
    """Yield what a reader must know first."""
    made = result.made
    yield '<section class="cards">'
    yield _guards(made.get("guards", []))
    if made.get("warnings"):
        yield _warnings(made["warnings"])
    yield _claims(judged(result))
    if result.cells:
        yield _cells(result.cells)
    yield _card("Run", _settings(made))
    yield _card("Cost", _cost(result))
    yield "</section>"


def _guards(guards: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdicts of guards; that there are none is said, too."""
    if not guards:
        return _card("Guards", [], '<span class="bad">none: nothing was checked</span>')
    verdicts = [guard.get("verdict", "ok") for guard in guards]
    passed, unchecked = verdicts.count("ok"), verdicts.count("not checked")
    big = f'<span class="good">✓ {passed} passed</span>'
    if failed := len(guards) - passed - unchecked:
        big = f'<span class="bad">{failed} of {len(guards)} failed</span>'
    big += f", {unchecked} not checked" if unchecked else ""
    rows = [f"{g.get('guard')}: {g.get('on')}: {number(g.get('value'))}" for g in guards]
    listed = "".join(f"<li>{escape(row)}</li>" for row in rows)
    return _card("Guards", [], big, f"<details><summary>what was checked</summary><ul>{listed}</ul>"
                 "</details>")  # fmt: skip


def _warnings(warnings: Sequence[Mapping[str, str]]) -> str:
    """Return what there was to warn of, and why what is allowed is."""
    shown = sum("allowed" not in one for one in warnings)
    rows = [
        f"{one['code']} {one['at']}: {one['message']}"
        + (f" (allowed: {one['allowed']})" if "allowed" in one else "")
        for one in warnings
    ]
    allowed = f", {len(warnings) - shown} allowed" if shown < len(warnings) else ""
    return _card("Warnings", rows, f'<span class="muted">{shown}{allowed}</span>')


def _cells(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return how many cells of a matrix there are, and which of them failed and why."""
    failed = [cell for cell in cells if "failed" in cell]
    kind, done = ("bad" if failed else "good"), len(cells) - len(failed)
    big = f'<span class="{kind}">{done} of {len(cells)} have a result</span>'
    return _card("Cells", [f"{cell['label']}: {cell['failed']}" for cell in failed], big)


def _claims(claims: Sequence[Claim]) -> str:
    if not claims:
        return _card(
            "Expectations", ["The spec expects nothing."], '<span class="muted">none</span>'
        )
    unmet = sum(not claim.met for claim in claims)
    kind = "bad" if unmet else "good"
    mark = "✗" if unmet else "✓"
    big = f'<span class="{kind}">{mark} {len(claims) - unmet} of {len(claims)} met</span>'
    rows = "".join(
        f'<li class="{"good" if claim.met else "bad"}">{MARKS[claim.holds]} {escape(claim.text)}'
        f' <span class="muted">{escape(claim.found)}</span></li>'
        for claim in claims
    )
    return _card("Expectations", [], big, f"<ul>{rows}</ul>")


def _settings(made: Mapping[str, Any]) -> list[str]:
    """Return where and with what it was run."""
    model, versions, git = (made.get(key) or {} for key in ("model", "versions", "git"))
    known = [model.get("dtype"), f"{model['weights']} weights" if model.get("weights") else None]
    rows = [", ".join(str(one) for one in known if one)] if any(known) else []
    rows += [f"{name} {made[name]}" for name in ("backend", "device") if made.get(name)]
    rows += [count(int(made["threads"]), "thread")] if made.get("threads") else []
    rows += [f"{n} {versions[n]}" for n in ("patchclamp", "torch", "transformers") if n in versions]
    if git:
        state = " with uncommitted changes" if git.get("dirty") else ""
        rows.append(f"commit {str(git.get('commit', ''))[:8]}{state}")
    if "seed" in made:
        rows.append(f"seed {made['seed']}")
    return rows


def _cost(result: StoredResult) -> list[str]:
    """Return what the run took, of all of its cells, as far as its provenance says."""
    parts = [cell["provenance"] for cell in result.cells if "provenance" in cell] or [result.made]
    rows = []
    if any("forward_passes" in part for part in parts):
        passes = sum(int(part.get("forward_passes", 0)) for part in parts)
        told = count(passes, "forward pass").replace("passs", "passes")
        rows.append(told if passes else "no forward pass: all had been measured before")
    if any("seconds" in part for part in parts):
        seconds = sum(float(part.get("seconds", 0)) for part in parts)
        rows.append(f"{seconds:.1f} s to measure and analyse")
    if result.path.exists():
        rows.append(f"{result.path.stat().st_size / 1e6:.1f} MB result")
    return rows


def _card(title: str, rows: Sequence[str], big: str = "", rest: str = "") -> str:
    listed = "".join(f"<li>{escape(row)}</li>" for row in rows)
    head = f'<div class="big">{big}</div>' if big else ""
    body = f"<ul>{listed}</ul>" if rows else ""
    return f'<div class="card"><h3>{title}</h3>{head}{body}{rest}</div>'


def number(value: Any) -> str:
    """Return a value of a guard in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
