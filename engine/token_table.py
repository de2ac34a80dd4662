"""The token table: how a tokenizer cut the first stimuli of a set, and where everything falls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from patchclamp.engine.model import ModelSource
from patchclamp.engine.sets import SetPlan

FIRST = 2
"""Stimuli of a set that are shown."""

WIDTH = 100
"""Columns of a terminal that a table may take."""

HEAD, TAIL = 20, 60
"""Tokens shown of a long text: so many from its beginning and its end."""

_LABEL = 12
"""Columns before the tokens."""

_MARKS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"})


def token_table(of_set: SetPlan, model: ModelSource, *, first: int = FIRST) -> str:
    """Return a set's first stimuli token by token, as text.

    Under each token stands what it is: `BOS`, a span's name, and `answer` where the answer is
    read. Below are the tokens of every spelling of every answer. A space is shown as `␣`.
    """
    table, lengths = of_set.table, [len(ids) for ids in of_set.tokens.ids]
    size = f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)}..{max(lengths)}"
    lines = [
        f"{table.name}: {len(table)} stimuli of {size} tokens, as {model.choice.id} reads them"
    ]
    for row in range(min(first, len(table))):
        lines += ["", f"  stimulus {table.ids[row]}", *_stimulus(of_set, row, model)]
        lines += _answers(of_set, row, model)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _stimulus(of_set: SetPlan, row: int, model: ModelSource) -> Iterator[str]:
    """Yield the lines of a stimulus, as many tokens in each as fit."""
    ids = of_set.tokens.ids[row]
    marks = _marks(of_set, row, model)
    cells = [(str(i), shown(model, token), "+".join(marks[i])) for i, token in enumerate(ids)]
    if len(cells) > HEAD + TAIL:
        left_out = f"({len(cells) - HEAD - TAIL} more)"
        cells = [*cells[:HEAD], ("...", left_out, ""), *cells[-TAIL:]]
    block: list[tuple[str, str, str]] = []
    width = _LABEL
    for cell in cells:
        wide = max(map(len, cell)) + 2
        if block and width + wide > WIDTH:
            yield from _block(block)
            block, width = [], _LABEL
        block.append(cell)
        width += wide
    yield from _block(block)


def _block(block: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    widths = [max(map(len, cell)) for cell in block]
    for label, line in zip(("position", "token", "is"), zip(*block, strict=True), strict=True):
        if any(line):
            padded = (f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
            yield f"  {label:<{_LABEL - 2}}" + "  ".join(["", *padded])[2:]


def _marks(of_set: SetPlan, row: int, model: ModelSource) -> list[list[str]]:
    """Return what each token of a stimulus is."""
    ids = of_set.tokens.ids[row]
    marks: list[list[str]] = [[] for _ in ids]
    for i, token in enumerate(ids):
        if token == model.tokenizer.bos_token_id:
            marks[i].append("BOS")
    if of_set.stimuli is not None:
        for name, tokens in of_set.stimuli[row].spans.items():
            for i in tokens:
                marks[i].append(name)
    if of_set.tokens.spellings:
        marks[-1].append("answer")
    return marks


def _answers(of_set: SetPlan, row: int, model: ModelSource) -> Iterator[str]:
    """Yield a line for each spelling of each answer: its text and its tokens."""
    spellings = of_set.tokens.spellings
    width = max((len(s.part) for s in spellings), default=0)
    width = max(width, _LABEL - 4)
    texts = [s.texts[row].translate(_MARKS) for s in spellings]
    wide = max(map(len, texts), default=0)
    for spelling, text in zip(spellings, texts, strict=True):
        tokens = "  ".join(shown(model, token) for token in spelling.tokens[row])
        yield f"  {spelling.part:<{width}}  {text:<{wide}}  ->  {tokens}"


def shown(model: ModelSource, token: int) -> str:
    """Return a token as text whose spaces can be seen; one that is no text as its name."""
    tokenizer = model.tokenizer
    name = str(tokenizer.convert_ids_to_tokens(token))
    text = str(tokenizer.decode([token]))
    if not text or "\N{REPLACEMENT CHARACTER}" in text:
        return name.translate(_MARKS)
    # Decoding a single token may drop the space that its name begins with.
    if name[:1] in ("Ġ", "▁") and not text.startswith(" "):
        text = " " + text
    return text.translate(_MARKS)
