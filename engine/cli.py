"""The command line: what can be asked, what each command is given, and the exit codes.

Nothing heavy is imported here: a command that needs torch imports it itself, so that checking a
folder of specs takes a blink.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from patchclamp.engine import cli_arguments, cli_results
from patchclamp.registry import PatchclampError
from patchclamp.registry.errors import UsageError, hint
from patchclamp.registry.table import load


class Command(NamedTuple):
    """One command of the command line."""

    function: str
    """`package.module:name`, imported when the command is given."""
    arguments: Callable[[argparse.ArgumentParser], None]
    """Adds what the command is given; its docstring is the help."""


COMMANDS: Mapping[str, Command] = {
    "run": Command("patchclamp.engine.terminal:run_command", cli_arguments.run),
    "plan": Command("patchclamp.engine.plan_text:plan_command", cli_arguments.plan),
    "validate": Command("patchclamp.engine.validate:validate_command", cli_arguments.validate),
    "compare": Command("patchclamp.engine.comparison.command:compare_command", cli_results.compare),
    "check": Command("patchclamp.engine.check:check_command", cli_results.check),
    "merge": Command("patchclamp.engine.merge:merge_command", cli_results.merge),
    "noise": Command("patchclamp.engine.noise:noise_command", cli_results.noise),
    "report": Command("patchclamp.engine.reporting.command:report_command", cli_results.report),
    "cite": Command("patchclamp.engine.reporting.command:cite_command", cli_results.cite),
    "list": Command("patchclamp.engine.commands:list_command", cli_arguments.list_),
    "explain": Command("patchclamp.engine.commands:explain_command", cli_arguments.explain),
    "show": Command("patchclamp.engine.commands:show_command", cli_arguments.show),
    "init": Command("patchclamp.engine.commands:init_command", cli_arguments.init),
    "lock": Command("patchclamp.engine.lock:lock_command", cli_arguments.lock),
    "schema": Command("patchclamp.engine.schema:schema_command", cli_arguments.schema),
    "doctor": Command("patchclamp.engine.doctor:doctor_command", cli_arguments.doctor),
}

USAGE, UNREADABLE, INTERRUPTED, UNHEARD = 2, 3, 130, 141

GARBAGE = 50_000
"""Objects between two looks for garbage in circles; Python's 700 costs a tenth of checking many
specs, which makes no such garbage to speak of."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    0 fine, 1 findings, 2 usage, 3 something cannot be read or written, 130 interrupted,
    141 the reader of its output has gone.
    """
    _never_fail_to_print()
    gc.set_threshold(GARBAGE)
    sys.modules.setdefault(NoPlugins.NAME, NoPlugins(NoPlugins.NAME))
    try:
        args = _parse(sys.argv[1:] if argv is None else list(argv))
        _use_plugins([*args.plugin, *args.plugin_after])
        code = int(load(COMMANDS[args.command].function)(args))
        sys.stdout.flush()
        return code
    except PatchclampError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("patchclamp"):
            raise
        # Checking needs two packages alone, and may be all that was installed (docs/ci.md).
        message = f"this needs the package {error.name!r}, which is not installed"
        print(f"{message}; install patchclamp with its dependencies", file=sys.stderr)
        return UNREADABLE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNHEARD  # never 0: nobody has heard what there may have been to say
    except SystemExit as stop:  # argparse, after --help, --version or a usage error of its own
        return stop.code if isinstance(stop.code, int) else USAGE


def _never_fail_to_print() -> None:
    """Write what a console or a file name's encoding cannot hold as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


class NoPlugins(ModuleType):
    """Stands in for pydantic's search for plugins, and finds none.

    They watch what is validated. Pydantic can be told by its environment to use none, but imports
    what it would look for them with all the same, which takes as long as reading ten specs.
    """

    NAME = "pydantic.plugin._loader"

    @staticmethod
    def get_plugins() -> tuple[()]:
        """Return what watches pydantic: nothing."""
        return ()

    def __getattr__(self, name: str) -> object:
        """Return what another version of pydantic may want of its own module."""
        if name.startswith("__"):
            raise AttributeError(name)
        del sys.modules[self.NAME]
        return getattr(import_module(self.NAME), name)


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes as long as reading ten specs."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        from importlib.metadata import version

        print(f"patchclamp {version('patchclamp')}")
        parser.exit()


def _parser(asked: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of the program, which knows the commands that are asked for."""
    parser = argparse.ArgumentParser(
        "patchclamp",
        description="Declarative experiments on language models: one spec in, one result out.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    cli_arguments.add_plugins(parser, "plugin")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog=parser.prog
    )
    for name, known in asked.items():
        about = known.arguments.__doc__
        command = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        cli_arguments.add_plugins(command, "plugin_after")
        known.arguments(command)
    return parser


def _use_plugins(files: Sequence[str]) -> None:
    if files:
        # Most command lines have none, and looking into modules is not free.
        from patchclamp.registry.plugins import use_file

        for file in files:
            use_file(file)


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line; what it does not know raises `UsageError` with the nearest name."""
    asked = COMMANDS
    if argv and not argv[0].startswith("-"):
        if argv[0] not in COMMANDS:
            raise UsageError(f"unknown command {argv[0]!r}{hint(argv[0], COMMANDS)}")
        asked = {argv[0]: COMMANDS[argv[0]]}  # the other parsers are not made: they take time
    args, rest = _parser(asked).parse_known_args(argv)
    if rest:
        if not rest[0].startswith("-"):
            raise UsageError(f"unexpected argument {rest[0]!r} after {args.command!r}")
        given = rest[0].partition("=")[0]
        raise UsageError(f"unknown option {given!r}{hint(given, _options(args.command))}")
    return args


def _options(command: str) -> list[str]:
    """Return the long options of a command."""
    parser = argparse.ArgumentParser()
    cli_arguments.add_plugins(parser, "plugin_after")
    COMMANDS[command].arguments(parser)
    words = parser.format_help().replace(",", " ").replace("[", " ").replace("]", " ").split()
    return sorted({word for word in words if word.startswith("--")})
