"""What commands that read specs are given on the command line."""

from __future__ import annotations

from argparse import ArgumentParser

SORTS = "models, architectures, sites, stimuli, metrics, analyses, backends, figures, specs"
"""What `list` can list; written out, so that help imports no table."""

FORMATS = "human, line, json, github, sarif or junit"
"""What `validate` can write."""

LOCKED = "refuse what is not pinned, or is not what `patchclamp lock` pinned"
"""What `--locked` does, for two commands."""

SPEC = "a spec file, or the name of a shipped one"


def run(parser: ArgumentParser) -> None:
    """Run specs."""
    parser.add_argument("spec", nargs="+", help=SPEC)
    parser.add_argument("--out", default="runs", metavar="FOLDER", help="where results go (runs)")
    parser.add_argument("--locked", action="store_true", help=LOCKED)
    parser.add_argument(
        "--detach", action="store_true", help="send work to a server and do not wait for it"
    )
    parser.add_argument(
        "--report", action="store_true", help="also write a page and figures of each result"
    )
    add_overrides(parser)


def plan(parser: ArgumentParser) -> None:
    """Say what a run would do; loads no weights."""
    parser.add_argument("spec", nargs="+", help=SPEC)
    parser.add_argument(
        "--why", action="store_true", help="say what has been recorded, and what differs if not"
    )
    parser.add_argument(
        "--time", action="store_true", help="load the model and run two batches, to tell the time"
    )
    add_overrides(parser)


def validate(parser: ArgumentParser) -> None:
    """Check specs; runs nothing."""
    parser.add_argument(
        "path", nargs="+", metavar="PATH", help="a spec, a folder of specs, or a shipped spec"
    )
    parser.add_argument("--format", default="human", metavar="FORMAT", help=FORMATS)
    parser.add_argument(
        "--output", metavar="FILE", help="write the report there; people get theirs here"
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="also read stimuli, tokenizers and model configs, never weights",
    )
    parser.add_argument("--locked", action="store_true", help=LOCKED)
    parser.add_argument(
        "--fix", action="store_true", help="mend in place what is no matter of choice"
    )
    add_overrides(parser)


def list_(parser: ArgumentParser) -> None:
    """List what names there are."""
    parser.add_argument("sort", nargs="?", metavar="SORT", help=SORTS)


def explain(parser: ArgumentParser) -> None:
    """Explain a code (P104), a kind, a key or a name."""
    parser.add_argument(
        "name", metavar="NAME", help="such as P104, probe, resid_post, positions, probe.cv"
    )


def show(parser: ArgumentParser) -> None:
    """Print a spec."""
    parser.add_argument("spec", metavar="SPEC", help=SPEC)
    parser.add_argument(
        "--resolved", action="store_true", help="with every default and short form spelled out"
    )
    parser.add_argument(
        "--origin", action="store_true", help="with the place that each value comes from"
    )
    add_overrides(parser)


def init(parser: ArgumentParser) -> None:
    """Write a first spec."""
    parser.add_argument(
        "name", nargs="?", default="experiment", metavar="NAME", help="its name (experiment)"
    )


def lock(parser: ArgumentParser) -> None:
    """Write down hashes of all that a spec reads."""
    parser.add_argument("spec", metavar="SPEC", help=SPEC)
    add_overrides(parser)


def schema(parser: ArgumentParser) -> None:
    """Print the grammar as JSON Schema, for editors."""
    parser.add_argument(
        "--write",
        nargs="?",
        const=".",
        metavar="FOLDER",
        help="write it to .patchclamp/schema.json there (here), and say how editors find it",
    )


def doctor(parser: ArgumentParser) -> None:
    """Examine a model that nobody has tried, or this environment."""
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a bundled model, a folder or a hub id, with @revision; without, the environment",
    )
    parser.add_argument("--format", default="human", metavar="FORMAT", help="human or json")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--untrained", action="store_true", help="draw weights from the config, and load none"
    )
    parser.add_argument(
        "--remote",
        action="store_true",
        help="ask the server whether it is ready, and for whom",
    )


def add_plugins(parser: ArgumentParser, dest: str) -> None:
    """Take plugins before and after a command; argparse would let one place undo the other."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        dest=dest,
        metavar="FILE",
        help="a Python file that adds analyses, metrics or architectures; may be given again",
    )


def add_overrides(parser: ArgumentParser) -> None:
    """Take values that are put in place of those of the spec."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="put a value in its place; may be given again",
    )
