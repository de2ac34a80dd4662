"""The page of a run: one HTML file that needs nothing else, in which nothing is computed.

Guards, expectations, what was run and its cost come first; then each analysis with its numbers, its
figures, and the lines of the spec that made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape

import xarray as xr

from patchclamp.engine.figures import Sketch, Undrawn, attempted
from patchclamp.engine.figures.axes import panel_size
from patchclamp.engine.figures.render import panels_for_page
from patchclamp.engine.reporting.cards import cards
from patchclamp.engine.reporting.excerpts import excerpts
from patchclamp.engine.reporting.methods import methods
from patchclamp.engine.reporting.style import STYLE
from patchclamp.engine.results import StoredResult
from patchclamp.engine.summary import summarise
from patchclamp.registry import ANALYSES

ROWS = 12
"""Rows of a table with a row for each head; the result holds all."""

SHOWN = 5
"""Stimuli of a set that are shown."""
WIDE = 6.0
"""Inches of a panel that is scrolled on a narrow screen rather than shrunk until unreadable."""


def page(result: StoredResult) -> str:
    """Return the page of a result."""
    title = str(result.attrs.get("title", result.path.stem))
    body = "\n".join(
        [
            *_head(result, title),
            *cards(result),
            *_contents(result),
            *(part for name in result.analyses for part in _analysis(result, name)),
            *_captures(result),
            *_stimuli(result),
            *_methods(result),
            *_provenance(result),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · patchclamp</title>\n<style>{STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _head(result: StoredResult, title: str) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    if result.attrs.get("description"):
        yield f"<p>{escape(str(result.attrs['description']))}</p>"
    facts = [result.attrs.get("model"), result.attrs.get("created_at")]
    if result.attrs.get("digest"):
        facts.append(f"digest {str(result.attrs['digest'])[:8]}")
    yield f'<p class="sub">{" · ".join(escape(str(fact)) for fact in facts if fact)}</p>'


def _contents(result: StoredResult) -> Iterator[str]:
    links = [f'<a href="#{escape(name)}">{escape(name)}</a>' for name in result.analyses]
    links += ['<a href="#captures">captures</a>'] if result.captures else []
    links += ['<a href="#stimuli">stimuli</a>', '<a href="#methods">methods</a>',
              '<a href="#provenance">provenance</a>']  # fmt: skip
    yield f"<nav>{''.join(links)}</nav>"


def _analysis(result: StoredResult, name: str) -> Iterator[str]:
    """Yield a section for an analysis."""
    data = result.analyses[name]
    kind = str(data.attrs.get("kind", ""))
    about = ANALYSES[kind].summary if kind in ANALYSES else ""
    yield f'<section id="{escape(name)}"><h2>{escape(name)}</h2>'
    yield f'<p class="sub">{escape(kind)}{": " if about else ""}{escape(about)}</p>'
    yield from _table(data)
    yield from _figures(data)
    yield from _spec_lines(result, "analyses", name)
    yield "</section>"


def _figures(data: xr.Dataset) -> Iterator[str]:
    """Yield all figures; one that cannot be drawn is said."""
    for found in attempted(data):
        if isinstance(found, Undrawn):
            text = f"The figure {found.name} could not be drawn: {found.reason}"
            yield f'<p class="bad">{escape(text)}</p>'
        else:
            yield from _figure(found)


def _table(data: xr.Dataset) -> Iterator[str]:
    found = summarise(data, top=ROWS)
    if found is None:
        return
    head = "".join(f"<th>{escape(cell)}</th>" for cell in found.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in found.rows
    )
    yield f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    yield f'<p class="sub">{escape(found.shortened)}</p></div>' if found.shortened else "</div>"


def _figure(sketch: Sketch) -> Iterator[str]:
    """Yield a figure: its panels, its sentence, and what it rests on."""
    single = " single" if len(sketch.panels) == 1 else ""
    yield f'<figure><h3>{escape(sketch.title)}</h3><div class="body{single}">'
    yield '<div class="panels">'
    for panel, svg in zip(sketch.panels, panels_for_page(sketch), strict=True):
        wide = " wide" if panel_size(panel)[0] > WIDE else ""
        label = escape(f"{sketch.title}: {panel.title}")
        yield f'<div class="panel{wide}" role="img" aria-label="{label}">{svg}</div>'
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
        for name, text in sketch.facts.items()
    )
    yield f"</div><figcaption>{escape(sketch.sentence)}"
    yield f'<dl class="facts">{facts}</dl></figcaption></div></figure>'


def _spec_lines(result: StoredResult, section: str, name: str) -> Iterator[str]:
    found = excerpts(result, section, name)
    if not found:
        return
    lines = []
    for number, one in enumerate(found):
        lines += ['<span class="no">   …</span>'] if number else []
        for line, text in enumerate(one.text.splitlines()):
            shown = f"{one.line + line:4d}" if one.line else "    "
            lines.append(f'<span class="no">{shown}</span>  {escape(text)}')
    listed = "\n".join(lines)
    yield f"<details open><summary>the spec lines that made it</summary><pre>{listed}</pre>"
    yield "</details>"


def _stimuli(result: StoredResult) -> Iterator[str]:
    """Yield the first stimuli of each set."""
    yield '<section id="stimuli"><h2>Stimuli</h2>'
    for path, data in result.groups.items():
        if path.startswith("/stimuli/") and "text" in data:
            yield from _set(path.rpartition("/")[2], data)
    yield "</section>"


def _set(name: str, data: xr.Dataset) -> Iterator[str]:
    first = data.isel({dim: slice(0, SHOWN) for dim in ("stimulus",) if dim in data.dims})
    first = first.isel({d: 0 for d in data["text"].dims if d != "stimulus"})
    labels = [
        str(coord)
        for coord in data.coords
        if data[coord].dims == ("stimulus",) and coord != "stimulus"
    ]
    columns = ["stimulus", "text", *(c for c in ("correct", "foil") if c in data), *labels]
    head = "".join(f'<th class="text">{escape(column)}</th>' for column in columns)
    rows = []
    for row in range(first.sizes["stimulus"]):
        cells = (str(first[column].to_numpy()[row]) for column in columns)
        text = "".join(f'<td class="text">{escape(c)}</td>' for c in cells)
        rows.append(f"<tr>{text}</tr>")
    yield f"<h3>{escape(name)}</h3>"
    yield f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
    yield f'<p class="sub">The first {len(rows)} of {data.sizes["stimulus"]}.</p>'


def _captures(result: StoredResult) -> Iterator[str]:
    """Yield what was recorded, and what can be drawn of it."""
    rows = []
    for name in result.captures:
        for variable, one in result.capture(name).data_vars.items():
            sizes = " × ".join(f"{size} {dim}" for dim, size in one.sizes.items())
            cells = (name, str(variable), sizes, str(one.attrs.get("site", "")))
            rows.append("<tr>" + "".join(f'<td class="text">{escape(c)}</td>' for c in cells))
    if not rows:
        return
    yield '<section id="captures"><h2>Captures</h2>'
    yield f'<div class="scroll"><table>{"</tr>".join(rows)}</tr></table></div>'
    for name in result.captures:
        drawn = list(_figures(result.capture(name)))
        if drawn:
            yield f"<h3>{escape(name)}</h3>"
            yield from drawn
            yield from _spec_lines(result, "captures", name)
    yield "</section>"


def _methods(result: StoredResult) -> Iterator[str]:
    yield '<section id="methods"><h2>Methods</h2>'
    for paragraph in methods(result).split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    yield "</section>"


def _provenance(result: StoredResult) -> Iterator[str]:
    made = dict(result.provenance)
    spec = str(made.pop("spec", ""))
    text = json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False)
    yield '<section id="provenance"><h2>Provenance</h2>'
    if spec:
        yield _folded("the spec as it was written", spec)
    yield _folded("all of it, as JSON", text) + "</section>"
    yield f"<footer>{escape(result.path.name)}, read by patchclamp. All numbers are in it.</footer>"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>"
