"""Identities: what the site table promises of a model's own tensors, checked with its weights.

Each identity compares two tensors that must be equal, at one layer and one stimulus, and vouches
for the sites that it names. `found` holds the sites of the layer as (head,) position and unit, in
float32 on the CPU; those that are not there are not checked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from patchclamp.engine.backend import Backend, Step
from patchclamp.engine.batches import pad
from patchclamp.engine.model import ModelSource
from patchclamp.engine.steps import Place, in_order, place, read_step

ENDS = ("embed", "logits", "logprobs")
"""Sites that no layer has."""

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Identity:
    """Two tensors that must be equal, and the sites whose place and meaning that shows."""

    text: str
    sites: tuple[str, ...]
    left: torch.Tensor
    right: torch.Tensor
    evidence: bool = True
    """Whether it shows that the sites are right, and not only that they are computed as said."""

    @property
    def unknown(self) -> bool:
        """Whether it cannot be told, because it needs weights that are not here."""
        return bool(self.left.isnan().all())

    @property
    def deviation(self) -> float:
        """Largest absolute difference, relative to the largest absolute value on the right.

        Infinite where the two cannot be compared, or one of them is not a number.
        """
        if self.left.shape != self.right.shape:
            return math.inf
        scale = float(self.right.abs().max())
        difference = float((self.left - self.right).abs().max())
        deviation = difference / scale if scale else difference
        return math.inf if math.isnan(deviation) else deviation


@dataclass(frozen=True)
class Weights:
    """A model's own modules, to send tensors through that were captured."""

    model: ModelSource
    module: torch.nn.Module | None
    """None where the weights are not here; what would need them is then NaN."""

    def through(self, path: str, tensor: torch.Tensor, layer: int = 0) -> torch.Tensor:
        """Send (position, unit) through a module, in the precision of its weights.

        What is not there or does not fit gives a NaN without dims, which is equal to nothing.
        """
        if self.module is None:
            return torch.tensor(torch.nan)
        try:
            module = self.module.get_submodule(path.format(layer=layer))
            # A norm may have no weights of its own; then the model's say where and how precise.
            weight = next(module.parameters(), next(self.module.parameters()))
            with torch.no_grad():
                given: torch.Tensor = module(tensor.to(weight.device, weight.dtype)[None])
        except (AttributeError, RuntimeError):
            return torch.tensor(torch.nan)
        return given[0].float().cpu()

    def rows(self, path: str, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of a table of learned vectors, OPT's two rows late; a NaN as `through`."""
        if self.module is None:
            return torch.tensor(torch.nan)
        try:
            table: Any = self.module.get_submodule(path)
            found: torch.Tensor = table.weight[rows + getattr(table, "offset", 0)]
        except (AttributeError, IndexError):
            return torch.tensor(torch.nan)
        return found.detach().float().cpu()

    def path(self, site: str, layer: int) -> str:
        """Return the path of the module that is given a site."""
        return str(place(self.model, site, layer)["parts"][-1]["path"])


Found = tuple[dict[int, dict[str, torch.Tensor]], dict[str, torch.Tensor]]
"""Sites of some layers by their number, and those that no layer has."""

BY_WEIGHTS = ("mlp_act", "logits", "logprobs", "q_normed", "k_normed")
"""Sites that only identities with weights are about."""


def check_sites(
    model: ModelSource, module: torch.nn.Module, backend: Backend, ids: Sequence[int]
) -> list[Identity]:
    """Read every site at every layer of one stimulus and return the identities between them."""
    return identities_of(Weights(model, module), read_sites(model, backend, ids), ids)


def check_some_sites(model: ModelSource, backend: Backend, ids: Sequence[int]) -> list[Identity]:
    """Check what can be checked without weights, at the first two layers and the last one.

    All layers of a large model would be many bytes, where they come from a server.
    """
    layers = sorted({0, min(1, model.shape.layers - 1), model.shape.layers - 1})
    found = read_sites(model, backend, ids, without=BY_WEIGHTS, layers=layers)
    return identities_of(Weights(model, None), found, ids)


def read_sites(
    model: ModelSource,
    backend: Backend,
    ids: Sequence[int],
    *,
    without: Collection[str] = (),
    layers: Sequence[int] | None = None,
) -> Found:
    """Read every site of one stimulus, and what is between queries or keys and scores."""
    row = model.architecture
    layers = range(model.shape.layers) if layers is None else layers
    inner = [name for name in row.places if name not in ("attention", *ENDS, *without)]
    ends = [site for site in ENDS if site in row.places and site not in without]
    found = read_whole(
        (model, backend), [ids], [*((s, n) for s in inner for n in layers), *((s, 0) for s in ends)]
    )
    at = {n: {site: found[site, n][0] for site in inner} for n in layers}
    return at, {site: found[site, 0][0] for site in ends}


def read_whole(
    through: tuple[ModelSource, Backend],
    ids: Sequence[Sequence[int]],
    places: Sequence[Place],
    *,
    first: Sequence[Step] = (),
) -> dict[Place, torch.Tensor]:
    """Read sites whole in one pass, (row, [head,] position, unit); `first` are steps before that.

    A score that is not there is minus infinity.
    """
    model, backend = through
    lengths = torch.tensor([len(row) for row in ids])
    reads = [read_step(model, where, f"{i}", lengths) for i, where in enumerate(places)]
    found = backend.forward(pad(ids, pad_id=0), in_order([*first, *reads]), stop=True)
    whole = {}
    for i, where in enumerate(places):
        tensor = found[f"{i}/activation"].float()
        scores = where[0] == "attn_scores"
        whole[where] = tensor.masked_fill(tensor.isnan(), -math.inf) if scores else tensor
    return whole


def identities_of(weights: Weights, found: Found, ids: Sequence[int]) -> list[Identity]:
    """Return the identities between sites that were read."""
    at, ends = found
    identities: list[Identity] = []
    for n, tensors in at.items():
        following = at[n + 1].get("resid_pre") if n + 1 in at else None
        identities += of_layer(weights, tensors, following, n)
    streams = at[0].get("resid_pre"), at[max(at)].get("resid_post")
    return [*identities, *of_ends(weights, ends, ids, streams)]


def of_layer(
    weights: Weights, found: Tensors, following: torch.Tensor | None, layer: int
) -> Iterator[Identity]:
    """Yield the identities within a layer; `following` is resid_pre of the next one, if any."""
    norms = weights.model.architecture.norms

    def normed(site: str, value: torch.Tensor) -> torch.Tensor:
        return weights.through(norms[site], value, layer) if site in norms else value

    def named(site: str, text: str) -> str:
        return f"norm({text})" if site in norms else text

    has = found.keys()
    streams = _streams(weights, found)
    for text, sites, site, value in streams:
        yield Identity(f"{named(site, text)} = {site}", sites, normed(site, value), found[site])
    if following is not None and "resid_post" in has:
        sites = ("resid_post", "resid_pre")
        yield Identity("resid_post[l] = resid_pre[l+1]", sites, found["resid_post"], following)
    yield from _read_through_norms(weights, found, layer)
    outputs = (("z", "attn_out", "z W_O + b_O"), ("mlp_act", "mlp_out", "mlp_act W_out + b_out"))
    for inner, site, text in outputs:
        if inner in has and site in has:
            merged = found[inner] if inner == "mlp_act" else found[inner].movedim(0, 1).flatten(1)
            value = weights.through(weights.path(inner, layer), merged, layer)
            sites = (inner, site)
            yield Identity(f"{named(site, text)} = {site}", sites, normed(site, value), found[site])
    yield from _attention(weights, found, layer)


def _read_through_norms(weights: Weights, found: Tensors, layer: int) -> Iterator[Identity]:
    """Yield that attention and MLP are given the stream, through the norm that the table names."""
    between = "resid_mid" if "resid_mid" in found else "resid_pre"
    for inner, stream in (("attn_in", "resid_pre"), ("mlp_in", between)):
        if inner in found and stream in found:
            value, text = found[stream], stream
            if inner in weights.model.architecture.reads:
                path = weights.model.architecture.reads[inner]
                value, text = weights.through(path, value, layer), f"norm({stream})"
            yield Identity(f"{text} = {inner}", (stream,), value, found[inner], evidence=False)


def _streams(
    weights: Weights, found: Tensors
) -> Iterator[tuple[str, tuple[str, ...], str, torch.Tensor]]:
    """Yield what adds up to a residual stream: text, sites, the site of the sum, and the sum."""
    has = found.keys()
    start, mlp = "resid_pre", ("mlp_out", "resid_post")
    if {"resid_pre", "attn_out", "resid_mid"} <= has:
        sites: tuple[str, ...] = ("resid_pre", "attn_out", "resid_mid")
        total = found["resid_pre"] + found["attn_out"]
        yield "resid_pre + attn_out", sites, "resid_mid", total
    if "resid_mid" in weights.model.architecture.norms:
        start = "resid_mid"  # the norm stands between, so that only this sum is one
    addends = [start, "mlp_out"] if start == "resid_mid" else [start, "attn_out", "mlp_out"]
    if {*addends, *mlp} <= has:
        total = torch.stack([found[site] for site in addends]).sum(0)
        yield " + ".join(addends), (*addends, "resid_post"), "resid_post", total


def _attention(weights: Weights, found: Tensors, layer: int) -> Iterator[Identity]:
    """Yield the identities between queries, keys, values, scores, pattern and z."""
    has = found.keys()
    if {"attn_scores", "attn_pattern"} <= has:
        sites: tuple[str, ...] = ("attn_scores", "attn_pattern")
        softmax = found["attn_scores"].softmax(-1)
        yield Identity(
            "softmax(attn_scores) = attn_pattern", sites, softmax, found["attn_pattern"], False
        )
    if "attn_pattern" in has:
        pattern = found["attn_pattern"]
        total, later = pattern.sum(-1), pattern.triu(1)
        one = torch.ones_like(total)
        yield Identity("attn_pattern sums to 1", ("attn_pattern",), total, one, False)
        if not weights.model.architecture.encoder:
            none = torch.zeros_like(later)
            text = "attn_pattern of later keys = 0"
            yield Identity(text, ("attn_pattern",), later, none, False)
    if {"attn_pattern", "v", "z"} <= has:
        v = found["v"].repeat_interleave(len(found["z"]) // len(found["v"]), dim=0)
        sites = ("q", "k", "v", "attn_scores", "attn_pattern", "z")
        yield Identity("attn_pattern v = z", sites, found["attn_pattern"] @ v, found["z"])
    for site in ("q", "k"):
        if f"{site}_normed" in has and site in has:
            path = weights.path(f"{site}_normed", layer)
            normed = weights.through(path, found[site], layer)
            yield Identity(
                f"norm({site}) = normed {site}", (site,), normed, found[f"{site}_normed"]
            )


def of_ends(
    weights: Weights,
    found: Tensors,
    ids: Sequence[int],
    streams: tuple[torch.Tensor | None, torch.Tensor | None],
) -> Iterator[Identity]:
    """Yield the identities of embedding and logits; `streams` are resid_pre of the first layer and
    resid_post of the last."""
    row = weights.model.architecture
    first, last = streams
    if "embed" in found and first is not None:
        value, text = found["embed"], "embed"
        if row.positions:
            value = value + weights.rows(row.positions, torch.arange(len(ids)))
            text += " + W_P[position]"
        if row.segments:
            value = value + weights.rows(row.segments, torch.zeros(len(ids), dtype=torch.long))
            text += " + W_S[0]"
        if row.embed_norm:
            value, text = weights.through(row.embed_norm, value), f"norm({text})"
        yield Identity(f"{text} = resid_pre[0]", ("embed", "resid_pre"), value, first)
    if "logits" in found and last is not None:
        value, text = last, "resid_post[last]"
        for path in row.unembed:
            value, text = weights.through(path, value), f"{path.rpartition('.')[2]}({text})"
        bound = getattr(weights.model.config, "final_logit_softcapping", None)
        if bound:
            value, text = bound * torch.tanh(value / bound), f"bound({text})"
        yield Identity(f"{text} = logits", ("resid_post", "logits"), value, found["logits"])
    if {"logits", "logprobs"} <= found.keys():
        logs = found["logits"].log_softmax(-1)
        yield Identity("log_softmax(logits) = logprobs", ("logprobs",), logs, found["logprobs"])
