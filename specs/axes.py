"""The cells of a spec: which paths its `matrix`, or a list of seeds, sets to which values.

1. Every path is read; paths that cross, values given twice and zips of unequal length are refused.
2. Each path of `grid`, and all paths of `zip` together, are an axis; a cell is one step on each.
3. Cells that an `exclude` matches are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from math import prod
from typing import Any, NamedTuple

from patchclamp.registry.errors import nearest
from patchclamp.specs.diagnostics import Path, Problem, dotted
from patchclamp.specs.document import Document
from patchclamp.specs.matrix import UNSWEPT, Composition
from patchclamp.specs.paths import Part, PathError, read_path
from patchclamp.specs.schema import validate

CELLS = 10_000
"""Most cells of a matrix, before exclusions."""

SEED: Path = ("seed",)
"""Where a list of values makes cells without a matrix."""


class Swept(NamedTuple):
    """A path that a matrix sets, and where in the spec its values stand."""

    name: str
    parts: tuple[Part, ...]
    at: Path
    values: tuple[Any, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The parts of the path, as text."""
        return tuple(part.text for part in self.parts)


Axes = tuple[tuple[Swept, ...], ...]
"""What varies by itself: a path of `grid`, or all paths of `zip` together."""


class Cells(NamedTuple):
    """The cells of a matrix: for each, the number of a step on each axis."""

    axes: Axes
    steps: tuple[tuple[int, ...], ...]
    whole: bool = True
    """Whether these are the cells that are asked for; False where something is wrong with them."""

    @property
    def swept(self) -> tuple[Swept, ...]:
        """Every path that the matrix sets, in the order of the spec."""
        return tuple(path for axis in self.axes for path in axis)

    def label(self, step: tuple[int, ...]) -> dict[str, Any]:
        """Return what a cell sets: path -> value."""
        return {
            path.name: path.values[i] for i, axis in zip(step, self.axes, strict=True)
            for path in axis
        }  # fmt: skip


def read_matrix(document: Document) -> tuple[Cells | None, tuple[Problem, ...]]:
    """Return the cells that a document asks for, if it asks for several, and what is wrong.

    They are those of its matrix, for each of its seeds where `seed` is a list. Where something is
    wrong with them, each value that can be read still stands in a cell, to be judged.
    """
    seeds, matrix = document.value.get("seed"), document.value.get("matrix")
    problems: tuple[Problem, ...] = ()
    if "matrix" in document.value:
        _, problems = validate(Composition, document)
    own, found = _read_seeds(seeds)
    grid, more = _read_paths(_lists(matrix, "grid"), ("matrix", "grid"))
    zipped, even_more = _read_paths(_lists(matrix, "zip"), ("matrix", "zip"))
    crossing = _crossings([*own, *grid, *zipped])
    problems = (*problems, *found, *more, *even_more, *crossing, *_unequal(zipped))
    axes = (*((path,) for path in (*own, *grid)), *((zipped,) if zipped else ()))
    if not axes and not problems:
        return None, ()
    if not problems:
        problems = (*_repeated(axes), *_too_many(axes))
    if problems:
        return every_value(_apart(axes)), problems
    return _without(axes, matrix.get("exclude", ()) if matrix else ())


def _lists(matrix: Any, key: str) -> dict[str, tuple[Any, ...]]:
    """Return the paths of a grid or a zip that have lists of values."""
    paths = matrix.get(key) if isinstance(matrix, dict) else None
    given = paths.items() if isinstance(paths, dict) else ()
    return {path: values for path, values in given if isinstance(values, tuple) and values}


def _apart(axes: Axes) -> Axes:
    """Return axes without paths that cross, or are the same in every cell."""
    paths = [path for axis in axes for path in axis]
    kept = [
        path
        for path in paths
        if path.texts[0] not in UNSWEPT
        and not any(any(_crossings([path, other])) for other in paths if other is not path)
    ]
    return only(axes, kept)


def only(axes: Axes, kept: list[Swept]) -> Axes:
    """Return axes with some of their paths."""
    places = {path.at for path in kept}
    left = (tuple(path for path in axis if path.at in places) for axis in axes)
    return tuple(axis for axis in left if axis)


def every_value(axes: Axes) -> Cells:
    """Return cells that show each value once, beside the first values of the other axes."""
    first = (0,) * len(axes)
    lengths = [min(len(path.values) for path in axis) for axis in axes]
    others = (
        (*first[:i], step, *first[i + 1 :])
        for i, length in enumerate(lengths)
        for step in range(1, length)
    )
    return Cells(axes, (first, *islice(others, CELLS)), whole=False)


def _read_seeds(seeds: Any) -> tuple[tuple[Swept, ...], tuple[Problem, ...]]:
    """Return a list of seeds as the path `seed` with its values."""
    if not isinstance(seeds, tuple):
        return (), ()
    if not seeds:
        return (), (Problem(SEED, "P205", "expected at least one seed, got none"),)
    return (Swept("seed", read_path("seed"), SEED, seeds),), ()


def _read_paths(
    given: Mapping[str, tuple[Any, ...]], at: Path
) -> tuple[tuple[Swept, ...], tuple[Problem, ...]]:
    paths, problems = [], []
    for name, values in given.items():
        try:
            path = Swept(name, read_path(name), (*at, name), values)
        except PathError as error:
            problems.append(Problem((*at, name), "P505", str(error), key=True))
            continue
        if path.texts[0] in UNSWEPT:
            message = f"{path.texts[0]!r} is the same in every cell of a matrix"
            problems.append(Problem(path.at, "P505", message, key=True))
        paths.append(path)
    return tuple(paths), tuple(problems)


def _crossings(paths: list[Swept]) -> Iterator[Problem]:
    """P506: no path is part of another, or given in `grid` and in `zip`."""
    whole: dict[tuple[str, ...], Swept] = {}
    begun: dict[tuple[str, ...], Swept] = {}
    for path in paths:
        heads = [path.texts[:i] for i in range(1, len(path.texts) + 1)]
        other = begun.get(path.texts) or next((whole[h] for h in heads if h in whole), None)
        if other is not None:
            same = other.texts == path.texts
            where = dotted(other.at[:-1])
            message = f"{where} sets {path.name!r} already"
            if other.at == SEED:
                message = "'seed' has a list of its own; give the seeds there or here"
            elif not same:
                message = f"{path.name!r} crosses {other.name!r}, which {where} sets"
            yield Problem(path.at, "P506", message, key=True)
        whole.setdefault(path.texts, path)
        for head in heads:
            begun.setdefault(head, path)


def _unequal(zipped: tuple[Swept, ...]) -> Iterator[Problem]:
    """P507: the lists of a zip go row by row."""
    for path in zipped[1:]:
        first = zipped[0]
        if len(path.values) != len(first.values):
            message = (
                f"the lists of a zip go together value by value: {first.name!r} has "
                f"{len(first.values)}, this one has {len(path.values)}"
            )
            yield Problem(path.at, "P507", message)


def _repeated(axes: Axes) -> Iterator[Problem]:
    """P508: a step of an axis is another than all before it."""
    for axis in axes:
        seen = set()
        for i, row in enumerate(zip(*(path.values for path in axis), strict=True)):
            if repr(row) in seen:
                what = "row" if len(axis) > 1 else "value"
                yield Problem((*axis[0].at, i), "P508", f"this {what} is given twice")
            seen.add(repr(row))


def _too_many(axes: Axes) -> Iterator[Problem]:
    """P510: a matrix has a size that can be run."""
    count = prod(len(axis[0].values) for axis in axes)
    if count > CELLS:
        message = f"this matrix has {count:,} cells; at most {CELLS:,} are allowed"
        yield Problem(("matrix",), "P510", message, key=True)


def _without(
    axes: Axes, exclude: tuple[Mapping[str, Any], ...]
) -> tuple[Cells | None, tuple[Problem, ...]]:
    """Return the cells that no exclude matches; each exclude must match one (P509)."""
    gone: set[tuple[int, ...]] = set()
    problems: list[Problem] = []
    for i, item in enumerate(exclude):
        here: Path = ("matrix", "exclude", i)
        steps, found = _matching(axes, item, here)
        problems += found
        gone.update(product(*steps) if not found else ())
        if not found and not all(steps):
            problems.append(Problem(here, "P509", "no cell has all of these values"))
    every = product(*(range(len(axis[0].values)) for axis in axes))
    left = tuple(step for step in every if step not in gone)
    if not left and not problems:
        message = "every cell of this matrix is excluded"
        problems.append(Problem(("matrix", "exclude"), "P510", message, key=True))
    return every_value(axes) if problems else Cells(axes, left), tuple(problems)


def _matching(
    axes: Axes, item: Mapping[str, Any], here: Path
) -> tuple[list[list[int]], list[Problem]]:
    """Return the steps of each axis that an exclude allows."""
    problems = []
    steps = [list(range(len(axis[0].values))) for axis in axes]
    known = {path.name: (i, path) for i, axis in enumerate(axes) for path in axis}
    for name, wanted in item.items():
        if name not in known:
            message = f"the matrix sets no path {name!r}"
            names = tuple(known)
            close = nearest(name, names)
            problems.append(Problem((*here, name), "P509", message, names, close, key=True))
            continue
        i, path = known[name]
        fits = [step for step, value in enumerate(path.values) if _is_among(value, wanted)]
        if not fits:
            message = f"the matrix gives {name!r} no such value"
            problems.append(Problem((*here, name), "P509", message, _shown(path.values)))
        steps[i] = [step for step in steps[i] if step in fits]
    return steps, problems


def _is_among(value: Any, wanted: Any) -> bool:
    """Whether a value is the one wanted, or among several; `1`, `1.0` and `true` differ."""
    several = wanted if isinstance(wanted, tuple) else ()
    return repr(value) in {repr(wanted), *map(repr, several)}


def _shown(values: tuple[Any, ...]) -> tuple[str, ...]:
    """Return values as a message lists them; only what is short."""
    plain = all(isinstance(value, str | int | float) for value in values)
    return tuple(str(value) for value in values) if plain else ()


_ENTRIES = ("stimuli", "captures", "interventions", "analyses")


def dims_of(paths: tuple[Swept, ...]) -> dict[str, str]:
    """Return a name for the dim of each path: its last part, with as many before it as tell it.

    >>> dims_of(tuple(Swept(p, read_path(p), (), ()) for p in ("model.dtype", "a.cv", "b.cv")))
    {'model.dtype': 'dtype', 'a.cv': 'a_cv', 'b.cv': 'b_cv'}
    """
    names = {}
    for path in paths:
        if path.name == "model.id":
            names[path.name] = "model"
            continue
        # A key of an entry keeps what stands before it: an analysis has no variable `heads_share`.
        least = 2 if path.texts[0] in _ENTRIES and len(path.texts) > 2 else 1
        count = next(i for i in range(least, len(path.texts) + 1) if _tells(path, i, paths))
        names[path.name] = "_".join(path.texts[-count:])
    return names


def _tells(path: Swept, count: int, paths: tuple[Swept, ...]) -> bool:
    tail = path.texts[-count:]
    alike = [other for other in paths if other.texts[-count:] == tail]
    return (len(alike) == 1 and path.parts[-count].number is None) or count == len(path.texts)
