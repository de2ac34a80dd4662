"""The architecture table: where each site lives in a Hugging Face module tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Location:
    """A tensor in the module tree: the input or the output of the module at `path`.

    `path` may hold `{layer}`. A module that returns a tuple means its first member.
    """

    path: str
    io: Literal["input", "output"]


@dataclass(frozen=True)
class Architecture:
    """One Hugging Face `model_type` and the location of each site in it.

    A site that is missing from `sites` is one the architecture lacks, and is refused by name.
    """

    name: str
    summary: str
    sites: Mapping[str, Location]
    logits: Location


def _block(
    layers: str, *, attention: str, projection: str, mlp: str, middle: str | None
) -> dict[str, Location]:
    """Locations in a pre-norm block; `middle` is the norm that reads resid_mid, if any does."""
    block = layers + ".{layer}"
    sites = {
        "resid_pre": Location(block, "input"),
        "z": Location(f"{block}.{attention}.{projection}", "input"),
        "attn_out": Location(f"{block}.{attention}", "output"),
        "mlp_out": Location(f"{block}.{mlp}", "output"),
        "resid_post": Location(block, "output"),
    }
    if middle is not None:
        sites["resid_mid"] = Location(f"{block}.{middle}", "input")
    return sites


ARCHITECTURES: Table[Architecture] = Table(
    "architecture",
    [
        Architecture(
            "gpt2",
            "GPT-2: learned positions, attention then MLP",
            _block(
                "transformer.h", attention="attn", projection="c_proj", mlp="mlp", middle="ln_2"
            ),
            Location("lm_head", "output"),
        ),
        Architecture(
            "gpt_neox",
            "GPT-NeoX and Pythia: rotary positions, attention and MLP in parallel",
            _block(
                "gpt_neox.layers", attention="attention", projection="dense", mlp="mlp", middle=None
            ),
            Location("lm_head", "output"),
        ),
        Architecture(
            "llama",
            "Llama: rotary positions, RMS norms, grouped-query heads",
            _block(
                "model.layers",
                attention="self_attn",
                projection="o_proj",
                mlp="mlp",
                middle="post_attention_layernorm",
            ),
            Location("lm_head", "output"),
        ),
    ],
)
