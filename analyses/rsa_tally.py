"""Asking questions of RDMs, some places at a time, and keeping what a result needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.pair_bootstrap import interval
from patchclamp.analyses.permutation import p_largest, p_value
from patchclamp.analyses.places import named
from patchclamp.analyses.rsa_questions import Question, Weighted
from patchclamp.analyses.rsa_rdms import Chunk
from patchclamp.registry.errors import UndefinedError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What a question got at every place, in the order in which they came.

    `observed`, `p`, `p_max`: (place, ...); `null`: (place, ..., permutation), or None where only
    `largest`, (permutation,), is kept; `low`, `high`: (place,), or None without a bootstrap;
    `given`: pairs that took part, (place,); `weights`: (place, model_rdm), of weighted models.
    """

    observed: Array
    p: Array
    p_max: Array
    largest: Array
    null: Array | None
    low: Array | None
    high: Array | None
    given: NDArray[np.int64]
    weights: Array | None


@dataclass(frozen=True)
class Keeping:
    """What is kept beside the numbers: null distributions, RDMs, an interval of some level.

    `counts`: how often each item is drawn in a bootstrap, (draw, item), None for no interval.
    """

    null: bool
    rdms: bool
    counts: NDArray[np.int64] | None
    level: float


@dataclass
class _Kept:
    parts: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, name: str, part: Array) -> None:
        self.parts.setdefault(name, []).append(part)

    def all(self, name: str) -> Array | None:
        return np.concatenate(self.parts[name]) if name in self.parts else None


def ask_all(
    questions: Sequence[Question], chunks: Iterable[Chunk], names: Sequence[str], keeping: Keeping
) -> tuple[list[Answer], Array | None]:
    """Return the answer to each question, and the RDMs if these are kept: (place, pair).

    The questions of one analysis see RDMs in one form. `names` are those of the items, for
    messages. Places are one family for the maximum, and share their permutations.
    """
    kept = [_Kept() for _ in questions]
    rdms: list[Array] = []
    for chunk in chunks:
        values = _prepared(questions[0], chunk, names)
        for question, one in zip(questions, kept, strict=True):
            _ask(question, (chunk, values), one, keeping)
        rdms += [chunk.values] if keeping.rdms else []
    answers = [_answer(q, one) for q, one in zip(questions, kept, strict=True)]
    return answers, np.concatenate(rdms) if rdms else None


def _ask(question: Question, seen: tuple[Chunk, Array], kept: _Kept, keeping: Keeping) -> None:
    chunk, values = seen
    scores = question.scores(chunk, values)
    # A view would keep the whole null distribution, where only what is observed is kept.
    observed, null = scores[..., 0].copy(), scores[..., 1:]
    tail = np.abs if question.two_sided else np.asarray
    kept.add("observed", observed)
    kept.add("p", p_value(tail(observed), tail(null)))
    kept.add("given", question.given(chunk))  # type: ignore[arg-type]
    axes = tuple(range(null.ndim - 1))
    kept.add("largest", np.fmax.reduce(tail(null), axis=axes)[None])
    if keeping.null:
        kept.add("null", null)
    if keeping.counts is not None:
        low, high = interval(question.draws(chunk, values, keeping.counts), keeping.level)
        kept.add("low", low)
        kept.add("high", high)
    if isinstance(question, Weighted):
        kept.add("weights", question.weights(chunk))


def _answer(question: Question, kept: _Kept) -> Answer:
    observed, p, given = (kept.all(name) for name in ("observed", "p", "given"))
    largest = np.fmax.reduce(np.concatenate(kept.parts["largest"]), axis=0)
    assert observed is not None, "a capture has a place"
    assert p is not None, "every observed value has one"
    assert given is not None, "every place counts its pairs"
    tail = np.abs(observed) if question.two_sided else observed
    return Answer(
        observed,
        p,
        p_largest(tail, largest),
        largest,
        kept.all("null"),
        kept.all("low"),
        kept.all("high"),
        given.astype(np.int64),
        kept.all("weights"),
    )


def _prepared(question: Question, chunk: Chunk, names: Sequence[str]) -> Array:
    """Return RDMs in the form of the question; an error names the place and the stimuli."""
    try:
        return question.prepared(chunk.values)
    except UndefinedError:
        for at, rdm in zip(chunk.at, chunk.values, strict=True):
            try:
                question.prepared(rdm[None])
            except UndefinedError as error:
                message = f"at {words(at)}: {error}{named(list(names), error.where)}"
                raise UndefinedError(message, error.where) from error
        raise


def words(at: Mapping[str, int | str]) -> str:
    """Return where a place is, as a message says it.

    >>> words({"layer": 3, "position": -1})
    'layer 3, position -1'
    """
    return ", ".join(f"{dim} {label}" for dim, label in at.items()) or "the only place"
