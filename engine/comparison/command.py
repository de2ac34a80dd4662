"""The command `compare`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from patchclamp.engine.comparison.baseline import as_kept, bless
from patchclamp.engine.comparison.compare import Comparison, Options, compare_open
from patchclamp.engine.comparison.human import human
from patchclamp.engine.comparison.tolerance import PRESETS, read_given
from patchclamp.engine.delivery import deliver
from patchclamp.engine.results import find_result, open_result
from patchclamp.registry.errors import StoreError, UsageError, hint
from patchclamp.registry.table import load

FORMATS: Mapping[str, str] = {
    "human": "patchclamp.engine.comparison.human:human",
    "json": "patchclamp.engine.comparison.machine:as_json",
    "markdown": "patchclamp.engine.comparison.human:markdown",
    "github": "patchclamp.engine.comparison.machine:github",
    "junit": "patchclamp.engine.comparison.machine:junit",
}
"""Format -> the function that writes it."""


def compare_command(args: Namespace) -> int:
    """Compare results and say what differs; with `--update`, bless the second as baseline."""
    if args.format not in FORMATS:
        raise UsageError(f"unknown format {args.format!r}{hint(args.format, FORMATS)}")
    if len(args.result) > 2 or args.sel:
        return _tabulate(args)
    options = _options(args)
    if args.update:
        return _update(args, options)
    found = _compared(args.result, options)
    write: Callable[..., str] = load(FORMATS[args.format])
    suggest = bool(args.suggest_tol)
    deliver(write(found, suggest=suggest), args.output, human(found, suggest=suggest))
    return found.exit_code


def _options(args: Namespace) -> Options:
    if args.preset is not None and args.preset not in PRESETS:
        raise UsageError(f"unknown preset {args.preset!r}{hint(args.preset, PRESETS)}")
    if len(args.result) != 2:
        raise UsageError("compare takes two results or more; got one")
    margins = [read_given(text, "--margin") for text in args.margin]
    for margin in margins:
        if margin.relative:
            raise UsageError(f"--margin takes a number in the variable's units; got {margin}")
    return Options(
        only=tuple(args.only),
        skip=tuple(args.skip),
        given=tuple(read_given(text, "--tol") for text in args.tol),
        margins=tuple(margins),
        preset=args.preset,
        overlap=args.overlap,
    )


def _tabulate(args: Namespace) -> int:
    """Print what each analysis found in each of several runs."""
    from patchclamp.engine.comparison.table import (
        FINE,
        NOT_COMPARABLE,
        NothingToTabulateError,
        read_selection,
        tabulate,
    )
    from patchclamp.engine.comparison.table import FORMATS as TABLES

    if args.format not in TABLES:
        raise UsageError(
            f"a table of several results is written as {', '.join(TABLES)}; got {args.format!r}"
        )
    select = read_selection(args.sel)
    with ExitStack() as files:
        runs = [(given, files.enter_context(open_result(given))) for given in args.result]
        try:
            tables = tabulate(runs, select=select)
        except NothingToTabulateError as error:
            sys.stderr.write(f"not comparable: {error}\n")
            return NOT_COMPARABLE
    deliver(TABLES[args.format](tables), args.output, TABLES["human"](tables))
    return FINE


def _compared(results: list[str], options: Options) -> Comparison:
    a, b = results
    with open_result(a) as left, open_result(b) as right:
        return compare_open(left, right, as_kept(options, left), names=(a, b))


def _update(args: Namespace, options: Options) -> int:
    """Say what changes, then put the second result in the place of the first."""
    if not args.because:
        raise UsageError("--update needs --because TEXT: why the new result is right")
    a, b = args.result
    target, verdict = Path(a), "the first"
    if target.is_dir():
        raise UsageError(f"--update writes a file, and {a!r} is a folder")
    if target.exists():
        with open_result(target) as old:
            options = replace(as_kept(options, old), preset=options.preset)
        found = _compared([a, b], options)
        sys.stdout.write(human(found) + "\n")
        verdict = found.verdict
        if find_result(b).samefile(target):
            raise StoreError(f"{a!r} and {b!r} are the same file")
    blessing = bless(b, target, options, because=args.because, by=args.by or "", verdict=verdict)
    sys.stdout.write(f"{a} is now {b}, as {blessing.by} says: {blessing.because}\n")
    return 0
