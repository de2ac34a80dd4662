"""Comparing two results: structure, values, meaning, conclusions and reasons, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from patchclamp.engine.comparison.blocks import Pair
from patchclamp.engine.comparison.conclusions import Conclusion, conclusions
from patchclamp.engine.comparison.noise_file import noise_of
from patchclamp.engine.comparison.reasons import Reason, reasons
from patchclamp.engine.comparison.structure import (
    Candidate,
    Difference,
    Structure,
    compare_structure,
)
from patchclamp.engine.comparison.tolerance import (
    Given,
    Tolerance,
    Tolerances,
    matches,
    natural_scale,
    require_matches,
)
from patchclamp.engine.comparison.values import Scaling, Values, compare_values
from patchclamp.engine.results import StoredResult, open_result
from patchclamp.registry.errors import AnalysisError, UsageError

if TYPE_CHECKING:
    from patchclamp.engine.comparison.meaning import Meaning

FINE, FINDINGS, NOT_COMPARABLE = 0, 1, 4

State = Literal["equal", "different", "not compared"]


@dataclass(frozen=True)
class Options:
    """What is compared, and what counts as a difference.

    `only` and `skip` are patterns over `group/variable`; `overlap` takes what one side lacks for
    no difference. `margins` judge per-stimulus variables by equivalence instead of a tolerance.
    """

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    given: Sequence[Given] = ()
    margins: Sequence[Given] = ()
    preset: str | None = None
    overlap: bool = False

    def selects(self, name: str) -> bool:
        """Return whether a variable is compared."""
        wanted = not self.only or any(matches(pattern, name) for pattern in self.only)
        return wanted and not any(matches(pattern, name) for pattern in self.skip)

    def margin(self, name: str) -> float | None:
        """Return the margin within which a variable counts as equivalent."""
        found = [one.value for one in self.margins if matches(one.pattern, name)]
        return found[-1] if found else None


@dataclass(frozen=True)
class Row:
    """A variable that both results have, and what comparing it gave."""

    name: str
    state: State
    units: str = "1"
    tolerance: Tolerance | None = None
    values: Values | None = None
    meaning: Meaning | None = None
    remark: str = ""
    """Why it was not compared, or not tested."""
    coordinate: bool = False


@dataclass(frozen=True)
class Comparison:
    """What differs between two results."""

    a: str
    b: str
    structure: tuple[Difference, ...]
    rows: tuple[Row, ...]
    conclusions: tuple[Conclusion, ...]
    reasons: tuple[Reason, ...]

    @property
    def compared(self) -> tuple[Row, ...]:
        """The variables whose values were compared."""
        return tuple(row for row in self.rows if row.state != "not compared")

    @property
    def different(self) -> tuple[Row, ...]:
        """The variables that differ."""
        return tuple(row for row in self.rows if row.state == "different")

    @property
    def verdict(self) -> Literal["equal", "different", "not comparable"]:
        """What came out: never `equal` where nothing was compared."""
        if not any(row.values and row.values.compared for row in self.rows if not row.coordinate):
            return "not comparable"
        failed = any(one.fails for one in self.structure)
        return "different" if failed or self.different or self.conclusions else "equal"

    @property
    def exit_code(self) -> int:
        """0 equal, 1 different, 4 not comparable."""
        codes = {"equal": FINE, "different": FINDINGS, "not comparable": NOT_COMPARABLE}
        return codes[self.verdict]


def compare(a: str | Path, b: str | Path, options: Options = Options()) -> Comparison:
    """Compare two results, each a file or the folder of a run; A is the reference.

    Raises `StoreError` where one cannot be read, `UsageError` for a pattern that means nothing.
    """
    with open_result(a) as left, open_result(b) as right:
        return compare_open(left, right, options, names=(str(a), str(b)))


def compare_open(
    a: StoredResult, b: StoredResult, options: Options, *, names: tuple[str, str]
) -> Comparison:
    """Compare two results that are open."""
    _require_known(a, b, options)
    structure = compare_structure(a, b, options.selects)
    tolerances = _tolerances(a, b, options)
    rows, compared = [], {}
    for candidate in structure.candidates:
        row = _row(candidate, tolerances, options)
        if row.state == "different" or not candidate.coordinate:
            rows.append(row)
        if row.values is not None and row.tolerance is not None:
            allowed = row.tolerance.allowed(row.values.scale or 0.0)
            compared[row.name] = (candidate, row.values, allowed)
    return Comparison(
        *names,
        structure=_judged(structure, options, exact=tolerances.preset == "exact"),
        rows=tuple(rows),
        conclusions=conclusions(a, b, compared, overlap=options.overlap),
        reasons=reasons(a, b),
    )


def _require_known(a: StoredResult, b: StoredResult, options: Options) -> None:
    """Refuse patterns that mean no variable: a tolerance with a slip in it would be none."""
    names = sorted(
        {
            f"{path.removeprefix('/')}/{name}"
            for side in (a, b)
            for path, data in side.groups.items()
            for name in data.variables
        }
    )
    require_matches(
        [
            *(("--only", pattern) for pattern in options.only),
            *(("--skip", pattern) for pattern in options.skip),
            *((one.option, one.pattern) for one in (*options.given, *options.margins)),
        ],
        names,
    )


def _tolerances(a: StoredResult, b: StoredResult, options: Options) -> Tolerances:
    """Return what decides tolerances; of two precisions the finer, which hides less."""
    precisions = [str(side.made.get("model", {}).get("dtype", "")) for side in (a, b)]
    finer = "float32" if "float32" in precisions else precisions[0] or "float32"
    known = noise_of(a, b)
    return Tolerances(options.given, options.preset, finer, known.relative, known.source)


def _judged(structure: Structure, options: Options, *, exact: bool) -> tuple[Difference, ...]:
    """Return the differences in form, with what counts as one."""
    judged = []
    for one in structure.differences:
        if options.overlap and one.what in ("only", "labels"):
            one = replace(one, fails=False)
        elif exact and one.what == "dtype":
            one = replace(one, fails=True)
        judged.append(one)
    return tuple(judged)


def _row(candidate: Candidate, tolerances: Tolerances, options: Options) -> Row:
    """Compare the values of one variable."""
    name = candidate.name
    if candidate.obstacle:
        return Row(name, "not compared", remark=candidate.obstacle, coordinate=candidate.coordinate)
    tolerance = tolerances.of(name, candidate.a)
    if tolerance.absolute and candidate.a.dtype.kind not in "fiub":
        raise UsageError(f"{tolerance.source}: {name} is text; allow a share of it, such as 1%")
    pair = Pair(candidate.a.variable, candidate.b.variable, candidate.matches)
    values = compare_values(pair, tolerance, _scaling(candidate))
    row = Row(
        name,
        "different" if values.different else "equal",
        str(candidate.a.attrs.get("units", "1")),
        tolerance,
        values,
        coordinate=candidate.coordinate,
    )
    return _with_meaning(row, candidate, options.margin(name))


def _scaling(candidate: Candidate) -> Scaling:
    """Return what a variable's differences are measured in.

    Layers of a captured stream differ in size by orders of magnitude, so each is measured by its
    own; effects by layer are differences of one metric, whose noise is the same in all.
    """
    declared, least = natural_scale(candidate.a)
    other, _ = natural_scale(candidate.b)
    if declared is not None and other is not None:
        declared = min(declared, other)
    capture = candidate.name.startswith("captures/")
    return Scaling(declared, least, "layer" if capture else None)


def _with_meaning(row: Row, candidate: Candidate, margin: float | None) -> Row:
    """Test a per-stimulus variable that differs, or that has a margin to keep."""
    if margin is not None and not candidate.per_stimulus:
        raise UsageError(f"--margin: {row.name} has no number for each stimulus; use --tol")
    tested = candidate.per_stimulus and row.name.startswith("analyses/")
    if not tested or (margin is None and row.state == "equal"):
        return row
    # It needs scipy, which takes as long to import as most results to compare.
    from patchclamp.engine.comparison.meaning import paired

    try:
        meaning = paired(candidate, margin)
    except AnalysisError as error:
        state: State = "different" if margin is not None else row.state
        return replace(row, remark=f"not tested: {error}", state=state)
    if margin is None:
        return replace(row, meaning=meaning)
    return replace(row, meaning=meaning, state="equal" if meaning.equivalent else "different")
