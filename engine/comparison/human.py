"""What a comparison found, for people: on a terminal, or as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from patchclamp.engine.comparison.compare import Comparison, Row
from patchclamp.engine.comparison.wording import details, suggestions, tolerance, verdict
from patchclamp.specs.formats import count

MARKS = {"equal": "=", "different": "≠", "not compared": "?"}

HEAD = ("", "variable", "compared", "beyond", "max abs", "max rel", "r", "tolerance")


def human(found: Comparison, *, suggest: bool = False) -> str:
    """Return the report for a terminal: the verdict first."""
    lines = [verdict(found), f"  A  {found.a}", f"  B  {found.b}"]
    if found.structure:
        lines += ["", "structure"]
        lines += [f"  {'≠' if one.fails else '·'} {one}" for one in found.structure]
    lines += ["", *_table(found)]
    lines += _section("conclusions that changed", map(str, found.conclusions))
    lines += _section("what else differs between the runs", map(str, found.reasons))
    if suggest:
        lines += _section("tolerances that would pass", suggestions(found))
    return "\n".join(lines) + "\n"


def _section(title: str, entries: Iterator[str]) -> list[str]:
    listed = [f"  {entry}" for entry in entries]
    return ["", title, *listed] if listed else []


def _table(found: Comparison) -> Iterator[str]:
    """Yield a row for each variable, with what is to say of those that differ below them."""
    rows = [(_cells(row), list(_below(row))) for row in shown(found)]
    widths = [max(len(cells[i]) for cells in (HEAD, *(r for r, _ in rows))) for i in range(8)]
    yield _line(HEAD, widths)
    for cells, below in rows:
        yield _line(cells, widths)
        yield from (f"    {line}" for line in below)
    for group, rows_equal in left_out(found):
        yield f"=  {group}: {count(len(rows_equal), 'variable')} equal"


def _below(row: Row) -> Iterator[str]:
    """Yield the details of a row: all where it differs, the test where it has a margin.

    Why a variable was not compared stands under structure.
    """
    if row.state == "different" or row.meaning is not None:
        yield from details(row)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = (0, 1, 7)
    padded = [
        cell.ljust(width) if i in left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    mark, values = MARKS[row.state], row.values
    if values is None:
        return (mark, row.name, "", "", "", "", "", "")
    apart = ["", ""] if values.absolute is None else [
        _size(values.absolute), _size(values.relative or 0.0)
    ]  # fmt: skip
    r = "" if values.correlation is None else f"{values.correlation:.6f}"
    return (
        mark, row.name, str(values.compared), str(values.beyond), *apart, r, tolerance(row)
    )  # fmt: skip


def _size(value: float) -> str:
    return "0" if value == 0 else f"{value:.2e}"


def shown(found: Comparison) -> list[Row]:
    """Return the variables that have a row: all but those of stimulus sets that are equal."""
    hidden = {row.name for _, rows in left_out(found) for row in rows}
    order = {"different": 0, "not compared": 1, "equal": 2}
    rows = [row for row in found.rows if row.name not in hidden]
    return sorted(rows, key=lambda row: order[row.state])


def left_out(found: Comparison) -> list[tuple[str, list[Row]]]:
    """Return the stimulus sets that are equal altogether; a line does for each."""
    sets = [row for row in found.rows if row.name.startswith("stimuli/")]
    grouped = [
        (group, list(rows))
        for group, rows in groupby(sets, key=lambda row: row.name.rpartition("/")[0])
    ]
    return [(group, rows) for group, rows in grouped if all(r.state == "equal" for r in rows)]


def markdown(found: Comparison, *, suggest: bool = False) -> str:
    """Return the report as Markdown, with what is equal folded away."""
    icon = {"equal": "✅", "different": "❌", "not comparable": "⚠️"}[found.verdict]
    lines = [f"### {icon} {_escaped(verdict(found))}", ""]
    lines += [f"A `{found.a}` · B `{found.b}`", ""]
    differing = [row for row in shown(found) if row.state == "different"]
    lines += _bullets("Structure", [str(one) for one in found.structure])
    if differing:
        lines += [*_markdown_table(differing), ""]
        for row in differing:
            lines += _bullets(f"`{row.name}`", list(details(row)))
    lines += _bullets("Conclusions that changed", [str(one) for one in found.conclusions])
    lines += _bullets("What else differs", [str(one) for one in found.reasons])
    if suggest:
        lines += _bullets("Tolerances that would pass", [f"`{s}`" for s in suggestions(found)])
    same = [row for row in shown(found) if row.state == "equal"]
    if same:
        title = f"{count(len(same), 'variable')} within tolerance"
        lines += ["<details>", f"<summary>{title}</summary>", ""]
        lines += [*_markdown_table(same), "", "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


def _bullets(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    marked = [entry if entry.startswith("`--") else _escaped(entry) for entry in entries]
    return [f"**{title}**", "", *(f"- {entry}" for entry in marked), ""]


def _markdown_table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| " + " | ".join(HEAD) + " |"
    yield "|---|---|---:|---:|---:|---:|---:|---|"
    for row in rows:
        cells = [_escaped(cell) for cell in _cells(row)]
        cells[1] = f"`{row.name}`"
        yield "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    for mark in "\\|*_<>`":
        text = text.replace(mark, "\\" + mark)
    return text
