"""The cells of a spec, each checked as if it were written by hand, what they share looked at once.

A cell is valid or it has problems. A problem at a value of the matrix points there; one that all
cells have is told once; one that only some have names the first of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from patchclamp.specs.axes import SEED
from patchclamp.specs.backends import check_backend
from patchclamp.specs.check import check
from patchclamp.specs.compose import Composed
from patchclamp.specs.cross_references import check_claims
from patchclamp.specs.diagnostics import Diagnostic, Path, Problem
from patchclamp.specs.digest import digest
from patchclamp.specs.document import Document
from patchclamp.specs.lints import lint, lint_again
from patchclamp.specs.references import Sections, entries, sections_of, valid_sections
from patchclamp.specs.schema import check_version, validate
from patchclamp.specs.sharing import Shared
from patchclamp.specs.spec import Spec, spec_model
from patchclamp.specs.subject import Subject, valid_subject

FAILING = 20
"""Most cells whose problems are told; those that show a value for the first time come first."""

LABEL = 60
"""Longest piece of a value that the name of a cell repeats."""


@dataclass(frozen=True)
class Cell:
    """One cell of a spec: what the matrix sets in it, and the resolved spec that it is.

    A spec without a matrix is one cell that nothing is set in.
    """

    label: Mapping[str, Any]
    """Path -> value."""
    spec: Spec
    sections: Sections = field(repr=False, compare=False)
    shared: Shared = field(repr=False, compare=False)
    composed: Composed = field(repr=False, compare=False)
    step: tuple[int, ...] = field(repr=False, compare=False)

    @cached_property
    def document(self) -> Document:
        """The cell as plain data with places; made when it is first asked for."""
        return self.composed.cell(self.step)

    @cached_property
    def digest(self) -> str:
        """The digest of the cell's spec."""
        return digest(self.spec, self.shared.written)

    def subject(self, swept: frozenset[str]) -> Subject:
        """Return what lints look at in the cell; `swept` are the paths that the matrix sets."""
        spec = self.spec
        looked_at = dict(entries(self.sections))
        return Subject(self.sections, looked_at, spec.model, dict(enumerate(spec.expect)), swept)


def judge(
    composed: Composed, told: Iterable[Path] = ()
) -> tuple[tuple[Cell, ...], tuple[Diagnostic, ...]]:
    """Return every cell, or nothing and the problems of all; `told` are paths known to be bad."""
    version = check_version(composed.document)
    if version is not None:
        return (), (composed.document.locate(version),)
    steps = composed.cells.steps
    judge = _Judge(composed, frozenset(told), Shared(composed.sets))
    found = {step: cell for step in _novel_first(steps) if (cell := judge.cell(step))}
    if not judge.failing:
        cells = tuple(found[step] for step in steps)
        judge.refuse_twins(cells)
        return ((), tuple(judge.problems)) if judge.problems else (cells, ())
    return (), tuple(judge.in_words())


def _novel_first(steps: tuple[tuple[int, ...], ...]) -> Iterator[tuple[int, ...]]:
    """Yield the cells that show a value of the matrix for the first time before all others."""
    seen: set[tuple[int, int]] = set()
    rest = []
    for step in steps:
        shown = set(enumerate(step))
        if shown <= seen:
            rest.append(step)
        else:
            seen |= shown
            yield step
    yield from rest if seen else steps


@dataclass
class _Judge:
    """Looks at cells and keeps what it finds."""

    composed: Composed
    told: frozenset[Path]
    shared: Shared
    looked_at: int = 0
    failing: int = 0
    found: dict[Diagnostic, dict[tuple[int, ...], None]] = field(default_factory=dict)
    """Each problem with the cells that have it."""
    problems: list[Diagnostic] = field(default_factory=list)

    def cell(self, step: tuple[int, ...]) -> Cell | None:
        """Return a cell, or None after noting its problems; beyond a bound it is not judged."""
        if self.failing >= FAILING:
            return None
        self.looked_at += 1
        valid = self.valid(step)
        if valid is None:
            self.note(step)
            return None
        label = self.composed.cells.label(step)
        return Cell(label, *valid, self.shared, self.composed, step)

    def valid(self, step: tuple[int, ...]) -> tuple[Spec, Sections] | None:
        """Return a cell's resolved spec and its entries, if nothing is wrong with it."""
        valid = self.shared.cell(self.composed.value(step))
        if valid is None:
            return None
        spec, sections = valid
        amiss = any(check_claims(sections, dict(enumerate(spec.expect))))
        return None if amiss or any(check_backend(spec)) else valid

    def note(self, step: tuple[int, ...]) -> None:
        self.failing += 1
        document = self.composed.cell(step)
        for problem in problems_of(document):
            if problem.path not in self.told and self.sure(problem):
                self.found.setdefault(document.locate(problem), {})[step] = None
        if not self.composed.whole:
            return
        sections = valid_sections(document.value)
        allowed = document.get(("allow",), {})
        for problem in lint(valid_subject(sections, document.value, _swept(self.composed))):
            if isinstance(allowed, dict) and problem.code in allowed:
                continue
            warning = document.locate(problem)._replace(severity="warning")
            self.found.setdefault(warning, {})[step] = None

    def sure(self, problem: Problem) -> bool:
        """Return whether a problem is one, whatever stands in what could not be read."""
        if self.composed.whole and self.composed.cells.whole:
            return True
        said = ("the kind is missing", "the grammar version is missing")
        missing = problem.code in ("P201", "P302") or problem.message.startswith(said)
        return not missing and (self.composed.whole or problem.code.startswith("P2"))

    def in_words(self) -> Iterator[Diagnostic]:
        """Yield each problem once; one of some cells only says of which."""
        for diagnostic, steps in self.found.items():
            everywhere = len(steps) == self.looked_at
            label = self.composed.cells.label(next(iter(steps)))
            yield diagnostic if everywhere else _of_a_cell(diagnostic, label)
        unseen = len(self.composed.cells.steps) - self.looked_at
        if unseen and self.composed.cells.whole:
            message = f"{self.failing} cells have problems; {unseen:,} more were not looked at"
            several = ("matrix",) if ("matrix",) in self.composed.document.keys else SEED
            problem = Problem(several, "P512", message, key=True)
            yield self.composed.document.locate(problem)._replace(severity="warning")

    def refuse_twins(self, cells: tuple[Cell, ...]) -> None:
        """P511: every cell asks something of its own."""
        first: dict[str, Cell] = {}
        whole = self.composed.whole and self.composed.cells.whole
        for cell in cells if whole and len(cells) > 1 else ():
            twin = first.setdefault(cell.digest, cell)
            if twin is cell:
                continue
            axis = next(i for i, n in enumerate(cell.step) if n != twin.step[i])
            at = (*self.composed.cells.axes[axis][0].at, cell.step[axis])
            message = (
                f"the cells {name_of(twin.label)} and {name_of(cell.label)} compute the same; "
                "only what decides the numbers tells cells apart"
            )
            self.problems.append(self.composed.document.locate(Problem(at, "P511", message)))
            return


def warnings_of(cells: tuple[Cell, ...]) -> tuple[Diagnostic, ...]:
    """Return what is worth a second look in valid cells, each once."""
    found: dict[Problem, list[Cell]] = {}
    seen: dict[Hashable, tuple[Problem, ...]] = {}
    swept = _swept(cells[0].composed) if cells else frozenset()
    for cell in cells:
        looked_at = cell.subject(swept)
        for problem in lint_again(looked_at, seen) if len(cells) > 1 else lint(looked_at):
            found.setdefault(problem, []).append(cell)
    warnings = []
    for problem, having in found.items():
        warning = having[0].document.locate(problem)._replace(severity="warning")
        everywhere = len(having) == len(cells)
        warnings.append(warning if everywhere else _of_a_cell(warning, having[0].label))
    return tuple(warnings)


def _swept(composed: Composed) -> frozenset[str]:
    """Return the paths that have several values in the cells, however they are written."""
    several = (path for path in composed.cells.swept if len(path.values) > 1)
    return frozenset(".".join(path.texts) for path in several)


def _of_a_cell(diagnostic: Diagnostic, label: Mapping[str, Any]) -> Diagnostic:
    """Return a diagnostic that says which cell has it, unless its place does."""
    if tells_its_cell(diagnostic):
        return diagnostic
    return diagnostic._replace(message=f"{diagnostic.message} (in the cell {name_of(label)})")


def tells_its_cell(diagnostic: Diagnostic) -> bool:
    """Return whether the place of a problem is that of a value which only some cells have."""
    return "(matrix " in diagnostic.message or diagnostic.path == SEED


def problems_of(document: Document) -> tuple[Problem, ...]:
    """Return everything wrong in a document or between its entries."""
    spec, problems = validate(spec_model(), document)
    sections = sections_of(spec) if spec is not None else valid_sections(document.value)
    expect = valid_subject(sections, document.value, frozenset()).expect
    beyond = check_backend(spec) if spec is not None else ()
    return (*problems, *check(sections), *check_claims(sections, expect), *beyond)


def name_of(label: Mapping[str, Any]) -> str:
    """Return a cell's label as people write it.

    >>> name_of({"model.revision": "step0", "analyses.decode.cv.folds": 5})
    'model.revision=step0, analyses.decode.cv.folds=5'
    """
    return ", ".join(f"{path}={_short(value)}" for path, value in label.items())


def _short(value: Any) -> str:
    text = on_one_line(value)
    return text if len(text) <= LABEL else text[:LABEL] + "..."


def on_one_line(value: Any) -> str:
    """Return a value as a spec writes it on one line.

    >>> on_one_line({"align": "left", "size": 11, "skip": None})
    '{align: left, size: 11, skip: null}'
    """
    if isinstance(value, tuple):
        return f"[{', '.join(map(on_one_line, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {on_one_line(member)}' for key, member in value.items())}}}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)
