"""Paths: what path patching changes in a run aside, and what of that run is let through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from patchclamp.analyses.readings import ASIDE, HELD, Change, Condition, ModelShape
from patchclamp.analyses.units import parts
from patchclamp.registry import SITES
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Path, Units
from patchclamp.specs.interventions import Patch

_ORDER = {site: number for number, site in enumerate(SITES)}


def path_conditions(path: Path, sets: tuple[str, Patch], shape: ModelShape) -> Iterator[Condition]:
    """Yield a condition for each sender and each receiver behind it.

    `sets` are the set that is patched, and the patch from the other run. In a run aside, the sender
    is patched and what `freeze` names keeps its value of the run that is patched; MLPs that are
    not frozen are computed anew, and norms too unless they keep the scale that they had. The run
    that is measured takes from it the receiver alone. Raises `AnalysisError` where no receiver is
    behind a sender. Source: Wang et al. 2022, Interpretability in the wild; Goldowsky-Dill et al.
    2023.
    """
    into, patch = sets
    senders = [change for units in path.senders for _, change in parts(units, shape, patch)]
    receivers = [change for units in path.receivers for _, change in parts(units, shape, ASIDE)]
    pairs = [(s, r) for s in senders for r in receivers if place_of(s, shape) < place_of(r, shape)]
    if not pairs:
        raise AnalysisError(
            f"no receiver is behind a sender: {node(senders[0])}"
            f"{' and others' if len(senders) > 1 else ''} cannot reach {node(receivers[0])}"
            f"{' or others' if len(receivers) > 1 else ''}"
        )
    keep = Patch(kind="patch", source=into, allow_no_effect=True)
    frozen = [change for _, change in parts(Units(site="z"), shape, keep)]
    if path.freeze == "heads_and_mlps":
        frozen += [change for _, change in parts(Units(site="mlp_out"), shape, keep)]
    if path.norms == "frozen":
        frozen += [Change(HELD, "norms", layer) for layer in range(shape.layers + 1)]
    for sender, receiver in pairs:
        free = [(end.site, end.layer, end.head) for end in (sender, receiver)]
        first, last = place_of(sender, shape)[0], place_of(receiver, shape)[0]
        # What is before the sender, or behind the receiver, is what it was, or is not looked at.
        between = [f for f in frozen if first <= f.layer <= last]
        others = [f for f in between if (f.site, f.layer, f.head) not in free]
        aside = tuple(replace(change, aside=True) for change in (sender, *others))
        labels = (("sender", node(sender)), ("receiver", node(receiver)))
        yield Condition(labels, (*aside, receiver))


def place_of(change: Change, shape: ModelShape) -> tuple[int, int]:
    """Return where a change is in the order of computing: its layer, and its site there."""
    if "layer" in SITES[change.site].dims:
        return change.layer, _ORDER[change.site]
    return (-1 if change.site == "embed" else shape.layers), 0


def node(change: Change) -> str:
    """Return the name of a part of the model.

    >>> node(Change("x", "z", 1, 3)), node(Change("x", "k", 1, 0)), node(Change("x", "mlp_out", 2))
    ('L1H3', 'L1H0.k', 'MLP2')
    """
    if "layer" not in SITES[change.site].dims:
        return change.site
    if change.site == "z" and change.head is not None:
        return f"L{change.layer}H{change.head}"
    if change.site == "mlp_out":
        return f"MLP{change.layer}"
    head = "" if change.head is None else f"H{change.head}"
    return f"L{change.layer}{head}.{change.site}"
