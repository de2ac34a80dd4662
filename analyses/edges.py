"""Edges: from what a node adds to the residual stream to one input of a later node.

Senders are the embeddings, heads and MLPs, in the order in which a model computes them. Receivers
are the queries of each head, the keys and values of each key-value head, each MLP, and the logits.
"""

from __future__ import annotations

from collections.abc import Sequence

from patchclamp.analyses.asking import Spot
from patchclamp.analyses.paths import node
from patchclamp.analyses.readings import Change, End, ModelShape
from patchclamp.analyses.units import heads
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Units
from patchclamp.specs.positions import ALL

EMBED = Spot("resid_pre", 0)
"""Where the embeddings, positions among them, are sent from."""

Nodes = dict[tuple[int, bool], set[int]]
"""The heads of layers, or their MLPs: by layer, and whether it is one."""


def sender(site: str, layer: int, head: int | None = None) -> str:
    """Return the name of what sends.

    >>> sender("resid_pre", 0), sender("z", 1, 3), sender("mlp_out", 2)
    ('embed', 'L1H3', 'MLP2')
    """
    return "embed" if site == EMBED.site else node(Change("", site, layer, head))


def receiver(site: str, layer: int, head: int | None = None) -> str:
    """Return the name of what receives.

    >>> receiver("k", 1, 0), receiver("mlp_in", 2), receiver("resid_post", 11)
    ('L1H0.k', 'MLP2', 'logits')
    """
    if site == "resid_post":
        return "logits"
    return f"MLP{layer}" if site == "mlp_in" else node(Change("", site, layer, head))


def ends(units: Sequence[Units], shape: ModelShape) -> tuple[tuple[Spot, ...], tuple[Spot, ...]]:
    """Return the senders and receivers of a choice of nodes, embeddings and logits among them."""
    picked: Nodes = {}
    for one in units:
        if one.site not in ("z", "mlp_out"):
            raise AnalysisError(
                f"edges join heads (site z) and MLPs (site mlp_out); got {one.site!r}"
            )
        if one.positions != ALL or one.group is not None:
            raise AnalysisError("edges are of all positions: leave out 'positions' and 'group'")
        for layer, head in heads(one, shape):
            picked.setdefault((int(layer or 0), one.site == "mlp_out"), set()).add(head or 0)
    return ends_of(picked, shape)


def ends_of(nodes: Nodes, shape: ModelShape) -> tuple[tuple[Spot, ...], tuple[Spot, ...]]:
    """Return the senders and receivers of nodes, in the model's order.

    Keys and values are received by the heads that share them as one. Raises `AnalysisError` for a
    model whose edges cannot be told apart.
    """
    if shape.edgeless:
        raise AnalysisError(f"this model has no edges to tell apart: {shape.edgeless}")
    each = shape.heads // (shape.kv_heads or shape.heads)
    senders, receivers = [EMBED], []
    for (layer, is_mlp), of in sorted(nodes.items()):
        if is_mlp:
            senders.append(Spot("mlp_out", layer))
            receivers.append(Spot("mlp_in", layer))
            continue
        own, shared = tuple(sorted(of)), tuple(sorted({head // each for head in of}))
        senders.append(Spot("z", layer, heads=own))
        receivers += [Spot(s, layer, heads=own if s == "q" else shared) for s in ("q", "k", "v")]
    return tuple(senders), (*receivers, Spot("resid_post", shape.layers - 1))


def parts(spots: Sequence[Spot]) -> tuple[End, ...]:
    """Return site, layer and head of each part of senders or receivers."""
    return tuple((s.site, s.layer, head) for s in spots for head in s.heads or (None,))


def before(sender: End, receiver: End, *, parallel: bool) -> bool:
    """Return whether a receiver reads a stream to which the sender has added.

    >>> before(("z", 1, 0), ("mlp_in", 1, None), parallel=False)
    True
    >>> before(("z", 1, 0), ("mlp_in", 1, None), parallel=True)
    False
    """
    if sender[0] == EMBED.site or receiver[0] == "resid_post" or sender[1] != receiver[1]:
        return sender[1] <= receiver[1]
    return sender[0] == "z" and receiver[0] == "mlp_in" and not parallel
