"""The terminal: progress, and tables of results, where a person looks."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from patchclamp.engine.expectations import judge
from patchclamp.engine.rig import SERVER
from patchclamp.engine.run import Result, run
from patchclamp.engine.summary import summarise
from patchclamp.registry import ANALYSES
from patchclamp.specs.diagnostics import one_line
from patchclamp.specs.library import shipped

_TOP = 5
"""Rows shown of a table with a row for each head."""

_USUAL = ("RECEIVED", "DISPATCHED", "RUNNING")
"""What a server says of every job that gets its turn."""

FAILED_CELLS = 5
"""Exit code of a run that finished with failed cells."""


def run_command(arguments: Namespace) -> int:
    """Run specs one after the other and show what came out."""
    console = Console()
    if arguments.locked:
        from patchclamp.engine.lock import refuse_unlocked

        for spec in arguments.spec:
            for warning in refuse_unlocked(spec, arguments.set):
                console.print(one_line(warning), highlight=False, markup=False, soft_wrap=True)
    unmet = failed = 0
    for spec in arguments.spec:
        started = monotonic()
        with _progress(console) as progress:
            result = run(
                spec,
                out=arguments.out,
                overrides=arguments.set,
                progress=progress,
                detach=arguments.detach,
            )
        show(result, console)
        unmet += show_claims(result, console)
        if arguments.report:
            from patchclamp.engine.reporting.command import report

            page, _ = report(result.path)
            console.print(f"[bold]report[/bold]  {page}", soft_wrap=True)
        failed += show_failures(result, console)
        console.print(f"[dim]{monotonic() - started:.1f} s[/dim]")
    return FAILED_CELLS if failed else 1 if unmet else 0


def show_failures(result: Result, console: Console) -> int:
    """Print which cells of a matrix failed; return how many."""
    for failure in result.failed:
        said = f"failed  {failure.cell}: {failure.message}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    return len(result.failed)


def show_claims(result: Result, console: Console) -> int:
    """Print whether the result meets what the spec expects; return how many claims it does not."""
    claims = judge(result.loaded.spec.expect, result.analyses)
    for claim in claims:
        console.print(f"{claim}", highlight=False, markup=False, soft_wrap=True)
    return sum(not claim.met for claim in claims)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show passes done on a terminal; elsewhere, say where a server lets one wait."""
    if not console.is_terminal:
        told = ""

        def say(what: str, done: int, total: int) -> None:
            nonlocal told
            if SERVER in what and what != told and not what.partition(SERVER)[2].startswith(_USUAL):
                told = what
                console.print(what, markup=False, highlight=False, soft_wrap=True)

        yield say
        return
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("passes"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("loading the model", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=escape(what), completed=done, total=total)

        yield advance


def show(result: Result, console: Console) -> None:
    """Print a table for each analysis, where the file is, and what to do next."""
    spec = result.loaded.spec
    for name, entry in spec.analyses.items():
        data = result.analysis(name)
        table, shown = summary_table(data)
        facts = "  ·  ".join([entry.kind, *shown, *_facts(data)])
        console.print(f"\n[bold]{name}[/bold]  {facts}", highlight=False, soft_wrap=True)
        console.print(table)
    for line in (*_screened(result), *_left_out(result), *_drifted(result)):
        console.print(line, highlight=False, soft_wrap=True)
    for warning in result.warnings:
        console.print(one_line(warning), highlight=False, markup=False, soft_wrap=True)
    unchecked = sum(guard.get("verdict") == "not checked" for guard in result.guards)
    guards = f"{len(result.guards) - unchecked} guards passed"
    guards += f", {unchecked} not checked" if unchecked else ""
    console.print(f"\n[bold]result[/bold]  {result.path}  ({guards})", soft_wrap=True)
    for line in next_steps(result):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _screened(result: Result) -> Iterator[str]:
    """Yield what `keep_if` left of each set."""
    for group, data in result.groups.items():
        name, counts = group.removeprefix("/stimuli/"), {**data.attrs, **data.data_vars}
        if name == group or "n_kept" not in counts:
            continue
        kept, asked = (np.unique(np.asarray(counts[of])) for of in ("n_kept", "n_asked"))
        taken = data.sizes["stimulus"]
        part = f", {taken} taken" if len(kept) == 1 and taken < kept[0] else ""
        yield f"{name}  {_span(kept)} of {_span(asked)} stimuli kept by what the model says{part}"


def _left_out(result: Result) -> Iterator[str]:
    """Yield how many stimuli each capture has left out, as its window allows."""
    for group, data in result.groups.items():
        dropped = data.attrs.get("stimuli_dropped")
        if dropped:
            total = dropped + data.sizes["stimulus"] if "stimulus" in data.dims else None
            of = f" of {total}" if total else ""
            yield f"{group.removeprefix('/captures/')}  {dropped}{of} stimuli too short and dropped"


def _drifted(result: Result) -> Iterator[str]:
    """Yield what part of a model's weights is not in the precision that was asked for."""
    for guard in result.guards:
        if guard.get("guard") == "precision" and guard["value"] > 0:
            yield f"precision  {guard['on']} ({guard['value']:.1%} of the parameters)"


def _span(counts: NDArray[np.int64]) -> str:
    """Return counts of one or several cells, sorted, in words."""
    return " to ".join(str(int(count)) for count in dict.fromkeys((counts[0], counts[-1])))


def summary_table(data: xr.Dataset) -> tuple[Table, list[str]]:
    """Return a table of an analysis' headline variables, and what it leaves out."""
    found = summarise(data, top=_TOP)
    if found is None:
        return Table(box=None, show_header=False), []
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in found.head:
        table.add_column(name, justify="right")
    for row in found.rows:
        table.add_row(*row)
    return table, [found.shortened] if found.shortened else []


def _facts(data: xr.Dataset) -> list[str]:
    """Return what a table rests on: stimuli, groups, baseline and controls."""
    # A plugin's result need not say how many there were.
    parts = [f"{data.attrs['n_stimuli']} stimuli"] if "n_stimuli" in data.attrs else []
    parts += [
        f"clean {str(name).removesuffix('_clean')} {_range(_over_stimuli(values))}"
        for name, values in data.data_vars.items()
        if str(name).endswith("_clean")
    ]
    if data.attrs.get("n_groups"):
        parts.append(f"{data.attrs['n_groups']} groups")
    if "inference" in data.attrs:
        parts.append(f"inference {data.attrs['inference']}")
    kind = str(data.attrs.get("kind"))
    told = ANALYSES[kind].headline if kind in ANALYSES else ()
    if "base_rate" in data and "base_rate" not in told:
        parts.append(f"base rate {_range(data['base_rate'])}")
    if "control_accuracy" in data:
        for control in data["control"].to_numpy():
            accuracy = _range(data["control_accuracy"].sel(control=control))
            parts.append(f"{control} {accuracy}".replace("_", " "))
    return parts


def _over_stimuli(values: xr.DataArray) -> xr.DataArray:
    return values.mean("stimulus") if "stimulus" in values.dims else values


def _range(values: xr.DataArray) -> str:
    """Return a number, or the lowest and highest of several."""
    ends = dict.fromkeys(f"{float(end):.3f}" for end in (values.min(), values.max()))
    return " to ".join(ends)


def next_steps(result: Result) -> list[str]:
    """Return three things to try after a run."""
    group = next((f"['analyses/{name}']" for name in result.loaded.spec.analyses), "")
    look = f"import xarray as xr; print(xr.open_datatree('{result.path}'){group})"
    other = next(name for name in shipped() if name != result.loaded.spec.name)
    copy = result.path.with_name("spec.yaml")
    if len(result.loaded.document.sources) > 1 and copy.with_name("resolved.yaml").exists():
        copy = copy.with_name("resolved.yaml")  # bases and overrides are in no other file
    return [
        f'look inside    python -c "{look}"',
        f"run another    patchclamp run {other}",
        f"make it yours  cp {copy} mine.yaml, change it, patchclamp validate mine.yaml",
    ]
