"""Tiny random-weight models of each architecture, with a tokenizer, as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from patchclamp.analyses.readings import ModelShape
from patchclamp.engine.backend import open_backend
from patchclamp.engine.weights import load_weights
from patchclamp.registry.matching import architecture_of
from patchclamp.specs.model import ModelChoice

# Handing such tiny products between threads takes longer than computing them.
torch.set_num_threads(1)

WORDS = ("<unk>", "<end>", *(f"w{number}" for number in range(60)))

_SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "max_position_embeddings": 64,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2, "intermediate_size": 96}
_END: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1}

CONFIGS: dict[str, Any] = {
    "gpt2": GPT2Config(
        vocab_size=len(WORDS),
        n_positions=64,
        n_embd=48,
        n_layer=3,
        n_head=4,
        bos_token_id=1,
        eos_token_id=1,
    ),
    "gpt_neox": GPTNeoXConfig(**_SIZES, intermediate_size=96),
    "llama": LlamaConfig(**_GROUPED),
}
"""What most tests run on: fused and separate projections, parallel and sequential blocks."""

TWINS: dict[str, Any] = {
    **CONFIGS,
    "gpt2_scaled": GPT2Config(
        vocab_size=len(WORDS),
        n_positions=64,
        n_embd=48,
        n_layer=3,
        n_head=4,
        bos_token_id=1,
        eos_token_id=1,
        scale_attn_by_inverse_layer_idx=True,
        reorder_and_upcast_attn=True,
    ),
    "gpt_neox_sequential": GPTNeoXConfig(
        **_SIZES, intermediate_size=96, use_parallel_residual=False
    ),
    "mistral": MistralConfig(**_GROUPED, sliding_window=4),
    "qwen2": Qwen2Config(**_GROUPED),
    # Heads are not hidden size / heads wide, windows are shorter than texts, bounds are felt.
    "qwen3": Qwen3Config(**_GROUPED, head_dim=16),
    "gemma2": Gemma2Config(
        **_GROUPED,
        **_END,
        head_dim=16,
        query_pre_attn_scalar=24,
        sliding_window=4,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=5.0,
    ),
    "gemma3_text": Gemma3TextConfig(
        **_GROUPED, **_END, head_dim=16, query_pre_attn_scalar=24, sliding_window=4
    ),
    "opt": OPTConfig(
        **_SIZES,
        **_END,
        ffn_dim=96,
        word_embed_proj_dim=48,
    ),
    "opt_post_norm": OPTConfig(
        **_SIZES, **_END, ffn_dim=96, word_embed_proj_dim=32, do_layer_norm_before=False
    ),
    "gptj": GPTJConfig(
        vocab_size=len(WORDS),
        n_positions=64,
        n_embd=48,
        n_layer=3,
        n_head=4,
        rotary_dim=4,
        bos_token_id=1,
        eos_token_id=1,
    ),
    "phi": PhiConfig(**_GROUPED, **_END),
    "phi_normed": PhiConfig(**_GROUPED, **_END, qk_layernorm=True),
    "bert": BertConfig(**_SIZES, intermediate_size=96),
}
"""One or more for each architecture of the table."""


def family(config: Any) -> Any:
    """Return the class that loads a model with what turns its last stream into logits."""
    return AutoModelForMaskedLM if config.model_type == "bert" else AutoModelForCausalLM


def make(architecture: str, folder: Path, *, scale: float = 5.0) -> Path:
    """Write a seeded random model whose numbers are large enough to tell right from wrong."""
    torch.manual_seed(0)
    config = TWINS[architecture]
    model = family(config).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"mask_token": "<end>"} if config.model_type == "bert" else {}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", **special
    ).save_pretrained(folder)
    return folder


def twin(name: str, folder: Path, *, dtype: str = "float32") -> Any:
    """Return a model source as the planner would find it, with weights and both backends."""
    make(name, folder)
    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    source = SimpleNamespace(
        choice=ModelChoice(id=str(folder), dtype=dtype),
        folder=folder,
        architecture=architecture_of(config),
        config=config,
        tokenizer=tokenizer,
        shape=ModelShape(config.num_hidden_layers, config.num_attention_heads),
    )
    source.module = load_weights(source, "cpu")
    source.backends = {
        name: open_backend(name, source.module, tokenizer) for name in ("nnsight", "hooks")
    }
    return source
