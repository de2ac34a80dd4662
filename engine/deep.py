"""Deep checks: what only stimuli, tokenizer and config can tell, without planning or weights.

1. Each model and each combination of model and stimuli that a matrix has is read once.
2. Its stimuli are rendered and tokenised, and their spans found.
3. What every cell says of layers, heads, classes and positions is held against them.
4. A problem that only some cells have names the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from patchclamp.engine.capture_plans import check_complete, elsewhere, plan_capture
from patchclamp.engine.deep_labels import check_classes, sets_of
from patchclamp.engine.deep_model import check_parts, entries_of
from patchclamp.engine.deep_positions import check_positions, interventions_of
from patchclamp.engine.encoding import check_tokenizer
from patchclamp.engine.marks import marks_of
from patchclamp.engine.model import ModelSource, find_model
from patchclamp.engine.notices import of_cell
from patchclamp.engine.partners import check_mean, check_partners
from patchclamp.engine.problems import Problems
from patchclamp.engine.ratings import check_ratings
from patchclamp.engine.reading_plans import plan_readings
from patchclamp.engine.sets import SetPlan, locate
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.engine.token_table import token_table
from patchclamp.engine.tokens import tokenise
from patchclamp.specs.analyses_circuits import Given
from patchclamp.specs.analyses_descriptive import Sae
from patchclamp.specs.cells import Cell
from patchclamp.specs.diagnostics import Diagnostic, in_order
from patchclamp.specs.interventions import Mean
from patchclamp.specs.load import Loaded
from patchclamp.specs.rdms import Ratings


@dataclass(frozen=True)
class Deep:
    """What deep checks found, and the token table of each stimulus set."""

    diagnostics: tuple[Diagnostic, ...]
    tables: tuple[str, ...]
    allowed: tuple[Diagnostic, ...] = ()
    """What would be told if the spec did not allow it."""


@dataclass(frozen=True)
class Material:
    """What a combination of model and stimuli is: tables by name, and tokens where there are."""

    model: ModelSource | None
    tables: dict[str, StimulusTable]
    sets: dict[str, SetPlan]
    found: tuple[Diagnostic, ...]
    allowed: tuple[Diagnostic, ...]
    cell: Cell
    """The first cell that has it."""


@dataclass
class Reader:
    """Reads models and stimuli, each combination once."""

    loaded: Loaded
    fetch: bool = False
    """Whether datasets that are not here are fetched."""
    models: dict[str, tuple[ModelSource | None, tuple[Diagnostic, ...]]] = field(
        default_factory=dict
    )
    materials: dict[str, Material] = field(default_factory=dict)

    def material(self, cell: Cell) -> Material:
        """Return what a cell reads, with the problems in it."""
        spec = cell.spec
        key = _key(spec.model, spec.stimuli, spec.seed)
        if key not in self.materials:
            self.materials[key] = self.read(cell)
        return self.materials[key]

    def model(self, cell: Cell) -> tuple[ModelSource | None, tuple[Diagnostic, ...]]:
        """Return a cell's model, None where it cannot be read, and its problems."""
        key = _key(cell.spec.model)
        if key not in self.models:
            problems = Problems(self.loaded.at(cell))
            model = find_model(problems, weights=False)
            if model is not None and not check_tokenizer(model, problems):
                model = None
            self.models[key] = (model, tuple(problems.found))
        return self.models[key]

    def read(self, cell: Cell) -> Material:
        """Read the stimuli of a cell and tokenise them."""
        model, found = self.model(cell)
        problems = Problems(self.loaded.at(cell), list(found))
        tables = read_stimuli(problems, cell.spec.seed, model, fetch=self.fetch)
        sets = {}
        for name, table in tables.items():
            tokens = tokenise(table, model, problems) if model is not None else None
            if tokens is not None and model is not None:
                sets[name] = locate(table, tokens, marks_of(model), problems)
        check_partners(sets, problems)
        return Material(model, tables, sets, tuple(problems.found), tuple(problems.allowed), cell)


def _key(*parts: Any) -> str:
    """Return a text that is the same for equal parts of specs."""

    def plain(part: Any) -> Any:
        return part.model_dump(mode="json") if isinstance(part, BaseModel) else str(part)

    return json.dumps(parts, default=plain, sort_keys=True)


def check_deep(loaded: Loaded) -> Deep:
    """Check a spec against its stimuli, tokenizers and model configs; weights are never opened.

    What is valid and not implemented yet is checked as far as it can be, and is no problem.
    """
    reader = Reader(loaded)
    found: dict[Diagnostic, list[Cell]] = {}
    allowed: dict[Diagnostic, None] = {}
    for cell in loaded.cells:
        material = reader.material(cell)
        problems = Problems(loaded.at(cell), list(material.found), list(material.allowed))
        if material.model is not None:
            check_parts(material.model, problems)
        check_classes(material.tables, problems)
        check_positions(material.sets, problems)
        _check_means(material, problems)
        _check_files(problems)
        if material.model is not None and not problems.errors:
            _check_readings(material.model, material.sets, problems)
        allowed.update(dict.fromkeys(problems.allowed))
        told = problems.warnings if material.model is not None and not problems.errors else ()
        for diagnostic in dict.fromkeys((*problems.found, *told)):
            found.setdefault(diagnostic, []).append(cell)
    named = [
        of_cell(diagnostic, cells[0].label if len(cells) < len(loaded.cells) else None)
        for diagnostic, cells in found.items()
    ]
    tables = tuple(_tables(reader, loaded))
    return Deep(in_order(named, loaded.document.texts), tables, tuple(allowed))


def _tables(reader: Reader, loaded: Loaded) -> Iterator[str]:
    """Yield the token table of every set of every combination; equal ones once."""
    told = set()
    for material in reader.materials.values():
        for of_set in material.sets.values():
            assert material.model is not None, "tokens come from a model"
            text = token_table(of_set, material.model)
            if text not in told:
                told.add(text)
                yield text


def _check_means(material: Material, problems: Problems) -> None:
    """P414, for every analysis that puts a mean in place."""
    for name, entry in problems.loaded.spec.analyses.items():
        for stimuli in sets_of(entry, problems):
            for intervention in sorted(interventions_of(entry)):
                value = getattr(problems.loaded.spec.interventions[intervention], "value", None)
                known = isinstance(value, Mean) and {stimuli, value.mean_over} <= set(material.sets)
                if isinstance(value, Mean) and known:
                    check_mean(name, value, (stimuli, material.sets), problems)


def _check_readings(model: ModelSource, sets: Mapping[str, SetPlan], problems: Problems) -> None:
    """P418, P421: what analyses ask for can be measured, of every stimulus."""
    known = dict(sets)
    readings = plan_readings(model, known, problems)
    captures = [
        plan_capture(name, entry, model, (known[str(entry.of)], problems))
        for name, entry in problems.loaded.spec.captures.items()
        if str(entry.of) in known
    ]
    if not problems.errors:
        captures += elsewhere(readings, model, known, problems)
        check_complete(readings, captures, known, problems)


_FILES: dict[type[BaseModel], str] = {Ratings: "path", Given: "path", Sae: "path"}
"""Models that name a file other than a stimulus file, and the key."""


def files_of(problems: Problems) -> Iterator[tuple[tuple[str | int, ...], str, Path]]:
    """Yield every file that an analysis names: where it does, as it does, and the file."""
    for path, entry in entries_of(problems):
        key = _FILES.get(type(entry))
        name = getattr(entry, key) if key is not None else None
        if key is not None and name is not None:
            yield (*path, key), name, problems.loaded.folder_of((*path, key)) / name


def _check_files(problems: Problems) -> None:
    """P401: files that analyses name are there, unless they are made where they are missing.

    Tables of ratings are read: they are small, and what they lack would stop a run.
    """
    check_ratings(problems)
    made = {
        ("analyses", name, "path")
        for name, entry in problems.loaded.spec.analyses.items()
        if getattr(entry, "train", None) is not None
    }
    for path, name, file in files_of(problems):
        if path not in made and path[-2] != "ratings" and not file.is_file():
            problems.add(path, "P401", f"cannot read {name}: no such file")
