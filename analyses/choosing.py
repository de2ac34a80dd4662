"""Choosing units inside the training part, and reading labels out of them outside of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from patchclamp.analyses.decoding import (
    Estimator,
    Fold,
    HeldOut,
    Read,
    after_erasure,
    read_out,
)
from patchclamp.analyses.lasso import first_units
from patchclamp.analyses.readouts import one_hot, without_absent
from patchclamp.analyses.ridge import ridge_decisions
from patchclamp.analyses.scores import predicted_classes
from patchclamp.analyses.splits import CONSTANT, Array, Part
from patchclamp.analyses.unit_scores import Block, Labellings, Rows, Score
from patchclamp.registry.errors import AnalysisError

BATCH = 1 << 22
"""Numbers in the chosen units of labellings that are read out at once: 32 MB."""

TIED = 1e-9
"""Scores that differ by this share of the larger one are the same: sums in another order."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen in each training part, best first.

    `units` (part, labelling, k) and their `scores`; where labels do not enter the choice there is
    one labelling. `undefined` (part,): units that could not be scored for the first labelling.
    """

    units: NDArray[np.intp]
    scores: Array
    undefined: NDArray[np.int64]

    def of(self, part: int, labelling: int) -> NDArray[np.intp]:
        """Return the units chosen in a training part for a labelling."""
        return np.asarray(self.units[part, min(labelling, self.units.shape[1] - 1)])


@dataclass
class _Best:
    """The best units of one training part so far: (labelling, k + 1), worse than none are NaN."""

    units: list[NDArray[np.intp]] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    undefined: int = 0

    def add(self, scores: Array, start: int, keep: int) -> None:
        """Take the best of another block, which begins with unit number `start`."""
        self.undefined += int(np.isnan(scores[0]).sum())
        ranked = np.where(np.isnan(scores), -np.inf, scores)
        units = np.broadcast_to(start + np.arange(ranked.shape[1]), ranked.shape)
        ranked = np.concatenate([*self.scores, ranked], axis=1)
        units = np.concatenate([*self.units, units], axis=1)
        # Stable: of equal scores the unit with the lower number, whatever the blocks.
        order = np.argsort(-ranked, axis=1, kind="stable")[:, :keep]
        self.scores = [np.take_along_axis(ranked, order, axis=1)]
        self.units = [np.take_along_axis(units, order, axis=1)]


def choose(
    blocks: Iterable[Block],
    scores: Sequence[Score],
    labellings: Labellings,
    parts: Sequence[Rows],
    k: int,
) -> list[Chosen]:
    """Return the k best units of every training part and labelling, by each of some scores.

    `blocks`: all units in order; `labellings`: (labelling, stimulus), 1 in the target class;
    `parts`: rows to train on. Of equal scores the unit with the lower number is taken for a
    permuted labelling; for the true one, the first, a tie between the last unit chosen and the
    next raises `AnalysisError`, and so do fewer than k units that can be scored.
    """
    best = [[_Best() for _ in parts] for _ in scores]
    start = 0
    for block in blocks:  # each is read once: its scores share what they are made of
        for score, of_parts in zip(scores, best, strict=True):
            for found, values in zip(of_parts, score(block, labellings, parts), strict=True):
                found.add(values, start, k + 1)
        start += block.courses.shape[-1]
    return [_chosen(of_parts, start, k) for of_parts in best]


def _chosen(best: Sequence[_Best], n_units: int, k: int) -> Chosen:
    for found in best:
        if n_units - found.undefined < k:
            raise AnalysisError(
                f"{n_units - found.undefined} of {n_units} units can be scored, and {k} are to be "
                "chosen: a constant unit has no score, and no time course to compare where it is "
                "constant for a stimulus, or the same for two, as in windows of the same tokens; "
                "choose fewer, or give longer windows"
            )
        _refuse_tie(found.scores[0][0], found.units[0][0], k)
    return Chosen(
        np.stack([found.units[0][:, :k] for found in best]),
        np.stack([found.scores[0][:, :k] for found in best]),
        np.array([found.undefined for found in best]),
    )


def choose_l1(means: Array, labellings: Labellings, parts: Sequence[Rows], k: int) -> Chosen:
    """Return the first k units of the L1 path of every training part and labelling.

    `means`: (stimulus, unit). The path is that of least squares on the target class against the
    others, of units standardised by the training part; the score is the penalty at which a unit
    enters. Ties and too few units as in `choose`.
    """
    units, scores = [], []
    for part in parts:
        x = means[part] - means[part].mean(axis=0)
        deviation = x.std(axis=0)
        x /= np.where(deviation > CONSTANT * np.abs(means[part]).max(axis=0), deviation, np.inf)
        y = labellings[:, part] * 2.0 - 1
        found = first_units(x, y - y.mean(axis=1, keepdims=True), k)
        if (found.units < 0).any():
            fewest = int((found.units >= 0).sum(axis=1).min())
            raise AnalysisError(
                f"{fewest} of {means.shape[1]} units ever enter an L1 path, and {k} are to be "
                "chosen: choose fewer"
            )
        if found.tied[0]:
            _refuse_tie(np.append(found.penalty[0], found.penalty[0, -1:]), found.units[0], k)
        units.append(found.units)
        scores.append(found.penalty)
    return Chosen(np.stack(units), np.stack(scores), np.zeros(len(parts), dtype=np.int64))


def choose_random(n_units: int, n_parts: int, k: int, rng: np.random.Generator) -> Chosen:
    """Return k units drawn at random for each training part, whatever the labels."""
    if n_units < k:
        raise AnalysisError(f"there are {n_units} units, and {k} are to be chosen: choose fewer")
    units = np.stack([rng.choice(n_units, k, replace=False) for _ in range(n_parts)])[:, None]
    return Chosen(units, np.zeros(units.shape), np.zeros(n_parts, dtype=np.int64))


def _refuse_tie(scores: Array, units: NDArray[np.intp], k: int) -> None:
    if len(scores) > k and scores[k - 1] - scores[k] <= TIED * abs(scores[k - 1]):
        others = f" and {units[k]}" if len(units) > k else ""
        raise AnalysisError(
            f"units {units[k - 1]}{others} are tied at the border of the {k} that are chosen, with "
            f"score {scores[k - 1]:.6g}: which of them is chosen would be an accident; choose "
            "more or fewer"
        )


def held_out_chosen(
    patterns: Array,
    labellings: NDArray[np.int64],
    folds: Sequence[Fold],
    estimator: Estimator,
    chosen: Chosen,
    *,
    tested: Array | None = None,
    erasing: bool = False,
) -> HeldOut:
    """Return what read-outs of the units chosen in a training part say outside of it.

    `patterns`: (stimulus, unit); `chosen` has the folds as its first parts. Every labelling has
    its own units, chosen by it; otherwise as `held_out`.
    """
    other = patterns if tested is None else tested
    n = len(other)
    predicted = np.empty((len(labellings), n), dtype=np.int16)
    decisions, erased = np.empty((n, estimator.columns)), np.empty(n, dtype=np.int16)
    strengths, taken = np.empty(len(folds)), np.empty(len(folds))
    for number, fold in enumerate(folds):

        def read(units: Rows, rows: Rows, fold: Fold = fold) -> Read:
            train, test = Part(patterns[:, units], fold.train), Part(other[:, units], fold.test)
            return read_out(train, test, labellings[rows], fold.inner, estimator)

        first = read(chosen.of(number, 0), np.arange(1))
        decisions[fold.test], strengths[number] = first.decisions[0], first.strengths[0]
        if erasing:
            inside = labellings[:1, fold.train]
            erased[fold.test], taken[number] = after_erasure(first, inside, estimator)
        if estimator.kind == "ridge" and len(estimator.strengths) == 1:
            # Of ridge read-outs all are found at once, whatever units they have.
            found = _ridge((patterns, other), labellings, fold, chosen.units[number], estimator)
            predicted[:, fold.test] = predicted_classes(found)
            continue
        for units, rows in _shared(chosen, number, len(labellings)):
            predicted[np.ix_(rows, fold.test)] = predicted_classes(read(units, rows).decisions)
    if not erasing:
        return HeldOut(predicted, decisions, strengths)
    return HeldOut(predicted, decisions, strengths, erased, taken)


def _ridge(
    patterns: tuple[Array, Array],
    labellings: NDArray[np.int64],
    fold: Fold,
    units: NDArray[np.intp],
    estimator: Estimator,
) -> Array:
    """Return the decisions of ridge read-outs, each of its own units: (labelling, test, class).

    `patterns`: those that are trained on and those that are tested on, (stimulus, unit);
    `labellings` (labelling, stimulus), `units` (labelling or one for all, k).
    """
    ours, theirs = patterns
    units = np.broadcast_to(units, (len(labellings), units.shape[1]))
    found = np.empty((len(labellings), len(fold.test), estimator.columns))
    step = max(1, BATCH // (len(ours) * units.shape[1]))
    for start in range(0, len(labellings), step):
        some = slice(start, start + step)
        # (labelling, stimulus, unit)
        train = np.moveaxis(ours[fold.train][:, units[some]], 0, 1)
        test = np.moveaxis(theirs[fold.test][:, units[some]], 0, 1)
        inside = labellings[some][:, fold.train]
        targets = 2 * one_hot(inside, estimator.n_classes) - 1
        targets, absent = np.moveaxis(targets, 0, 1), np.zeros(targets.shape[1:])
        found[some] = ridge_decisions(train, test, targets, estimator.strengths[0])
        found[some] += without_absent(absent, inside, estimator.n_classes)[:, None]
    return found


def _shared(chosen: Chosen, part: int, n: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return each set of units that was chosen, and the labellings that chose it."""
    found: dict[bytes, list[int]] = {}
    for labelling in range(n):
        found.setdefault(np.sort(chosen.of(part, labelling)).tobytes(), []).append(labelling)
    return [(np.frombuffer(units, dtype=np.intp), np.array(rows)) for units, rows in found.items()]


def stability(units: NDArray[np.intp]) -> float:
    """Return how much of what is chosen is the same in two training parts: mean Jaccard index.

    `units`: (part, k). The units in both over the units in either, over all pairs of parts.

    >>> stability(np.array([[0, 1, 2], [0, 1, 3]]))
    0.5
    """
    sets = [set(row) for row in units.tolist()]
    return float(np.mean([len(a & b) / len(a | b) for a, b in combinations(sets, 2)]))


def chance_stability(n_units: int, k: int) -> float:
    """Return the mean Jaccard index of two random choices of k units: hypergeometric.

    >>> round(chance_stability(2, 1), 3)
    0.5
    """
    both = np.arange(k + 1)
    chance = hypergeom.pmf(both, n_units, k, k)
    return float((chance * both / (2 * k - both)).sum())
