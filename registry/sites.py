"""The site table: places in a transformer where activations are read or changed."""

from __future__ import annotations

from typing import NamedTuple

from patchclamp.registry.table import Table


class Site(NamedTuple):
    """One kind of place, the same word on every architecture.

    `dims` are the dims of a capture there; `identity` is what must hold on real tensors, where
    `norm` stands for the norm that some architectures have in that place and others lack.
    The order of the table is the order in which a block computes its sites.
    """

    name: str
    dims: tuple[str, ...]
    summary: str
    identity: str
    written: bool = True
    """Whether an intervention can put another value there."""


_RESIDUAL = ("stimulus", "layer", "position", "unit")
_HEADS = ("stimulus", "layer", "head", "position", "channel")
_KV_HEADS = ("stimulus", "layer", "kv_head", "position", "channel")
_MAP = ("stimulus", "layer", "head", "query", "key")
_VOCABULARY = ("stimulus", "position", "token")

_STREAM = "norm(resid_pre + attn_out + mlp_out) = resid_post"
_MIX = "attn_pattern v = z"

SITES: Table[Site] = Table(
    "site",
    [
        Site(
            "embed",
            ("stimulus", "position", "unit"),
            "token embeddings, before positions are added to them",
            "norm(embed + positions) = resid_pre[0]",
        ),
        Site(
            "resid_pre",
            _RESIDUAL,
            "residual stream as the block receives it",
            "resid_pre[l+1] = resid_post[l]",
        ),
        Site(
            "q",
            _HEADS,
            "queries of each head as they are projected, before norms and rotary positions",
            _MIX,
        ),
        Site(
            "k",
            _KV_HEADS,
            "keys of each key-value head as they are projected, before norms and rotary positions",
            _MIX,
        ),
        Site("v", _KV_HEADS, "values of each key-value head", _MIX),
        Site(
            "attn_scores",
            _MAP,
            "what the softmax is taken of, scaled and bounded; none for keys that are not seen",
            "softmax(attn_scores) = attn_pattern",
        ),
        Site(
            "attn_pattern",
            _MAP,
            "attention of each query to each key; 0 where it does not see it",
            "attn_pattern sums to 1 over keys",
        ),
        Site(
            "z",
            _HEADS,
            "attention-weighted values of each head, before the output projection",
            "norm(sum over heads of z_h W_O^h + b_O) = attn_out",
        ),
        Site(
            "attn_out",
            _RESIDUAL,
            "what the attention of the block adds to the residual stream",
            _STREAM,
        ),
        Site(
            "resid_mid",
            _RESIDUAL,
            "residual stream between attention and MLP; parallel blocks have none",
            "norm(resid_pre + attn_out) = resid_mid",
        ),
        Site(
            "mlp_act",
            ("stimulus", "layer", "position", "neuron"),
            "activations of the MLP's neurons, gates included, before its output projection",
            "norm(mlp_act W_out + b_out) = mlp_out",
        ),
        Site(
            "mlp_out",
            _RESIDUAL,
            "what the MLP of the block adds to the residual stream",
            _STREAM,
        ),
        Site(
            "resid_post",
            _RESIDUAL,
            "residual stream as the block leaves it",
            _STREAM,
        ),
        Site(
            "logits",
            _VOCABULARY,
            "unnormalised log-probabilities of the next token, of a hidden one in an encoder",
            "unembed(norm(resid_post[last])) = logits",
        ),
        Site(
            "logprobs",
            _VOCABULARY,
            "log-probabilities of the next token, of a hidden one in an encoder",
            "log_softmax(logits) = logprobs",
            written=False,
        ),
    ],
)

WRITTEN_SITES: Table[Site] = Table("writable site", [s for s in SITES.values() if s.written])
"""The sites where an intervention can act."""
