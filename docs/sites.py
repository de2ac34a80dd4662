"""Writes the tables of docs/sites.md from the registry; run it after a change of either table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from patchclamp.registry import ARCHITECTURES, SITES
from patchclamp.registry.locations import Architecture

PAGE = Path(__file__).with_name("sites.md")


def sites() -> Iterator[str]:
    """Yield the lines of the table of sites."""
    yield "| site | dims | meaning | identity |"
    yield "|---|---|---|---|"
    for site in SITES.values():
        note = "" if site.written else "; never written"
        dims = ", ".join(site.dims)
        yield f"| `{site.name}` | {dims} | {site.summary}{note} | `{site.identity}` |"


def architectures() -> Iterator[str]:
    """Yield the lines of the table of what each architecture has."""
    yield f"| architecture | model type | {' | '.join(f'`{site}`' for site in SITES)} |"
    yield f"|---|---|{'---|' * len(SITES)}"
    for row in ARCHITECTURES.values():
        when = ", ".join(f"{key}: {str(value).lower()}" for key, value in row.when.items())
        kind = f"`{row.model_type or row.name}`{f' ({when})' if when else ''}"
        has = " | ".join("yes" if site in row.sites else "–" for site in SITES)
        yield f"| `{row.name}` | {kind} | {has} |"


def locations() -> Iterator[str]:
    """Yield a table for all architectures whose sites live at the same places."""
    alike: list[list[Architecture]] = []
    for row in ARCHITECTURES.values():
        same = [
            rows for rows in alike if (rows[0].places, rows[0].writes) == (row.places, row.writes)
        ]
        if same:
            same[0].append(row)
        else:
            alike.append([row])
    for rows in alike:
        yield f"### {', '.join(row.name for row in rows)}"
        yield ""
        yield from (f"{row.summary}." for row in rows[:1])
        yield ""
        yield "| site | where |"
        yield "|---|---|"
        for site in SITES:
            yield f"| `{site}` | {_where(rows[0], site)} |"
        yield ""


def _where(row: Architecture, site: str) -> str:
    if site not in row.places:
        return f"none: {row.lacks[site]}"
    where = str(row.places[site])
    return f"{where}; written as {row.writes[site]}" if site in row.writes else where


def written(text: str) -> str:
    """Return the page with its tables as the registry has them now."""
    for name, lines in (
        ("sites", sites()),
        ("architectures", architectures()),
        ("locations", locations()),
    ):
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{chr(10).join(lines).rstrip()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
