"""The labelled result of a selection: methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.bootstrap import interval_words, percentile_interval
from patchclamp.analyses.choosing import Chosen, chance_stability, stability
from patchclamp.analyses.context import Context
from patchclamp.analyses.decoding import Fold
from patchclamp.analyses.patterns import (
    FEATURES,
    Capture,
    Variables,
    meaning,
    p_variables,
    units_of,
)
from patchclamp.analyses.permutation import description, p_max, p_value
from patchclamp.analyses.places import place_dims
from patchclamp.analyses.probe_design import Design
from patchclamp.analyses.probe_folds import fold_numbers
from patchclamp.analyses.probe_result import score_meaning
from patchclamp.analyses.score_intervals import beyond
from patchclamp.analyses.scores import Array
from patchclamp.specs.analyses_representation import Selection


@dataclass(frozen=True)
class Comparison:
    """What all methods share.

    `labellings` (labelling, stimulus), the true one first, 1 in the target class; `weights` (draw,
    stimulus): all stimuli once, and then the bootstrap's draws.
    """

    entry: Selection
    design: Design
    folds: list[Fold]
    labellings: NDArray[np.int64]
    weights: Array
    captures: Mapping[str, Capture]
    context: Context


@dataclass(frozen=True)
class Outcome:
    """What a method gives at one place.

    `scores` by name (draw,); `predicted` (stimulus,); `null` (labelling,), balanced accuracy;
    `chosen` in every training part, and last from all stimuli; `weights` (rank,) of the latter.
    """

    scores: Mapping[str, Array]
    predicted: NDArray[np.int16]
    null: Array
    chosen: Chosen
    weights: Array
    n_units: int


Outcomes = Mapping[str, Sequence[Outcome]]
"""By method, one for each place."""


def selection_result(comparison: Comparison, outcomes: Outcomes) -> xr.Dataset:
    """Return the methods side by side."""
    entry, design = comparison.entry, comparison.design
    dims = place_dims(design.capture, ("stimulus", "position"))
    sizes = tuple(design.capture.data.sizes[dim] for dim in dims)

    def stack(value: Callable[[Outcome], ArrayLike]) -> Array:
        """Return (chosen_by, place..., ...)."""
        each = [[np.asarray(value(o)) for o in of] for of in outcomes.values()]
        found = np.stack([np.stack(of) for of in each])
        return found.reshape(len(found), *sizes, *found.shape[2:])

    variables = (
        _scores(comparison, stack, dims)
        | _differences(comparison, stack, dims)
        | _choices(comparison, stack, dims)
    )
    codes = design.codes
    right = np.moveaxis(stack(lambda o: (o.predicted == codes).astype(np.int8)), -1, 0)
    words = "1 where the held-out prediction is correct, else 0"
    variables["correct"] = (
        ("stimulus", "chosen_by", *dims), right, meaning("1", words, "selection_correct/1")
    )  # fmt: skip
    rate = np.bincount(codes).max() / len(codes)
    variables["base_rate"] = ((), rate, meaning("1", "share of the larger class", "base_rate/1"))
    if entry.test is not None:
        variables |= _test(stack, dims)
    coords: dict[str, ArrayLike] = {
        "chosen_by": list(entry.methods),
        "versus": list(entry.methods),
        "fold": np.arange(len(comparison.folds)),
        "rank": np.arange(1, entry.k + 1),
    }
    if entry.test is not None:
        coords["permutation"] = np.arange(entry.test.n)
    result = design.capture.result(variables, coords, _attributes(comparison))
    return result.assign_coords(
        kind_of_method=("chosen_by", [method.kind for method in entry.methods.values()]),
        capture=("chosen_by", [method.of for method in entry.methods.values()]),
        units_of=("chosen_by", [units_of(c.data) for c in comparison.captures.values()]),
    )


Stack = Callable[[Callable[[Outcome], ArrayLike]], Array]


def _scores(comparison: Comparison, stack: Stack, dims: tuple[str, ...]) -> Variables:
    """Return every score with its interval."""
    found: Variables = {}
    for name in ("accuracy", "balanced_accuracy", "auroc"):
        draws = stack(partial(_score_of, name))
        low, high = percentile_interval(draws[..., 1:], beyond(name, comparison.design))
        over = "of the bootstrap over groups"
        found[name] = (("chosen_by", *dims), draws[..., 0], score_meaning(name))
        for end, values, share in (("low", low, "2.5"), ("high", high, "97.5")):
            attrs = score_meaning(name, f", {share} % {over}")
            found[f"{name}_{end}"] = (("chosen_by", *dims), values, attrs)
    return found


def _score_of(name: str, outcome: Outcome) -> Array:
    return outcome.scores[name]


def _differences(comparison: Comparison, stack: Stack, dims: tuple[str, ...]) -> Variables:
    """Return by how much the accuracy of each method exceeds that of each other.

    Two methods of equal accuracy in every draw have an interval too: that no group tells them
    apart bounds how many could.
    """
    draws = stack(lambda o: o.scores["accuracy"])
    apart = draws[:, None] - draws[None]
    low, high = np.quantile(apart[..., 1:], [0.025, 0.975], axis=-1)
    others = ~np.eye(len(apart), dtype=bool).reshape(*apart.shape[:2], *(1 for _ in dims))
    alike = others & (apart == 0).all(axis=-1)
    reach = beyond("accuracy", comparison.design)
    low, high = np.where(alike, -reach, low), np.where(alike, reach, high)
    words = "accuracy of a method minus that of another, the same bootstrap draws for both"
    attrs = meaning("1", words, "accuracy_difference/1")
    both = ("chosen_by", "versus", *dims)
    return {
        "difference": (both, apart[..., 0], attrs),
        "difference_low": (both, low, attrs),
        "difference_high": (both, high, attrs),
    }


def _choices(comparison: Comparison, stack: Stack, dims: tuple[str, ...]) -> Variables:
    """Return which units were chosen, by which scores, and how alike the choices are."""
    labels = _unit_labels(comparison)
    last = len(comparison.folds)
    units = stack(lambda o: o.chosen.units[:, 0])  # (chosen_by, place..., part, rank)
    named = np.stack([of[chosen] for of, chosen in zip(labels, units, strict=True)])
    folds = np.moveaxis(named[..., :last, :], -2, 1)
    k = comparison.entry.k
    return {
        "chosen": (
            ("chosen_by", *dims, "rank"),
            named[..., last, :],
            meaning("1", "unit or feature that is chosen from all stimuli", "chosen/1"),
        ),
        "score": (
            ("chosen_by", *dims, "rank"),
            stack(lambda o: o.chosen.scores[last, 0]),
            meaning("1", "score that it is chosen by, in the units of its method", "score/1"),
        ),
        "weight": (
            ("chosen_by", *dims, "rank"),
            stack(lambda o: o.weights),
            meaning("1/activation", "weight in the read-out of the chosen units", "weight/1"),
        ),
        "chosen_in_fold": (
            ("chosen_by", "fold", *dims, "rank"),
            folds,
            meaning("1", "unit or feature that a training part chooses", "chosen/1"),
        ),
        "stability": (
            ("chosen_by", *dims),
            stack(lambda o: stability(o.chosen.units[:last, 0])),
            meaning("1", "mean Jaccard index of what two training parts choose", "jaccard/1"),
        ),
        "stability_chance": (
            ("chosen_by", *dims),
            stack(lambda o: chance_stability(o.n_units, k)),
            meaning("1", "mean Jaccard index of two random choices", "jaccard/1"),
        ),
        "n_undefined": (
            ("chosen_by", *dims),
            stack(lambda o: o.chosen.undefined[last]),
            meaning("1", "units that have no score, and are never chosen", "n_undefined/1"),
        ),
    }


def _unit_labels(comparison: Comparison) -> list[NDArray[np.int64]]:
    found = []
    for capture in comparison.captures.values():
        (dim,) = (d for d in capture.data["activation"].dims if d in FEATURES)
        n = capture.data.sizes[dim]
        values = capture.data[dim].values if dim in capture.data.coords else np.arange(n)
        found.append(np.asarray(values, dtype=np.int64))
    return found


def _test(stack: Stack, dims: tuple[str, ...]) -> Variables:
    """Return what permuted labels give, and the p values that follow."""
    balanced = stack(lambda o: o.null)
    observed, null = balanced[..., 0], balanced[..., 1:]
    over = ("chosen_by", *dims)
    attrs = score_meaning("balanced_accuracy", ", labels permuted")
    tests = p_variables(
        over, p_value(observed, null), p_max(observed, null),
        of="balanced_accuracy", permutations=null.shape[-1],
    )  # fmt: skip
    return {
        **tests,
        "null_balanced_accuracy": (("permutation", *over), np.moveaxis(null, -1, 0), attrs),
    }


def _attributes(comparison: Comparison) -> dict[str, str | int | float]:
    entry, design = comparison.entry, comparison.design
    found: dict[str, str | int | float] = {
        "target": entry.target,
        "column": entry.column,
        "k": entry.k,
        "estimator": "ridge, alpha 1",
        "interval": interval_words(design.blocks, len(comparison.weights) - 1),
        "n_stimuli": len(design.codes),
        "n_groups": design.n_groups,
        "n_folds": len(comparison.folds),
    }
    if "stimuli" in design.capture.data.attrs:
        found["stimuli"] = str(design.capture.data.attrs["stimuli"])
    if entry.test is not None:
        strata = fold_numbers(comparison.folds, len(design.codes)) if entry.cv.stratify else None
        of = (design.codes, design.blocks, entry.test.n, strata)
        found |= {"permuted": entry.column, **description(*of, within="folds"), "tail": "greater"}
    return found
