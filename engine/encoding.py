"""Encoding: texts as the tokens that the model reads, with the place of each in its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from patchclamp.engine.model import ModelSource
from patchclamp.engine.problems import Problems
from patchclamp.engine.ragged import Ragged, Texts

_AT_ONCE = 200
"""Texts that the tokenizer is given at once: what it says of each is several times their size."""


@dataclass(frozen=True)
class Encoded:
    """Texts as the model reads them: token ids and, where the tokenizer tells, their places.

    `places` are the first and one past the last character of each token in `texts`, in turn; a
    token that is in no text, such as BOS, has an empty place. `texts` are what the chat template,
    if there is one, makes of them.
    """

    texts: Texts
    ids: Ragged
    places: Ragged | None
    before: int = 0
    """Characters that a chat template puts before each text."""

    def only(self, rows: Sequence[int]) -> Encoded:
        """Return some of the texts, by their numbers."""
        held = Texts(self.texts[row] for row in rows), Ragged(self.ids[row] for row in rows)
        places = self.places and Ragged(self.places[row] for row in rows)
        return Encoded(*held, places, self.before)

    def start(self, row: int, text: str) -> int:
        """Return where a text begins in what the chat template made of it."""
        made = self.texts[row]
        return self.before if made.startswith(text, self.before) else max(0, made.find(text))

    def offsets(self, row: int) -> tuple[tuple[int, int], ...]:
        """Return the places of a text's tokens in pairs."""
        assert self.places is not None, "asked of a tokenizer that tells them"
        flat = self.places[row]
        return tuple(zip(flat[::2], flat[1::2], strict=True))


def check_tokenizer(model: ModelSource, problems: Problems) -> bool:
    """Return whether the tokenizer has what the spec asks of it; P407 where it lacks it."""
    choice, before = model.choice.tokenizer, len(problems)
    if choice.bos == "always" and model.tokenizer.bos_token_id is None:
        message = f"the tokenizer of {model.choice.id!r} has no BOS token"
        problems.add(("model", "tokenizer", "bos"), "P407", message)
    if choice.chat == "user" and not getattr(model.tokenizer, "chat_template", None):
        message = f"the tokenizer of {model.choice.id!r} has no chat template"
        problems.add(("model", "tokenizer", "chat"), "P407", message)
    return len(problems) == before


def encode(model: ModelSource, texts: Sequence[str], tails: Sequence[str] = ()) -> Encoded:
    """Tokenise texts as the spec asks: with its BOS, and its chat template if it wants one.

    `tails` are put after the texts, an answer for example; a chat template ends before them.
    """
    choice, tokenizer = model.choice.tokenizer, model.tokenizer
    if choice.chat == "user":
        texts = Texts(_as_user(model, text) for text in texts)
    if tails:
        texts = Texts(text + tail for text, tail in zip(texts, tails, strict=True))
    if not texts:
        return Encoded(Texts(), Ragged(), Ragged())
    # A chat template writes its own special tokens.
    special = choice.bos != "never" and choice.chat == "none"
    ids, places = Ragged(), Ragged()
    bos = tokenizer.bos_token_id
    for at in range(0, len(texts), _AT_ONCE):
        # What is longer than the model reads is for the caller to refuse; the library would log.
        batch = tokenizer(
            list(texts[at : at + _AT_ONCE]),
            add_special_tokens=special,
            return_offsets_mapping=tokenizer.is_fast,
            verbose=False,
        )
        for number, row in enumerate(batch["input_ids"]):
            lacks = choice.bos == "always" and row[:1] != [bos]
            ids.append([bos, *row] if lacks else row)
            if tokenizer.is_fast:
                pairs = batch["offset_mapping"][number]
                places.append(chain.from_iterable([(0, 0), *pairs] if lacks else pairs))
    before = 0 if choice.chat == "none" else max(0, _as_user(model, _SIGN).find(_SIGN))
    held = texts if isinstance(texts, Texts) else Texts(texts)
    return Encoded(held, ids, places if tokenizer.is_fast else None, before)


def beyond(model: ModelSource, ids: Sequence[int]) -> str:
    """Say that a text holds a token that the model has not: the tokenizer is of another one."""
    (piece,) = model.tokenizer.convert_ids_to_tokens([max(ids)])
    return (
        f"holds {piece!r}, token {max(ids)} of the tokenizer, and the model has "
        f"{model.config.vocab_size:,}: they do not belong together"
    )


_SIGN = "0x5ce2f1a7"
"""A text that no chat template says."""


def _as_user(model: ModelSource, text: str) -> str:
    message = [{"role": "user", "content": text}]
    made = model.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return str(made)


def count_tokens(model: ModelSource, texts: Sequence[str]) -> list[int]:
    """Return how many tokens the model reads in each text, BOS included."""
    return [len(ids) for ids in encode(model, texts).ids]
