"""What can be said of a stimulus set by itself: its columns, labels and templates."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from patchclamp.registry import STIMULI
from patchclamp.registry.errors import nearest
from patchclamp.specs.diagnostics import Path, Problem
from patchclamp.specs.stimuli import Answer, Builtin, Items, Source
from patchclamp.specs.template import TemplateError, columns_of

# fmt: off
RESERVED = frozenset({
    "stimulus", "layer", "head", "kv_head", "position", "query", "key", "unit", "neuron", "channel",
    "token", "feature", "fold", "permutation", "condition", "model", "revision", "seed",
    "model_rdm", "control", "class", "text", "group", "mask", "answer", "correct", "foil",
})
# fmt: on
"""Names of dims and coordinates of a result, which a label may not take."""

NO_GROUPS = "none"
"""What `groups` says where stimuli are independent of one another."""


def slots_of(entry: Source) -> tuple[str, ...]:
    """Return the columns of a set that may be rearranged."""
    return entry.slots or (STIMULI[entry.set].slots if isinstance(entry, Builtin) else ())


def check_label_names(place: Path, entry: Source) -> Iterator[Problem]:
    """P310: a label becomes a coordinate of the result, under a name that is still free."""
    for index, label in enumerate(entry.labels):
        if label in RESERVED:
            message = f"{label!r} is a name that results use themselves; rename the column"
        elif not label or "/" in label or not label.isprintable():
            message = f"{label!r} cannot name a variable of a netCDF file"
        elif label in entry.labels[:index]:
            message = f"the label {label!r} is given twice"
        else:
            continue
        yield Problem((*place, "labels", index), "P310", message)


def check_columns(place: Path, entry: Source) -> Iterator[Problem]:
    """P311, P312: templates can be read, and every column named exists where that is known."""
    columns = known_columns(entry)
    for path, used in _columns_named(entry, place):
        if isinstance(used, TemplateError):
            yield Problem(path, "P312", str(used))
        elif columns is not None and used not in columns:
            if "labels" in path and used in RESERVED:
                continue  # told as a name that is taken
            message = f"no column {used!r} in {_where(entry)}"
            yield Problem(path, "P311", message, columns, nearest(used, columns))


def known_columns(entry: Source) -> tuple[str, ...] | None:
    """Return the columns of a set, or None where only its file can tell them."""
    if isinstance(entry, Builtin):
        return STIMULI[entry.set].columns
    return tuple(entry.items[0]) if isinstance(entry, Items) else None


def _where(entry: Source) -> str:
    return f"the stimulus set {entry.set!r}" if isinstance(entry, Builtin) else "these items"


def _columns_named(entry: Source, place: Path) -> Iterator[tuple[Path, str | TemplateError]]:
    """Yield every column that a set names, with its path; a bad template yields its error."""
    templates = {(*place, "text"): entry.text}
    if isinstance(entry.answer, Answer):
        templates[(*place, "answer", "correct")] = entry.answer.correct
        if entry.answer.foil is not None:
            templates[(*place, "answer", "foil")] = entry.answer.foil
    for path, template in templates.items():
        try:
            yield from ((path, column) for column in columns_of(template))
        except TemplateError as error:
            yield path, error
    for key in ("labels", "slots"):
        yield from (((*place, key, i), column) for i, column in enumerate(getattr(entry, key)))
    if entry.id is not None:
        yield (*place, "id"), entry.id
    if entry.groups is not None and entry.groups != NO_GROUPS:
        yield (*place, "groups"), entry.groups


def check_items(place: Path, entry: Source) -> Iterator[Problem]:
    """P311, P205: items have the same columns, and numbers that a file can hold."""
    if not isinstance(entry, Items):
        return
    columns = tuple(entry.items[0])
    for index, item in enumerate(entry.items):
        here = (*place, "items", index)
        lacking = [column for column in columns if column not in item]
        for column in item.keys() - set(columns):
            close = nearest(column, lacking)
            lacking = [other for other in lacking if other != close]
            message = f"this item has a column {column!r}, unlike the first item"
            yield Problem((*here, column), "P311", message, columns, close, key=True)
        for column in lacking:
            message = f"this item lacks the column {column!r}, unlike the first item"
            yield Problem(here, "P311", message, columns)
        for column, value in item.items():
            if isinstance(value, float) and not isfinite(value):
                message = f"expected a finite number, got {value}; quote it if it is a word"
                yield Problem((*here, column), "P205", message)
