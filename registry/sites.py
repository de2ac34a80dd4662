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

SITES: Table[Site] = Table(
    "site",
    [
        Site(
            "resid_pre",
            _RESIDUAL,
            "residual stream as the block receives it",
            "resid_pre[l+1] = resid_post[l]",
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
            "resid_post = resid_pre + attn_out + mlp_out",
        ),
        Site(
            "resid_mid",
            _RESIDUAL,
            "residual stream between attention and MLP; parallel blocks have none",
            "resid_mid = resid_pre + attn_out",
        ),
        Site(
            "mlp_out",
            _RESIDUAL,
            "what the MLP of the block adds to the residual stream",
            "resid_post = resid_pre + attn_out + mlp_out",
        ),
        Site(
            "resid_post",
            _RESIDUAL,
            "residual stream as the block leaves it",
            "resid_post = resid_pre + attn_out + mlp_out",
        ),
    ],
)
