"""Tokens: every stimulus as token ids, and every spelling of an answer as what follows its text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from patchclamp.engine.encoding import Encoded, beyond, encode
from patchclamp.engine.marks import marks_of, tell_marks
from patchclamp.engine.model import ModelSource
from patchclamp.engine.problems import Problems
from patchclamp.engine.ragged import Ragged, Texts
from patchclamp.engine.stimuli import StimulusTable
from patchclamp.specs.stimuli import Answer, Corrupt, Source
from patchclamp.specs.template import render

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Spelling:
    """One way to write one answer of each stimulus, and its tokens after the text.

    `part` is `correct`, `foil` or an option; `path` is where the set says this spelling.
    """

    part: str
    path: Path
    texts: Sequence[str]
    tokens: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a stimulus set, without padding, in stimulus order.

    `spellings` are in order of the answers, and for each of them of `variants`. `key` is, for each
    stimulus, the number of the right one among `parts`; `combine` is how the spellings of an
    answer become one.
    """

    ids: Ragged
    spellings: tuple[Spelling, ...] = ()
    key: tuple[int, ...] = ()
    combine: str = "logsumexp"
    encoded: Encoded | None = None
    variants: tuple[str, ...] = ("{x}",)

    @property
    def parts(self) -> tuple[str, ...]:
        """The answers: `correct` and `foil`, or the options."""
        return tuple(dict.fromkeys(spelling.part for spelling in self.spellings))

    @property
    def are_options(self) -> bool:
        """Whether the answers are the options of a multiple-choice question."""
        return bool(self.spellings) and self.parts[0] != "correct"

    def first_spelling(self, part: str) -> tuple[tuple[int, ...], ...] | None:
        """Return the tokens of an answer as its first spelling has them; None without it."""
        return next((spelled.tokens for spelled in self.spellings if spelled.part == part), None)

    @cached_property
    def ways(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """What must stand after each text so that its answers can be scored."""
        tails = ([said.tokens[row] for said in self.spellings] for row in range(len(self.ids)))
        known: dict[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]] = {}
        return tuple(known.setdefault(way, way) for way in map(continuations, tails))

    @cached_property
    def longest(self) -> int:
        """Most tokens in a stimulus."""
        return max(map(len, self.ids))

    @property
    def reach(self) -> int:
        """Most tokens that go through the model in a row: a text, and an answer's after it."""
        return max(
            len(text) + len(way)
            for text, ways in zip(self.ids, self.ways, strict=True)
            for way in ways
        )

    @cached_property
    def rows_each(self) -> int:
        """Most rows that the answers of a stimulus take."""
        return max(map(len, self.ways))


def continuations(tails: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Return what must stand after a text so that each of these answers can be scored.

    The last token of an answer is only predicted, and one way serves every answer that begins as
    it does.

    >>> continuations([(1,), (2, 3, 4), (2, 3), (5, 6)])
    ((2, 3), (5,))
    """
    ways: list[tuple[int, ...]] = []
    for way in sorted({tail[:-1] for tail in tails}, key=lambda way: (-len(way), way)):
        if not any(longer[: len(way)] == way for longer in ways):
            ways.append(way)
    return tuple(ways) or ((),)


def answer_of(name: str, problems: Problems) -> Answer | None:
    """Return what a stimulus set says of its answer; a corrupt set has that of its origin."""
    entries = problems.loaded.spec.stimuli
    entry: Source | Corrupt = entries[name]
    if isinstance(entry, Corrupt):
        entry = entries[str(entry.of)]
    assert not isinstance(entry, Corrupt), "the loader refuses what is corrupt twice"
    return entry.answer


def tokenise(table: StimulusTable, model: ModelSource, problems: Problems) -> TokenTable | None:
    """Tokenise a set and its answers as the model's own tokenizer does, BOS included."""
    before = len(problems)
    encoded = encode(model, table.texts)
    _check_texts(table, encoded.ids, model, problems)
    answer = answer_of(table.name, problems)
    spellings = []
    for part, path, texts in _written(table, answer):
        tokens = _answer_tokens(table, encoded.ids, (part, path, texts), (model, problems))
        spellings.append(Spelling(part, path, texts, tokens))
    if answer is not None and len(problems) == before:
        _check_options(table, answer, problems)
        _check_collisions(table, spellings, (model, answer, problems))
    if len(problems) > before:
        return None
    tell_marks(model, encoded, (table.name, table.ids, table.texts), problems)
    if answer is None:
        return TokenTable(encoded.ids, encoded=encoded)
    key = [0] * len(table)
    if answer.options:
        assert table.correct is not None, "an answer has a right one"
        key = [answer.options.index(correct) for correct in table.correct]
    return TokenTable(
        encoded.ids, tuple(spellings), tuple(key), answer.combine, encoded, answer.variants
    )


def _written(table: StimulusTable, answer: Answer | None) -> Iterator[tuple[str, Path, Texts]]:
    """Yield every spelling of every answer: its part, where the set says it, and its texts."""
    if answer is None:
        return
    parts: list[tuple[str, Path, Sequence[str]]] = [
        (option, ("answer", "options", i), (option,) * len(table))
        for i, option in enumerate(answer.options)
    ]
    if not answer.options:
        given = {"correct": table.correct, "foil": table.foil}
        parts = [(part, ("answer", part), texts) for part, texts in given.items() if texts]
    several = "variants" in answer.model_fields_set
    for part, path, texts in parts:
        for i, variant in enumerate(answer.variants):
            where: Path = ("answer", "variants", i) if several else path
            yield part, where, Texts(render(variant, {"x": text}) for text in texts)


def _check_texts(
    table: StimulusTable,
    ids: Sequence[tuple[int, ...]],
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
                f"nothing is truncated silently, 'where: tokens <= {model.context}' leaves it out",
            )
        elif max(tokens) >= model.config.vocab_size:
            problems.add(path, "P407", f"stimulus {id_!r} {beyond(model, tokens)}")
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
    ids: Sequence[tuple[int, ...]],
    spelling: tuple[str, Path, Texts],
    context: tuple[ModelSource, Problems],
) -> tuple[tuple[int, ...], ...]:
    """Return what each answer is after its text; report the first that is not what is wanted.

    The answer is tokenised together with its text, because tokenizers cut by context.
    """
    (part, path, answers), (model, problems) = spelling, context
    answer = answer_of(table.name, problems)
    several = answer is not None and answer.tokens == "teacher_forced"
    joined = encode(model, table.texts, answers).ids
    result, marks = [], marks_of(model)
    known: dict[tuple[int, ...], tuple[int, ...]] = {}  # one object, however many texts it follows
    for id_, before, after, text in zip(table.ids, ids, joined, answers, strict=True):
        tail = after[len(before) :]
        if after[: len(before)] != before:
            trouble = "merges with the end of the text"
            if marks.end is not None:
                trouble = "cannot follow the text, which the tokenizer ends with its own mark"
        elif len(tail) != 1 and not (several and tail):
            pieces = model.tokenizer.convert_ids_to_tokens(list(tail))
            trouble = f"is {len(tail)} tokens after the text: {' '.join(map(repr, pieces))}"
        elif max(tail) >= model.config.vocab_size:
            trouble = beyond(model, tail)
        elif marks.lacking(tail, text):
            trouble = f"holds what the tokenizer does not know: {model.tokenizer.unk_token!r}"
        elif len(before) <= model.context < len(after) - 1:
            trouble = (
                f"needs {len(after) - 1} tokens with its text, the model reads {model.context}"
            )
        else:
            result.append(known.setdefault(tail, tail))
            continue
        wanted = "" if several or len(tail) == 1 else "; it must be one token"
        what = f"the {part} answer" if part in ("correct", "foil") else f"the option {part!r}, as"
        problems.add(
            ("stimuli", table.name, *path),
            "P406",
            f"stimulus {id_!r}: {what} {text!r} {trouble}{wanted}",
        )
        return ()
    return tuple(result)


def _check_options(table: StimulusTable, answer: Answer, problems: Problems) -> None:
    """P406: the right answer of a multiple-choice question is one of its options."""
    for id_, correct in zip(table.ids, table.correct or (), strict=False):
        if answer.options and correct not in answer.options:
            problems.add(
                ("stimuli", table.name, "answer", "correct"),
                "P406",
                f"stimulus {id_!r}: the correct answer {correct!r} is not among the options",
                allowed=answer.options,
            )
            return


def _check_collisions(
    table: StimulusTable,
    spellings: Sequence[Spelling],
    context: tuple[ModelSource, Answer, Problems],
) -> None:
    """P406: no two answers, and no two spellings of one, are the same tokens or begin so."""
    _, answer, problems = context
    for row, id_ in enumerate(table.ids):
        seen: dict[tuple[int, ...], Spelling] = {}
        for spelling in spellings:
            tokens = spelling.tokens[row]
            other = seen.setdefault(tokens, spelling)
            if other is spelling:
                continue
            path = spelling.path
            if other.part not in ("correct", spelling.part):
                path = ("answer", "options", answer.options.index(spelling.part))
            message = _same(spelling, other, (row, context[0]))
            problems.add(("stimuli", table.name, *path), "P406", f"stimulus {id_!r}: {message}")
            return
        for tokens, spelling in seen.items():
            for n in range(1, len(tokens)):
                if tokens[:n] in seen:
                    begins = seen[tokens[:n]].texts[row]
                    message = (
                        f"the answer {spelling.texts[row]!r} begins with the tokens of {begins!r}, "
                        "whose probability therefore holds its own: neither can be compared"
                    )
                    where = ("stimuli", table.name, *spelling.path)
                    problems.add(where, "P406", f"stimulus {id_!r}: {message}")
                    return


def _same(spelling: Spelling, other: Spelling, where: tuple[int, ModelSource]) -> str:
    """Say which two answers are the same tokens."""
    row, model = where
    tokens = spelling.tokens[row]
    pieces = ", ".join(map(repr, model.tokenizer.convert_ids_to_tokens(list(tokens))))
    same = f"are the same token{'s' * (len(tokens) > 1)}, {pieces}"
    if other.part == spelling.part:
        texts = f"{other.texts[row]!r} and {spelling.texts[row]!r}"
        return f"the spellings {texts} of one answer {same}: it would count twice"
    if spelling.part == "foil":
        return f"foil and correct answer {same}"
    return f"the options {other.part!r} and {spelling.part!r} {same}"
