"""What a permutation test could exchange: enough arrangements, and no class of one group."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel

from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_representation import LabelTarget, Probe, Selection
from patchclamp.specs.analyses_rsa import Discriminative, Rsa
from patchclamp.specs.rdms import CategoryModel

Path = tuple[str | int, ...]


def check_exchange(entry: BaseModel, path: Path, table: StimulusTable, problems: Problems) -> None:
    """P417: a test of classes has arrangements enough to reach 0.05, as the analysis asks.

    Of what the stimuli show: windows may still leave some out, and averages have fewer.
    """
    from patchclamp.analyses.permutation import permuted_labels
    from patchclamp.analyses.rsa_design import refuse_lone_groups

    target = _target(entry)
    for where, column in _exchanged(entry):
        if column not in table.labels:
            continue
        values = np.array(table.labels[column])
        if target is not None:
            values = np.where(values == target, target, "(all others)")
        classes, codes = np.unique(values, return_inverse=True)
        groups = None
        if table.groups is not None:
            groups = np.unique(np.array(table.groups), return_inverse=True)[1]
        try:
            refuse_lone_groups(tuple(classes.tolist()), codes, groups)
            permuted_labels(codes, groups, 1, np.random.default_rng(0))
        except AnalysisError as error:
            problems.add((*path, *where), "P417", f"stimulus set {table.name!r}: {error}")


def _target(entry: BaseModel) -> str | None:
    """Return the class that is held against all others, if one is."""
    if isinstance(entry, Selection):
        return entry.target
    contrast = getattr(entry, "contrast", None)
    return contrast.target if isinstance(contrast, Discriminative) else None


def _exchanged(entry: BaseModel) -> Iterator[tuple[Path, str]]:
    """Yield the label of classes that a test exchanges between stimuli, and where it is named."""
    if isinstance(entry, Rsa) and entry.rdm.average_by is None:
        models = tuple((entry.against or {}).values())
        about = (*models, *([entry.contrast] if entry.contrast is not None else ()))
        columns = {m.column for m in about if isinstance(m, CategoryModel | Discriminative)}
        if columns == {entry.test.permute} and all(
            isinstance(m, CategoryModel | Discriminative) for m in about
        ):
            yield ("test", "permute"), entry.test.permute
    elif isinstance(entry, Probe) and isinstance(entry.target, LabelTarget):
        if "shuffled_labels" in entry.controls and not entry.cv.stratify and not entry.test_on:
            yield ("target",), entry.target.column
    elif isinstance(entry, Selection) and entry.test is not None and not entry.cv.stratify:
        yield ("test", "permute"), entry.column
