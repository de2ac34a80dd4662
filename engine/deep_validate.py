"""What `validate --deep` and `--locked` add to a check: torch's side of it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from patchclamp.engine.deep import check_deep
from patchclamp.engine.lock import check_locked
from patchclamp.specs.diagnostics import Diagnostic, in_order, report
from patchclamp.specs.formats import Checked
from patchclamp.specs.load import load


def look_deeper(checked: Sequence[Checked], args: Namespace) -> tuple[list[Checked], str]:
    """Return what was checked with what deeper checks find, and the token tables as text.

    A spec that is not valid is passed by: what it would read is not known.
    """
    found, tables = [], ""
    for one in checked:
        if not one.valid:
            found.append(one)
            continue
        more, text = _look(one, args)
        found.append(more)
        tables += text
    return found, tables


def _look(one: Checked, args: Namespace) -> tuple[Checked, str]:
    loaded = load(one.source, args.set)
    found: list[Diagnostic] = [*one.diagnostics]
    tables = ""
    if args.deep:
        deep = check_deep(loaded)
        found += deep.diagnostics
        one = one._replace(allowed=one.allowed + len(deep.allowed))
        tables = "".join(f"{text}\n" for text in deep.tables)
        if tables:
            tables = f"{one.source}\n\n{tables}"
    if args.locked:
        found += check_locked(loaded)
    if not found:
        return one, tables
    ordered = in_order(found, loaded.document.texts)
    told = report(ordered, loaded.document.texts)
    return one._replace(diagnostics=ordered, report=told), tables
