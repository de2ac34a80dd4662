"""The command line: what can be asked, what each command is given, and the exit codes.

Nothing heavy is imported here: a command that needs torch imports it itself, so that checking a
folder of specs takes a blink.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Mapping, Sequence

from patchclamp.engine.cli_results import add_result_arguments
from patchclamp.registry import PatchclampError
from patchclamp.registry.errors import UsageError, hint
from patchclamp.registry.table import load

COMMANDS: Mapping[str, str] = {
    "run": "patchclamp.engine.terminal:run_command",
    "plan": "patchclamp.engine.plan_text:plan_command",
    "validate": "patchclamp.engine.validate:validate_command",
    "compare": "patchclamp.engine.comparison.command:compare_command",
    "check": "patchclamp.engine.check:check_command",
    "merge": "patchclamp.engine.merge:merge_command",
    "noise": "patchclamp.engine.noise:noise_command",
    "report": "patchclamp.engine.reporting.command:report_command",
    "cite": "patchclamp.engine.reporting.command:cite_command",
    "list": "patchclamp.engine.commands:list_command",
    "explain": "patchclamp.engine.commands:explain_command",
    "show": "patchclamp.engine.commands:show_command",
    "init": "patchclamp.engine.commands:init_command",
    "lock": "patchclamp.engine.lock:lock_command",
    "schema": "patchclamp.engine.schema:schema_command",
    "doctor": "patchclamp.engine.doctor:doctor_command",
}
"""Command -> the function of it, imported when the command is given."""

SORTS = "models, architectures, sites, stimuli, metrics, analyses, backends, figures, specs"
"""What `list` can list; written out, so that help imports no table."""

FORMATS = "human, line, json, github, sarif or junit"
"""What `validate` can write."""

LOCKED = "refuse what is not pinned, or is not what `patchclamp lock` pinned"
"""What `--locked` does, for two commands."""

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
    # Pydantic's plugins watch what is validated; looking for them takes as long as ten specs.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        args = _parse(sys.argv[1:] if argv is None else list(argv))
        _use_plugins([*args.plugin, *args.plugin_after])
        code = int(load(COMMANDS[args.command])(args))
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


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes as long as reading ten specs."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        from importlib.metadata import version

        print(f"patchclamp {version('patchclamp')}")
        parser.exit()


def _parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of the program and that of each command."""
    parser = argparse.ArgumentParser(
        "patchclamp",
        description="Declarative experiments on language models: one spec in, one result out.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    _add_plugins(parser, "plugin")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = {
        "run": "run specs",
        "plan": "say what a run would do; loads no weights",
        "validate": "check specs; runs nothing",
        "compare": "compare results by label, and say what differs and why",
        "check": "say whether results meet what their specs expect",
        "merge": "write several results as one, along model, revision or seed",
        "noise": "measure how far numbers move with batch size and threads",
        "report": "write a page and figures of a result",
        "cite": "print the methods paragraph of a result",
        "list": "list what names there are",
        "explain": "explain a code (P104), a kind, a key or a name",
        "show": "print a spec",
        "init": "write a first spec",
        "lock": "write down hashes of all that a spec reads",
        "schema": "print the grammar as JSON Schema, for editors",
        "doctor": "examine a model that nobody has tried, or this environment",
    }
    found = {
        name: commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in about.items()
    }
    for command in found.values():
        _add_plugins(command, "plugin_after")
    _add_arguments(found)
    _add_validate_arguments(found["validate"])
    add_result_arguments(found)
    return parser, found


def _add_plugins(parser: argparse.ArgumentParser, dest: str) -> None:
    """Take plugins before and after a command; argparse would let one place undo the other."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        dest=dest,
        metavar="FILE",
        help="a Python file that adds analyses, metrics or architectures; may be given again",
    )


def _use_plugins(files: Sequence[str]) -> None:
    if files:
        # Most command lines have none, and looking into modules is not free.
        from patchclamp.registry.plugins import use_file

        for file in files:
            use_file(file)


def _add_arguments(commands: Mapping[str, argparse.ArgumentParser]) -> None:
    spec = "a spec file, or the name of a shipped one"
    commands["run"].add_argument("spec", nargs="+", help=spec)
    commands["plan"].add_argument("spec", nargs="+", help=spec)
    commands["plan"].add_argument(
        "--why", action="store_true", help="say what has been recorded, and what differs if not"
    )
    commands["plan"].add_argument(
        "--time", action="store_true", help="load the model and run two batches, to tell the time"
    )
    commands["run"].add_argument(
        "--out", default="runs", metavar="FOLDER", help="where results go (runs)"
    )
    commands["run"].add_argument("--locked", action="store_true", help=LOCKED)
    commands["lock"].add_argument("spec", metavar="SPEC", help=spec)
    for name in ("run", "plan", "lock", "show", "noise"):
        _add_overrides(commands[name])
    commands["list"].add_argument("sort", nargs="?", metavar="SORT", help=SORTS)
    commands["explain"].add_argument(
        "name", metavar="NAME", help="such as P104, probe, resid_post, positions, probe.cv"
    )
    commands["show"].add_argument("spec", metavar="SPEC", help=spec)
    commands["show"].add_argument(
        "--resolved", action="store_true", help="with every default and short form spelled out"
    )
    commands["show"].add_argument(
        "--origin", action="store_true", help="with the place that each value comes from"
    )
    commands["schema"].add_argument(
        "--write",
        nargs="?",
        const=".",
        metavar="FOLDER",
        help="write it to .patchclamp/schema.json there (here), and say how editors find it",
    )
    doctor = commands["doctor"]
    doctor.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a bundled model, a folder or a hub id, with @revision; without, the environment",
    )
    doctor.add_argument("--format", default="human", metavar="FORMAT", help="human or json")
    doctor.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps")
    doctor.add_argument(
        "--untrained", action="store_true", help="draw weights from the config, and load none"
    )
    commands["init"].add_argument(
        "name", nargs="?", default="experiment", metavar="NAME", help="its name (experiment)"
    )


def _add_validate_arguments(validate: argparse.ArgumentParser) -> None:
    validate.add_argument(
        "path", nargs="+", metavar="PATH", help="a spec, a folder of specs, or a shipped spec"
    )
    validate.add_argument("--format", default="human", metavar="FORMAT", help=FORMATS)
    validate.add_argument(
        "--output", metavar="FILE", help="write the report there; people get theirs here"
    )
    validate.add_argument(
        "--deep",
        action="store_true",
        help="also read stimuli, tokenizers and model configs, never weights",
    )
    validate.add_argument("--locked", action="store_true", help=LOCKED)
    validate.add_argument(
        "--fix", action="store_true", help="mend in place what is no matter of choice"
    )
    _add_overrides(validate)


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="put a value in its place; may be given again",
    )


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line; what it does not know raises `UsageError` with the nearest name."""
    parser, commands = _parsers()
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise UsageError(f"unknown command {argv[0]!r}{hint(argv[0], COMMANDS)}")
    args, rest = parser.parse_known_args(argv)
    if rest:
        if not rest[0].startswith("-"):
            raise UsageError(f"unexpected argument {rest[0]!r} after {args.command!r}")
        options = commands[args.command].format_help().replace(",", " ").split()
        known = sorted({word for word in options if word.startswith("--")})
        given = rest[0].partition("=")[0]
        raise UsageError(f"unknown option {given!r}{hint(given, known)}")
    return args
