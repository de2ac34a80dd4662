"""Circuits in files: the nodes of one that a circuit analysis has found before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from patchclamp.analyses.readings import CircuitReading
from patchclamp.engine.problems import Problems
from patchclamp.engine.results import open_result
from patchclamp.registry.errors import StoreError
from patchclamp.specs.analyses_circuits import Circuit, Given
from patchclamp.specs.load import Loaded

KeyPath = tuple[str | int, ...]


def check_circuits(problems: Problems) -> None:
    """P401: every file of a circuit can be read, and has the circuit."""
    for path, name, given, file in _all(problems.loaded):
        try:
            read_circuit(file, name)
        except ValueError as error:
            problems.add((*path, "path"), "P401", f"cannot read {given.path}: {error}")


def circuit_dataset(loaded: Loaded, reading: CircuitReading) -> xr.Dataset:
    """Return a circuit of a file; raises `StoreError` if that has changed since it was checked."""
    file = next(
        file for _, name, given, file in _all(loaded) if (given.path, name) == reading.place
    )
    try:
        return read_circuit(file, reading.name)
    except ValueError as error:
        raise StoreError(f"cannot read {reading.path}: {error}") from error


def read_circuit(file: Path, name: str) -> xr.Dataset:
    """Return `member(node)`, 1 where the circuit of that name in a result has a node.

    It is the only circuit of the file, or the only one of its name. Raises `ValueError`.
    """
    try:
        result = open_result(file)
    except (StoreError, OSError) as error:
        raise ValueError(str(error)) from error
    with result:
        found = {
            (group.removeprefix("/analyses/"), str(circuit)): data["member"].sel(circuit=circuit)
            for group, data in result.groups.items()
            if data.attrs.get("kind") == "circuit" and {"circuit", "node"} == {*_dims(data)}
            for circuit in data["circuit"].to_numpy()
        }
        chosen = [key for key in found if key[1] == name] if len(found) > 1 else list(found)
        if len(chosen) != 1:
            known = ", ".join("/".join(key) for key in found) or "none"
            which = "several" if chosen else "no"
            raise ValueError(
                f"it has {which} circuits called {name!r}; it has {known}. A circuit of a file is "
                "found by its name: call it as it is called there"
            )
        member = found[chosen[0]].load()
    data = xr.Dataset({"member": ("node", np.asarray(member, dtype=np.int8))})
    return data.assign_coords(node=member["node"].to_numpy().astype(str))


def _dims(data: xr.Dataset) -> tuple[str, ...]:
    return tuple(str(dim) for dim in data["member"].dims) if "member" in data else ()


def _all(loaded: Loaded) -> Iterator[tuple[KeyPath, str, Given, Path]]:
    """Yield every circuit of a file: where it is named, its name, what it is, and the file."""
    for analysis, entry in loaded.spec.analyses.items():
        if not isinstance(entry, Circuit):
            continue
        for name, given in entry.circuits.items():
            if isinstance(given, Given) and given.path is not None:
                path = ("analyses", analysis, "circuits", name)
                yield path, name, given, loaded.folder_of((*path, "path")) / given.path
