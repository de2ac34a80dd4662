"""The command line of what reads results: `compare`, `check`, `merge`, `report`, `cite`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

REPORTS = "human, json, markdown, github or junit"
"""What `compare` and `check` can write."""

RESULT = "a result file, or the folder of a run"


def add_result_arguments(commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """Say what each command takes."""
    _add_compare_arguments(commands["compare"])
    _add_check_arguments(commands["check"])
    _add_merge_arguments(commands["merge"])
    noise = commands["noise"]
    noise.add_argument("spec", metavar="SPEC", help="a spec file, or the name of a shipped one")
    noise.add_argument(
        "--vary",
        action="append",
        metavar="PATH=VALUE",
        help="a key of run to change, instead of batch and threads; may be given again",
    )
    noise.add_argument("--out", default="runs", metavar="FOLDER", help="where results go (runs)")
    commands["run"].add_argument(
        "--report", action="store_true", help="also write a page and figures of each result"
    )
    commands["cite"].add_argument("result", metavar="RESULT", help=RESULT)
    report = commands["report"]
    report.add_argument("result", nargs="+", metavar="RESULT", help=RESULT)
    report.add_argument("--out", metavar="FILE", help="the page (report.html beside the result)")


def _add_check_arguments(check: argparse.ArgumentParser) -> None:
    check.add_argument("result", nargs="+", metavar="RESULT", help=RESULT)
    check.add_argument("--spec", metavar="SPEC", help="take the expectations of this spec instead")
    check.add_argument("--format", default="human", metavar="FORMAT", help=REPORTS)
    check.add_argument(
        "--output", metavar="FILE", help="write the report there; people get theirs here"
    )


def _add_merge_arguments(merge: argparse.ArgumentParser) -> None:
    merge.add_argument("result", nargs="+", metavar="RESULT", help=f"{RESULT}; two or more")
    merge.add_argument(
        "--along",
        action="append",
        required=True,
        metavar="DIM",
        help="model, revision or seed; may be given again",
    )
    merge.add_argument("--out", required=True, metavar="FILE", help="the file to write")
    merge.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="keep these (all analyses and stimuli); may be given again",
    )


def _add_compare_arguments(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("result", nargs="+", metavar="RESULT", help=f"{RESULT}; two or more")
    compare.add_argument(
        "--sel",
        action="append",
        default=[],
        metavar="DIM=LABEL",
        help="tabulate values there, such as layer=last; may be given again",
    )
    for option, metavar, text in (
        ("--only", "PATTERN", "compare these, such as analyses or 'decode/*'; may be given again"),
        ("--skip", "PATTERN", "leave these out; may be given again"),
        ("--tol", "PATTERN=VALUE", "allow so much, in the variable's units or as 1%% of its scale"),
        ("--margin", "PATTERN=VALUE", "judge values per stimulus by equivalence within so much"),
    ):
        compare.add_argument(option, action="append", default=[], metavar=metavar, help=text)
    compare.add_argument("--preset", metavar="PRESET", help="exact, fp32 or bf16")
    compare.add_argument(
        "--overlap", action="store_true", help="take what one side lacks for no difference"
    )
    compare.add_argument(
        "--suggest-tol", action="store_true", help="print the least tolerances that would pass"
    )
    compare.add_argument("--format", default="human", metavar="FORMAT", help=REPORTS)
    compare.add_argument(
        "--output", metavar="FILE", help="write the report there; people get theirs here"
    )
    compare.add_argument(
        "--update", action="store_true", help="bless the second as the baseline in the first's file"
    )
    compare.add_argument("--because", metavar="TEXT", help="why it is right, for --update")
    compare.add_argument("--by", metavar="NAME", help="who says so (as git knows you)")
