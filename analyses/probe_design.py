"""The design of a probe: rows, what is read out of them, what belongs together, and the folds.

A row is a stimulus, or, where the layer or position of an activation is read out, a stimulus at
one of them. Folds hold out whole groups, which contain all rows of their stimuli. Labels of
stimuli are exchanged as their groups allow; layers and positions within each stimulus, since
that is where a null hypothesis makes them exchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.choosing_at import Way
from patchclamp.analyses.context import Context
from patchclamp.analyses.decoding import Estimator, Fold
from patchclamp.analyses.patterns import Capture, checked_capture
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_representation import (
    CorrectTarget,
    LabelTarget,
    LayerTarget,
    Probe,
)

ANSWERS = ("wrong", "right")
"""The classes of `target: {kind: correct}`."""


@dataclass(frozen=True)
class Design:
    """The rows of a probe, in the order of `ids`, which name the stimulus of each.

    `dims`: what rows run over, `stimulus` first; `what` is read out: the name of a label, or
    `layer`, `position`, `correct`; `codes` (row,) count `classes`. `units` (row,) numbers what a
    fold holds out whole, and `names` has the group or stimulus of each; `blocks` (row,) within
    what labels are exchanged, None if anywhere.
    """

    capture: Capture
    dims: tuple[str, ...]
    what: str
    classes: tuple[str, ...]
    codes: NDArray[np.int64]
    units: NDArray[np.int64]
    names: list[str]
    blocks: NDArray[np.int64] | None
    ids: list[str]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def n_groups(self) -> int:
        """Number of independent items: groups, or stimuli where there are none."""
        return len(np.unique(self.units))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each of the rows' dims."""
        return tuple(self.capture.data.sizes[dim] for dim in self.dims)


@dataclass(frozen=True)
class Choosing:
    """A way of choosing units, and the class that they are to stand for."""

    way: Way
    target: str


@dataclass(frozen=True)
class Question:
    """What is asked at every place.

    `design` and the `tested` one, the same where folds are held out; `labellings` (labelling,
    row) begin with the true one, which the permuted ones follow; `whole` trains on all rows;
    `weights` (draw, tested row) of scores: all rows once, and then the bootstrap's draws;
    `uniform` (draw, tested row), 0 to 1, the same in a group, of calibrated read-outs;
    `choosing` says how units are chosen, None takes all.
    """

    entry: Probe
    design: Design
    tested: Design
    folds: list[Fold]
    whole: Fold
    estimator: Estimator
    labellings: NDArray[np.int64]
    weights: NDArray[np.float64]
    uniform: NDArray[np.float64]
    context: Context
    choosing: Choosing | None = None

    @property
    def crossed(self) -> bool:
        """Whether another set is tested on."""
        return self.tested is not self.design


def make_design(entry: Probe, data: xr.Dataset, correctness: xr.Dataset | None) -> Design:
    """Return the design of a probe on a capture.

    `correctness` are the model's answers, as an `AnswerReading` is measured. A column that does
    not exist, and one with a single class, raise `AnalysisError`.
    """
    capture, target = checked_capture(data), entry.target
    groups = capture.groups()
    n = len(capture.ids)
    units = np.arange(n) if groups is None else groups
    names = capture.ids if groups is None else list(capture.labels("group").classes)
    if isinstance(target, LabelTarget | CorrectTarget):
        classes: tuple[str, ...]
        if isinstance(target, LabelTarget):
            labels = capture.labels(target.column)
            what, classes, codes = labels.column, labels.classes, labels.codes
        else:
            assert correctness is not None, "asked for in readings"
            what, classes, codes = "correct", ANSWERS, _right(capture, correctness)
        design = Design(
            capture, ("stimulus",), what, classes, codes, units, names, groups, capture.ids
        )
    else:
        design = _of_places(entry, capture, units, names)
    present = np.unique(design.codes)
    if len(present) < 2:
        raise AnalysisError(
            f"{said(design)} has one class, {design.classes[present[0]]!r}: nothing to read out"
        )
    if entry.estimator.kind == "difference" and design.n_classes > 2:
        raise AnalysisError(
            f"'difference' is the difference of two class means, and {said(design)} has "
            f"{design.n_classes} classes: use the estimator 'centroid'"
        )
    return design


def _right(capture: Capture, answers: xr.Dataset) -> NDArray[np.int64]:
    """Return 1 for each stimulus that the model answers rightly, in the order of ids.

    Among options its answer is the most probable of them, whatever else could be said; otherwise
    the most probable of all tokens.
    """
    answers = answers.sel(stimulus=capture.ids)
    if not answers.attrs["options"]:
        return np.asarray(answers["rank"].to_numpy() == 0, dtype=np.int64)
    logits = answers["logit_option"].transpose("stimulus", "option").to_numpy()
    chosen = answers["option"].to_numpy()[logits.argmax(axis=1)]
    return np.asarray(chosen == answers["right_option"].to_numpy(), dtype=np.int64)


def _of_places(
    entry: Probe, capture: Capture, units: NDArray[np.int64], names: list[str]
) -> Design:
    """Return the design of reading out the layer or position that an activation comes from."""
    dim = entry.target.kind
    if dim not in capture.dims:
        raise AnalysisError(f"this capture has no dim {dim!r} to read out")
    if isinstance(entry.target, LayerTarget) and entry.target.layers != "all":
        capture = _layers(capture, entry.target.layers)
    labels = capture.data[dim].values
    n = len(capture.ids)
    return Design(
        capture,
        ("stimulus", dim),
        dim,
        tuple(str(label) for label in labels.tolist()),
        np.tile(np.arange(len(labels)), n),
        np.repeat(units, len(labels)),
        names,
        np.repeat(np.arange(n), len(labels)),
        [name for name in capture.ids for _ in labels],
    )


def _layers(capture: Capture, chosen: tuple[int | str, ...] | str) -> Capture:
    known = capture.data["layer"].values.tolist()
    missing = [layer for layer in chosen if layer not in known]
    if missing:
        raise AnalysisError(
            f"the capture has no layer {missing[0]} among {', '.join(map(str, known))}: the layers "
            "of a target must be captured"
        )
    return replace(capture, data=capture.data.sel(layer=list(chosen)))


def said(design: Design) -> str:
    """Return what is read out, as a message says it."""
    if design.dims == ("stimulus",) and design.what != "correct":
        return f"column {design.what!r}"
    return f"the target {design.what!r}"


def matched(design: Design, other: Design) -> Design:
    """Return another design with its classes numbered as in a first one.

    Raises `AnalysisError` unless both have the same classes and the same places.
    """
    if set(design.classes) != set(other.classes):
        alone = sorted(set(design.classes) ^ set(other.classes))
        where = "the training set" if alone[0] in design.classes else "the test set"
        raise AnalysisError(
            f"class {alone[0]!r} of {said(design)} is in {where} alone: train and test on the "
            "same classes"
        )
    for dim in (*design.capture.dims, *_features(design)):
        ours, theirs = design.capture.data[dim].values, other.capture.data[dim].values
        if not np.array_equal(ours, theirs):
            raise AnalysisError(f"the two sets were recorded at different {dim}s")
    order = np.array([design.classes.index(name) for name in other.classes])
    return replace(other, classes=design.classes, codes=order[other.codes])


def _features(design: Design) -> list[str]:
    dims = design.capture.data["activation"].dims
    return [str(dim) for dim in dims if dim not in ("stimulus", *design.capture.dims)]
