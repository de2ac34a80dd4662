"""Paths: what path patching changes in a run aside, and what of that run is let through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from patchclamp.analyses.readings import ASIDE, Change, Condition, ModelShape
from patchclamp.analyses.units import parts
from patchclamp.registry import SITES
from patchclamp.specs.analyses_causal import Path, Units
from patchclamp.specs.interventions import Patch

_ORDER = {site: number for number, site in enumerate(SITES)}


def path_conditions(path: Path, sets: tuple[str, Patch], shape: ModelShape) -> Iterator[Condition]:
    """Yield a condition for each sender and each receiver behind it.

    `sets` are the set that is patched, and the patch from the other run. In a run aside, the sender
    is patched and what `freeze` names keeps its value of the run that is patched; MLPs that are
    not frozen, and norms, are computed anew. The run that is measured takes from it the receiver
    alone. Source: Wang et al. 2022, Interpretability in the wild; Goldowsky-Dill et al. 2023.
    """
    into, patch = sets
    keep = Patch(kind="patch", source=into, allow_no_effect=True)
    frozen = [change for _, change in parts(Units(site="z"), shape, keep)]
    if path.freeze == "heads_and_mlps":
        frozen += [change for _, change in parts(Units(site="mlp_out"), shape, keep)]
    senders = [change for units in path.senders for _, change in parts(units, shape, patch)]
    receivers = [change for units in path.receivers for _, change in parts(units, shape, ASIDE)]
    for sender in senders:
        for receiver in receivers:
            if _behind(sender, receiver):
                free = [(end.site, end.layer, end.head) for end in (sender, receiver)]
                others = [f for f in frozen if (f.site, f.layer, f.head) not in free]
                aside = tuple(replace(change, aside=True) for change in (sender, *others))
                labels = (("sender", node(sender)), ("receiver", node(receiver)))
                yield Condition(labels, (*aside, receiver))


def _behind(sender: Change, receiver: Change) -> bool:
    """Return whether a block computes the receiver after the sender."""
    if sender.layer != receiver.layer:
        return sender.layer < receiver.layer
    return _ORDER[sender.site] < _ORDER[receiver.site]


def node(change: Change) -> str:
    """Return the name of a part of the model.

    >>> node(Change("x", "z", 1, 3)), node(Change("x", "k", 1, 0)), node(Change("x", "mlp_out", 2))
    ('L1H3', 'L1H0.k', 'MLP2')
    """
    if change.site == "z" and change.head is not None:
        return f"L{change.layer}H{change.head}"
    if change.site == "mlp_out":
        return f"MLP{change.layer}"
    head = "" if change.head is None else f"H{change.head}"
    return f"L{change.layer}{head}.{change.site}"
