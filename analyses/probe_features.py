"""Probes of chosen units: chosen anew in every training part, for every labelling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.choosing import Chosen, chance_stability, stability
from patchclamp.analyses.choosing_at import ROWS, Way, choose_at, windows
from patchclamp.analyses.chosen_by import ways_on
from patchclamp.analyses.patterns import FEATURES, Variables, checked_capture, meaning
from patchclamp.analyses.places import Place, at_place
from patchclamp.analyses.probe_answers import Answer, Places
from patchclamp.analyses.probe_design import Choosing, Question
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_representation import LabelTarget, Probe


def choosings(entry: Probe, selection: xr.Dataset, data: xr.Dataset) -> list[Choosing]:
    """Return each way of a selection to choose units of a capture, `data`.

    A selection that chooses units for another label than is read out raises `AnalysisError`:
    there would be no telling what its units are good for.
    """
    column = entry.target.column if isinstance(entry.target, LabelTarget) else entry.target.kind
    if column != selection.attrs["column"] or not isinstance(entry.target, LabelTarget):
        raise AnalysisError(
            f"{entry.features!r} chooses units for {selection.attrs['column']!r}, and this probe "
            f"reads out {column!r}: choose units for what is read out"
        )
    data, names = checked_capture(data).data, (str(entry.features), str(entry.of))
    k, target = int(selection.attrs["k"]), str(selection.attrs["target"])
    kinds = selection["kind_of_method"]
    return [
        Choosing(Way(name, str(kinds.sel(chosen_by=name).item()), k), target)
        for name in ways_on(selection, data, names)
    ]


@dataclass
class Chooser:
    """Chooses units for the places of a question, once for all positions of a layer and head.

    Units are scored over all positions of the capture, and read out at each of them. Where
    labellings differ by place, as those of control tasks, so does the choice.
    """

    question: Question
    left: Iterator[Place] = field(init=False)
    window: Place | None = None
    last: tuple[NDArray[np.int64], Chosen] | None = None

    def __post_init__(self) -> None:
        """Begin before the first window."""
        self.left = windows(self.question.design.capture, self.question.context.memory)

    def at(self, place: Place, labellings: NDArray[np.int64]) -> Chosen:
        """Return the units of every training part, and last of all stimuli, in order of places."""
        question, at = self.question, {d: n for d, n in place.at.items() if d not in ROWS}
        while self.window is None or self.window.at != at:
            self.window, self.last = next(self.left), None
        if self.last is not None and np.array_equal(self.last[0], labellings):
            return self.last[1]
        assert question.choosing is not None, "there is something to choose"
        way, target = question.choosing.way, question.choosing.target
        inside = (labellings == question.design.classes.index(target)).astype(np.int64)
        parts = [*(fold.train for fold in question.folds), question.whole.train]
        how, window = (question.context.seeds, question.context.memory), self.window
        (chosen,), _ = at_place(
            window, question.design.ids, lambda: choose_at((way,), window, inside, parts, how)
        )
        self.last = labellings, chosen
        return chosen


def choices(question: Question, places: Places, answers: Sequence[Answer]) -> Variables:
    """Return which units were chosen, and how alike the choices of training parts are."""
    assert question.choosing is not None, "there is something to choose"
    last, k = len(question.folds), question.choosing.way.k
    data = question.design.capture.data
    (dim,) = (d for d in data["activation"].dims if d in FEATURES)
    n = data.sizes[dim]
    labels = data[dim].values if dim in data.coords else np.arange(n)
    each = [answer.chosen.units[:, 0] for answer in answers if answer.chosen is not None]
    dims = places.dims
    folds = np.moveaxis(places.stack([labels[units[:last]] for units in each]), len(dims), 0)
    alike = "mean Jaccard index of what two"
    return {
        "chosen": (
            (*dims, "rank"),
            places.stack([labels[units[last]] for units in each]),
            meaning("1", "unit or feature that is chosen from all stimuli", "chosen/1"),
        ),
        "chosen_in_fold": (
            ("fold", *dims, "rank"),
            folds,
            meaning("1", "unit or feature that a training part chooses", "chosen/1"),
        ),
        "stability": (
            dims,
            places.stack([stability(units[:last]) if last > 1 else np.nan for units in each]),
            meaning("1", f"{alike} training parts choose", "jaccard/1"),
        ),
        "stability_chance": (
            (),
            chance_stability(n, k),
            meaning("1", f"{alike} random choices", "jaccard/1"),
        ),
    }
