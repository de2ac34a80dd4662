"""What commands that make or read results are given on the command line."""

from __future__ import annotations

from argparse import ArgumentParser

from patchclamp.engine.cli_arguments import SPEC, add_overrides

REPORTS = "human, json, markdown, github or junit"
"""What `compare` and `check` can write."""

RESULT = "a result file, or the folder of a run"


def noise(parser: ArgumentParser) -> None:
    """Measure how far numbers move with batch size and threads."""
    parser.add_argument("spec", metavar="SPEC", help=SPEC)
    parser.add_argument(
        "--vary",
        action="append",
        metavar="PATH=VALUE",
        help="a key of run to change, instead of batch and threads; may be given again",
    )
    parser.add_argument("--out", default="runs", metavar="FOLDER", help="where results go (runs)")
    add_overrides(parser)


def cite(parser: ArgumentParser) -> None:
    """Print the methods paragraph of a result."""
    parser.add_argument("result", metavar="RESULT", help=RESULT)


def report(parser: ArgumentParser) -> None:
    """Write a page and figures of a result."""
    parser.add_argument("result", nargs="+", metavar="RESULT", help=RESULT)
    parser.add_argument("--out", metavar="FILE", help="the page (report.html beside the result)")


def check(parser: ArgumentParser) -> None:
    """Say whether results meet what their specs expect."""
    parser.add_argument("result", nargs="+", metavar="RESULT", help=RESULT)
    parser.add_argument("--spec", metavar="SPEC", help="take the expectations of this spec instead")
    parser.add_argument("--format", default="human", metavar="FORMAT", help=REPORTS)
    parser.add_argument(
        "--output", metavar="FILE", help="write the report there; people get theirs here"
    )


def merge(parser: ArgumentParser) -> None:
    """Write several results as one, along model, revision or seed."""
    parser.add_argument("result", nargs="+", metavar="RESULT", help=f"{RESULT}; two or more")
    parser.add_argument(
        "--along",
        action="append",
        required=True,
        metavar="DIM",
        help="model, revision or seed; may be given again",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="keep these (all analyses and stimuli); may be given again",
    )


def compare(parser: ArgumentParser) -> None:
    """Compare results by label, and say what differs and why."""
    parser.add_argument("result", nargs="+", metavar="RESULT", help=f"{RESULT}; two or more")
    parser.add_argument(
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
        parser.add_argument(option, action="append", default=[], metavar=metavar, help=text)
    parser.add_argument("--preset", metavar="PRESET", help="exact, fp32 or bf16")
    parser.add_argument(
        "--overlap", action="store_true", help="take what one side lacks for no difference"
    )
    parser.add_argument(
        "--suggest-tol", action="store_true", help="print the least tolerances that would pass"
    )
    parser.add_argument("--format", default="human", metavar="FORMAT", help=REPORTS)
    parser.add_argument(
        "--output", metavar="FILE", help="write the report there; people get theirs here"
    )
    parser.add_argument(
        "--update", action="store_true", help="bless the second as the baseline in the first's file"
    )
    parser.add_argument("--because", metavar="TEXT", help="why it is right, for --update")
    parser.add_argument("--by", metavar="NAME", help="who says so (as git knows you)")
