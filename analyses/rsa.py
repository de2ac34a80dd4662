"""Representational similarity analysis of a capture, with inference by label permutation.

1. Items are stimuli, or means of those with one label (`rsa_items`).
2. A design says what is permuted; every place sees the same permutations (`rsa_design`).
3. RDMs are made place by place (`rsa_rdms`), and each question is asked of some of them at a time
   (`rsa_questions`): the observed labelling and all permuted ones at once.
4. p values, intervals and labels are put to the numbers (`rsa_result`).

Pairs of stimuli are never treated as samples: labels are permuted over stimuli, or over groups
of them. All pairs take part, those inside a group too; the null has the same pairs, so p is
right, while the size of an effect includes what the stimuli of a group share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from patchclamp.analyses.context import Context
from patchclamp.analyses.contrasts import Kind
from patchclamp.analyses.folds import group_folds
from patchclamp.analyses.pair_bootstrap import drawn_counts
from patchclamp.analyses.pairs import pairs_of
from patchclamp.analyses.patterns import Capture, Labels, checked_capture
from patchclamp.analyses.readings import (
    CaptureReading,
    ModelShape,
    RatingsReading,
    Reading,
    Readings,
)
from patchclamp.analyses.rsa_chosen import each_choice
from patchclamp.analyses.rsa_design import (
    Design,
    class_number,
    contrast_design,
    model_design,
    refuse_small,
)
from patchclamp.analyses.rsa_items import Items, items_of
from patchclamp.analyses.rsa_models import AGAINST, Models
from patchclamp.analyses.rsa_questions import (
    CaptureSimilarity,
    Contrast,
    Question,
    Similarity,
    Weighted,
)
from patchclamp.analyses.rsa_rdms import Chunk, course_rdms, rdms
from patchclamp.analyses.rsa_result import FISHER, Setting, contrast_result, similarity_result
from patchclamp.analyses.rsa_tally import Answer, Keeping, ask_all
from patchclamp.analyses.similarity import Comparison
from patchclamp.specs.analyses_rsa import Categorical, Rsa
from patchclamp.specs.rdms import CaptureModel, ContinuousModel


def readings(entry: Rsa, shape: ModelShape) -> Readings:
    """Return what an RSA needs: its capture, and for model RDMs other captures and ratings."""
    assert entry.of is not None, "the loader fills in `of`"
    needed: dict[str, Reading] = {"of": CaptureReading(entry.of, complete=entry.compat == "none")}
    for name, model in (entry.against or {}).items():
        if isinstance(model, CaptureModel):
            needed[AGAINST + name] = CaptureReading(model.of)
        elif isinstance(model, ContinuousModel) and model.ratings is not None:
            needed[AGAINST + name] = RatingsReading(model.ratings)
    return needed


def analyse(entry: Rsa, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    """Return the RSA of a capture: `similarity` to model RDMs, or a `contrast`.

    `data["of"]`: `activation(stimulus, layer, [head], [position], unit or channel)` in any order
    of dims, with label coordinates on stimulus and, unless stimuli are independent, `group`;
    `data["against.<name>"]`: another capture, or ratings.

    * `against`: `similarity(model_rdm, [model_layer], place...)`, tested one-sided, greater.
    * `contrast`: `contrast(place...)` in Fisher z of correlations and cosines, in the units of
      other metrics; `discriminative` is one-sided, greater, and `categorical` two-sided.

    Places are (layer, head, position), and with `pattern: positions` (layer, head, unit); with
    `features` all is done for each `chosen_by`. Beside it `p`, `p_max` and `p_fdr` (corrected
    over all places), `null(permutation, ...)` or its largest values, and an interval where a
    bootstrap is asked for. A column or class that does not exist, a class of fewer than 2
    stimuli, and a design with too few arrangements raise `AnalysisError`; patterns that are
    constant or identical raise `UndefinedError` with stimulus ids and place.
    """
    if entry.features is not None:

        def of_chosen(capture: xr.Dataset) -> xr.Dataset:
            return _analyse(entry, {**data, "of": capture}, context)

        return each_choice(entry, data["of"], context.results[entry.features], of_chosen)
    return _analyse(entry, data, context)


def _analyse(entry: Rsa, data: Mapping[str, xr.Dataset], context: Context) -> xr.Dataset:
    capture = _capture(entry, data["of"])
    with threadpool_limits(limits=1):  # same rounding and no contention on any number of cores
        items = items_of(capture, entry.rdm.average_by)
        if entry.contrast is not None:
            design, question = _contrast(entry, items, context)
            answers, setting = _ask(entry, design, {"contrast": question}, context)
            return contrast_result(setting, answers[0])
        design = model_design(entry, items, context.seeds)
        questions, layers = _comparisons(entry, design, data, context)
        answers, setting = _ask(entry, design, questions, context)
    return similarity_result(setting, dict(zip(questions, answers, strict=True)), layers)


def _capture(entry: Rsa, data: xr.Dataset) -> Capture:
    """Return the capture; the published study filled missing tokens with zeros."""
    if entry.compat == "none":
        return checked_capture(data)
    capture = checked_capture(data, masked=True)
    if "mask" in data:
        filled = capture.data["activation"].where(data["mask"], 0.0).drop_vars("mask")
        data = capture.data.drop_vars("mask").assign(activation=filled)
    return checked_capture(data)


def _ask(
    entry: Rsa, design: Design, questions: Mapping[str, Question], context: Context
) -> tuple[list[Answer], Setting]:
    items = design.items
    if entry.pattern == "positions":
        dims = tuple(dim for dim in items.capture.dims if dim != "position")
        (unit,) = set(items.capture.data["activation"].dims) - {"stimulus", *items.capture.dims}
        dims = (*dims, str(unit))
        chunks: Iterator[Chunk] = course_rdms(items, entry.rdm, memory=context.memory)
    else:
        dims = items.capture.dims
        chunks = rdms(items, entry.rdm, memory=context.memory)
    stored = entry.store_rdm or entry.noise_ceiling != "none"
    keeping = Keeping(
        null=entry.pattern == "units",
        rdms=stored,
        counts=_counts(entry, items, context),
        level=entry.bootstrap.level if entry.bootstrap else 0.0,
    )
    answers, kept = ask_all(list(questions.values()), chunks, items.names, keeping)
    models = {} if kept is None else _stored_models(questions, design)
    return answers, Setting(entry, items.capture, design, dims, kept, models)


def _stored_models(
    questions: Mapping[str, Question], design: Design
) -> dict[str, NDArray[np.float64]]:
    """Return the model RDMs that are the same at every place: those of labels and ratings."""
    if not all(isinstance(question, Similarity) for question in questions.values()):
        return {}
    found = {name: cast("Similarity", question) for name, question in questions.items()}
    return {name: pairs_of(one.table, design.codes) for name, one in found.items()}


def _counts(entry: Rsa, items: Items, context: Context) -> NDArray[np.int64] | None:
    if entry.bootstrap is None:
        return None
    groups = np.arange(len(items)) if items.groups is None else items.groups
    return drawn_counts(groups, entry.bootstrap.n, context.seeds.generator("bootstrap"))


def _contrast(entry: Rsa, items: Items, context: Context) -> tuple[Design, Question]:
    """Return a contrast's design and question, with classes numbered as its kernel wants them."""
    contrast = entry.contrast
    assert contrast is not None
    labels, kind = items.labels(contrast.column), "discriminative"
    codes, names = labels.codes, labels.classes
    if isinstance(contrast, Categorical):
        kind, names = "categorical", contrast.classes
        first, second = (class_number(labels, name) for name in names)
        taken = np.isin(codes, [first, second])
        items, codes = items.only(taken), (codes[taken] == second).astype(np.int64)
    elif contrast.target is not None:
        kind, names = "discriminative_target", (contrast.target, "(all others)")
        codes = (codes != class_number(labels, contrast.target)).astype(np.int64)
    labels = Labels(contrast.column, tuple(names), codes)
    refuse_small(labels, items)
    design = contrast_design(entry, items, codes, context.seeds)
    fisher, published = entry.rdm.metric in FISHER, entry.compat != "none"
    how = fisher, published, entry.store_rdm
    return design, Contrast(cast("Kind", kind), design.labellings, *how)


def _comparisons(
    entry: Rsa, design: Design, data: Mapping[str, xr.Dataset], context: Context
) -> tuple[dict[str, Question], list[int | str] | None]:
    """Return a question for each model RDM that is tested, and the layers of `layer: all`."""
    models = Models(entry, design.items, data, context.memory)
    tested = [name for name in models.given if name not in entry.partial]
    if entry.compare == "nnls":
        tables = tuple(models.table(name, design.codes) for name in tested)
        fold = _folds(entry, design.items, context)
        return {"weighted": Weighted(tables, fold, design.labellings)}, None
    comparison = Comparison(str(entry.compare), models.controls())
    questions: dict[str, Question] = {}
    layers = None
    for name in tested:
        model = models.given[name]
        if isinstance(model, CaptureModel):
            values, known, where = models.measured(name)
            layers = known if model.layer == "all" else None
            questions[name] = CaptureSimilarity(comparison, values, where, design.labellings)
        else:
            table = models.table(name, design.codes)
            questions[name] = Similarity(comparison, table, design.labellings, design.stimuli)
    return questions, layers


def _folds(entry: Rsa, items: Items, context: Context) -> NDArray[np.int64]:
    groups = np.arange(len(items)) if items.groups is None else items.groups
    assert entry.folds is not None, "the grammar fills it in"
    return group_folds(groups, entry.folds, context.seeds.generator("folds"))
