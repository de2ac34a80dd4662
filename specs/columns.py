"""What can be said of a stimulus set by itself: its columns, labels and templates."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from patchclamp.registry import STIMULI
from patchclamp.registry.errors import nearest
from patchclamp.specs.diagnostics import Path, Problem
from patchclamp.specs.stimuli import Builtin, Corrupt, Items, Source, Template
from patchclamp.specs.template import TemplateError, columns_of

# fmt: off
RESERVED = frozenset({
    "stimulus", "layer", "head", "kv_head", "position", "query", "key", "unit", "neuron", "channel",
    "token", "feature", "fold", "permutation", "condition", "model", "revision", "seed",
    "model_rdm", "chosen_by", "versus", "effect", "control", "class", "text", "group", "mask",
    "answer", "correct", "foil",
    "option", "variant", "bin", "activation", "clean", "value", "rank", "logsumexp", "logit_option",
    "logit_answers", "logit_max", "logit_variant", "right_option", "chosen_option",
})
# fmt: on
"""Names of dims and coordinates of a result, which a label may not take."""

COUNTS = ("words", "tokens")
"""What `where` can name beside columns: how many words and tokens a text has."""

CLEAN = "clean_"
"""What stands before a slot's name in `reject_if` where the clean text's value is meant."""

MEASURES = ("rank", "p", "p_foil", "logit_diff", "correct")
"""What `keep_if` can name: rank and probability of the answer, probability of the foil, logit
difference, and whether the answer is the most probable token."""

_EXAMPLE = {"rank": 3, "p": 0.43, "p_foil": 0.17, "logit_diff": 0.93, "correct": False}
"""What a clean run could measure; a condition that has no value for it has none for any."""

NO_GROUPS = "none"
"""What `groups` says where stimuli are independent of one another."""


def slots_of(entry: Source) -> tuple[str, ...]:
    """Return the columns of a set that may be rearranged."""
    return entry.slots or (STIMULI[entry.set].slots if isinstance(entry, Builtin) else ())


SPLIT = "split"
"""The label that `split` makes."""


def labels_of(entry: Source) -> tuple[str, ...]:
    """Return the labels of a set: the columns that it keeps, and its split."""
    return (*entry.labels, *([SPLIT] if entry.split is not None else []))


def check_label_names(place: Path, entry: Source) -> Iterator[Problem]:
    """P310: a label becomes a coordinate of the result, under a name that is still free."""
    for index, label in enumerate(entry.labels):
        if label in RESERVED:
            message = f"{label!r} is a name that results use themselves; rename the column"
        elif not label or "/" in label or not label.isprintable():
            message = f"{label!r} cannot name a variable of a netCDF file"
        elif label in entry.labels[:index]:
            message = f"the label {label!r} is given twice"
        elif label == SPLIT and entry.split is not None:
            message = f"the label {label!r} is what 'split' makes; rename the column"
        else:
            continue
        yield Problem((*place, "labels", index), "P310", message)


def check_columns(place: Path, entry: Source) -> Iterator[Problem]:
    """P311, P312: templates can be read, and every column named exists where that is known."""
    for path, used in _names_used(entry):
        key = str(path[0])
        names = _known_names(entry, key)
        if isinstance(used, ValueError):
            yield Problem((*place, *path), "P312", str(used))
        elif names is not None and used not in names:
            if key == "labels" and used in RESERVED:
                continue  # told as a name that is taken
            message = f"no column {used!r} in {_where(entry, key)}"
            yield Problem((*place, *path), "P311", message, names, nearest(used, names))


def known_columns(entry: Source) -> tuple[str, ...] | None:
    """Return the columns of a set, or None where only its file can tell them."""
    match entry:
        case Builtin():
            given = STIMULI[entry.set].columns
        case Items():
            given = tuple(entry.items[0])
        case Template():
            given = (*entry.for_, *entry.draw)
        case _:
            return None
    return (*given, *(column for column in entry.columns if column not in given))


def _known_names(entry: Source, key: str) -> tuple[str, ...] | None:
    """Return what a template or condition of a set can name."""
    if key == "keep_if":
        return MEASURES
    columns = known_columns(entry)
    if columns is None:
        return None
    vocabularies = tuple(entry.vocabularies) if isinstance(entry, Template) else ()
    return (*columns, *vocabularies, *(COUNTS if key == "where" else ()))


def _where(entry: Source, key: str) -> str:
    if key == "keep_if":
        return "what a clean run measures"
    match entry:
        case Builtin():
            return f"the stimulus set {entry.set!r}"
        case Template():
            return "this template's loops, draws and vocabularies"
        case _:
            return "these items"


def _templates(entry: Source) -> Iterator[tuple[Path, str]]:
    """Yield every template of a set with its path inside the entry."""
    yield ("text",), entry.text
    yield from ((("columns", name), template) for name, template in entry.columns.items())
    yield from ((("spans", name), span.text) for name, span in entry.spans.items())
    if entry.answer is not None:
        yield ("answer", "correct"), entry.answer.correct
        if entry.answer.foil is not None:
            yield ("answer", "foil"), entry.answer.foil


def _names_used(entry: Source) -> Iterator[tuple[Path, str | ValueError]]:
    """Yield every name that a set uses, with its path; what cannot be read yields its error."""
    for path, template in _templates(entry):
        try:
            yield from ((path, name) for name in columns_of(template))
        except TemplateError as error:
            yield path, error
    holds = entry.keep_if.holds if entry.keep_if else None
    conditions = {("where",): entry.where, ("keep_if", "holds"): holds}
    for path, condition in conditions.items():
        if condition:
            yield from _names_asked(path, condition)
    for key in ("labels", "slots"):
        yield from (((key, i), column) for i, column in enumerate(getattr(entry, key)))
    if entry.id is not None:
        yield ("id",), entry.id
    if entry.groups is not None and entry.groups != NO_GROUPS:
        yield ("groups",), entry.groups


def check_rejection(place: Path, entry: Corrupt, origin: Source) -> Iterator[Problem]:
    """P311, P312: the condition under which a corruption is drawn again can be read."""
    path = (*place, "reject_if")
    columns, slots = known_columns(origin), slots_of(origin)
    names = (*slots, *(f"{CLEAN}{slot}" for slot in slots), "tokens", f"{CLEAN}tokens")
    names += tuple(name for name in columns or () if name not in names)
    if isinstance(origin, Template):
        names += tuple(origin.vocabularies)
    for _, name in _names_asked(path, entry.reject_if) if entry.reject_if else ():
        if isinstance(name, ValueError):
            yield Problem(path, "P312", str(name))
        elif columns is not None and name not in names:
            message = f"no slot or column {name!r} in stimuli.{entry.of}"
            yield Problem(path, "P311", message, names, nearest(name, names))


def _names_asked(path: Path, condition: str) -> Iterator[tuple[Path, str | ValueError]]:
    # Most sets have no condition, and their checking starts faster without the grammar of one.
    from patchclamp.specs.expression import ExpressionError, parse

    try:
        yield from ((path, name) for name in parse(condition).names)
    except ExpressionError as error:
        yield path, error


def has_foil(entry: Source) -> bool:
    """Return whether the answer of a set competes with another one."""
    return entry.answer is not None and (
        entry.answer.foil is not None or len(entry.answer.options) > 1
    )


def check_keep(place: Path, entry: Source) -> Iterator[Problem]:
    """P304, P305, P311, P312: what `keep_if` asks the model for can be asked and answered."""
    if entry.keep_if is None:
        return
    if entry.answer is None:
        message = f"'keep_if' needs an answer, and {place[-1]!r} has no 'answer'"
        yield Problem((*place, "keep_if"), "P304", message)
    columns = known_columns(entry)
    for i, column in enumerate(entry.keep_if.together if columns is not None else ()):
        if columns is not None and column not in columns:
            message = f"no column {column!r} in {_where(entry, 'together')}"
            path = (*place, "keep_if", "together", i)
            yield Problem(path, "P311", message, columns, nearest(column, columns))
    yield from _check_measures(place, entry)


def _check_measures(place: Path, entry: Source) -> Iterator[Problem]:
    """P305, P312: a condition on what the model does has a value, and what it asks is measured."""
    from patchclamp.specs.expression import ExpressionError, parse

    assert entry.keep_if is not None
    path = (*place, "keep_if", "holds")
    try:
        condition = parse(entry.keep_if.holds)
    except ExpressionError:
        return  # told with the other conditions and templates
    try:
        if set(condition.names) <= set(MEASURES):
            condition.evaluate_bool(_EXAMPLE)
    except ExpressionError as error:
        yield Problem(path, "P312", str(error))
    asked = [name for name in condition.names if name in ("p_foil", "logit_diff")]
    if asked and entry.answer is not None and not has_foil(entry):
        message = f"{asked[0]!r} needs a foil, and stimuli.{place[-1]}.answer has none"
        yield Problem(path, "P305", message)


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
