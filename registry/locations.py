"""Locations: how a row of the architecture table says where each site lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from patchclamp.registry.sites import SITES

Split = Literal["", "heads", "thirds", "triples", "apart"]
"""How a tensor holds heads: not, or as a site does; in its last dim as (head, channel), as
(query/key/value, head, channel), which GPT-2 has, or as (head, query/key/value, channel), which
GPT-NeoX has; or apart in dims (row, position, head, channel)."""

Form = Literal["one", "flat", "scores", "pattern", "rest", "logprobs"]
"""How a site comes from the tensors of its places: see `engine.sites`."""


@dataclass(frozen=True)
class Location:
    """Where a tensor is in the module tree: what the module at `path` is given, or what it gives.

    `path` may hold `{layer}`; the empty path is the whole model. `io: inputs` means all arguments.
    `needs` names places of the same block that must be seen before, to compute the site.
    """

    path: str
    io: Literal["input", "output", "inputs"]
    member: int | str = 0
    """Which member, where a module gives a tuple or a mapping."""
    split: Split = ""
    share: int = 0
    """In a fused projection: 0 for queries, 1 for keys, 2 for values."""
    form: Form = "one"
    needs: tuple[str, ...] = ()

    def __str__(self) -> str:
        module = self.path or "the model"
        if self.form in ("scores", "pattern"):
            return (
                f"computed from q, k and what the attention is given; written through z: {module}"
            )
        member = f", member {self.member}" if self.member else ""
        fused = ""
        if self.split in ("thirds", "triples"):
            whose = "each head's" if self.split == "triples" else "the"
            own = ("queries", "keys", "values")[self.share]
            fused = f", the {own} of {whose} queries, keys and values in a row"
        rest = f", less {self.needs[0]}" if self.form == "rest" else ""
        return f"{self.io} of {module}{member}{fused}{rest}"


@dataclass(frozen=True)
class Architecture:
    """One Hugging Face `model_type` and, in `places`, the location of each site in it.

    `places` stand in the order in which a block computes them, which nnsight insists on. They hold
    the sites and what sites are computed from: `attention` (all that the attention is given),
    `attn_in` (what queries, keys and values are projections of), `q_normed` and `k_normed`, and
    `mlp_in`. A site that is missing is one the architecture lacks, and is refused
    by name. `when` are values of the config that tell two architectures of a `model_type` apart.
    """

    name: str
    summary: str
    places: Mapping[str, Location]
    model_type: str = ""
    when: Mapping[str, Any] = field(default_factory=dict)
    writes: Mapping[str, Location] = field(default_factory=dict)
    """Sites that are written elsewhere than they are read."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Why there is no such site."""
    norms: Mapping[str, str] = field(default_factory=dict)
    """Path of the norm that gives a site, where one does."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Path of the norm through which attention (`attn_in`) and MLP (`mlp_in`) read the stream;
    empty where they read it as it is."""
    unembed: tuple[str, ...] = ()
    """Paths of what turns the last residual stream into logits, in turn."""
    positions: str = ""
    """Path of the table of learned positions, which is added to the embedding."""
    segments: str = ""
    """Path of the table of segments, the first of which is added to the embedding."""
    embed_norm: str = ""
    """Path of the norm of that sum."""
    rotary: Literal["", "half", "pairs"] = ""
    """How positions turn queries and keys: not, in two halves, or in neighbouring pairs."""
    softcap: str = ""
    """Name of the config's bound on attention scores."""
    encoder: bool = False
    """Whether every token sees every other, so that no next token is predicted."""
    pair: bool = False
    """Whether a block gives a tuple with the stream in it, and not the stream itself."""
    beside: tuple[str, ...] = ()
    """How names of weights begin that no site needs: a file may have them or not."""

    @property
    def sites(self) -> dict[str, Location]:
        """The sites that the architecture has."""
        return {name: where for name, where in self.places.items() if name in SITES}

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP of a block read the same stream."""
        return "resid_mid" not in self.places

    @property
    def edgeless(self) -> str:
        """Why edges between its nodes cannot be told apart; nothing if they can."""
        if {"attn_out", "mlp_out"} & set(self.norms):
            return "a norm stands behind attention and MLP, which mixes what single heads add"
        if not {"attn_in", "mlp_in"} <= set(self.reads):
            return "it is not known through which norms attention and MLP read the stream"
        return ""

    def without(self, reasons: Mapping[str, str]) -> Architecture:
        """Return the row without some sites, and why it lacks them."""
        places = {name: where for name, where in self.places.items() if name not in reasons}
        return replace(self, places=places, lacks={**self.lacks, **reasons})


def given(path: str, **more: Any) -> Location:
    """Return the place of what a module is given."""
    return Location(path, "input", **more)


def gives(path: str, **more: Any) -> Location:
    """Return the place of what a module gives."""
    return Location(path, "output", **more)


def _block(
    block: str, embed: str, inside: Mapping[str, Location]
) -> tuple[dict[str, Location], dict[str, Location]]:
    """Complete a block's places, whose paths are relative to it, by those that all have.

    Returns what is read and what is written elsewhere: a norm's input is not yet the stream, so
    that `resid_mid` is written as what attention has to add to get there.
    """
    own: dict[str, Location] = {}
    for name, where in inside.items():
        at = replace(where, path=f"{block}.{where.path}".rstrip("."))
        if name == "q":
            own["attn_in"] = Location(at.path, "input")
        own[name] = at
    places = {
        "embed": gives(embed),
        "resid_pre": given(block),
        **own,
        "resid_post": gives(block),
        "logits": gives("", member="logits"),
        "logprobs": gives("", member="logits", form="logprobs"),
    }
    q, k = ("q_normed", "k_normed") if "q_normed" in own else ("q", "k")
    needs = ("attention", q, k, "v")
    places["attn_scores"] = replace(own["z"], form="scores", needs=needs)
    places["attn_pattern"] = replace(own["z"], form="pattern", needs=needs)
    writes = {}
    if "resid_mid" in own and own["resid_mid"].io == "input":
        writes["resid_mid"] = replace(own["attn_out"], form="rest", needs=("resid_pre",))
    return places, writes


def attention(path: str, heads: Mapping[str, Location], *, out: str) -> dict[str, Location]:
    """Places of an attention module that ends with the projection `out`."""
    return {
        "attention": Location(path, "inputs"),
        **heads,
        "z": given(f"{path}.{out}", split="heads"),
    }


def fused(path: str, split: Split) -> dict[str, Location]:
    """Places of queries, keys and values that one projection gives."""
    return {name: gives(path, split=split, share=i) for i, name in enumerate("qkv")}


def separate(paths: Mapping[str, str]) -> dict[str, Location]:
    """Places of queries, keys and values that have projections, or norms, of their own."""
    return {name: gives(path, split="heads") for name, path in paths.items()}


def architecture(
    name: str, summary: str, *, block: str, embed: str, inside: Mapping[str, Location], **more: Any
) -> Architecture:
    """Make a row from the places inside a block and the norms there, whose paths are relative."""
    places, writes = _block(block, embed, inside)
    for key in ("norms", "reads"):
        more[key] = {site: f"{block}.{path}" for site, path in more.get(key, {}).items()}
    return Architecture(name, summary, places, writes=writes, **more)
