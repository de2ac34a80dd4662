"""Marks: tokens that stand for no part of a text, and what is said of texts that hold them.

A beginning (BOS, [CLS]), an end that some tokenizers put behind every text (EOS, [SEP]), and the
token that they read where they know no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchclamp.engine.encoding import Encoded
from patchclamp.engine.model import ModelSource
from patchclamp.engine.problems import Problems
from patchclamp.specs.codes import DEEP

UNKNOWN, ENDED, ALIKE = DEEP
"""The lints of what a tokenizer does not know, of the ends that it puts, and of texts that are the
same to it."""


@dataclass(frozen=True)
class Marks:
    """The marks of a tokenizer, None for one that it has not, and how the last two are written.

    `end` is only one that it puts behind every text.
    """

    bos: int | None = None
    end: int | None = None
    unknown: int | None = None
    end_text: str = ""
    unknown_text: str = ""

    def lacking(self, ids: Sequence[int], text: str) -> tuple[int, ...]:
        """Return the places of a text's tokens that stand for what the tokenizer does not know."""
        if self.unknown is None or self.unknown not in ids or self.unknown_text in text:
            return ()
        return tuple(place for place, token in enumerate(ids) if token == self.unknown)


def marks_of(model: ModelSource) -> Marks:
    """Return the marks of a model's tokenizer, as the spec lets it put them."""
    tokenizer, choice = model.tokenizer, model.choice.tokenizer
    end, unknown = None, tokenizer.unk_token_id
    if choice.bos != "never" and choice.chat == "none":
        put = tokenizer(_SIGN)["input_ids"]
        bare = tokenizer(_SIGN, add_special_tokens=False)["input_ids"]
        end = put[-1] if bare and len(put) > len(bare) and put[-1] != bare[-1] else None
    # An encoder's tokenizer has no BOS, and begins with [CLS] as others with it.
    bos = tokenizer.bos_token_id
    bos = tokenizer.cls_token_id if bos is None else bos
    # Where it is the mark of a beginning or an end, too, it may stand for that.
    if unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        unknown = None
    return Marks(
        bos,
        end,
        unknown,
        "" if end is None else str(tokenizer.convert_ids_to_tokens(end)),
        "" if unknown is None else str(tokenizer.unk_token),
    )


_SIGN = "one two"
"""A text that says nothing special."""


def tell_marks(
    model: ModelSource,
    encoded: Encoded,
    of: tuple[str, Sequence[str], Sequence[str]],
    problems: Problems,
) -> None:
    """P612, P613, P614: say of a set, given with its ids and texts, what a tokenizer makes of it.

    An end is told of a causal model, where what is read behind a text comes after it; others are
    made to read it.
    """
    (name, names, _), marks = of, marks_of(model)

    def tell(code: str, message: str) -> None:
        problems.add(("stimuli", name, "text"), code, message, severity="warning")

    def first_of(rows: Sequence[int]) -> str:
        return f"{len(rows)} of {len(names)} texts, {names[rows[0]]!r} first, "

    otherwise = "write them otherwise, or leave them out by 'where'"
    lacking = _lacking(encoded, of[2], marks)
    if lacking:
        read = f"the tokenizer does not know: the model reads {marks.unknown_text!r} there"
        tell(UNKNOWN, f"{first_of(lacking)}hold what {read}; {otherwise}")
    passed_by = _passed_by(encoded)
    if passed_by:
        what = ascii(next(iter(passed_by.values())))
        read = f"no token stands for, as {what}: the model does not read it"
        tell(UNKNOWN, f"{first_of([*passed_by])}hold what {read}; {otherwise}")
    if marks.end is not None and not model.architecture.encoder:
        read = f"the tokenizer ends each text with {marks.end_text!r}: what is read behind a text"
        after = "as a next token, is what follows that mark"
        tell(
            ENDED, f"{read}, {after}; 'bos: never' in model.tokenizer puts none, and no BOS either"
        )
    alike = _alike(encoded)
    if alike:
        row, other = next(iter(alike.items()))
        which = f"text of {names[row]!r} is other than that of {names[other]!r}"
        tell(ALIKE, f"{first_of([*alike])}are read as others are: the {which}, and their tokens "
             "are the same")  # fmt: skip


def _lacking(encoded: Encoded, texts: Sequence[str], marks: Marks) -> list[int]:
    """Return the texts with a token that stands for what the tokenizer does not know."""
    if marks.unknown is None or not encoded.ids.holds(marks.unknown):
        return []
    read = enumerate(zip(encoded.ids, texts, strict=True))
    return [row for row, (ids, text) in read if marks.lacking(ids, text)]


def _passed_by(encoded: Encoded) -> dict[int, str]:
    """Return by text the first characters, other than spaces, that no token stands for."""
    found = {}
    for row, (text, places) in enumerate(zip(encoded.texts, encoded.places or (), strict=False)):
        end = 0
        for start, stop in zip(places[::2], places[1::2], strict=True):
            if start > end and text[end:start].strip():
                break
            end = max(end, stop)
        else:
            start = len(text)
        if unread := text[end:start].strip():
            found[row] = unread
    return found


def _alike(encoded: Encoded) -> dict[int, int]:
    """Return texts that have the tokens of another text before them, with that one's row."""
    seen: dict[int, int] = {}
    found = {}
    for row, ids in enumerate(encoded.ids):
        other = seen.setdefault(hash(ids), row)  # as numbers: ids themselves would take more room
        differ = other != row and encoded.texts[other] != encoded.texts[row]
        if differ and encoded.ids[other] == ids:
            found[row] = other
    return found
