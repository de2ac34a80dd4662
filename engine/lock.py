"""The lock: hashes of everything that a spec reads, beside it in a file, and what has changed.

A lock has an entry for each cell: the digest of its spec, the model's commit or the hash of its
weights, and hashes of its config, its tokenizer, every stimulus set and every file that an
analysis names.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from patchclamp.engine.deep import Material, Reader, files_of
from patchclamp.engine.model import ModelSource
from patchclamp.engine.problems import Problems
from patchclamp.engine.provenance import PACKAGES
from patchclamp.engine.records import open_cache
from patchclamp.engine.validate import LOCK
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import SpecError
from patchclamp.specs.cells import Cell, name_of
from patchclamp.specs.diagnostics import Diagnostic, in_order, report
from patchclamp.specs.document import parse
from patchclamp.specs.load import Loaded, load
from patchclamp.specs.scalars import dump

VERSION = 1
"""Version of the file."""

SHOWN = 12
"""Digits of a hash that a message shows."""

Path_ = tuple[str | int, ...]


def lock_path(loaded: Loaded) -> Path:
    """Return the file of a spec's lock: beside it, or here for one that ships with patchclamp."""
    spec = Path(loaded.document.source)
    folder = Path() if spec.parent.resolve() == _SHIPPED else spec.parent
    return folder / f"{spec.stem}{LOCK}"


_SHIPPED = Path(load.__code__.co_filename).resolve().parent


def lock_command(args: Namespace) -> int:
    """Write the lock of a spec; one that is there is replaced."""
    loaded = load(args.spec, args.set)
    path = lock_path(loaded)
    header = "# What the spec read when it was locked; `patchclamp lock` writes it anew.\n"
    write_whole(path, (header + dump(make_lock(loaded))).encode())
    check = shlex.join(["patchclamp", "validate", "--locked", args.spec, *_as_options(loaded)])
    sys.stdout.write(f"wrote {path}; check against it with: {check}\n")
    return 0


def _as_options(loaded: Loaded) -> list[str]:
    return [word for given in loaded.overrides for word in ("--set", given)]


def make_lock(loaded: Loaded) -> dict[str, Any]:
    """Return a lock as plain data; raises `SpecError` where something cannot be pinned."""
    reader, hashes, found = Reader(loaded, fetch=True), _Hashes(), []
    cells = []
    for cell in loaded.cells:
        material = reader.material(cell)
        problems = Problems(loaded.at(cell), list(material.found))
        _refuse_open(material, problems)
        found += problems.found
        if not any(d.severity == "error" for d in problems.found):
            cells.append(_pinned(cell, material, (hashes, problems)))
    _raise_if_any(loaded, found)
    return {
        "patchclamp_lock": VERSION,
        "spec": Path(loaded.document.source).name,
        "overrides": list(loaded.overrides),
        "versions": {package: version(package) for package in PACKAGES},
        "cells": cells,
    }


def _raise_if_any(loaded: Loaded, found: list[Diagnostic]) -> None:
    """Raise one `SpecError` with all that was found, if any of it is an error."""
    ordered = in_order(found, loaded.document.texts)
    if any(d.severity == "error" for d in ordered):
        raise SpecError(report(ordered, loaded.document.texts), ordered)


def _refuse_open(material: Material, problems: Problems) -> None:
    """P423: what cannot be read cannot be pinned."""
    if material.model is None and not _errors(problems):
        name = problems.loaded.spec.model.id
        problems.add(("model", "id"), "P423", f"{name!r} cannot be read, so it cannot be pinned")


def _errors(problems: Problems) -> bool:
    return any(d.severity == "error" for d in problems.found)


class _Hashes:
    """Hashes of models, each taken once."""

    def __init__(self) -> None:
        self._weights: dict[tuple[Path, str], str | None] = {}

    def model(self, source: ModelSource) -> dict[str, Any]:
        """Return what pins a model; `weights_sha256` is None where its commit says it all."""
        # The file's own bytes: what the library makes of it names folders and versions.
        config = (source.folder / "config.json").read_bytes()
        return {
            "id": source.choice.id,
            "revision": source.revision,
            "weights_sha256": self.weights(source),
            "config_sha256": hashlib.sha256(config).hexdigest(),
            "tokenizer_sha256": source.tokenizer_digest(),
        }

    def weights(self, source: ModelSource) -> str | None:
        """Return the hash of a folder's weights, if they are there and are what is run."""
        key = (source.folder, source.choice.weights)
        if key not in self._weights:
            there = any(source.folder.glob("*.safetensors"))
            committed = len(source.revision) == 40  # a commit of the hub names its files' hashes
            trained = source.choice.weights == "trained"
            needed = trained and there and not committed
            self._weights[key] = source.weights_digest(open_cache().root) if needed else None
        return self._weights[key]


def _pinned(cell: Cell, material: Material, context: tuple[_Hashes, Problems]) -> dict[str, Any]:
    """Return what pins a cell; a file that is not there yet has no hash."""
    hashes, problems = context
    assert material.model is not None, "a model that is not found cannot be pinned"
    return {
        "set": json.loads(json.dumps(dict(cell.label))),
        "digest": cell.digest,
        "model": hashes.model(material.model),
        "stimuli_sha256": {name: table.digest for name, table in material.tables.items()},
        "files_sha256": {
            name: hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
            for _, name, file in files_of(problems)
        },
    }


def check_locked(loaded: Loaded) -> tuple[Diagnostic, ...]:
    """Return what is not pinned (P423) or is not what was pinned (P424), old and new."""
    problems = Problems(loaded)
    path = lock_path(loaded)
    lock = _read(path, problems)
    if lock is None:
        return tuple(problems.found)
    if lock["overrides"] != loaded.overrides:
        was, given = (shlex.join(over) or "none" for over in (lock["overrides"], loaded.overrides))
        message = f"locked with other overrides (--set): {was}; here: {given}"
        problems.add((), "P424", f"{message}; give the same, or lock it again")
        return tuple(problems.found)
    try:
        now = make_lock(loaded)
    except SpecError as error:
        return tuple(d for d in error.diagnostics if isinstance(d, Diagnostic))
    for package, was in lock["versions"].items():
        _compare((), (f"the version of {package}", was, now["versions"].get(package)), problems)
    pinned = {_key(entry["set"]): entry for entry in lock["cells"]}
    found = list(problems.found)
    for cell, entry in zip(loaded.cells, now["cells"], strict=True):
        here = Problems(loaded.at(cell))
        name = f"the cell {name_of(cell.label)}" if cell.label else "this spec"
        if _key(entry["set"]) in pinned:
            _compare_cell(pinned[_key(entry["set"])], entry, here)
        else:
            here.add((), "P423", f"{name} is not pinned in {path.name}; lock it again")
        found += here.found
    return in_order(found, loaded.document.texts)


def refuse_unlocked(spec: str, overrides: Sequence[str] = ()) -> tuple[Diagnostic, ...]:
    """Raise `SpecError` where a spec is not what its lock says; returns what is only a warning."""
    loaded = load(spec, overrides)
    found = check_locked(loaded)
    _raise_if_any(loaded, list(found))
    return found


def _key(label: Any) -> str:
    return json.dumps(label, sort_keys=True)


def _read(path: Path, problems: Problems) -> Mapping[str, Any] | None:
    """Return a lock file as plain data; None after P423."""
    spec = problems.loaded.document.source
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        message = f"nothing is pinned: there is no {path}; write it with: patchclamp lock {spec}"
        problems.add((), "P423", message)
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.add((), "P423", f"cannot read {path}: {error}")
        return None
    document, wrong = parse(text, str(path))
    value = document.value if document is not None and not wrong else {}
    if value.get("patchclamp_lock") != VERSION or not _well_formed(value):
        message = f"{path} is no lock that this patchclamp reads; write it with: patchclamp lock"
        problems.add((), "P423", f"{message} {spec}")
        return None
    return value


def _well_formed(value: Mapping[str, Any]) -> bool:
    """Whether a lock has what is looked up in it; what a value is shows when it is compared."""
    cells = value.get("cells")
    return (
        isinstance(value.get("versions"), dict)
        and isinstance(value.get("overrides"), tuple)
        and all(isinstance(given, str) for given in value["overrides"])
        and isinstance(cells, tuple)
        and all(
            isinstance(cell, dict)
            and isinstance(cell.get("model"), dict)
            and isinstance(cell.get("stimuli_sha256"), dict)
            and isinstance(cell.get("files_sha256"), dict)
            and {"set", "digest"} <= cell.keys()
            for cell in cells
        )
    )


def _compare_cell(was: Mapping[str, Any], now: Mapping[str, Any], problems: Problems) -> None:
    """P423, P424: what of a cell is another than the one that was pinned."""
    _compare((), ("the spec's digest", was["digest"], now["digest"]), problems)
    for key, value in now["model"].items():
        what = "the model's " + key.removesuffix("_sha256")
        if key == "id" and was["model"].get("id") != value:
            _compare(("model", "id"), (what, was["model"].get(key), value), problems)
            return
        _compare(("model", "id"), (what, was["model"].get(key), value), problems)
    for name, digest in now["stimuli_sha256"].items():
        if name not in was["stimuli_sha256"]:
            problems.add(("stimuli", name), "P423", f"the stimulus set {name!r} is not pinned")
        else:
            what = (f"the stimulus set {name!r}", was["stimuli_sha256"][name], digest)
            _compare(("stimuli", name), what, problems)
    for path, name, _ in files_of(problems):
        files = (was["files_sha256"].get(name), now["files_sha256"][name])
        _compare(path, (f"the file {name!r}", *files), problems)


def _compare(path: Path_, what: tuple[str, Any, Any], problems: Problems) -> None:
    """P424: a value that has changed; another version of a package is a warning."""
    name, was, now = what
    if was != now:
        old, new = (str(value)[:SHOWN] for value in (was, now))
        versions = name.startswith("the version")
        problems.add(
            path,
            "P424",
            f"{name} changed since the lock was written: {old} -> {new}",
            severity="warning" if versions else "error",
        )
