"""Tiny random-weight models of each architecture, with a tokenizer, as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

WORDS = ("<unk>", "<end>", *(f"w{number}" for number in range(60)))

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
    "gpt_neox": GPTNeoXConfig(
        vocab_size=len(WORDS),
        max_position_embeddings=64,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
    ),
    "llama": LlamaConfig(
        vocab_size=len(WORDS),
        max_position_embeddings=64,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
    ),
}


def make(architecture: str, folder: Path, *, scale: float = 5.0) -> Path:
    """Write a seeded random model whose numbers are large enough to tell right from wrong."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[architecture])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>"
    ).save_pretrained(folder)
    return folder
