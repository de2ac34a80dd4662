"""The architecture table: where each site lives in a Hugging Face module tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchclamp.registry.locations import (
    Architecture,
    Location,
    architecture,
    attention,
    fused,
    given,
    gives,
    separate,
)
from patchclamp.registry.table import Table

_HEADS = separate({name: f"self_attn.{name}_proj" for name in "qkv"})
_PARALLEL = {"resid_mid": "attention and MLP read the stream in parallel, so none is between them"}


def _llama(
    name: str,
    summary: str,
    *,
    heads: Mapping[str, Location] = _HEADS,
    sandwich: bool = False,
    **more: Any,
) -> Architecture:
    """Make a row of Llama's family; in a `sandwich`, norms stand behind attention and MLP too."""
    after = {"attn_out": "post_attention_layernorm", "mlp_out": "post_feedforward_layernorm"}
    middle = "pre_feedforward_layernorm" if sandwich else "post_attention_layernorm"
    return architecture(
        name,
        summary,
        block="model.layers.{layer}",
        embed="model.embed_tokens",
        inside={
            **attention("self_attn", heads, out="o_proj"),
            "attn_out": gives(after["attn_out"] if sandwich else "self_attn"),
            "resid_mid": given(middle),
            "mlp_in": given("mlp"),
            "mlp_act": given("mlp.down_proj"),
            "mlp_out": gives(after["mlp_out"] if sandwich else "mlp"),
        },
        unembed=("model.norm", "lm_head"),
        norms=after if sandwich else {},
        reads={"attn_in": "input_layernorm", "mlp_in": middle},
        rotary="half",
        **more,
    )


def _neox(name: str, summary: str, *, parallel: bool) -> Architecture:
    return architecture(
        name,
        summary,
        block="gpt_neox.layers.{layer}",
        embed="gpt_neox.embed_in",
        inside={
            **attention("attention", fused("attention.query_key_value", "triples"), out="dense"),
            "attn_out": gives("attention"),
            **({} if parallel else {"resid_mid": given("post_attention_layernorm")}),
            "mlp_in": given("mlp"),
            "mlp_act": given("mlp.dense_4h_to_h"),
            "mlp_out": gives("mlp"),
        },
        unembed=("gpt_neox.final_layer_norm", "lm_head"),
        reads={"attn_in": "input_layernorm", "mlp_in": "post_attention_layernorm"},
        model_type="gpt_neox",
        when={"use_parallel_residual": parallel},
        rotary="half",
        lacks=_PARALLEL if parallel else {},
    )


def _opt(name: str, summary: str, *, norm_first: bool) -> Architecture:
    """Make a row of OPT, whose MLP works on rows and positions in one dim."""
    flat: Any = {"form": "flat", "needs": ("resid_pre",)}
    after = {"resid_mid": "self_attn_layer_norm", "resid_post": "final_layer_norm"}
    return architecture(
        name,
        summary,
        block="model.decoder.layers.{layer}",
        embed="model.decoder.embed_tokens" if norm_first else "model.decoder.project_in",
        inside={
            **attention("self_attn", _HEADS, out="out_proj"),
            "attn_out": gives("self_attn"),
            "resid_mid": given("final_layer_norm", **flat)
            if norm_first
            else gives("self_attn_layer_norm"),
            "mlp_in": given("fc1", **flat),
            "mlp_act": given("fc2", **flat),
            "mlp_out": gives("fc2", **flat),
        },
        unembed=(
            "model.decoder.final_layer_norm" if norm_first else "model.decoder.project_out",
            "lm_head",
        ),
        positions="model.decoder.embed_positions",
        norms={} if norm_first else after,
        reads={"attn_in": "self_attn_layer_norm", "mlp_in": "final_layer_norm"}
        if norm_first
        else {},
        model_type="opt",
        when={"do_layer_norm_before": norm_first},
    )


def _phi(name: str, summary: str, *, normed: bool) -> Architecture:
    norms = {f"{x}_normed": gives(f"self_attn.{x}_layernorm") for x in "qk"} if normed else {}
    return architecture(
        name,
        summary,
        block="model.layers.{layer}",
        embed="model.embed_tokens",
        inside={
            **attention("self_attn", {**_HEADS, **norms}, out="dense"),
            "attn_out": gives("self_attn"),
            "mlp_in": given("mlp"),
            "mlp_act": given("mlp.fc2"),
            "mlp_out": gives("mlp"),
        },
        unembed=("model.final_layernorm", "lm_head"),
        reads={"attn_in": "input_layernorm", "mlp_in": "input_layernorm"},
        model_type="phi",
        when={"qk_layernorm": normed},
        rotary="half",
        lacks=_PARALLEL,
    )


ARCHITECTURES: Table[Architecture] = Table(
    "architecture",
    [
        architecture(
            "gpt2",
            "GPT-2: learned positions, attention then MLP",
            block="transformer.h.{layer}",
            embed="transformer.wte",
            inside={
                **attention("attn", fused("attn.c_attn", "thirds"), out="c_proj"),
                "attn_out": gives("attn"),
                "resid_mid": given("ln_2"),
                "mlp_in": given("mlp"),
                "mlp_act": given("mlp.c_proj"),
                "mlp_out": gives("mlp"),
            },
            unembed=("transformer.ln_f", "lm_head"),
            positions="transformer.wpe",
            reads={"attn_in": "ln_1", "mlp_in": "ln_2"},
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
            heads={
                "q": _HEADS["q"],
                "q_normed": gives("self_attn.q_norm", split="apart"),
                "k": _HEADS["k"],
                "k_normed": gives("self_attn.k_norm", split="apart"),
                "v": _HEADS["v"],
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
            "Gemma 3 (text): norms before and behind attention and MLP, and of queries and keys",
            heads={
                **_HEADS,
                "q_normed": gives("self_attn.q_norm"),
                "k_normed": gives("self_attn.k_norm"),
            },
            sandwich=True,
        ),
        _opt("opt", "OPT: learned positions, attention then MLP", norm_first=True),
        _opt(
            "opt_post_norm",
            "OPT 350M: norms behind each sum (do_layer_norm_before: false)",
            norm_first=False,
        ),
        architecture(
            "gptj",
            "GPT-J: rotary positions in pairs, attention and MLP in parallel",
            block="transformer.h.{layer}",
            embed="transformer.wte",
            inside={
                **attention("attn", separate({x: f"attn.{x}_proj" for x in "qkv"}), out="out_proj"),
                "attn_out": gives("attn"),
                "mlp_in": given("mlp"),
                "mlp_act": given("mlp.fc_out"),
                "mlp_out": gives("mlp"),
            },
            unembed=("transformer.ln_f", "lm_head"),
            reads={"attn_in": "ln_1", "mlp_in": "ln_1"},
            rotary="pairs",
            lacks=_PARALLEL,
            pair=True,
        ),
        _phi("phi", "Phi 1 and 2: rotary positions, attention and MLP in parallel", normed=False),
        _phi(
            "phi_normed",
            "Phi with norms of each query and key (qk_layernorm: true)",
            normed=True,
        ),
        architecture(
            "bert",
            "BERT: an encoder, norms behind each sum",
            block="bert.encoder.layer.{layer}",
            embed="bert.embeddings.word_embeddings",
            inside={
                "attention": Location("attention.self", "inputs"),
                **separate(
                    {
                        "q": "attention.self.query",
                        "k": "attention.self.key",
                        "v": "attention.self.value",
                    }
                ),
                "z": given("attention.output.dense", split="heads"),
                "attn_out": gives("attention.output.dense"),
                "resid_mid": gives("attention.output"),
                "mlp_in": given("intermediate"),
                "mlp_act": given("output.dense"),
                "mlp_out": gives("output.dense"),
            },
            unembed=("cls",),
            positions="bert.embeddings.position_embeddings",
            segments="bert.embeddings.token_type_embeddings",
            norms={
                "resid_mid": "attention.output.LayerNorm",
                "resid_post": "output.LayerNorm",
            },
            embed_norm="bert.embeddings.LayerNorm",
            encoder=True,
            beside=("bert.pooler.", "pooler.", "cls.seq_relationship."),
        ),
    ],
)
