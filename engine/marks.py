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

UNKNOWN, ENDED = DEEP
"""The lints of what a tokenizer does not know, and of the ends that it puts."""


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
    """P612, P613: say of a set, given with its ids and texts, what its texts mean to a tokenizer.

    An end is told of a causal model, where what is read behind a text comes after it; others are
    made to read it.
    """
    (name, names, texts), marks = of, marks_of(model)
    path = ("stimuli", name, "text")
    if marks.unknown is not None and encoded.ids.holds(marks.unknown):
        read = zip(names, encoded.ids, texts, strict=True)
        lacking = [id_ for id_, ids, text in read if marks.lacking(ids, text)]
        if lacking:
            what = f"{len(lacking)} of {len(names)} texts, {lacking[0]!r} first, hold what the "
            message = (
                f"{what}tokenizer does not know: the model reads {marks.unknown_text!r} there; "
                "write them otherwise, or leave them out by 'where'"
            )
            problems.add(path, UNKNOWN, message, severity="warning")
    if marks.end is not None and not model.architecture.encoder:
        message = (
            f"the tokenizer ends each text with {marks.end_text!r}: what is read behind a text, as "
            "a next token, is what follows that mark; 'bos: never' in model.tokenizer puts none, "
            "and no BOS either"
        )
        problems.add(path, ENDED, message, severity="warning")
