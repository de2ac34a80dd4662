"""The command `validate`: checks specs, mends what can be mended, and says what is left."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from patchclamp.engine.delivery import deliver
from patchclamp.registry.errors import (
    PluginError,
    SpecError,
    UnreadableSpecError,
    UsageError,
    hint,
)
from patchclamp.specs.diagnostics import Diagnostic, report
from patchclamp.specs.formats import FORMATS, Checked, render_as
from patchclamp.specs.library import shipped
from patchclamp.specs.load import load

SUFFIXES = (".yaml", ".yml")
"""What the files of a folder end in that are taken for specs."""

LOCK = ".lock.yaml"
"""What the locks in a folder end in, which are no specs."""

FINDINGS, UNREADABLE = 1, 3

GARBAGE = 200_000
"""Objects between two looks for garbage in circles. The cells of a matrix are many objects and none
of them garbage; looking at them all again and again takes a tenth of the time."""


def validate_command(args: Namespace) -> int:
    """Check every spec and report in the format asked for; with `--fix`, mend first."""
    gc.set_threshold(GARBAGE)
    atexit.register(gc.freeze)  # else Python looks for garbage in all that dies with it anyway
    if args.format not in FORMATS:
        raise UsageError(f"unknown format {args.format!r}{hint(args.format, FORMATS)}")
    specs = _once(spec for given in args.path for spec in specs_of(given))
    if args.fix:
        from patchclamp.engine.mend import mend

        done = [line for spec in specs for line in mend(spec, args.set)]
        # A script reads the report from stdout; what was mended is news for people.
        (sys.stdout if args.format == "human" else sys.stderr).write("".join(done))
        if done and args.format == "human":
            sys.stdout.write("\n")
    checked = [check(spec, args.set) for spec in specs]
    if args.deep or args.locked:
        # They import torch, which takes as long as checking a thousand specs.
        from patchclamp.engine.deep_validate import look_deeper

        for_people = args.format == "human" or args.output is not None
        checked, tables = look_deeper(checked, args)
        sys.stdout.write(tables if for_people else "")
    report = render_as(args.format, checked, _root())
    deliver(report, args.output, render_as("human", checked, _root()) if args.output else "")
    if any(one.unreadable for one in checked):
        return UNREADABLE
    return 0 if all(one.valid for one in checked) else FINDINGS


def _once(specs: Iterable[str]) -> list[str]:
    """Return each spec once, however its path is spelled."""
    known, found = shipped(), dict[str, str]()
    for spec in specs:
        same = spec if spec in known else os.path.normpath(Path(spec).absolute())
        found.setdefault(same, spec)
    return list(found.values())


def _root() -> Path:
    """Return the root of the checked-out repository where CI names it, else this folder."""
    here = Path.cwd()
    workspace = Path(os.environ.get("GITHUB_WORKSPACE") or here)
    return workspace if here.is_relative_to(workspace) else here


def specs_of(given: str) -> list[str]:
    """Return the specs that an argument means: a folder's YAML files but hidden ones, or itself."""
    folder = Path(given)
    if given in shipped() or not folder.is_dir():
        return [given]
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES
        and path.is_file()
        and not path.name.endswith(LOCK)
        # Hidden files are other programs' settings: `.github/workflows`, `.pre-commit-config.yaml`.
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise UnreadableSpecError(f"no *.yaml or *.yml file in the folder {given!r}")
    return [str(path) for path in found]


def check(spec: str, overrides: Sequence[str] = ()) -> Checked:
    """Return what is wrong with a spec; each mistake carries its fix where it has a safe one."""
    try:
        loaded = load(spec, overrides)
    except (UnreadableSpecError, PluginError) as error:
        return Checked(spec, report=str(error), unreadable=str(error))
    except SpecError as error:
        from patchclamp.specs.fixes import with_fixes  # most specs have nothing to be mended

        found = tuple(d for d in error.diagnostics if isinstance(d, Diagnostic))
        for source in {d.source for d in found}:
            text = text_of(source)
            found = with_fixes(found, text, source) if text is not None else found
        return Checked(spec, found, str(error))
    warnings, allowed = loaded.warnings, len(loaded.allowed)
    told = report(warnings, loaded.document.texts) if warnings else ""
    return Checked(spec, warnings, told, allowed=allowed)


def text_of(source: str) -> str | None:
    """Return the text of a file, or None where it is no file or no text."""
    try:
        return Path(source).read_bytes().decode("utf-8")
    except (OSError, ValueError):
        return None
