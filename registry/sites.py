"""The site table: places in a transformer where activations are read or changed."""

from __future__ import annotations

from dataclasses import dataclass

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Site:
    """One kind of place, the same word on every architecture.

    `dims` are the dims of a capture there; `identity` is what must hold on real tensors.
    The order of the table is the order in which a block computes its sites.
    """

    name: str
    dims: tuple[str, ...]
    summary: str
    identity: str

    @property
    def per_head(self) -> bool:
        """Whether the site has one vector for each attention head."""
        return "head" in self.dims


_RESIDUAL = ("stimulus", "layer", "position", "unit")
_HEADS = ("stimulus", "layer", "head", "position", "channel")
_KV_HEADS = ("stimulus", "layer", "kv_head", "position", "channel")
_MAP = ("stimulus", "layer", "head", "query", "key")
_VOCABULARY = ("stimulus", "position", "token")

_ADDITIVE = "resid_post = resid_pre + attn_out + mlp_out"

SITES: Table[Site] = Table(
    "site",
    [
        Site(
            "embed",
            ("stimulus", "position", "unit"),
            "token embeddings, before positions are added to them",
            "embed = W_E[token]",
        ),
        Site(
            "resid_pre",
            _RESIDUAL,
            "residual stream as the block receives it",
            "resid_pre[l+1] = resid_post[l]",
        ),
        Site("q", _HEADS, "queries of each head", "scores = q k / sqrt(channels), masked"),
        Site(
            "k", _KV_HEADS, "keys of each key-value head", "scores = q k / sqrt(channels), masked"
        ),
        Site("v", _KV_HEADS, "values of each key-value head", "z = pattern v"),
        Site(
            "attn_scores",
            _MAP,
            "attention before the softmax",
            "softmax(scores) = pattern",
        ),
        Site(
            "attn_pattern",
            _MAP,
            "attention of each query to each key",
            "rows sum to 1 over keys that are not masked",
        ),
        Site(
            "z",
            _HEADS,
            "attention-weighted values of each head, before the output projection",
            "sum over heads of z_h W_O^h + b_O = attn_out",
        ),
        Site(
            "attn_out",
            _RESIDUAL,
            "what the attention of the block adds to the residual stream",
            _ADDITIVE,
        ),
        Site(
            "resid_mid",
            _RESIDUAL,
            "residual stream between attention and MLP; parallel blocks have none",
            "resid_mid = resid_pre + attn_out",
        ),
        Site(
            "mlp_act",
            ("stimulus", "layer", "position", "neuron"),
            "activations of the MLP's neurons, before its output projection",
            "mlp_act W_out + b_out = mlp_out",
        ),
        Site(
            "mlp_out",
            _RESIDUAL,
            "what the MLP of the block adds to the residual stream",
            _ADDITIVE,
        ),
        Site(
            "resid_post",
            _RESIDUAL,
            "residual stream as the block leaves it",
            _ADDITIVE,
        ),
        Site(
            "logits",
            _VOCABULARY,
            "unnormalised log-probabilities of the next token",
            "lm_head(norm(resid_post[last])) = logits",
        ),
        Site(
            "logprobs",
            _VOCABULARY,
            "log-probabilities of the next token",
            "logprobs = log_softmax(logits)",
        ),
    ],
)
