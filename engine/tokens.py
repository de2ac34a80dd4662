"""Tokens: every stimulus as token ids, every answer as the one token that follows its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchclamp.engine.model import ModelSource
from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a stimulus set, without padding, in stimulus order."""

    ids: tuple[tuple[int, ...], ...]
    correct: tuple[int, ...] | None
    foil: tuple[int, ...] | None

    @property
    def longest(self) -> int:
        """Most tokens in a stimulus."""
        return max(map(len, self.ids))


def tokenise(table: StimulusTable, model: ModelSource, problems: Problems) -> TokenTable | None:
    """Tokenise a set and its answers as the model's own tokenizer does, BOS included."""
    here = ("stimuli", table.name)
    before = len(problems)
    ids = _encode(model, table.texts)
    _check_texts(table, ids, model, problems)
    answers: dict[str, tuple[int, ...] | None] = {"correct": None, "foil": None}
    for part in answers:
        texts = getattr(table, part)
        if texts is not None:
            answers[part] = _answer_tokens(table, ids, texts, (model, problems, part))
    correct, foil = answers["correct"], answers["foil"]
    if correct and foil:
        for id_, right, wrong in zip(table.ids, correct, foil, strict=True):
            if right == wrong >= 0:
                token = model.tokenizer.convert_ids_to_tokens(right)
                problems.add(
                    (*here, "answer", "foil"),
                    "P406",
                    f"stimulus {id_!r}: foil and correct answer are the same token, {token!r}",
                )
                break
    if len(problems) > before:
        return None
    return TokenTable(ids, correct, foil)


def _encode(model: ModelSource, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(ids) for ids in model.tokenizer(list(texts))["input_ids"])


def _check_texts(
    table: StimulusTable,
    ids: tuple[tuple[int, ...], ...],
    model: ModelSource,
    problems: Problems,
) -> None:
    """Report texts that are empty, too long for the model, or begin with two BOS tokens."""
    path = ("stimuli", table.name, "text")
    bos = model.tokenizer.bos_token_id
    for id_, tokens in zip(table.ids, ids, strict=True):
        if not tokens:
            problems.add(path, "P407", f"stimulus {id_!r} has no tokens")
        elif len(tokens) > model.context:
            problems.add(
                path,
                "P407",
                f"stimulus {id_!r} has {len(tokens)} tokens, the model reads {model.context}; "
                "nothing is truncated silently",
            )
        elif bos is not None and tokens[:2] == (bos, bos):
            problems.add(
                path,
                "P407",
                f"stimulus {id_!r} begins with two BOS tokens: the tokenizer adds one already",
            )
        else:
            continue
        return


def _answer_tokens(
    table: StimulusTable,
    ids: tuple[tuple[int, ...], ...],
    answers: tuple[str, ...],
    context: tuple[ModelSource, Problems, str],
) -> tuple[int, ...]:
    """Return the token that each answer is after its text; report the first that is not one.

    The answer is tokenised together with its text, because tokenizers cut by context.
    """
    model, problems, part = context
    joined = _encode(
        model, [text + answer for text, answer in zip(table.texts, answers, strict=True)]
    )
    result = []
    for id_, before, after, answer in zip(table.ids, ids, joined, answers, strict=True):
        tail = after[len(before) :]
        if after[: len(before)] != before:
            trouble = "merges with the end of the text"
        elif len(tail) != 1:
            pieces = model.tokenizer.convert_ids_to_tokens(list(tail))
            trouble = f"is {len(tail)} tokens after the text: {' '.join(map(repr, pieces))}"
        else:
            result.append(tail[0])
            continue
        problems.add(
            ("stimuli", table.name, "answer", part),
            "P406",
            f"stimulus {id_!r}: the {part} answer {answer!r} {trouble}; it must be one token",
        )
        return ()
    return tuple(result)
