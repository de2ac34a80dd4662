"""What a spec says of classes: that they occur, and are large enough for what is done with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import isfinite

from pydantic import BaseModel

from patchclamp.engine.deep_tests import check_exchange
from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable
from patchclamp.registry.errors import nearest
from patchclamp.specs.analyses_representation import (
    Contrast,
    LabelTarget,
    Probe,
    Selection,
)
from patchclamp.specs.analyses_rsa import Categorical, Discriminative
from patchclamp.specs.fields import Ref
from patchclamp.specs.rdms import CategoryModel, ContinuousModel, OrdinalModel
from patchclamp.specs.references import sections_of
from patchclamp.specs.walk import models_in

PAIRED: tuple[type[BaseModel], ...] = (CategoryModel, Discriminative, Categorical)
"""What is about pairs of stimuli of one class."""

QUOTED = 60
"""Longest piece of a text that a message repeats."""

Path = tuple[str | int, ...]
Tables = Mapping[str, StimulusTable]


def sets_of(entry: BaseModel, problems: Problems) -> tuple[str, ...]:
    """Return the stimulus sets that an analysis works on, itself or through its captures."""
    found: dict[str, None] = {}
    captures = problems.loaded.spec.captures
    for reference in sections_of(problems.loaded.spec).named(entry, (), Ref):
        assert isinstance(reference.mark, Ref)
        name = reference.name
        if reference.mark.section == "captures" and name is not None:
            name = captures[name].of
        elif reference.mark.section != "stimuli":
            continue
        if name is not None:
            found[name] = None
    return tuple(found)


def check_classes(tables: Tables, problems: Problems) -> None:
    """P416, P417, P420: every class that an analysis names occurs, and often enough."""
    for key, entry in problems.loaded.spec.analyses.items():
        path = ("analyses", key)
        if isinstance(entry, Probe) and entry.test_on is not None:
            _check_both(entry, path, tables, problems)
        if isinstance(entry, Probe | Selection):
            sets = [tables[name] for name in sets_of(entry, problems) if name in tables]
            _check_copies(path, sets, problems)
        for name in sets_of(entry, problems):
            if name in tables:
                before = len(problems)
                for here, model in models_in(entry, path):
                    _check(model, here, tables[name], problems)
                if len(problems) == before:
                    check_exchange(entry, path, tables[name], problems)


def _check(model: BaseModel, path: Path, table: StimulusTable, problems: Problems) -> None:
    column = getattr(model, "column", None)
    if isinstance(model, Contrast) and model.factors is not None:
        _check_factors(model, path, table, problems)
    if isinstance(model, Probe | Selection):
        _check_folds(model, path, table, problems)
    if not isinstance(column, str) or column not in table.labels:
        return
    values = table.labels[column]
    empty = next((row for row, value in enumerate(values) if not value.strip()), None)
    if empty is not None:
        message = f"stimulus {table.ids[empty]!r} of {table.name!r} has no {column}"
        problems.add((*path, "column"), "P416", f"{message}: leave it out by 'where'")
        return
    if isinstance(model, ContinuousModel):
        if model.ratings is None:
            _check_numbers(column, path, table, problems)
        return
    before = len(problems)
    for where, value in _classes(model):
        if value not in values:
            known = tuple(sorted(set(values)))
            message = f"no stimulus of {table.name!r} has the {column} {value!r}"
            close = nearest(value, known)
            problems.add((*path, *where), "P420", message, allowed=known, suggestion=close)
    if len(problems) == before:
        _check_sizes(model, column, path, table, problems)


def _classes(model: BaseModel) -> Iterator[tuple[Path, str]]:
    """Yield every class that an analysis names, with its path inside."""
    for key in ("classes", "order"):
        for i, value in enumerate(getattr(model, key, None) or ()):
            yield (key, i), value
    if isinstance(model, Discriminative | Selection) and model.target is not None:
        yield ("target",), model.target


def _check_sizes(
    model: BaseModel, column: str, path: Path, table: StimulusTable, problems: Problems
) -> None:
    """P417, P420: there is something to compare, and each class has a pair where pairs are."""
    counts = Counter(table.labels[column])
    if len(counts) < 2:
        message = f"every stimulus of {table.name!r} has the {column} {next(iter(counts))!r}"
        problems.add((*path, "column"), "P420", f"{message}: nothing to compare with")
        return
    if isinstance(model, OrdinalModel):
        left = sorted(set(counts) - set(model.order))
        if left:
            message = f"{left[0]!r}, a {column} of {table.name!r}, has no place in this order"
            problems.add((*path, "order"), "P420", message)
    if not isinstance(model, PAIRED):
        return
    asked = [value for _, value in _classes(model)] or sorted(counts)
    for value in asked:
        if counts[value] < 2:
            message = (
                f"one stimulus of {table.name!r} has the {column} {value!r}; pairs within a "
                "class need two"
            )
            problems.add((*path, "column"), "P417", message)
            return


def _check_both(entry: Probe, path: Path, tables: Tables, problems: Problems) -> None:
    """P420: what is trained on and what is tested on have the same classes."""
    trained = problems.loaded.spec.captures[str(entry.of)].of
    names = [str(name) for name in (trained, entry.test_on) if name in tables]
    if len(names) < 2 or not isinstance(entry.target, LabelTarget):
        return
    ours, theirs = (set(tables[name].labels.get(entry.target.column, ())) for name in names)
    if ours and theirs and ours != theirs:
        alone = min(ours ^ theirs)
        where = names[0] if alone in ours else names[1]
        message = (
            f"only {where!r} has the {entry.target.column} {alone!r}: train and test on the same "
            "classes"
        )
        problems.add((*path, "target"), "P420", message)


def _check_copies(path: Path, sets: list[StimulusTable], problems: Problems) -> None:
    """P417: no text is both learnt from and tested on, as it would be in two groups."""
    seen: dict[str, dict[str, str]] = {}
    for table in sets:
        for id_, text, group in zip(table.ids, table.texts, table.groups or table.ids, strict=True):
            seen.setdefault(text, {}).setdefault(group, id_)
    copied = {text: ids for text, ids in seen.items() if len(ids) > 1}
    if copied:
        text, (first, second, *_) = next((t, tuple(ids.values())) for t, ids in copied.items())
        several = "group" if sets[0].groups else "stimulus"
        shown = text if len(text) <= QUOTED else text[:QUOTED] + "…"
        problems.add(
            path,
            "P417",
            f"the text {shown!r} is of more than one {several} ({first!r} and {second!r}; so many: "
            f"{len(copied)}), and would be tested on where it was learnt: give copies one group, "
            "or take each text once",
        )


def _check_factors(model: Contrast, path: Path, table: StimulusTable, problems: Problems) -> None:
    """P420: the factors of a design have two values each."""
    for i, factor in enumerate(model.factors or ()):
        values = tuple(sorted(set(table.labels.get(factor, ()))))
        if factor in table.labels and len(values) != 2:
            message = f"a factor has two values; {factor!r} of {table.name!r} has {len(values)}"
            problems.add((*path, "factors", i), "P420", message, allowed=values)


def _check_numbers(column: str, path: Path, table: StimulusTable, problems: Problems) -> None:
    """P420: what is compared by its difference is a number."""
    for id_, value in zip(table.ids, table.labels[column], strict=True):
        try:
            number = isfinite(float(value))
        except ValueError:
            number = False
        if not number:
            message = f"stimulus {id_!r} of {table.name!r}: the {column} {value!r} is no number"
            problems.add((*path, "column"), "P420", message)
            return


def _check_folds(
    model: Probe | Selection, path: Path, table: StimulusTable, problems: Problems
) -> None:
    """P417: there are groups for the folds, and no fold can take a whole class away."""
    if isinstance(model, Probe) and model.test_on is not None:
        return
    groups = table.groups or table.ids
    count, what = len(set(groups)), "groups of stimuli" if table.groups else "stimuli"
    if count < model.cv.folds:
        message = f"{model.cv.folds} folds, and {table.name!r} has {count} {what}"
        problems.add((*path, "cv", "folds"), "P417", message)
        return
    target = model.target if isinstance(model, Probe) else model
    column = getattr(target, "column", None)
    if column is None or column not in table.labels:
        return  # another target than a label
    within: dict[str, set[str]] = {}
    for value, group in zip(table.labels[column], groups, strict=True):
        within.setdefault(value, set()).add(group)
    for value, members in sorted(within.items()):
        if len(members) < 2:
            sort = "group" if table.groups else "stimulus"
            message = (
                f"all of the {column} {value!r} in {table.name!r} is one {sort}: the fold that "
                "holds it out leaves nothing to learn it from"
            )
            where = (*path, "target") if isinstance(model, Probe) else (*path, "column")
            problems.add(where, "P417", message)
            return
