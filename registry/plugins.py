"""Plugins: modules outside patchclamp whose rows join the tables, from packages and from files.

A plugin shows what it adds: `ANALYSES`, a list of `Analysis`, `METRICS`, a list of `Metric`, and
`ARCHITECTURES`, a list of `Architecture`, for models whose sites the table does not know.
It comes from an installed package, which names the module under the entry-point group
`patchclamp.plugins`, or from a file that the command line names. A spec cannot name one: what a
spec says is never run.

Packages are looked for when a name is met that no table knows, or when all names are wanted.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel

from patchclamp.registry.analyses import ANALYSES, Analysis
from patchclamp.registry.architectures import ARCHITECTURES
from patchclamp.registry.errors import PluginError
from patchclamp.registry.locations import Architecture
from patchclamp.registry.metrics import METRICS, Metric
from patchclamp.registry.table import Table, load

T = TypeVar("T")

GROUP = "patchclamp.plugins"
"""The entry-point group of packages that bring plugins."""

GROWING: Mapping[str, tuple[Table[Any], type[Any]]] = {
    "ANALYSES": (ANALYSES, Analysis),
    "METRICS": (METRICS, Metric),
    "ARCHITECTURES": (ARCHITECTURES, Architecture),
}
"""Attribute of a plugin -> the table that its rows join, and what a row is."""


@dataclass
class _Used:
    """What has been added to the tables so far in this process."""

    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    """Sort and name of a row -> the plugin that brought it."""
    files: set[Path] = field(default_factory=set)
    added: list[Mapping[str, Any]] = field(default_factory=list)
    """What identifies each plugin, and the rows that it brought."""
    broken: tuple[PluginError, ...] | None = None
    """The installed plugins that cannot be used; None before they were looked for."""


_used = _Used()


OURS = "patchclamp itself"
"""What rows come from that no plugin brought."""


def origin(sort: str, name: str) -> str:
    """Say where a row of a table comes from.

    >>> origin("analysis", "probe")
    'patchclamp itself'
    """
    return _used.origins.get((sort, name), OURS)


def rows() -> int:
    """Return how many rows plugins have added so far."""
    return len(_used.origins)


def added() -> tuple[Mapping[str, Any], ...]:
    """Return the plugins whose rows are in the tables: a file with its hash, or a package with
    its version, and what each adds. It is what the provenance of a result says of them."""
    return tuple(_used.added)


def use_file(file: str | Path) -> None:
    """Add the rows of a plugin file to the tables; a file that was added is passed by.

    Raises `PluginError` where the file is not there, fails, or says nothing that can be added.
    """
    path = Path(file).resolve()
    if path in _used.files:
        return
    source = f"the plugin {str(file)!r}"
    # Its own name could be that of a module which is there already.
    name = f"patchclamp_plugin_{len(_used.files)}_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"
    found = spec_from_file_location(name, path) if path.is_file() else None
    if found is None or found.loader is None:
        raise PluginError(f"{source} is not a Python file that is there")
    loader, module = found.loader, module_from_spec(found)
    sys.modules[name] = module
    try:
        _guarded(source, lambda: loader.exec_module(module))
        adds = add(module, source)
    except PluginError:
        del sys.modules[name]
        raise
    _used.files.add(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    _used.added.append({"file": str(file), "sha256": sha256, "adds": adds})


def use_packages() -> tuple[PluginError, ...]:
    """Add the rows of all installed plugins that can be used; return why others cannot.

    They are looked for once in a process.
    """
    if _used.broken is None:
        broken = []
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
            source = _source_of(point)
            try:
                adds = add(_guarded(source, point.load), source)
                _used.added.append({**_package_of(point), "adds": adds})
            except PluginError as error:
                broken.append(error)
        _used.broken = tuple(broken)
    return _used.broken


def use_all() -> None:
    """Add the rows of all installed plugins; one `PluginError` names all that are broken."""
    broken = use_packages()
    if broken:
        raise PluginError("\n".join(map(str, broken))) from broken[0]


def _source_of(point: EntryPoint) -> str:
    package = f" of the package {point.dist.name!r}" if point.dist else ""
    return f"the plugin {point.name!r}{package} ({point.value})"


def _package_of(point: EntryPoint) -> dict[str, str]:
    named = {"package": point.dist.name, "version": point.dist.version} if point.dist else {}
    return {**named, "module": point.value}


def _guarded(source: str, run: Callable[[], T]) -> T:
    """Return what a plugin's own code gives; whatever it raises becomes a `PluginError`."""
    try:
        return run()
    except (Exception, SystemExit) as error:
        place = _place(error)
        raise PluginError(f"{source} fails: {place}{type(error).__name__}: {error}") from error


def _place(error: BaseException) -> str:
    """Return file and line of an error: the innermost of the plugin's own module."""
    if isinstance(error, SyntaxError):
        return ""  # its own text says them
    steps = [step for step in traceback.extract_tb(error.__traceback__) if "<" not in step.filename]
    steps = [
        step for step in steps if step.filename != __file__ and "importlib" not in step.filename
    ]
    own = [step for step in steps if step.filename == steps[0].filename]
    return f"{own[-1].filename}:{own[-1].lineno}: " if own else ""


def add(module: ModuleType, source: str) -> tuple[str, ...]:
    """Add the rows that a plugin shows to the tables, and return which; with an error none."""
    given: list[tuple[Table[Any], Any]] = []
    for attribute, (table, row) in GROWING.items():
        for entry in getattr(module, attribute, ()):
            if not isinstance(entry, row):
                message = f"{source}: {attribute} holds {entry!r}, which is no {row.__name__}"
                raise PluginError(message)
            _check_free(table, entry.name, [e.name for t, e in given if t is table], source)
            if isinstance(entry, Analysis):
                _check_model(entry, source)
            given.append((table, entry))
    if not given:
        raise PluginError(f"{source} adds nothing: it has neither {' nor '.join(GROWING)}")
    for table, entry in given:
        table.add(entry)
        _used.origins[table.sort, entry.name] = source
    return tuple(f"{table.sort} {entry.name}" for table, entry in given)


def _check_free(table: Table[Any], name: str, own: list[str], source: str) -> None:
    """Refuse a row whose name is no name, or is taken."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        article = "an" if table.sort[0] in "aeiou" else "a"
        raise PluginError(
            f"{source}: {name!r} is no name for {article} {table.sort}; a name has lower-case "
            "letters, digits and '_', and begins with a letter"
        )
    if name in own or name in table:
        other = source if name in own else origin(table.sort, name)
        raise PluginError(f"{source}: the {table.sort} {name!r} is there already, from {other}")


def _check_model(entry: Analysis, source: str) -> None:
    """Refuse an analysis whose parameters are no model that a spec can be checked with."""
    model = _guarded(source, lambda: load(entry.spec))
    what = f"{source}: the model {entry.spec!r} of the analysis {entry.name!r}"
    if not isinstance(model, type) or not issubclass(model, BaseModel):
        raise PluginError(f"{what} is no pydantic model")
    kind = model.model_fields.get("kind")
    if kind is None or get_args(kind.annotation) != (entry.name,):
        raise PluginError(f"{what} needs the field  kind: Literal[{entry.name!r}]")
    settings = model.model_config
    if settings.get("extra") != "forbid" or not settings.get("frozen"):
        raise PluginError(
            f"{what} would let unknown keys pass; derive it from patchclamp.specs.fields.Model"
        )
    if not model.__doc__:
        raise PluginError(f"{what} has no docstring, which is what people see of it")
