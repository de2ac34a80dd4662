"""The design of an RSA: who takes part, what is permuted, and what model RDMs say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.model_rdms import (
    category_table,
    difference_table,
    interaction_table,
    joint_codes,
    ordinal_table,
    ratings_table,
)
from patchclamp.analyses.pairs import pairs_of
from patchclamp.analyses.patterns import Labels
from patchclamp.analyses.permutation import (
    arrangements,
    description,
    permuted_labels,
    permuted_stimuli,
    refuse_few,
    scheme,
    told,
)
from patchclamp.analyses.rsa_items import Items
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError, hint
from patchclamp.specs.analyses_rsa import Rsa
from patchclamp.specs.fields import STIMULUS
from patchclamp.specs.rdms import (
    CaptureModel,
    CategoryModel,
    InteractionModel,
    ModelRdm,
    OrdinalModel,
)

LEAST = 3
"""Pairs that are rated: of two, every correlation is 1 or -1."""

Tables = Mapping[str, xr.Dataset]
"""Ratings by the name of the model RDM: `dissimilarity(rating)` with coords `first`, `second`."""


@dataclass(frozen=True)
class Design:
    """Codes of the items under every labelling, (labelling, item), the observed one first.

    `stimuli`: the item whose place each takes, (labelling, item), where that is what is drawn;
    `attrs`: what a result must say of the permutations.
    """

    items: Items
    labellings: NDArray[np.int64]
    attrs: Mapping[str, str | int]
    stimuli: NDArray[np.int64] | None = None

    @property
    def codes(self) -> NDArray[np.int64]:
        """The observed codes: (item,)."""
        return np.asarray(self.labellings[0])


def model_design(entry: Rsa, items: Items, seeds: Seeds) -> Design:
    """Return the design of a comparison with model RDMs.

    What is permuted is a code for all that the tested model RDMs know of an item. One label is
    exchanged where the others, of an interaction, are the same.
    """
    models = {k: m for k, m in (entry.against or {}).items() if k not in entry.partial}
    permute = entry.test.permute
    columns: dict[str, Labels] = {}
    for name, model in models.items():
        asked = columns_of(model, entry.against or {})
        if permute != STIMULUS and permute not in asked:
            raise _other_column(permute, f"model RDM {name!r} is", asked)
        columns.update((column, items.labels(column)) for column in asked)
        if isinstance(model, CategoryModel):
            refuse_small(columns[model.column], items)
    numbers = {column: labels.codes for column, labels in columns.items()}
    codes = joint_codes(numbers)
    others = {c: n for c, n in numbers.items() if c != permute} if permute != STIMULUS else {}
    strata = joint_codes(others) if others else None
    ways = [_ways(name, items, numbers, (models, entry, strata)) for name in models]
    return _permuted(entry, items, _Exchanged(codes, strata, min(ways)), seeds)


def _ways(
    name: str,
    items: Items,
    numbers: Mapping[str, NDArray[np.int64]],
    asked: tuple[Mapping[str, ModelRdm], Rsa, NDArray[np.int64] | None],
) -> int:
    """Return how many arrangements a model RDM can have, as all labels are exchanged together.

    Too few raise `AnalysisError`: where the labels of several model RDMs change places within
    groups, one that is constant in each group never changes.
    """
    models, entry, strata = asked
    model, groups, along = models[name], items.groups, joint_codes(numbers)
    columns = columns_of(model, entry.against or {})
    own = joint_codes({column: numbers[column] for column in columns})
    # Of a class only its members count; an order, a number or a capture knows classes by name.
    named = not isinstance(model, CategoryModel | InteractionModel)
    ways = arrangements(own, groups, strata, named=named, along=along)
    try:
        refuse_few(ways, own, groups, along)
    except AnalysisError as error:
        raise AnalysisError(f"model RDM {name!r}: {error}") from error
    return ways


def contrast_design(entry: Rsa, items: Items, codes: NDArray[np.int64], seeds: Seeds) -> Design:
    """Return the design of a contrast; `codes` are the classes as its kernel numbers them."""
    assert entry.contrast is not None
    column = entry.contrast.column
    if entry.test.permute not in (column, STIMULUS):
        raise _other_column(entry.test.permute, "the contrast is", (column,))
    ways = arrangements(codes, items.groups)
    refuse_few(ways, codes, items.groups)
    return _permuted(entry, items, _Exchanged(codes, None, ways), seeds)


def _other_column(permute: str, what: str, asked: tuple[str, ...]) -> AnalysisError:
    columns = " and ".join(repr(column) for column in asked)
    return AnalysisError(
        f"the test permutes {permute!r}, but {what} about {columns}: "
        f"permuting another label tests nothing; set test.permute to {asked[0]!r}"
    )


@dataclass(frozen=True)
class _Exchanged:
    """Codes that are exchanged, within what, and the arrangements that a question can have."""

    codes: NDArray[np.int64]
    strata: NDArray[np.int64] | None
    ways: int


def _permuted(entry: Rsa, items: Items, what: _Exchanged, seeds: Seeds) -> Design:
    codes, strata, n = what.codes, what.strata, entry.test.n
    rng = seeds.generator("permutation")
    drawn = permuted_labels(codes, items.groups, n, rng, strata, named=True)
    stimuli = None
    if entry.partial:
        rng = seeds.generator("permutation")
        stimuli = permuted_stimuli(codes, items.groups, n, rng, strata)
    if stimuli is not None:
        drawn, stimuli = codes[stimuli], np.concatenate([np.arange(len(items))[None], stimuli])
    n_groups = len(items) if items.groups is None else len(np.unique(items.groups))
    attrs = {
        "n_stimuli": len(items.rows),
        **({"n_averages": len(items)} if items.averaged else {}),
        "n_groups": n_groups,
        **description(codes, items.groups, n, strata),
        "n_arrangements": told(what.ways),
    }
    return Design(items, np.concatenate([codes[None], drawn]), attrs, stimuli)


def columns_of(model: ModelRdm, models: Mapping[str, ModelRdm]) -> tuple[str, ...]:
    """Return the labels that a model RDM is about; that of a capture is about stimuli."""
    if isinstance(model, InteractionModel):
        found = (columns_of(models[part], models) for part in model.of)
        return tuple(dict.fromkeys(column for columns in found for column in columns))
    return (STIMULUS,) if isinstance(model, CaptureModel) else (model.column,)


def table_of(
    name: str, models: Mapping[str, ModelRdm], what: tuple[Items, NDArray[np.int64]], given: Tables
) -> NDArray[np.float64]:
    """Return what a model RDM of labels says of two codes: (code, code).

    `what`: the items and their codes, of which each has one value of every label asked about;
    `given`: ratings.
    """
    model, (items, codes) = models[name], what
    if isinstance(model, InteractionModel):
        one, other = (table_of(part, models, what, given) for part in model.of)
        return interaction_table(one, other, codes)
    assert not isinstance(model, CaptureModel), "its RDM is measured"
    labels = items.labels(model.column)
    first = np.unique(codes, return_index=True)[1]
    values = [labels.classes[code] for code in labels.codes[first]]
    if isinstance(model, CategoryModel):
        return category_table(values)
    if isinstance(model, OrdinalModel):
        return ordinal_table(values, model.order)
    if model.ratings is None:
        return difference_table(values, model.column)
    rated = given[name]
    pairs = list(zip(rated["first"].values.tolist(), rated["second"].values.tolist(), strict=True))
    leave_out = model.missing == "leave_out"
    table = ratings_table(values, pairs, rated["dissimilarity"].values, leave_out)
    found = pairs_of(table, codes)
    count = int(np.isfinite(found).sum())
    if count < LEAST:
        raise AnalysisError(
            f"model RDM {name!r}: {count} of {found.size} pairs of stimuli are rated, and at least "
            f"{LEAST} are needed: are the items written as they are under {model.column!r}?"
        )
    return table


def class_number(labels: Labels, name: str) -> int:
    """Return the number of a class; `AnalysisError` with the nearest if there is none."""
    if name not in labels.classes:
        raise AnalysisError(
            f"column {labels.column!r} has no class {name!r}{hint(name, labels.classes)}"
        )
    return labels.classes.index(name)


def refuse_small(labels: Labels, items: Items) -> None:
    """Refuse classes without a pair inside them, and such as one group makes up."""
    sizes = np.bincount(labels.codes, minlength=len(labels.classes)).tolist()
    if len(labels.classes) < 2:
        raise AnalysisError(
            f"column {labels.column!r} has one class, {labels.classes[0]!r}: nothing to compare"
        )
    for name, size in zip(labels.classes, sizes, strict=True):
        if size < 2:
            raise AnalysisError(
                f"class {name!r} of column {labels.column!r} has {size} stimulus, "
                "so no pair of stimuli within it: at least 2 are needed"
            )
    refuse_lone_groups(labels.classes, labels.codes, items.groups)


def refuse_lone_groups(
    classes: tuple[str, ...], codes: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> None:
    """Refuse a class that one group makes up, where whole groups change places.

    What sets such a class apart is then as much the group as the label: `AnalysisError`.
    """
    if groups is None or scheme(codes, groups) != "whole groups":
        return
    for number, name in enumerate(classes):
        held = np.unique(groups[codes == number])
        if len(held) == 1:
            raise AnalysisError(
                f"class {name!r} is made up by one group, so that nothing tells the label from "
                "what the stimuli of that group share: at least 2 groups are needed in each class"
            )
