"""Ratings: tables of how alike people, or something else, found two items."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from patchclamp.engine.problems import Problems
from patchclamp.engine.rows import Row, parse_csv
from patchclamp.registry.errors import StoreError, hint
from patchclamp.specs.expression import ExpressionError, parse
from patchclamp.specs.load import Loaded
from patchclamp.specs.rdms import Ratings
from patchclamp.specs.walk import models_in

KeyPath = tuple[str | int, ...]


def check_ratings(problems: Problems) -> None:
    """P401: every table of ratings can be read, and has the columns, rows and numbers it should."""
    for path, ratings, file in _all(problems.loaded):
        try:
            read_ratings(ratings, file)
        except ValueError as error:
            problems.add((*path, "path"), "P401", f"cannot read {ratings.path}: {error}")


def ratings_dataset(loaded: Loaded, ratings: Ratings) -> xr.Dataset:
    """Return a table of a spec; raises `StoreError` if it has changed since it was checked."""
    file = next(file for _, found, file in _all(loaded) if found == ratings)
    try:
        return read_ratings(ratings, file)
    except ValueError as error:
        raise StoreError(f"cannot read {ratings.path}: {error}") from error


def read_ratings(ratings: Ratings, file: Path) -> xr.Dataset:
    """Return `dissimilarity(rating)` with the coordinates `first` and `second`, and its sha256.

    Of a similarity, the largest in the rows that are taken minus it. Raises `ValueError`.
    """
    try:
        content = file.read_bytes()
        rows = parse_csv(content.decode("utf-8-sig"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    for column in (ratings.first, ratings.second, ratings.value):
        if not rows or column not in rows[0]:
            known = tuple(rows[0]) if rows else ()
            raise ValueError(f"it has no column {column!r}{hint(column, known)}")
    rows = _chosen(rows, ratings.where)
    values = np.array([_number(row, ratings.value) for row in rows])
    if ratings.scale == "similarity":
        values = values.max() - values
    ends = {
        name: ("rating", np.asarray([str(row[column]) for row in rows]))
        for name, column in (("first", ratings.first), ("second", ratings.second))
    }
    return xr.Dataset(
        {"dissimilarity": ("rating", values)},
        coords=ends,
        attrs={"sha256": hashlib.sha256(content).hexdigest()},
    )


def _chosen(rows: list[Row], where: str | None) -> list[Row]:
    if where is None:
        return rows
    try:
        condition = parse(where)
        found = [row for row in rows if condition.evaluate_bool(row)]
    except ExpressionError as error:
        raise ValueError(f"'where': {error}") from error
    if not found:
        raise ValueError(f"none of its {len(rows)} rows meets {where!r}")
    return found


def _number(row: Row, column: str) -> float:
    text = str(row[column])
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"the rating {column!r} of a row is {text!r}, which is no number")
    return value


def _all(loaded: Loaded) -> Iterator[tuple[KeyPath, Ratings, Path]]:
    """Yield every table of a spec: where it is named, what it is, and its file."""
    for path, model in models_in(loaded.spec.analyses, ("analyses",)):
        if isinstance(model, Ratings):
            yield path, model, loaded.folder_of((*path, "path")) / model.path
