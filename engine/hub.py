"""Datasets of the Hugging Face hub, or folders in its format: rows, a block at a time.

They are read with the package `datasets`, which the extra `hub` installs; it runs no code of a
dataset's own. The members of a nested column become columns, `choices.text` as `choices_text`,
and class labels are their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchclamp.engine.fetching import CLIENT_ERRORS, KEY, brief, reason
from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import Row, Rows, frozen, origin
from patchclamp.specs.stimuli import Hub

BLOCK = 10_000
"""Rows that are turned into stimuli at a time; of a large dataset mostly the first will do."""

_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""A name without an owner, such as `csv`, may be one of the package's own readers, which would take
what lies in the working directory."""
_PLAIN = ("string", "large_string", "bool", "int", "uint", "float")
"""Beginnings of the types of values that can stand in a text or a label."""


def read_hub(entry: Hub, here: tuple[str, ...], problems: Problems, *, fetch: bool) -> Rows | None:
    """Return the rows of a dataset, or None after P401 or, without `fetch`, the warning P419."""
    path = (*here, "dataset")
    folder = problems.loaded.folder_of(path) / Path(entry.dataset).expanduser()
    local = folder.is_dir()
    if not fetch and not local:
        message = f"{origin(entry)} cannot be checked here: datasets of the hub are not fetched"
        problems.add(path, "P419", message, severity="warning")
        return None
    if local and entry.revision is not None:
        message = f"the folder {entry.dataset!r} has no revisions"
        problems.add((*here, "revision"), "P401", message)
        return None
    if not local and not _ID.fullmatch(entry.dataset):
        message = f"{entry.dataset!r} is neither a folder ({folder}) nor an id, owner/name"
        problems.add(path, "P401", message)
        return None
    if not local and Path(entry.dataset).exists():
        message = (
            f"the working directory holds {entry.dataset!r}, which would be read instead of the "
            "hub's: run this from elsewhere, or name the folder as it stands to the spec"
        )
        problems.add(path, "P401", message)
        return None
    try:
        table = _load(entry, folder if local else None)
    except ImportError:
        message = "stimuli of the hub need the package 'datasets': pip install 'patchclamp[hub]'"
        problems.add((*here, "kind"), "P401", message)
        return None
    except (*CLIENT_ERRORS, ValueError, KeyError, RuntimeError) as error:
        problems.add(path, "P401", f"cannot read {origin(entry)}: {reason(error)}")
        return None
    # A format of columns, which is saved with a dataset, would still name them as they were.
    flat = table.flatten().with_format(None)
    return Rows(len(flat), _blocks(flat))


def _load(entry: Hub, folder: Path | None) -> Any:
    """Open a dataset of the hub, of files in a folder, or as the package saved it there."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    datasets.disable_progress_bars()
    if folder is not None and (folder / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(folder))
    if folder is not None and (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(folder))[entry.split_name]
    where = entry.dataset if folder is None else str(folder)
    try:
        return datasets.load_dataset(
            where, entry.config, split=entry.split_name, revision=entry.revision
        )
    except DatasetsError as error:
        if isinstance(error, DatasetNotFoundError) and entry.revision is None:
            raise ValueError(f"{brief(error).rstrip('.')}: check the name, or {KEY}") from None
        if isinstance(error, OSError):
            raise
        # "An error occurred while generating the dataset": its cause says what it is.
        raise ValueError(brief(error.__cause__ or error)) from error


def _blocks(table: Any) -> Iterator[list[Row]]:
    """Yield the rows of a flat dataset, with those columns that a text can be made of."""
    names = {name: name.replace(".", "_") for name, feature in table.features.items() if
             _is_plain(feature)}  # fmt: skip
    classes = {name: table.features[name].names for name in names
               if hasattr(table.features[name], "names")}  # fmt: skip
    for start in range(0, len(table), BLOCK):
        block = table[start : start + BLOCK]
        columns = {
            short: [_value(value, classes.get(name)) for value in block[name]]
            for name, short in names.items()
        }
        size = min(BLOCK, len(table) - start)
        yield [{name: values[i] for name, values in columns.items()} for i in range(size)]


def _is_plain(feature: Any) -> bool:
    """Return whether a column holds text, numbers, true and false, or lists of these."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return _is_plain(inner)
    return hasattr(feature, "names") or str(getattr(feature, "dtype", "")).startswith(_PLAIN)


def _value(value: Any, names: list[str] | None) -> Any:
    if names is not None and isinstance(value, int):
        # -1 is a label that is kept back, as test splits have it.
        return names[value] if value >= 0 else ""
    return frozen(value)
