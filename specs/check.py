"""What the grammar cannot say entry by entry: references, labels, groups, answers, templates.

Every problem is collected at once; what may be left out is spelled out before (`references.fill`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from patchclamp.registry import METRICS
from patchclamp.registry.errors import nearest
from patchclamp.registry.metrics import Metric
from patchclamp.specs.analyses_representation import Contrast, LabelTarget, Probe, Selection
from patchclamp.specs.analyses_rsa import Rsa
from patchclamp.specs.captures import Capture
from patchclamp.specs.columns import (
    NO_GROUPS,
    check_columns,
    check_items,
    check_keep,
    check_label_names,
    check_rejection,
    has_foil,
    known_columns,
    labels_of,
    slots_of,
)
from patchclamp.specs.cross_references import check_circles, check_features, check_references
from patchclamp.specs.diagnostics import Path, Problem, dotted
from patchclamp.specs.fields import STIMULUS, Label, Ref
from patchclamp.specs.rdms import CaptureModel, InteractionModel
from patchclamp.specs.references import Sections, entries, fill
from patchclamp.specs.stimuli import Corrupt, Source, is_source

Asked = Mapping[Path, BaseModel]
"""The entries that are looked at, by place."""

GROUPED: tuple[type[BaseModel], ...] = (Rsa, Probe, Selection, Contrast)
"""Analyses that permute, hold out or count stimuli, and so must know which belong together."""


def check(sections: Sections) -> tuple[Problem, ...]:
    """Return every problem between entries; entries that are broken by themselves are passed by."""
    filled = fill(sections)
    return check_entries(filled, dict(entries(filled)))


def check_entries(sections: Sections, asked: Asked) -> tuple[Problem, ...]:
    """Return every problem that some entries have with all entries, references filled in."""
    return tuple(problem for find in CHECKS for problem in find(sections, asked))


def _sources(asked: Asked) -> Iterator[tuple[Path, Source]]:
    for path, entry in asked.items():
        if is_source(entry):
            yield path, entry


def _sets_of(sections: Sections, place: Path, entry: BaseModel) -> dict[str, Source]:
    """Return the stimulus sets whose labels an entry can name, by their names.

    They are those it names itself or through its captures; a set's own labels are its own.
    """
    if is_source(entry):
        return {str(place[-1]): entry}
    found: dict[str, Source] = {}
    for section, name in sections.walks.needed(entry):
        if section == "stimuli":
            source = sections.source(name)
            found.update([source] if source else [])
        elif section == "captures":
            capture = sections.get("captures", name)
            found.update(_sets_of(sections, (), capture) if capture else {})
    return found


def _check_corrupt(sections: Sections, asked: Asked) -> Iterator[Problem]:
    """P303, P311, P312: a corrupt set rearranges slots of a set that has rows of its own."""
    for (section, name), entry in asked.items():
        if not isinstance(entry, Corrupt) or entry.of is None:
            continue
        path, origin = (section, name, "of"), sections.get("stimuli", entry.of)
        names = tuple(name for name, of in sections.entries["stimuli"].items() if is_source(of))
        if entry.of == name:
            yield Problem(path, "P303", "a set cannot be a corruption of itself", names)
        elif isinstance(origin, Corrupt):
            message = f"stimuli.{entry.of} is itself corrupt; name the set it is made from"
            yield Problem(path, "P303", message, names)
        elif is_source(origin) and not slots_of(origin):
            message = f"stimuli.{entry.of} has no 'slots': columns whose values may be rearranged"
            yield Problem(path, "P303", message)
        elif is_source(origin):
            yield from check_rejection((section, name), entry, origin)


def _metrics(entry: BaseModel, place: Path) -> Iterator[tuple[Path, Metric]]:
    """Yield the metric that an analysis measures, or a capture differentiates, with its path."""
    chosen = vars(entry).get("metric")
    if isinstance(entry, Capture) and entry.gradient is not None:
        yield (*place, "gradient", "of"), METRICS[entry.gradient.of]
    if isinstance(chosen, str):
        yield (*place, "metric"), METRICS[chosen]
    elif chosen is not None:
        yield (*place, "metric", "kind"), METRICS[chosen.kind]


def _check_answers(sections: Sections, asked: Asked) -> Iterator[Problem]:
    """P304, P305, P306: a metric has the answers it reads, and a share has a meaning."""
    for place, entry in asked.items():
        for path, metric in _metrics(entry, place):
            yield from _check_metric(sections, place, entry, (path, metric))
            if vars(entry).get("share") and not metric.ratio:
                message = (
                    f"zero {metric.units} of {metric.name!r} does not mean no effect, so a share "
                    "of its clean baseline means nothing; choose another metric or leave 'share' "
                    "out"
                )
                yield Problem((*place, "share"), "P306", message)


def _check_metric(
    sections: Sections, place: Path, entry: BaseModel, chosen: tuple[Path, Metric]
) -> Iterator[Problem]:
    path, metric = chosen
    if metric.needs == "nothing":
        return
    for reference in sections.named(entry, place, Ref):
        mark = reference.mark
        if not isinstance(mark, Ref) or mark.section != "stimuli":
            continue
        if mark.candidate != "answered" and not isinstance(entry, Capture):
            continue
        source = sections.source(reference.name)
        if source is not None and source[1].answer is None:
            message = f"{metric.name!r} needs an answer, and stimuli.{source[0]} has no 'answer'"
            yield Problem(reference.path, "P304", message)
        elif source is not None and metric.needs == "foil" and not has_foil(source[1]):
            message = f"{metric.name!r} needs a foil, and stimuli.{source[0]}.answer has none"
            fitting = tuple(name for name, m in METRICS.items() if m.needs != "foil")
            yield Problem(path, "P305", message, fitting)


def _check_labels(sections: Sections, asked: Asked) -> Iterator[Problem]:
    """P307: what an entry calls a label is one; a column used in several places is told once."""
    told = set()
    for place, entry in asked.items():
        labels = sections.named(entry, place, Label)
        sets = _sets_of(sections, place, entry) if labels else {}
        for reference in labels:
            column = reference.name
            if column is None or not sets:
                continue
            if column == STIMULUS and isinstance(reference.mark, Label) and reference.mark.itself:
                continue
            if any(
                column in labels_of(source) or (name, column) in told
                for name, source in sets.items()
            ):
                continue
            name, stimuli = next(iter(sets.items()))
            told.add((name, column))
            columns = known_columns(stimuli)
            if columns is not None and not set(stimuli.labels) <= set(columns):
                continue  # a label is misspelt in the set itself, and told there
            message, close = f"{column!r} is not a label of stimuli.{name}", None
            if columns is None or column not in columns:
                close = nearest(column, labels_of(stimuli))
            if close is None and (columns is None or column in columns):
                message += f"; add it to its 'labels' ({place[-1]} needs it)"
            yield Problem(reference.path, "P307", message, labels_of(stimuli), close)


def _check_models(sections: Sections, asked: Asked) -> Iterator[Problem]:
    """P301: a model RDM that names others names some that stand beside it."""
    for place, entry in asked.items():
        if not isinstance(entry, Rsa):
            continue
        known = tuple(entry.against or ())
        used = [((*place, "partial", i), name) for i, name in enumerate(entry.partial)]
        for key, model in (entry.against or {}).items():
            if model.kind == "interaction":
                used += [((*place, "against", key, "of", i), n) for i, n in enumerate(model.of)]
        for path, name in used:
            if name not in known:
                message = f"no model RDM {name!r} under 'against'"
                yield Problem(path, "P301", message, known, nearest(name, known))


def _check_permutations(sections: Sections, asked: Asked) -> Iterator[Problem]:
    """P308: the labels that are permuted are those that the question is about."""
    for place, entry in asked.items():
        if not isinstance(entry, Rsa) or entry.test.permute == STIMULUS:
            continue
        used = {path: columns for path, columns in _columns_asked(entry, place) if columns}
        permuted = entry.test.permute
        labels = {
            label
            for source in _sets_of(sections, place, entry).values()
            for label in labels_of(source)
        }
        about = tuple(dict.fromkeys(column for columns in used.values() for column in columns))
        if not used or not {permuted, *about} <= labels:
            continue
        if permuted not in about:
            message = f"this test permutes {permuted!r}, but the analysis asks about {_and(about)}"
            suggestion = about[0] if len(about) == 1 else None
            yield Problem((*place, "test", "permute"), "P308", message, about, suggestion)
            continue
        for path, columns in used.items():
            if permuted not in columns:
                message = f"asks about {_and(columns)}, but the test permutes {permuted!r}; "
                message += "give each column an analysis of its own"
                yield Problem(path, "P308", message)


def _columns_asked(entry: Rsa, place: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the labels that each question is about, and where; an interaction is about two."""
    if entry.contrast is not None:
        yield (*place, "contrast", "column"), (entry.contrast.column,)
    models = entry.against or {}
    for name, model in models.items():
        if name in entry.partial:
            continue  # what is only controlled for is not asked about
        if isinstance(model, InteractionModel):
            found = (getattr(models.get(part), "column", None) for part in model.of)
            columns = tuple(dict.fromkeys(column for column in found if column is not None))
            yield (*place, "against", name, "of"), columns
        elif not isinstance(model, CaptureModel):
            yield (*place, "against", name, "column"), (model.column,)


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(repr(name) for name in names)


def _check_groups(sections: Sections, asked: Asked) -> Iterator[Problem]:
    """P309, P313: what belongs together is stated, and folds do not take whole classes away."""
    needing: dict[str, list[str]] = {}
    for place, entry in asked.items():
        if not isinstance(entry, GROUPED):
            continue
        for name, stimuli in _sets_of(sections, place, entry).items():
            target = getattr(entry, "target", None)
            if stimuli.groups is None:
                needing.setdefault(name, []).append(dotted(place))
            elif isinstance(target, LabelTarget) and target.column == stimuli.groups:
                message = (
                    f"{target.column!r} is also the 'groups' of stimuli.{name}: a fold would hold "
                    "out whole classes, which a probe could then not have learnt"
                )
                yield Problem((*place, "target"), "P313", message)
    for name, users in needing.items():
        message = (
            f"{', '.join(users)} permute, hold out or count stimuli and must know which belong "
            f"together: name a column, or write 'groups: {NO_GROUPS}' if stimuli are independent"
        )
        yield Problem(("stimuli", name, "groups"), "P309", message)


def _check_sources(sections: Sections, asked: Asked) -> Iterator[Problem]:
    """P205, P310, P311, P312: what each set says of its own columns."""
    for place, entry in _sources(asked):
        yield from check_label_names(place, entry)
        yield from check_columns(place, entry)
        yield from check_keep(place, entry)
        yield from check_items(place, entry)


Check = Callable[[Sections, Asked], Iterator[Problem]]

CHECKS: tuple[Check, ...] = (
    check_references,
    check_circles,
    _check_corrupt,
    _check_answers,
    _check_labels,
    _check_models,
    _check_permutations,
    _check_groups,
    check_features,
    _check_sources,
)
"""Every check between entries; each is independent of the others.

A check looks at the entries it is asked about and at all that they refer to; of other entries it
sees what `outline` says of them. So an entry that is the same in two cells, with all that it refers
to, is checked once.
"""
