"""The commands that only say something: `list`, `explain`, `show`, and `init`, which writes it."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from patchclamp.registry.errors import StoreError, UnknownNameError, UsageError, hint
from patchclamp.registry.plugins import use_all
from patchclamp.specs.cells import name_of
from patchclamp.specs.diagnostics import Path as KeyPath
from patchclamp.specs.diagnostics import dotted
from patchclamp.specs.digest import resolved
from patchclamp.specs.explain import TABLES, explain, implemented
from patchclamp.specs.library import shipped, summary
from patchclamp.specs.load import Loaded, load
from patchclamp.specs.origins import origins
from patchclamp.specs.scalars import dump
from patchclamp.specs.starter import starter
from patchclamp.specs.wording import flow

COLUMN = 60
"""Where origins begin, unless a value is longer."""


def list_command(args: Namespace) -> int:
    """Print the names of one sort of thing, or what sorts there are."""
    sorts = [*TABLES, "specs"]
    if args.sort in (None, "analyses", "metrics"):
        use_all()
    if args.sort is None:
        rows = {name: ", ".join(_rows(name)) for name in sorts}
    elif args.sort in sorts:
        rows = _rows(args.sort)
    else:
        raise UsageError(f"unknown sort {args.sort!r}{hint(args.sort, sorts)}")
    width = max(map(len, rows))
    for name, text in rows.items():
        sys.stdout.write(f"{name:<{width}}  {text}".rstrip() + "\n")
    return 0


def _rows(sort: str) -> dict[str, str]:
    """Return the names of a sort, each with its summary."""
    if sort == "specs":
        return {name: summary(path) for name, path in shipped().items()}
    return {
        name: entry.summary + ("" if implemented(entry) else " (not implemented yet)")
        for name, entry in TABLES[sort].items()
    }


def explain_command(args: Namespace) -> int:
    """Print what a code, a kind, a key or a name of the registry means."""
    try:
        text = _explained(args.name)
    except UnknownNameError as error:
        close = hint(args.name, error.known).rpartition("; ")[2]
        tail = f"; {close}" if close.startswith("did you mean") else ""
        raise UsageError(f"nothing is known by the name {args.name!r}{tail}") from error
    sys.stdout.write(text + "\n")
    return 0


def _explained(name: str) -> str:
    """Return what a name means; one that is not known may be that of an installed plugin."""
    try:
        return explain(name)
    except UnknownNameError:
        use_all()
        return explain(name)


def show_command(args: Namespace) -> int:
    """Print a spec: as written, or with every default and short form spelled out."""
    loaded = load(args.spec, args.set)
    if args.origin:
        sys.stdout.write(_with_origins(loaded))
    elif args.resolved:
        sys.stdout.write(_which_cell(loaded) + dump(resolved(loaded.spec)))
    else:
        text = loaded.document.text
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return 0


def _with_origins(loaded: Loaded) -> str:
    """Return every value of a resolved spec, one a line, with the place that gives it."""
    values = resolved(loaded.spec)
    rows = [
        (f"{dotted(path)}: {flow(_at(values, path))}", str(origin))
        for path, origin in origins(loaded.cells[0]).items()
    ]
    width = min(COLUMN, max(len(value) for value, _ in rows))
    lines = [f"{value:<{width}}  # {origin}\n" for value, origin in rows]
    return "".join([_which_cell(loaded), *lines])


def _which_cell(loaded: Loaded) -> str:
    """Return a comment that says which cell is shown, where there are several."""
    if len(loaded.cells) == 1:
        return ""
    return f"# the first of {len(loaded.cells)} cells: {name_of(loaded.label)}\n"


def _at(values: Any, path: KeyPath) -> Any:
    for part in path:
        values = values[part]
    return values


def init_command(args: Namespace) -> int:
    """Write a commented first spec; a file that is there is never overwritten."""
    path = Path(args.name if args.name.endswith((".yaml", ".yml")) else f"{args.name}.yaml")
    text = starter(path.stem, str(path))
    try:
        with path.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"{str(path)!r} is there already; choose another name") from None
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}") from error
    sys.stdout.write(f"wrote {path}; check it with: patchclamp validate {path}\n")
    return 0
