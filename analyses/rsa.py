"""Representational similarity analysis of a capture, with inference by label permutation.

Pairs of stimuli are never treated as samples: labels are permuted over stimuli, or over groups
of them, and every place (layer, head, position) sees the same permutations. All pairs take
part, those inside a group too; the null has the same pairs, so p is right, while the size of an
effect includes what the stimuli of a group share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from patchclamp.analyses import contrasts
from patchclamp.analyses.context import Context
from patchclamp.analyses.patterns import Capture, Labels, checked_capture, meaning, p_variables
from patchclamp.analyses.permutation import description, p_max, p_value, permuted_labels
from patchclamp.analyses.rdm import dissimilarities, fisher_z, ranks
from patchclamp.analyses.readings import CaptureReading, ModelShape, Readings
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, hint
from patchclamp.specs.analyses_representation import Categorical, Discriminative, Rsa
from patchclamp.specs.rdms import CategoryModel

Statistic = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Question:
    """Who takes part, in which classes, and the number that patterns and labellings give.

    `rows` choose stimuli; `codes` are their class numbers; `statistic` maps patterns
    (stimulus, unit) and labellings (labelling, stimulus) to (labelling,).
    """

    rows: NDArray[np.intp]
    codes: NDArray[np.int64]
    statistic: Statistic
    two_sided: bool


@dataclass(frozen=True)
class Answer:
    """Observed values and p (place...), their null (permutation, place...), and its design."""

    observed: NDArray[np.float64]
    p: NDArray[np.float64]
    p_max: NDArray[np.float64]
    null: NDArray[np.float64]
    design: dict[str, str | int]


def readings(entry: Rsa, shape: ModelShape) -> Readings:
    """Return what an RSA needs measured: its capture."""
    assert entry.of is not None, "the loader fills in `of`"
    return {"of": CaptureReading(entry.of)}


def analyse(entry: Rsa, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Return the RSA of a capture: `similarity` to model RDMs, or a `contrast`.

    `data["of"]`: `activation(stimulus, layer, [head], position, unit or channel)` in any order of
    dims, with label coordinates on stimulus and, unless stimuli are independent, `group`.

    * `against`: `similarity(model_rdm, layer, [head], position)`, Spearman's rho or Pearson's r
      of 1 - r over pairs with each model RDM; tested one-sided, greater.
    * `contrast`: `contrast(layer, [head], position)` in Fisher z; `discriminative` is one-sided,
      greater, and `categorical` two-sided.

    Beside it `p`, `p_max` (corrected over all places) and `null(permutation, ...)`. A column or
    class that does not exist, a class of fewer than 2 stimuli, and a design with too few
    arrangements raise `AnalysisError`; patterns that are constant or identical raise
    `UndefinedError` with stimulus ids and place.
    """
    capture, seeds = checked_capture(data["of"]), context.seeds
    with threadpool_limits(limits=1):  # same rounding and no contention on any number of cores
        if entry.contrast is not None:
            _same_column(entry, entry.contrast.column, "the contrast is")
            question = _contrast(capture, entry.contrast)
            answer = _ask(entry, capture, question, seeds)
            return _contrast_result(entry.contrast, entry, capture, answer)
        answers = {}
        for name, model in (entry.against or {}).items():
            assert isinstance(model, CategoryModel), "the planner refuses other model RDMs"
            _same_column(entry, model.column, f"model RDM {name!r} is")
            question = _category(capture, model, entry.compare)
            answers[name] = _ask(entry, capture, question, seeds)
    return _similarity_result(entry, capture, answers)


def _same_column(entry: Rsa, column: str, what: str) -> None:
    if entry.test.permute != column:
        raise AnalysisError(
            f"the test permutes {entry.test.permute!r}, but {what} about {column!r}: "
            f"permuting another label tests nothing; set test.permute to {column!r}"
        )


def _ask(entry: Rsa, capture: Capture, question: Question, seeds: Seeds) -> Answer:
    """Return a question's answer; equal designs get equal permutations."""
    groups, n = capture.groups(), entry.test.n
    groups = None if groups is None else groups[question.rows]
    drawn = permuted_labels(question.codes, groups, n, seeds.generator("permutation"))
    labellings = np.concatenate([question.codes[None], drawn])
    values = capture.each_place(lambda x: question.statistic(x, labellings), question.rows)
    observed, null = values[..., 0], values[..., 1:]
    tail = np.abs if question.two_sided else np.asarray
    return Answer(
        observed,
        p_value(tail(observed), tail(null)),
        p_max(tail(observed), tail(null)),
        np.moveaxis(null, -1, 0),
        {
            "n_stimuli": len(question.rows),
            "n_groups": len(question.rows if groups is None else np.unique(groups)),
            **description(question.codes, groups, n),
            "tail": "two-sided" if question.two_sided else "greater",
        },
    )


def _category(capture: Capture, model: CategoryModel, compare: str | None) -> Question:
    labels = capture.labels(model.column)
    _need_pairs(labels.column, labels.classes, labels.codes)
    scores = ranks if compare == "spearman" else np.asarray

    def similarity(
        patterns: NDArray[np.float64], labellings: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        values = scores(dissimilarities(patterns))
        return contrasts.category_correlation(values, labellings, len(labels.classes))

    return Question(np.arange(len(labels.codes)), labels.codes, similarity, two_sided=False)


def _contrast(capture: Capture, contrast: Discriminative | Categorical) -> Question:
    """Return a contrast's question, with classes numbered as its kernel wants them."""
    labels = capture.labels(contrast.column)
    rows = np.arange(len(labels.codes))
    if isinstance(contrast, Categorical):
        first, second = (_class(labels, name) for name in contrast.classes)
        rows = np.flatnonzero(np.isin(labels.codes, [first, second]))
        codes = (labels.codes[rows] == second).astype(np.int64)
        return _z_question(rows, codes, contrasts.categorical, labels.column, contrast.classes)
    if contrast.target is not None:
        codes = (labels.codes != _class(labels, contrast.target)).astype(np.int64)
        names = (contrast.target, "(all others)")
        return _z_question(rows, codes, contrasts.discriminative_target, labels.column, names)
    return _z_question(rows, labels.codes, contrasts.discriminative, labels.column, labels.classes)


def _z_question(
    rows: NDArray[np.intp],
    codes: NDArray[np.int64],
    kernel: Callable[[contrasts.PairSums], NDArray[np.float64]],
    column: str,
    classes: tuple[str, ...],
) -> Question:
    _need_pairs(column, classes, codes)

    def contrast(
        patterns: NDArray[np.float64], labellings: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        z = fisher_z(dissimilarity=dissimilarities(patterns))
        return kernel(contrasts.pair_sums(z, labellings, len(classes)))

    return Question(rows, codes, contrast, two_sided=kernel is contrasts.categorical)


def _class(labels: Labels, name: str) -> int:
    if name not in labels.classes:
        raise AnalysisError(
            f"column {labels.column!r} has no class {name!r}{hint(name, labels.classes)}"
        )
    return labels.classes.index(name)


def _need_pairs(column: str, classes: tuple[str, ...], codes: NDArray[np.int64]) -> None:
    sizes = np.bincount(codes, minlength=len(classes)).tolist()
    if len(classes) < 2:
        raise AnalysisError(f"column {column!r} has one class, {classes[0]!r}: nothing to compare")
    for name, size in zip(classes, sizes, strict=True):
        if size < 2:
            raise AnalysisError(
                f"class {name!r} of column {column!r} has {size} stimulus, "
                "so no pair of stimuli within it: at least 2 are needed"
            )


def _similarity_result(entry: Rsa, capture: Capture, answers: dict[str, Answer]) -> xr.Dataset:
    """Return the answers to several model RDMs along a dim of their names."""
    dims = ("model_rdm", *capture.dims)
    title = "Spearman's rho" if entry.compare == "spearman" else "Pearson's r"
    estimand = f"rsa_{entry.compare}/1"
    given = list(answers.values())
    null = np.stack([answer.null for answer in given], axis=1)
    words = f"{title} of RDM and model RDM"
    variables = {
        "similarity": (dims, np.stack([a.observed for a in given]), meaning("1", words, estimand)),
        **p_variables(dims, np.stack([a.p for a in given]), np.stack([a.p_max for a in given])),
        "null": (
            ("permutation", *dims),
            null,
            meaning("1", f"{words}, labels permuted", estimand),
        ),
    }
    coords: dict[str, ArrayLike] = {
        "model_rdm": list(answers),
        "permutation": np.arange(entry.test.n),
    }
    # One column, the permuted one, so that all model RDMs have the same design.
    attrs = {"permuted": entry.test.permute, "compare": str(entry.compare), **given[0].design}
    return capture.result(variables, coords, attrs)


def _contrast_result(
    contrast: Discriminative | Categorical, entry: Rsa, capture: Capture, answer: Answer
) -> xr.Dataset:
    words, estimand = _words(contrast)
    null = meaning("Fisher z", f"{words}, labels permuted", estimand)
    variables = {
        "contrast": (capture.dims, answer.observed, meaning("Fisher z", words, estimand)),
        **p_variables(capture.dims, answer.p, answer.p_max),
        "null": (("permutation", *capture.dims), answer.null, null),
    }
    attrs = {"permuted": entry.test.permute, "contrast": contrast.kind, **answer.design}
    return capture.result(variables, {"permutation": np.arange(entry.test.n)}, attrs)


def _words(contrast: Discriminative | Categorical) -> tuple[str, str]:
    """Return what a contrast subtracts from what, and its estimand."""
    if isinstance(contrast, Categorical):
        first, second = contrast.classes
        return f"mean similarity within {first} minus within {second}", "rsa_categorical/1"
    if contrast.target is None:
        return "mean similarity within classes minus across classes", "rsa_discriminative/1"
    target = contrast.target
    words = f"mean similarity within {target} minus between {target} and the others"
    return words, "rsa_discriminative_target/1"
