"""Spans and positions: which tokens a stretch of text, a name or a window means in a stimulus."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from patchclamp.specs.positions import FIXED, Window


class SpanError(ValueError):
    """A stretch of text that is not there, stands there several times, or shares a token."""


class PositionError(ValueError):
    """A position that a stimulus does not have."""


@dataclass(frozen=True, slots=True)
class Stimulus:
    """A text as the model reads it: its tokens' places, its BOS tokens, and its spans' tokens.

    `end` is the mark that the tokenizer has put behind it, if it does, `unknown` are the tokens
    that stand for what it does not know.
    """

    text: str
    offsets: tuple[tuple[int, int], ...]
    lead: int
    spans: dict[str, range]
    end: str = ""
    unknown: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets)


def find(text: str, said: str, occurrence: str = "only") -> tuple[int, int]:
    """Return where a text says something, in characters; whole words only.

    >>> find("in May, not Mayor", "May"), find("1 11 1", "1", "last")
    ((3, 6), (5, 6))
    """
    found = occurrences(text, said)
    if not found:
        raise SpanError(f"{said!r} does not stand in {text!r}")
    if occurrence == "only" and len(found) > 1:
        raise SpanError(
            f"{said!r} stands {len(found)} times in {text!r}; say which with "
            "'occurrence: first' or 'last'"
        )
    return found[-1 if occurrence == "last" else 0]


def occurrences(text: str, said: str) -> list[tuple[int, int]]:
    """Return every place where a text says something, whole words only; they may overlap.

    A word of a span is a word of the text: '1' is not found in '11', nor ' 1' before '2'.

    >>> occurrences("1 11 1 1 1", "1 1")
    [(5, 8), (7, 10)]
    """
    starts = (m.start() for m in re.finditer(f"(?={re.escape(said)})", text)) if said else ()
    places = ((start, start + len(said)) for start in starts)
    return [place for place in places if not any(_cuts(text, edge) for edge in place)]


def _cuts(text: str, at: int) -> bool:
    """Return whether a word, or one character that is written as several, goes on at a place.

    >>> _cuts("cafe\u0301", 4), _cuts("to be", 2)
    (True, False)
    """
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    return _extends(after) or before == _JOINER or (_in_word(before) and _in_word(after))


def _in_word(character: str) -> bool:
    """Return whether words are made of it: letters, digits, and the marks that stand on them."""
    return character.isalnum() or character == "_" or _extends(character)


def _extends(character: str) -> bool:
    """Return whether it belongs to the character before it: accents, vowel signs, skin tones."""
    marks = unicodedata.category(character).startswith("M")
    return marks or character in _JOINERS or "\U0001f3fb" <= character <= "\U0001f3ff"


_JOINER = "\u200d"
_JOINERS = (_JOINER, "\u200c")
"""They stand inside of words, and between the parts of an emoji."""


def tokens_of(text: str, place: tuple[int, int], offsets: tuple[tuple[int, int], ...]) -> range:
    """Return the tokens that a stretch of text is; none of them may say anything else.

    >>> tokens_of("in May", (3, 6), ((0, 2), (2, 4), (4, 6)))
    range(1, 3)
    """
    start, end = place
    found = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and a < b]
    if not found:
        raise SpanError(f"{text[start:end]!r} has no token")
    first, last = offsets[found[0]][0], offsets[found[-1]][1]
    if text[first:start].strip() or text[end:last].strip():
        shared = found[0] if text[first:start].strip() else found[-1]
        a, b = offsets[shared]
        raise SpanError(f"{text[start:end]!r} shares the token {text[a:b]!r} with its neighbour")
    return range(found[0], found[-1] + 1)


def resolve(anchor: str | int, stimulus: Stimulus) -> range:
    """Return the tokens that a position means.

    >>> resolve("s1.last", Stimulus("a b", ((0, 1), (1, 3)), 0, {"s1": range(0, 2)}))
    range(1, 2)
    """
    n = len(stimulus)
    if isinstance(anchor, int):
        at = anchor if anchor >= 0 else n + anchor
        if not 0 <= at < n:
            raise PositionError(f"has {n} tokens and no position {anchor}")
        return range(at, at + 1)
    if anchor in FIXED:
        return {"first": range(1), "all": range(n)}.get(anchor, range(n - 1, n))
    name, _, part = anchor.partition(".")
    tokens = stimulus.spans[name]
    return {"first": tokens[:1], "last": tokens[-1:]}.get(part, tokens)


def meant(anchor: str | int, stimulus: Stimulus) -> range:
    """Return the tokens that a position means; raises `PositionError` where it may mean others.

    That is so of a mark which the tokenizer puts behind each text, and of what it does not know.

    >>> meant(-1, Stimulus("a", ((0, 1), (1, 1)), 0, {}, end="[SEP]"))
    range(1, 2)
    """
    tokens = resolve(anchor, stimulus)
    if stimulus.end and anchor in ("last", "answer"):
        raise PositionError(
            f"ends with {stimulus.end!r}, which the tokenizer puts behind each text: say -1 if "
            f"{anchor!r} is that mark, and -2 if it is the last token of the text itself"
        )
    odd = [token for token in tokens if token in stimulus.unknown]
    if odd and anchor != "all":
        raise PositionError(
            f"holds at {anchor!r}, token {odd[0]}, what the tokenizer does not know; write it "
            "otherwise, leave it out by 'where', or allow P612 if it is meant"
        )
    return tokens


def lay(window: Window, stimulus: Stimulus, *, masked: bool = False) -> Sequence[int]:
    """Return the tokens of a window; with `masked`, -1 for each that the text lacks.

    `left` begins with the first token, or after BOS where that is skipped, as is then a mark that
    the tokenizer puts behind each text; `centre` is the middle token of what is left, the earlier
    one of two; a span means its last token unless its name ends in `.first`. Raises `PositionError`
    where the text has too few tokens.
    """
    lead = stimulus.lead if window.skip == "bos" else 0
    n = len(stimulus) - (window.skip == "bos" and bool(stimulus.end))
    if window.align == "left":
        first, stop = lead, lead + (window.size or 0)
    else:
        before, after = window.before or 0, window.after or 0
        if window.align == "centre":
            at = lead + (n - lead - 1) // 2
        else:
            at = resolve(window.align, stimulus)[-1]
        first, stop = at - before, at + after + 1
    if masked:
        return [token if lead <= token < n else -1 for token in range(first, stop)]
    if first < lead or stop > n:
        missing = max(0, lead - first) + max(0, stop - n)
        raise PositionError(
            f"has {n - lead} tokens{' after BOS' if lead else ''}, and a window at "
            f"{window.align!r} lacks {missing} of its {stop - first}"
        )
    return range(first, stop)
