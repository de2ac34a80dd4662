"""Stimulus sets as the model reads them: tokens, the places of spans in them, and batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from patchclamp.engine.batches import Batch, pack
from patchclamp.engine.encoding import Encoded
from patchclamp.engine.marks import UNKNOWN, Marks
from patchclamp.engine.problems import Problems
from patchclamp.engine.ragged import Ragged
from patchclamp.engine.spans import SpanError, Stimulus, tokens_of
from patchclamp.engine.stimuli import StimulusTable
from patchclamp.engine.tokens import TokenTable
from patchclamp.specs.stimuli import Rows


@dataclass(frozen=True)
class Stimuli(Sequence[Stimulus]):
    """The stimuli of a set, each made when it is asked for.

    `spans` are the first token, and the one past the last, of each span in each of them.
    """

    encoded: Encoded
    spans: Mapping[str, Ragged]
    marks: Marks

    def __len__(self) -> int:
        return len(self.encoded.ids)

    def only(self, rows: Sequence[int]) -> Stimuli:
        """Return some of the stimuli, by their numbers."""
        spans = {name: Ragged(of[row] for row in rows) for name, of in self.spans.items()}
        return Stimuli(self.encoded.only(rows), spans, self.marks)

    @overload
    def __getitem__(self, at: int) -> Stimulus: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Stimulus, ...]: ...
    def __getitem__(self, at: int | slice) -> Stimulus | tuple[Stimulus, ...]:
        if isinstance(at, slice):
            return tuple(self[row] for row in range(*at.indices(len(self))))
        text, ids, marks = self.encoded.texts[at], self.encoded.ids[at], self.marks
        lead = int(ids[:1] == (marks.bos,))
        end = marks.end_text if ids[-1:] == (marks.end,) else ""
        unknown = marks.lacking(ids, text)
        spans = {name: range(*of[at]) for name, of in self.spans.items()}
        return Stimulus(text, self.encoded.offsets(at), lead, spans, end, unknown)


@dataclass(frozen=True)
class SetPlan:
    """A stimulus set with its tokens and, where spans were found, each stimulus's places."""

    table: StimulusTable
    tokens: TokenTable
    stimuli: Stimuli | None
    chosen: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """Tokens that have been chosen, by the positions that mean them: `engine.positions`."""

    @cached_property
    def odd(self) -> bool:
        """Whether a text may hold a token, other than a BOS, that is no part of it."""
        if not isinstance(self.stimuli, Stimuli):
            return False
        marks, ids = self.stimuli.marks, self.stimuli.encoded.ids
        return marks.end is not None or (marks.unknown is not None and ids.holds(marks.unknown))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each stimulus, special ones included."""
        return self.tokens.ids.lengths()

    @cached_property
    def texts_digest(self) -> str:
        """sha256 of the texts."""
        return _digest(text.encode() for text in self.table.texts)

    @cached_property
    def tokens_digest(self) -> str:
        """sha256 of the token ids."""
        return _digest(np.asarray(ids, dtype=np.int64).tobytes() for ids in self.tokens.ids)

    def batches(
        self, rows: Sequence[int], tokens: int, most: int | None = None
    ) -> tuple[Batch, ...]:
        """Pack some of the stimuli, by row number, into batches of at most so many tokens.

        Answers of several tokens take several rows, each with the text before it. A batch has at
        `most` so many stimuli.
        """
        lengths = [int(self.lengths[row]) for row in rows]
        packed = pack(lengths, tokens // self.tokens.rows_each, most)
        return tuple(Batch(tuple(rows[i] for i in b.rows), b.length) for b in packed)


def _digest(parts: Iterable[bytes]) -> str:
    """Return the sha256 of parts, told apart by their lengths, one in memory at a time."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def locate(table: StimulusTable, tokens: TokenTable, marks: Marks, problems: Problems) -> SetPlan:
    """Return a set with its spans found in every stimulus; P418 for the first that lacks one.

    What a tokenizer does not know is nothing odd where the spec says so.
    """
    if UNKNOWN in problems.loaded.spec.allow:
        marks = replace(marks, unknown=None)
    encoded = tokens.encoded
    assert encoded is not None, "made by tokenise"
    entry = problems.loaded.spec.stimuli[table.name]
    if encoded.places is None:
        if table.spans:
            message = "spans cannot be checked here: this tokenizer tells no places of its tokens"
            problems.add(("stimuli", table.name, "spans"), "P419", message, severity="warning")
        return SetPlan(table, tokens, None)
    if isinstance(entry, Rows) and entry.spans and not table.spans:
        return SetPlan(table, tokens, None)  # told where the texts were read
    found = {name: Ragged() for name in table.spans}
    for name, places in table.spans.items():
        for row, id_ in enumerate(table.ids):
            text, offsets = encoded.texts[row], encoded.offsets(row)
            # A chat template stands around the text, and may say the same.
            start = encoded.start(row, table.texts[row])
            try:
                a, b = places[row]
                of_span = tokens_of(text, (start + a, start + b), offsets)
            except SpanError as error:
                path = ("stimuli", table.name, "spans", name)
                problems.add(path, "P418", f"stimulus {id_!r}: {error}")
                return SetPlan(table, tokens, None)
            found[name].append((of_span.start, of_span.stop))
    return SetPlan(table, tokens, Stimuli(encoded, found, marks))
