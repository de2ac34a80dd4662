"""Screening: which stimuli stay, by what the model itself says to them.

1. Every set with `keep_if` is run clean, and its condition is put to each stimulus.
2. Stimuli that are tied `together` stay if all of them do.
3. What a set loses, the versions of it lose too: corrupted sets, partners, and what they are of.
4. `take` takes its part of what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses import metrics
from patchclamp.engine.derive import Filler, take
from patchclamp.engine.generate import vocabularies_of
from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import as_text
from patchclamp.engine.stimuli import StimulusTable
from patchclamp.registry.errors import UndefinedError
from patchclamp.specs.columns import SPLIT
from patchclamp.specs.expression import Expression, ExpressionError, parse
from patchclamp.specs.stimuli import Corrupt, KeepIf, Rows, Template

Readings = Mapping[str, NDArray[np.float64]]
"""What was read of the answers of a set: see `analyses.metrics`."""


def screened_sets(problems: Problems) -> tuple[str, ...]:
    """Return the stimulus sets that a clean run decides about."""
    entries = problems.loaded.spec.stimuli
    return tuple(
        name for name, e in entries.items() if isinstance(e, Rows) and e.keep_if is not None
    )


def screen(
    tables: Mapping[str, StimulusTable], answers: Mapping[str, Readings], problems: Problems
) -> dict[str, StimulusTable]:
    """Return the stimuli that stay in every set; P402, P403, P416 and P417 go to `problems`.

    `answers` are the readings of the clean run of each of the `screened_sets`.
    """
    kept: dict[str, NDArray[np.bool_]] = {}
    for name in screened_sets(problems):
        found = decide(tables[name], answers[name], problems)
        if found is None:
            return {}
        kept[name] = found
    chosen = dict(tables)
    for family in _families(tables, problems):
        together = _together(family, kept)
        if together is None:
            continue
        rows = _taken(next(iter(family)), tables, together, problems)
        if rows is None:
            return {}
        for name, row_of in family.items():
            counts = {"asked": len(tables[name]), "kept": int(together.sum())}
            table = tables[name].only([row_of[row] for row in rows])
            chosen[name] = replace(table, screened=counts)
            _check_parts(chosen[name], problems)
    return chosen


def _check_parts(table: StimulusTable, problems: Problems) -> None:
    """P417: every part of a split still has stimuli."""
    split = getattr(problems.loaded.spec.stimuli[table.name], "split", None)
    for part in split.parts if split is not None else ():
        if part not in table.labels[SPLIT]:
            message = f"'keep_if' leaves nothing in the part {part!r} of {table.name!r}"
            problems.add(("stimuli", table.name, "split", "parts", part), "P417", message)


def measures(readings: Readings) -> dict[str, NDArray[np.float64]]:
    """Return what `keep_if` can name, each (stimulus,): probabilities, rank, logit difference."""
    found = {
        "rank": metrics.rank(readings),
        "p": metrics.probability(readings),
        "correct": metrics.solved(readings),
    }
    if "logit_foil" in readings:
        found["logit_diff"] = metrics.logit_diff(readings)
        found["p_foil"] = np.exp(metrics.logprob(readings) - found["logit_diff"])
    return found


def decide(
    table: StimulusTable, readings: Readings, problems: Problems
) -> NDArray[np.bool_] | None:
    """Return which stimuli of a set stay, (stimulus,); None after P402, P403 or P416."""
    entry = problems.loaded.spec.stimuli[table.name]
    assert isinstance(entry, Rows)
    assert entry.keep_if is not None
    here = ("stimuli", table.name)
    condition = parse(entry.keep_if.holds)
    found = measures(readings)
    holds = np.zeros(len(table), dtype=bool)
    for number, id_ in enumerate(table.ids):
        try:
            holds[number] = _met(condition, found, number)
        except ExpressionError as error:
            path = (*here, "keep_if", "holds")
            problems.add(path, "P416", f"stimulus {id_!r}: {error}")
            return None
    alone = int(holds.sum())
    for i, column in enumerate(entry.keep_if.together):
        if column not in table.rows[0]:
            message = f"stimulus set {table.name!r} has no column {column!r}"
            at = (*here, "keep_if", "together", i)
            problems.add(at, "P402", message, allowed=tuple(table.rows[0]))
            return None
    holds = _tied(table, entry.keep_if, holds)
    if not holds.any():
        problems.add((*here, "keep_if", "holds"), "P403", _none_left(table, found, alone, entry))
        return None
    return holds


def met_alone(keep: KeepIf, readings: Readings) -> NDArray[np.bool_]:
    """Return which of some stimuli meet a condition, whatever becomes of others: (stimulus,).

    One that cannot be judged does not; `decide` says why.
    """
    condition = parse(keep.holds)
    try:
        found = measures(readings)
    except UndefinedError:
        return np.zeros(len(np.asarray(readings["rank"])), dtype=bool)

    def met(number: int) -> bool:
        try:
            return _met(condition, found, number)
        except ExpressionError:
            return False

    return np.array([met(number) for number in range(len(found["rank"]))], dtype=bool)


def _met(condition: Expression, found: Mapping[str, NDArray[Any]], number: int) -> bool:
    """Return whether a stimulus, by its number, meets a condition."""
    values: dict[str, object] = {name: float(values[number]) for name, values in found.items()}
    values["correct"] = bool(found["correct"][number])
    values["rank"] = int(found["rank"][number])
    return condition.evaluate_bool(values)


def _tied(table: StimulusTable, keep: KeepIf, holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep a stimulus only if every other one with the same `together` is kept."""
    if not keep.together:
        return holds
    keys = [tuple(as_text(row[column]) for column in keep.together) for row in table.rows]
    fails = {key for key, held in zip(keys, holds, strict=True) if not held}
    return np.array([key not in fails for key in keys])


def _none_left(
    table: StimulusTable, found: Mapping[str, NDArray[np.float64]], alone: int, entry: Rows
) -> str:
    """Say what the model does instead of what was asked."""
    assert entry.keep_if is not None
    condition = repr(entry.keep_if.holds)
    if alone:
        tied = " and ".join(map(repr, entry.keep_if.together))
        return (
            f"{alone} of {len(table)} stimuli meet {condition}, and in no case all that share "
            f"{tied}: none is left"
        )
    used = [name for name in parse(entry.keep_if.holds).names if name != "correct"] or ["rank"]
    typical = ", ".join(f"median {name} {np.median(found[name]):.3g}" for name in used)
    return f"none of {len(table)} stimuli meets {condition} ({typical})"


Family = Mapping[str, Sequence[int]]
"""Sets that are versions of one another: for each, its row of every stimulus of the first."""


def _families(tables: Mapping[str, StimulusTable], problems: Problems) -> Iterator[Family]:
    """Yield every set that is a version of no other, with the sets that are versions of it."""
    origins: dict[str, tuple[str, Sequence[int]]] = {}
    for name, entry in problems.loaded.spec.stimuli.items():
        if isinstance(entry, Corrupt):
            origins[name] = str(entry.of), range(len(tables[name]))
        elif entry.partners is not None:
            ids = tables[entry.partners.of].ids
            rows = {id_: row for row, id_ in enumerate(tables[name].ids)}
            in_order = entry.partners.by == "order"
            origins[name] = (
                entry.partners.of,
                range(len(ids)) if in_order else [rows[id_] for id_ in ids],
            )

    def root(name: str) -> str:
        return root(origins[name][0]) if name in origins else name

    def rows_of(name: str) -> Sequence[int]:
        if name not in origins:
            return range(len(tables[name]))
        of, rows = origins[name]
        return [rows[row] for row in rows_of(of)]

    for first in tables:
        if first not in origins:
            yield {name: rows_of(name) for name in tables if root(name) == first}


def _together(family: Family, kept: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_] | None:
    """Return which stimuli every set of a family keeps; None where none was asked about."""
    asked = [kept[name][list(rows)] for name, rows in family.items() if name in kept]
    return np.logical_and.reduce(asked) if asked else None


def _taken(
    name: str,
    tables: Mapping[str, StimulusTable],
    kept: NDArray[np.bool_],
    problems: Problems,
) -> list[int] | None:
    """Return the rows of a set that stay; None after P402, P403 or P417."""
    here, entry = ("stimuli", name), problems.loaded.spec.stimuli[name]
    assert isinstance(entry, Rows)
    rows = [int(row) for row in np.flatnonzero(kept)]
    if not rows:
        message = f"no stimulus of {name!r} is kept by all the sets that are versions of it"
        problems.add(here, "P403", message)
        return None
    if entry.take is None or entry.keep_if is None:
        return rows
    vocabularies = vocabularies_of(entry) if isinstance(entry, Template) else {}
    filler = Filler(here, vocabularies, problems)
    columns = [tables[name].rows[row] for row in rows]
    taken = take(entry.take, columns, filler, problems.loaded.spec.seed)
    return None if taken is None else [rows[number] for number in taken]
