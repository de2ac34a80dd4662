"""What a comparison found, in words: the sentences that all formats for people share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from patchclamp.engine.comparison.compare import Comparison, Row
from patchclamp.engine.comparison.labels import format_label, listed
from patchclamp.engine.comparison.meaning import Meaning
from patchclamp.engine.comparison.tally import Worst
from patchclamp.engine.comparison.values import Values
from patchclamp.specs.formats import count


def verdict(found: Comparison) -> str:
    """Return the verdict in one line."""
    compared, different = len(found.compared), len(found.different)
    if found.verdict == "not comparable":
        return "not comparable: nothing that both have can be compared"
    failing = sum(one.fails for one in found.structure)
    every = f"all {compared} variables" if compared > 1 else "1 variable"
    parts = [f"{every} within tolerance"]
    if different:
        parts = [f"{different} of {count(compared, 'variable')} beyond tolerance"]
    parts.append(f"{count(failing, 'difference')} in structure" if failing else "structure equal")
    if found.conclusions:
        parts.append(f"{count(len(found.conclusions), 'conclusion')} changed")
    return f"{found.verdict}: {', '.join(parts)}"


def details(row: Row) -> Iterator[str]:
    """Yield what is to say of a variable that differs: where, how, and whether it matters."""
    values = row.values
    if values is None:
        yield row.remark
        return
    if row.state == "different" or values.beyond:
        if values.worst is not None:
            yield f"worst {worst(values.worst)}"
        if values.within:
            yield f"only within {confined(values)}"
        if values.sign_changes:
            yield f"sign changes: {values.sign_changes}"
        if values.only_a or values.only_b:
            yield f"missing on one side: {values.only_b} in A, {values.only_a} in B"
    if row.meaning is not None:
        yield from paired(row.meaning)
    if row.remark:
        yield row.remark


def worst(found: Worst) -> str:
    """Return the element that is furthest apart, by label."""
    sides = f"A {number(found.a)}, B {number(found.b)}"
    size = "" if found.deviations is None else f" ({found.deviations:.2g} sd of A)"
    return f"{at(found.labels)}{sides}{size}"


def at(labels: Mapping[str, Any]) -> str:
    """Return a place by its labels.

    >>> at({"layer": 9, "head": 1})
    'at layer=9, head=1: '
    """
    if not labels:
        return ""
    return "at " + ", ".join(f"{d}={format_label(v)}" for d, v in labels.items()) + ": "


def confined(values: Values) -> str:
    """Return the labels that the differences are confined to."""
    return "; ".join(f"{dim} {listed(labels)}" for dim, labels in values.within.items())


def paired(found: Meaning) -> Iterator[str]:
    """Yield what the paired test says."""
    over = count(found.stimuli, "stimulus").replace("stimuluss", "stimuli")
    groups = f" in {count(found.groups, 'group')}" if found.groups is not None else ""
    mean = found.mean_b - found.mean_a
    yield (
        f"paired over {over}{groups}: {at(found.labels)}B − A = {number(mean)} "
        f"[{number(found.low)}, {number(found.high)}], {p_value(found.p)}"
        + (f", {p_value(found.p_max)} over all {found.cells} cells" if found.cells > 1 else "")
    )
    if found.mcnemar is not None:
        one = found.mcnemar
        caveat = ", which takes stimuli for independent" if found.groups is not None else ""
        yield (
            f"right in A only {one.lost}, in B only {one.gained}: McNemar {p_value(one.p)}{caveat}"
        )
    if found.equivalent is not None and found.widest is not None:
        low, high = found.widest
        says = "equivalent" if found.equivalent else "not shown to be equivalent"
        yield f"{says} within ±{found.margin:g}: 90 % intervals reach [{low:.3g}, {high:.3g}]"


def p_value(p: float) -> str:
    """Return a p value as it is written."""
    return f"p = {p:.4f}" if p >= 0.0001 else "p < 0.0001"


def number(value: Any) -> str:
    """Return a value as people read it.

    >>> number(0.22375029), number(-0.0000123), number(3), number("may")
    ('0.22375', '-1.23e-05', '3', "'may'")
    """
    if isinstance(value, str):
        return repr(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def tolerance(row: Row) -> str:
    """Return how far apart values may be, and who says so."""
    if row.tolerance is None or row.values is None:
        return ""
    if row.meaning is not None and row.meaning.margin is not None:
        return f"equivalence within ±{row.meaning.margin:g}"
    if row.values.whole and not row.tolerance.absolute:
        return f"{100 * row.tolerance.share():.3g} % may differ ({row.tolerance.source})"
    if row.values.scale is None:
        return f"none ({row.tolerance.source})"
    return f"{row.tolerance.allowed(row.values.scale):.2g} ({row.tolerance.source})"


def suggestions(found: Comparison) -> Iterator[str]:
    """Yield the smallest tolerances that would pass, as options of the command line."""
    for row in found.different:
        values = row.values
        if values is None or (row.meaning is not None and row.meaning.margin is not None):
            continue
        if values.only_a or values.only_b:
            continue  # what is missing is no matter of tolerance
        if values.whole:
            share = 100 * values.beyond / max(values.compared, 1)
            yield f"--tol '{row.name}={_rounded_up(share):g}%'"
        elif values.absolute is not None and math.isfinite(values.absolute):
            yield f"--tol '{row.name}={_rounded_up(values.absolute):g}'"


def _rounded_up(value: float) -> float:
    """Return a number rounded up to two digits.

    >>> _rounded_up(0.04213), _rounded_up(4.48e-01)
    (0.043, 0.45)
    """
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / unit, 9)) * unit:.2g}")
