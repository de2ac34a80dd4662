"""The command line: `patchclamp run`, `validate` and `list`.

Nothing heavy is imported here: a command that needs torch imports it itself, so that checking a
folder of specs takes a blink.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from patchclamp.registry import (
    ANALYSES,
    ARCHITECTURES,
    BACKENDS,
    METRICS,
    MODELS,
    SITES,
    STIMULI,
    PatchclampError,
)
from patchclamp.registry.errors import SpecError, UnreadableSpecError, UsageError, nearest
from patchclamp.registry.table import Entry, load
from patchclamp.specs.library import shipped, summary
from patchclamp.specs.load import load as load_spec

COMMANDS: Mapping[str, str] = {
    "run": "patchclamp.engine.terminal:run_command",
    "validate": "patchclamp.engine.cli:validate_command",
    "list": "patchclamp.engine.cli:list_command",
}
"""Command -> the function of it, imported when the command is given."""

TABLES: Mapping[str, Mapping[str, Entry]] = {
    "models": MODELS,
    "architectures": ARCHITECTURES,
    "sites": SITES,
    "stimuli": STIMULI,
    "metrics": METRICS,
    "analyses": ANALYSES,
    "backends": BACKENDS,
}
"""What `list` can list, besides specs."""

USAGE, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    0 fine, 1 findings, 2 usage, 3 something cannot be read, 130 interrupted.
    """
    try:
        args = _parse(sys.argv[1:] if argv is None else list(argv))
        return int(load(COMMANDS[args.command])(args))
    except PatchclampError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:  # argparse, after --help, --version or a usage error of its own
        return stop.code if isinstance(stop.code, int) else USAGE


def _parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of the program and that of each command."""
    parser = argparse.ArgumentParser(
        "patchclamp",
        description="Declarative experiments on language models: one spec in, one result out.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"patchclamp {version('patchclamp')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run specs", allow_abbrev=False)
    run.add_argument("spec", nargs="+", help="a spec file, or the name of a shipped one")
    run.add_argument("--out", default="runs", metavar="FOLDER", help="where results go (runs)")
    validate = commands.add_parser("validate", help="check specs; runs nothing", allow_abbrev=False)
    validate.add_argument(
        "path", nargs="+", metavar="PATH", help="a spec, a folder of specs, or a shipped spec"
    )
    listing = commands.add_parser("list", help="list what names there are", allow_abbrev=False)
    listing.add_argument("sort", nargs="?", metavar="SORT", help=", ".join([*TABLES, "specs"]))
    return parser, {"run": run, "validate": validate, "list": listing}


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line; what it does not know raises `UsageError` with the nearest name."""
    parser, commands = _parsers()
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise UsageError(_unknown("command", argv[0], COMMANDS))
    args, rest = parser.parse_known_args(argv)
    if rest:
        if not rest[0].startswith("-"):
            raise UsageError(f"unexpected argument {rest[0]!r} after {args.command!r}")
        options = commands[args.command].format_help().replace(",", " ").split()
        known = sorted({word for word in options if word.startswith("--")})
        raise UsageError(_unknown("option", rest[0].partition("=")[0], known))
    return args


def _unknown(sort: str, given: str, known: Sequence[str] | Mapping[str, object]) -> str:
    close = nearest(given, known)
    message = f"unknown {sort} {given!r} (known: {', '.join(known)})"
    return f"{message}; did you mean {close!r}?" if close else message


def validate_command(args: argparse.Namespace) -> int:
    """Check every spec, print every problem, and count them."""
    specs = [spec for given in args.path for spec in _specs(given)]
    valid = errors = code = 0
    for spec in specs:
        try:
            load_spec(spec)
            valid += 1
        except SpecError as error:
            print(f"{error}\n")
            errors += max(1, len(error.diagnostics))
            code = max(code, error.exit_code)
    print(f"{_count(len(specs), 'spec')}, {valid} valid, {_count(errors, 'error')}")
    return code


def _specs(given: str) -> list[str]:
    """Return the specs that an argument means: a folder's YAML files, or itself."""
    folder = Path(given)
    if given in shipped() or not folder.is_dir():
        return [given]
    found = sorted(str(path) for path in folder.rglob("*.yaml") if path.is_file())
    if not found:
        raise UnreadableSpecError(f"no *.yaml file in the folder {given!r}")
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def list_command(args: argparse.Namespace) -> int:
    """Print the names of one sort of thing, or what sorts there are."""
    sorts = [*TABLES, "specs"]
    if args.sort is None:
        rows = {name: ", ".join(_rows(name)) for name in sorts}
    elif args.sort in sorts:
        rows = _rows(args.sort)
    else:
        raise UsageError(_unknown("sort", args.sort, sorts))
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:<{width}}  {text}".rstrip())
    return 0


def _rows(sort: str) -> dict[str, str]:
    """Return the names of a sort, each with its summary."""
    if sort == "specs":
        return {name: summary(path) for name, path in shipped().items()}
    return {name: entry.summary for name, entry in TABLES[sort].items()}
