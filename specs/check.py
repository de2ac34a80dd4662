"""What the grammar cannot say entry by entry: references, labels, groups, answers, templates.

`check` collects every problem at once; `resolve` spells out what may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from patchclamp.registry import METRICS
from patchclamp.registry.errors import nearest
from patchclamp.specs.analyses import (
    Ablation,
    Categorical,
    CategoryModel,
    Discriminative,
    LabelPermutation,
    Probe,
    Rsa,
)
from patchclamp.specs.columns import (
    NO_GROUPS,
    check_columns,
    check_items,
    check_label_names,
    known_columns,
    slots_of,
)
from patchclamp.specs.diagnostics import Path, Problem, dotted
from patchclamp.specs.references import (
    Sections,
    candidates,
    fill,
    models_in,
    references,
    sections_of,
)
from patchclamp.specs.spec import Spec
from patchclamp.specs.stimuli import Corrupt, Source, is_source

LABEL_COLUMNS: Mapping[type[BaseModel], str] = {
    CategoryModel: "column",
    Discriminative: "column",
    Categorical: "column",
    LabelPermutation: "permute",
    Probe: "target",
}
"""Model -> its field that names a label of the stimulus set."""

GROUPED: tuple[type[BaseModel], ...] = (Rsa, Probe)
"""Analyses that permute or hold out stimuli, and so must know which of them belong together."""


def resolve(spec: Spec) -> Spec:
    """Return a spec with every reference that has one candidate spelled out."""
    return spec.model_copy(update=dict(fill(sections_of(spec)).entries))


def check(sections: Sections) -> tuple[Problem, ...]:
    """Return every problem between entries; entries that are broken by themselves are passed by."""
    filled = fill(sections)
    return tuple(problem for find in CHECKS for problem in find(filled))


def _entries(sections: Sections) -> Iterator[tuple[Path, BaseModel]]:
    for section, entries in sections.entries.items():
        for name, entry in entries.items():
            yield (section, name), entry


def _sources(sections: Sections) -> Iterator[tuple[Path, Source]]:
    for path, entry in _entries(sections):
        if is_source(entry):
            yield path, entry  # type: ignore[misc]


def _set_of(sections: Sections, entry: BaseModel) -> str | None:
    """Return the stimulus set that an entry works on, directly or through its capture."""
    for path, reference, name in references(entry, ()):
        if len(path) == 1 and reference.section == "stimuli":
            return name
        if len(path) == 1 and reference.section == "captures":
            capture = sections.get("captures", name)
            return _set_of(sections, capture) if capture else None
    return None


def _check_references(sections: Sections) -> Iterator[Problem]:
    """P301, P302: a name refers to an entry, and one left out to the only candidate."""
    for place, entry in _entries(sections):
        for path, reference, name in references(entry, place):
            known = sections.names(reference.section)
            if name is not None and name not in known:
                message = f"no entry {name!r} in {reference.section!r}"
                yield Problem(path, "P301", message, known, nearest(name, known))
            if name is None and not sections.broken.get(reference.section):
                found = candidates(reference, sections)
                count = f"there are {len(found)}" if found else "there is none"
                message = f"left out, which needs exactly one {reference.what}; {count}"
                yield Problem(path, "P302", message, found)


def _check_corrupt(sections: Sections) -> Iterator[Problem]:
    """P303: a corrupt set rearranges the slots of a set that has rows and slots of its own."""
    for (section, name), entry in _entries(sections):
        if not isinstance(entry, Corrupt) or entry.of is None:
            continue
        path, origin = (section, name, "of"), sections.get("stimuli", entry.of)
        names = tuple(str(p[-1]) for p, _ in _sources(sections))
        if entry.of == name:
            yield Problem(path, "P303", "a set cannot be a corruption of itself", names)
        elif isinstance(origin, Corrupt):
            message = f"stimuli.{entry.of} is itself corrupt; name the set it is made from"
            yield Problem(path, "P303", message, names)
        elif is_source(origin) and not slots_of(origin):  # type: ignore[arg-type]
            message = f"stimuli.{entry.of} has no 'slots': columns whose values may be rearranged"
            yield Problem(path, "P303", message)


def _check_answers(sections: Sections) -> Iterator[Problem]:
    """P304, P305, P306: a metric has the answers it reads, and a share has a meaning."""
    for place, entry in _entries(sections):
        if not isinstance(entry, Ablation):
            continue
        metric = METRICS[entry.metric.kind]
        source = sections.source(entry.stimuli)
        if source is not None and source[1].answer is None:
            message = f"{metric.name!r} needs an answer, and stimuli.{source[0]} has no 'answer'"
            yield Problem((*place, "stimuli"), "P304", message)
        elif source is not None and metric.needs_foil and _foil(source[1]) is None:
            message = f"{metric.name!r} needs a foil, and stimuli.{source[0]}.answer has none"
            fitting = tuple(name for name, m in METRICS.items() if not m.needs_foil)
            yield Problem((*place, "metric", "kind"), "P305", message, fitting)
        if entry.share and not metric.ratio:
            message = (
                f"zero {metric.units} of {metric.name!r} does not mean no effect, so a share of "
                "its clean baseline means nothing; choose another metric or leave 'share' out"
            )
            yield Problem((*place, "share"), "P306", message)


def _foil(entry: Source) -> str | None:
    return entry.answer.foil if entry.answer else None


def _labels_used(entry: BaseModel, place: Path) -> dict[Path, str]:
    """Return the label columns that an analysis names, by path."""
    return {
        (*path, LABEL_COLUMNS[type(model)]): getattr(model, LABEL_COLUMNS[type(model)])
        for path, model in models_in(entry, place)
        if type(model) in LABEL_COLUMNS
    }


def _check_labels(sections: Sections) -> Iterator[Problem]:
    """P307: what an analysis calls a label is one; a column used in several places is told once."""
    told = set()
    for place, entry in _entries(sections):
        source = sections.source(_set_of(sections, entry))
        if source is None:
            continue
        name, stimuli = source
        for path, column in _labels_used(entry, place).items():
            if column in stimuli.labels or (name, column) in told:
                continue
            told.add((name, column))
            columns = known_columns(stimuli)
            if columns is not None and not set(stimuli.labels) <= set(columns):
                continue  # a label is misspelt in the set itself, and told there
            message, close = f"{column!r} is not a label of stimuli.{name}", None
            if columns is None or column not in columns:
                close = nearest(column, stimuli.labels)
            if close is None and (columns is None or column in columns):
                message += f"; add it to its 'labels' ({place[-1]} needs it)"
            yield Problem(path, "P307", message, stimuli.labels, close)


def _check_permutations(sections: Sections) -> Iterator[Problem]:
    """P308: the labels that are permuted are those that the question is about."""
    for place, entry in _entries(sections):
        source = sections.source(_set_of(sections, entry))
        if not isinstance(entry, Rsa) or source is None:
            continue
        used = _labels_used(entry, place)
        permuted = used.pop((*place, "test", "permute"))
        if not {permuted, *used.values()} <= set(source[1].labels):
            continue
        about = tuple(dict.fromkeys(used.values()))
        if permuted not in about:
            message = f"this test permutes {permuted!r}, but the analysis asks about {_and(about)}"
            suggestion = about[0] if len(about) == 1 else None
            yield Problem((*place, "test", "permute"), "P308", message, about, suggestion)
            continue
        for path, column in used.items():
            if column != permuted:
                message = f"asks about {column!r}, but the test permutes {permuted!r}; "
                message += "give each column an analysis of its own"
                yield Problem(path, "P308", message)


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(repr(name) for name in names)


def _check_groups(sections: Sections) -> Iterator[Problem]:
    """P309, P313: what belongs together is stated, and folds do not take whole classes away."""
    needing: dict[str, list[str]] = {}
    for place, entry in _entries(sections):
        source = sections.source(_set_of(sections, entry))
        if source is None or not isinstance(entry, GROUPED):
            continue
        name, stimuli = source
        if stimuli.groups is None:
            needing.setdefault(name, []).append(dotted(place))
        elif isinstance(entry, Probe) and entry.target == stimuli.groups:
            message = (
                f"{entry.target!r} is also the 'groups' of stimuli.{name}: a fold would hold out "
                "whole classes, which a probe could then not have learnt"
            )
            yield Problem((*place, "target"), "P313", message)
    for name, users in needing.items():
        message = (
            f"{', '.join(users)} permute or hold out stimuli and must know which belong together: "
            f"name a column, or write 'groups: {NO_GROUPS}' if stimuli are independent"
        )
        yield Problem(("stimuli", name, "groups"), "P309", message)


def _check_sources(sections: Sections) -> Iterator[Problem]:
    """P205, P310, P311, P312: what each set says of its own columns."""
    for place, entry in _sources(sections):
        yield from check_label_names(place, entry)
        yield from check_columns(place, entry)
        yield from check_items(place, entry)


Check = Callable[[Sections], Iterator[Problem]]

CHECKS: tuple[Check, ...] = (
    _check_references,
    _check_corrupt,
    _check_answers,
    _check_labels,
    _check_permutations,
    _check_groups,
    _check_sources,
)
"""Every check between entries; each is independent of the others."""
