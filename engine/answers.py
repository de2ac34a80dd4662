"""Answers: which tokens at which places of the logits say how probable each answer is.

An answer of one token is read where the text ends. One of several tokens is read at each of
them, teacher-forced: the text goes through the model with the answer after it, once for each way
in which the spellings of its stimulus go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from patchclamp.engine.backend import Step
from patchclamp.engine.tokens import TokenTable


@dataclass(frozen=True)
class Asked:
    """What goes through the model for some stimuli, and what is read of its logits.

    `ids` are the input rows; `first` is the row of each stimulus that is its text, perhaps with
    an answer after it. `step` lacks only its place in the model: see `engine.scoring`.
    """

    ids: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]
    step: Step


@dataclass
class _Places:
    """Collects input rows and the places in them that are read, each once."""

    ids: list[tuple[int, ...]] = field(default_factory=list)
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)

    def number(self, row: int, position: int) -> int:
        return self.numbers.setdefault((row, position), len(self.numbers))


def ask(
    tokens: TokenTable,
    rows: Sequence[int],
    *,
    reads: Sequence[str] = (),
    clean: torch.Tensor | None = None,
) -> Asked:
    """Return what is to be run and read for the answers of some stimuli of a set.

    `rows` are stimuli, in any order and as often as wanted. `reads` names what is read beyond the
    answers: `entropy`, `text`, or `distribution`; `clean` is the distribution, (stimulus, token),
    that a divergence is measured from.
    """
    places = _Places()
    first, at_first, scored = [], [], []
    for stimulus in rows:
        text = tokens.ids[stimulus]
        tails = [spelling.tokens[stimulus] for spelling in tokens.spellings]
        ways = tokens.ways[stimulus]
        start = len(places.ids)
        places.ids += [(*text, *way) for way in ways]
        first.append(start)
        at_first.append(places.number(start, len(text) - 1))
        for tail in tails:
            row = start + next(i for i, way in enumerate(ways) if way[: len(tail) - 1] == tail[:-1])
            steps = range(1, len(tail))
            after = [places.number(row, len(text) - 1 + step) for step in steps]
            scored.append((tail, [at_first[-1], *after]))
    step: Step = {
        "do": "answers",
        "key": "answers",
        "rows": torch.tensor([row for row, _ in places.numbers]),
        "positions": torch.tensor([position for _, position in places.numbers]),
        "first": torch.tensor(at_first),
        "reads": tuple(reads),
        "text": _text(tokens, rows, (places.ids, first)) if "text" in reads else None,
        "clean": clean,
        "columns": None,
        **_scored(tokens, rows, scored),
    }
    return Asked(tuple(places.ids), tuple(first), step)


def _scored(
    tokens: TokenTable,
    rows: Sequence[int],
    scored: Sequence[tuple[tuple[int, ...], Sequence[int]]],
) -> dict[str, object]:
    """Return tokens and their places, (stimulus, spelling, length), -1 where one is shorter."""
    if not tokens.spellings:
        return {"tokens": None}
    shape = len(rows), len(tokens.spellings), max(len(tail) for tail, _ in scored)
    token = torch.full(shape, -1, dtype=torch.long)
    place = torch.zeros(shape, dtype=torch.long)
    for number, (tail, where) in enumerate(scored):
        at = divmod(number, shape[1])
        token[at][: len(tail)] = torch.tensor(tail)
        place[at][: len(tail)] = torch.tensor(where)
    numbers = {part: number for number, part in enumerate(tokens.parts)}
    return {
        "tokens": token,
        "places": place,
        "parts": torch.tensor([numbers[spelling.part] for spelling in tokens.spellings]),
        "correct": torch.tensor([tokens.key[row] for row in rows]),
        "combine": tokens.combine,
        "options": tokens.are_options,
        "variants": len(tokens.spellings) // len(tokens.parts),
    }


def _text(
    tokens: TokenTable, rows: Sequence[int], inputs: tuple[Sequence[tuple[int, ...]], list[int]]
) -> torch.Tensor:
    """Return the token that follows each token of a text, (input row, position); -1 for none."""
    ids, first = inputs
    following = torch.full((len(ids), max(map(len, ids))), -1, dtype=torch.long)
    for row, stimulus in zip(first, rows, strict=True):
        text = tokens.ids[stimulus]
        following[row, : len(text) - 1] = torch.tensor(text[1:])
    return following
