"""Generated rows: loops over values and vocabularies, and words drawn for each combination.

1. Word lists are read, shortened and cleared of vocabularies.
2. Every combination of the loops' values becomes a row; the last loop runs fastest.
3. Words are drawn for each row from a stream of its own, named by the loops that the draw is not
   shared over: leaving out a combination changes no other one's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice, product
from math import prod
from typing import Any

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.derive import Count
from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import Row, Vocabulary, as_text
from patchclamp.registry.errors import nearest
from patchclamp.specs.stimuli import Draw, Template, WordList

MOST = 200_000
"""Most combinations of a template's loops; each is a text that is tokenised."""

_RANGE = re.compile(r"(-?[0-9]{1,9})\.\.(-?[0-9]{1,9})")

Path = tuple[str | int, ...]


def vocabularies_of(entry: Template) -> dict[str, Vocabulary]:
    """Return the vocabularies of a template by name."""
    return {name: Vocabulary(name, items) for name, items in entry.vocabularies.items()}


def generate(
    entry: Template, here: tuple[str, ...], problems: Problems, seed: int, count: Count | None
) -> list[Row] | None:
    """Return the rows of a template, or None after reporting why they can't be made."""
    before = len(problems)
    loops = {name: _loop(entry, name, here, problems) for name in entry.for_}
    lists = {
        name: _words(entry, words, (*here, "words", name), problems, count)
        for name, words in entry.words.items()
    }
    size = prod(map(len, loops.values()))
    if size > MOST:
        message = f"these loops make {size:,} rows; at most {MOST:,} are allowed"
        problems.add((*here, "for"), "P417", message)
    _check_names(entry, loops, here, problems)
    if len(problems) > before:
        return None
    sources: Mapping[str, tuple[Any, ...]] = {**vocabularies_of(entry), **lists}
    for name, draw in entry.draw.items():
        _check_draw(entry, name, draw, sources, (here, problems))
    if len(problems) > before:
        return None
    rows: list[Row] = []
    for values in product(*loops.values()):
        row = dict(zip(loops, values, strict=True))
        seeds = Seeds(seed, f"stimuli.{here[-1]}")
        drawn = {
            name: _drawn(name, draw, sources[draw.source], row, seeds)
            for name, draw in entry.draw.items()
        }
        rows.append({**row, **drawn})
    return rows


def _check_names(
    entry: Template,
    loops: Mapping[str, tuple[Any, ...]],
    here: tuple[str, ...],
    problems: Problems,
) -> None:
    """P416: a name means one thing, and no loop has a value twice."""
    for key, names in (("for", entry.for_), ("draw", entry.draw)):
        others = {"vocabularies": entry.vocabularies, **({} if key == "for" else {"for": loops})}
        for name in names:
            where = next((other for other, of in others.items() if name in of), None)
            if where is not None:
                message = f"{name!r} stands under '{where}' too; give one of them another name"
                problems.add((*here, key, name), "P416", message)
    for name, values in loops.items():
        twice = _twice(values)
        if twice is not None:
            message = f"the loop {name!r} has {twice!r} twice, which would repeat stimuli"
            problems.add((*here, "for", name), "P416", message)


def _twice(values: Sequence[Any]) -> str | None:
    """Return a value that comes twice, as text; None for none."""
    seen: set[str] = set()
    for text in map(as_text, values):
        if text in seen:
            return text
        seen.add(text)
    return None


def _loop(entry: Template, name: str, here: tuple[str, ...], problems: Problems) -> tuple[Any, ...]:
    """Return the values of a loop: a range, or a list in which vocabularies go by name."""
    given = entry.for_[name]
    if isinstance(given, str):
        found = _RANGE.fullmatch(given)
        if found is None or int(found[2]) < int(found[1]):
            message = f"a loop is a list, or a range upwards such as 0..7; got {given!r}"
            problems.add((*here, "for", name), "P416", message)
            return ()
        # One more than allowed is enough to be refused, without making a billion of them.
        return tuple(islice(range(int(found[1]), int(found[2]) + 1), MOST + 1))
    known = vocabularies_of(entry)
    return tuple(known.get(value, value) if isinstance(value, str) else value for value in given)


def _words(
    entry: Template, given: WordList, path: Path, problems: Problems, count: Count | None
) -> tuple[Any, ...]:
    """Return a word list as it is drawn from."""
    words = given.words
    if given.path is not None:
        file = problems.loaded.folder_of((*path, "path")) / given.path
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problems.add((*path, "path"), "P401", f"cannot read {given.path}: {reason}")
            return ()
        words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    known = vocabularies_of(entry)
    for i, name in enumerate(given.exclude):
        if name not in known:
            close = nearest(name, known)
            message = f"no vocabulary {name!r}"
            problems.add(
                (*path, "exclude", i), "P402", message, allowed=tuple(known), suggestion=close
            )
            return ()
        words = tuple(word for word in words if word not in known[name])
    if given.keep == "one_token" and count is not None and words:
        # Counted after a word that the tokenizer cuts the same way each time.
        alone = count(["."])[0]
        lengths = count([f". {as_text(word)}" for word in words])
        words = tuple(w for w, n in zip(words, lengths, strict=True) if n == alone + 1)
    return words[: given.first]


def _check_draw(
    entry: Template,
    name: str,
    draw: Draw,
    sources: Mapping[str, tuple[Any, ...]],
    context: tuple[tuple[str, ...], Problems],
) -> None:
    """P402, P417: a draw has a list to draw from that is long enough."""
    here, problems = context
    path = (*here, "draw", name)
    if draw.source not in sources:
        message = f"no word list or vocabulary {draw.source!r}"
        close = nearest(draw.source, sources)
        problems.add((*path, "source"), "P402", message, allowed=tuple(sources), suggestion=close)
        return
    for i, loop in enumerate(draw.share):
        if loop not in entry.for_:
            close = nearest(loop, entry.for_)
            problems.add(
                (*path, "share", i),
                "P402",
                f"no loop {loop!r} under 'for'",
                allowed=tuple(entry.for_),
                suggestion=close,
            )
    twice = None if draw.replace or draw.n == 1 else _twice(sources[draw.source])
    if twice is not None:
        message = f"{draw.source!r} has {twice!r} twice, which could come twice in one stimulus"
        problems.add((*path, "source"), "P417", message)
    there = len(sources[draw.source])
    if there < (1 if draw.replace else draw.n):
        message = f"{draw.n} words are to be drawn from {draw.source!r}, which has {there}"
        problems.add((*path, "n"), "P417", message)


def _drawn(name: str, draw: Draw, source: tuple[Any, ...], row: Row, seeds: Seeds) -> Any:
    """Draw the words of a row: one word, or a list where several are asked for."""
    key = ",".join(f"{k}={as_text(v)}" for k, v in row.items() if k not in draw.share)
    rng = seeds.generator(f"draw.{name}/{key}")
    chosen = rng.choice(len(source), draw.n, replace=draw.replace)
    words = tuple(source[int(i)] for i in chosen)
    return words if draw.n > 1 else words[0]
