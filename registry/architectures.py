"""The architecture table: where each site lives in a Hugging Face module tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from patchclamp.registry.sites import SITES
from patchclamp.registry.table import Table

Split = Literal["", "heads", "thirds", "triples"]
"""How the last dim holds heads: not at all; as (head, channel); as (query/key/value, head,
channel), which GPT-2 has; as (head, query/key/value, channel), which GPT-NeoX has."""

Form = Literal["one", "flat", "scores", "rest", "logprobs"]
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
        member = f", member {self.member}" if self.member else ""
        share = f", {('queries', 'keys', 'values')[self.share]} of {self.split}"
        fused = share if self.split in ("thirds", "triples") else ""
        needs = f", from {' and '.join(self.needs)}" if self.needs else ""
        return f"{self.io} of {module}{member}{fused}{needs}"


@dataclass(frozen=True)
class Architecture:
    """One Hugging Face `model_type` and, in `places`, the location of each site in it.

    `places` stand in the order in which a block computes them, which nnsight insists on. They hold
    the sites and what sites are computed from: `attention` (all that the attention is given),
    `q_normed` and `k_normed`. A site that is missing is one the architecture lacks, and is refused
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
    """Path of the norm that gives a site, where one does; `logits` is the one before the head."""
    head: str = "lm_head"
    """Path of the unembedding."""
    rotary: Literal["", "half", "pairs"] = ""
    """How positions turn queries and keys: not, in two halves, or in neighbouring pairs."""
    softcap: str = ""
    """Name of the config's bound on attention scores."""
    encoder: bool = False
    """Whether every token sees every other, so that no next token is predicted."""

    @property
    def sites(self) -> dict[str, Location]:
        """The sites that the architecture has."""
        return {name: where for name, where in self.places.items() if name in SITES}


def _input(path: str, **more: Any) -> Location:
    return Location(path, "input", **more)


def _output(path: str, **more: Any) -> Location:
    return Location(path, "output", **more)


def _block(
    block: str, embed: str, inside: Mapping[str, Location]
) -> tuple[dict[str, Location], dict[str, Location]]:
    """Complete a block's places, whose paths are relative to it, by those that all have.

    Returns what is read and what is written elsewhere: a norm's input is not yet the stream, so
    that `resid_mid` is written as what attention has to add to get there.
    """
    own = {
        name: replace(where, path=f"{block}.{where.path}".rstrip("."))
        for name, where in inside.items()
    }
    places = {
        "embed": _output(embed),
        "resid_pre": _input(block),
        **own,
        "resid_post": _output(block),
        "logits": _output("", member="logits"),
        "logprobs": _output("", member="logits", form="logprobs"),
    }
    q, k = ("q_normed", "k_normed") if "q_normed" in own else ("q", "k")
    places["attn_scores"] = replace(own[k], form="scores", needs=("attention", q))
    writes = {}
    if "resid_mid" in own and own["resid_mid"].io == "input":
        writes["resid_mid"] = replace(own["attn_out"], form="rest", needs=("resid_pre",))
    return places, writes


def _fused(path: str, split: Split) -> dict[str, Location]:
    """Places of queries, keys and values that one projection gives."""
    return {name: _output(path, split=split, share=i) for i, name in enumerate("qkv")}


def _heads(**paths: str) -> dict[str, Location]:
    """Places of queries, keys and values that have projections, or norms, of their own."""
    return {name: _output(path, split="heads") for name, path in paths.items()}


_QKV = {name: f"self_attn.{name}_proj" for name in "qkv"}
_NORMED = {"q_normed": "self_attn.q_norm", "k_normed": "self_attn.k_norm"}

_PARALLEL = {"resid_mid": "attention and MLP read the stream in parallel, so none is between them"}


def _architecture(
    name: str,
    summary: str,
    where: tuple[str, str, str],
    inside: Mapping[str, Location],
    **more: Any,
) -> Architecture:
    """Make a row; `where` are the paths of block, embedding and last norm, if there is one."""
    block, embed, final = where
    places, writes = _block(block, embed, inside)
    norms = {site: f"{block}.{path}" for site, path in more.pop("norms", {}).items()}
    if final:
        norms["logits"] = final
    return Architecture(name, summary, places, writes=writes, norms=norms, **more)


def _llama(
    name: str, summary: str, heads: Mapping[str, str] = _QKV, *, sandwich: bool = False, **more: Any
) -> Architecture:
    """Make a row of Llama's family; in a `sandwich`, norms stand behind attention and MLP too."""
    after = {"attn_out": "post_attention_layernorm", "mlp_out": "post_feedforward_layernorm"}
    middle = "pre_feedforward_layernorm" if sandwich else "post_attention_layernorm"
    inside = {
        "attention": Location("self_attn", "inputs"),
        **_heads(**heads),
        "z": _input("self_attn.o_proj", split="heads"),
        "attn_pattern": _output("self_attn", member=1),
        "attn_out": _output(after["attn_out"] if sandwich else "self_attn"),
        "resid_mid": _input(middle),
        "mlp_act": _input("mlp.down_proj"),
        "mlp_out": _output(after["mlp_out"] if sandwich else "mlp"),
    }
    where = ("model.layers.{layer}", "model.embed_tokens", "model.norm")
    norms = after if sandwich else {}
    return _architecture(name, summary, where, inside, norms=norms, rotary="half", **more)


def _neox(name: str, summary: str, *, parallel: bool) -> Architecture:
    middle = {} if parallel else {"resid_mid": _input("post_attention_layernorm")}
    inside = {
        "attention": Location("attention", "inputs"),
        **_fused("attention.query_key_value", "triples"),
        "z": _input("attention.dense", split="heads"),
        "attn_pattern": _output("attention", member=1),
        "attn_out": _output("attention"),
        **middle,
        "mlp_act": _input("mlp.dense_4h_to_h"),
        "mlp_out": _output("mlp"),
    }
    return _architecture(
        name,
        summary,
        ("gpt_neox.layers.{layer}", "gpt_neox.embed_in", "gpt_neox.final_layer_norm"),
        inside,
        model_type="gpt_neox",
        when={"use_parallel_residual": parallel},
        rotary="half",
        lacks=_PARALLEL if parallel else {},
    )


def _opt(name: str, summary: str, *, norm_first: bool) -> Architecture:
    """Make a row of OPT, whose MLP works on rows and positions in one dim."""
    flat = {"form": "flat", "needs": ("resid_pre",)}
    inside = {
        "attention": Location("self_attn", "inputs"),
        **_heads(q=_QKV["q"], k=_QKV["k"], v=_QKV["v"]),
        "z": _input("self_attn.out_proj", split="heads"),
        "attn_pattern": _output("self_attn", member=1),
        "attn_out": _output("self_attn"),
        "resid_mid": _input("final_layer_norm", **flat)
        if norm_first
        else _output("self_attn_layer_norm"),
        "mlp_act": _input("fc2", **flat),
        "mlp_out": _output("fc2", **flat),
    }
    final = "model.decoder.final_layer_norm" if norm_first else ""
    after = {"resid_mid": "self_attn_layer_norm", "resid_post": "final_layer_norm"}
    return _architecture(
        name,
        summary,
        ("model.decoder.layers.{layer}", "model.decoder.embed_tokens", final),
        inside,
        model_type="opt",
        when={"do_layer_norm_before": norm_first},
        norms={} if norm_first else after,
    )


def _phi(name: str, summary: str, *, normed: bool) -> Architecture:
    norms = {f"{x}_normed": f"self_attn.{x}_layernorm" for x in "qk"} if normed else {}
    inside = {
        "attention": Location("self_attn", "inputs"),
        **_heads(**_QKV, **norms),
        "z": _input("self_attn.dense", split="heads"),
        "attn_pattern": _output("self_attn", member=1),
        "attn_out": _output("self_attn"),
        "mlp_act": _input("mlp.fc2"),
        "mlp_out": _output("mlp"),
    }
    return _architecture(
        name,
        summary,
        ("model.layers.{layer}", "model.embed_tokens", "model.final_layernorm"),
        inside,
        model_type="phi",
        when={"qk_layernorm": normed},
        rotary="half",
        lacks=_PARALLEL,
    )


ARCHITECTURES: Table[Architecture] = Table(
    "architecture",
    [
        _architecture(
            "gpt2",
            "GPT-2: learned positions, attention then MLP",
            ("transformer.h.{layer}", "transformer.wte", "transformer.ln_f"),
            {
                "attention": Location("attn", "inputs"),
                **_fused("attn.c_attn", "thirds"),
                "z": _input("attn.c_proj", split="heads"),
                "attn_pattern": _output("attn", member=1),
                "attn_out": _output("attn"),
                "resid_mid": _input("ln_2"),
                "mlp_act": _input("mlp.c_proj"),
                "mlp_out": _output("mlp"),
            },
        ),
        _neox(
            "gpt_neox",
            "GPT-NeoX and Pythia: rotary positions, attention and MLP in parallel",
            parallel=True,
        ),
        _neox(
            "gpt_neox_sequential",
            "GPT-NeoX with attention, then MLP (use_parallel_residual: false)",
            parallel=False,
        ),
        _llama("llama", "Llama: rotary positions, RMS norms, grouped-query heads"),
        _llama("mistral", "Mistral: as Llama, with a sliding attention window"),
        _llama("qwen2", "Qwen2 and Qwen2.5: as Llama, with biases on queries, keys and values"),
        _llama(
            "qwen3",
            "Qwen3: as Llama, with norms of each query and key",
            {
                "q": _QKV["q"],
                "q_normed": _NORMED["q_normed"],
                "k": _QKV["k"],
                "k_normed": _NORMED["k_normed"],
                "v": _QKV["v"],
            },
        ),
        _llama(
            "gemma2",
            "Gemma 2: norms before and behind attention and MLP, bounded scores and logits",
            sandwich=True,
            softcap="attn_logit_softcapping",
        ),
        _llama(
            "gemma3_text",
            "Gemma 3 (text): norms before and behind attention and MLP and of queries and keys",
            _QKV | _NORMED,
            sandwich=True,
        ),
        _opt("opt", "OPT: learned positions, attention then MLP", norm_first=True),
        _opt(
            "opt_post_norm",
            "OPT 350M: norms behind each sum (do_layer_norm_before: false)",
            norm_first=False,
        ),
        _architecture(
            "gptj",
            "GPT-J: rotary positions in pairs, attention and MLP in parallel",
            ("transformer.h.{layer}", "transformer.wte", "transformer.ln_f"),
            {
                "attention": Location("attn", "inputs"),
                **_heads(**{name: f"attn.{name}_proj" for name in "qkv"}),
                "z": _input("attn.out_proj", split="heads"),
                "attn_pattern": _output("attn", member=1),
                "attn_out": _output("attn"),
                "mlp_act": _input("mlp.fc_out"),
                "mlp_out": _output("mlp"),
            },
            rotary="pairs",
            lacks=_PARALLEL,
        ),
        _phi("phi", "Phi 1 and 2: rotary positions, attention and MLP in parallel", normed=False),
        _phi(
            "phi_normed",
            "Phi with norms of each query and key (qk_layernorm: true)",
            normed=True,
        ),
        _architecture(
            "bert",
            "BERT: an encoder, norms behind each sum",
            ("bert.encoder.layer.{layer}", "bert.embeddings.word_embeddings", ""),
            {
                "attention": Location("attention.self", "inputs"),
                **_heads(
                    q="attention.self.query", k="attention.self.key", v="attention.self.value"
                ),
                "attn_pattern": _output("attention.self", member=1),
                "z": _input("attention.output.dense", split="heads"),
                "attn_out": _output("attention.output.dense"),
                "resid_mid": _output("attention.output"),
                "mlp_act": _input("output.dense"),
                "mlp_out": _output("output.dense"),
            },
            norms={"resid_mid": "attention.output.LayerNorm", "resid_post": "output.LayerNorm"},
            head="cls",
            encoder=True,
        ),
    ],
)


def architecture_of(config: Any) -> Architecture | None:
    """Return the row that describes a model's config, or None if no row does."""
    for row in ARCHITECTURES.values():
        same = config.model_type == (row.model_type or row.name)
        if same and all(getattr(config, key, None) == value for key, value in row.when.items()):
            return row
    return None
