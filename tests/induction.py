"""A two-layer network that was planted by hand and repeats what followed before: induction.

GPT-2's own architecture, in which every number has a closed form. Its norms hold a variance of
1e24 to be small, and so change nothing; each feature stands twice, once negated, so that vectors
have the mean 0 that these norms would otherwise make. MLPs are zero.

    L0H0   query i finds key i - 1: score 20, all others 0; adds that token as `prev`
    L1H0   query's token finds keys with this `prev`: score 10; adds the key's token as `out`
    logits 10 x `out`

The other heads add small random numbers to `out`, or nothing. Where it is `doubled`, L0H1 does the
same as L0H0.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WORDS = ("<unk>", "<end>", *(f"w{number}" for number in range(14)))
PREVIOUS, MATCH, GAIN = 20.0, 10.0, 10.0
HEADS, POSITIONS, SIZE = 4, 20, len(WORDS)
TOKEN, PLACE, PREV, OUT = 0, SIZE, SIZE + POSITIONS, 2 * SIZE + POSITIONS
WIDTH = 2 * (3 * SIZE + POSITIONS)
CHANNELS = WIDTH // HEADS
_VARIANCE = 1e24


def _both(first: int, size: int) -> torch.Tensor:
    """Return the vectors (feature, unit) of some features: each one, and negated beside it."""
    vectors = torch.zeros(size, WIDTH, dtype=torch.float64)
    at = torch.arange(size)
    vectors[at, 2 * (first + at)] = 1.0
    vectors[at, 2 * (first + at) + 1] = -1.0
    return vectors


def _reads(first: int, size: int) -> torch.Tensor:
    """Return a matrix (unit, channel) that reads some features."""
    matrix = torch.zeros(WIDTH, CHANNELS, dtype=torch.float64)
    matrix[2 * (first + torch.arange(size)), torch.arange(size)] = 1.0
    return matrix


def _writes(first: int, size: int) -> torch.Tensor:
    """Return a matrix (channel, unit) that writes channels as some features."""
    matrix = torch.zeros(CHANNELS, WIDTH, dtype=torch.float64)
    matrix[:size] = _both(first, size)
    return matrix


def _plant(
    block: torch.nn.Module, head: int, matrices: tuple[torch.Tensor, ...], out: torch.Tensor
) -> None:
    """Give a head its queries, keys and values (unit, channel), and its output."""
    own = slice(head * CHANNELS, (head + 1) * CHANNELS)
    for number, matrix in enumerate(matrices):
        block.attn.c_attn.weight[:, number * WIDTH :][:, own] = matrix
    block.attn.c_proj.weight[own] = out


def build(*, distractors: float = 0.0, doubled: bool = False) -> GPT2LMHeadModel:
    """Return the network in float64; `distractors` is the size of what other heads write."""
    config = GPT2Config(
        vocab_size=SIZE,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=2,
        n_head=HEADS,
        n_inner=4,
        scale_attn_weights=False,
        layer_norm_epsilon=_VARIANCE,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = GPT2LMHeadModel(config).double().eval()
    draw = torch.Generator().manual_seed(0)
    norms = (torch.nn.LayerNorm,)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                is_scale = isinstance(module, norms) and name == "weight"
                parameter.fill_(_VARIANCE**0.5 if is_scale else 0.0)
        model.transformer.wte.weight.copy_(_both(TOKEN, SIZE))
        model.transformer.wpe.weight.copy_(_both(PLACE, POSITIONS))
        model.lm_head.weight.copy_(GAIN * _reads(OUT, SIZE)[:, :SIZE].T)
        first, second = model.transformer.h
        before = torch.zeros(WIDTH, CHANNELS, dtype=torch.float64)
        place = torch.arange(1, POSITIONS)
        before[2 * (PLACE + place), place - 1] = PREVIOUS
        token = _reads(TOKEN, SIZE)
        copies = range(2) if doubled else range(1)
        for head in copies:
            where = (before, _reads(PLACE, POSITIONS), token)
            _plant(first, head, where, _writes(PREV, SIZE))
        _plant(second, 0, (MATCH * token, _reads(PREV, SIZE), token), _writes(OUT, SIZE))
        for number, block in enumerate((first, second)):
            for head in range(HEADS):
                if distractors and head not in (copies if number == 0 else (0,)):
                    some = [torch.randn(WIDTH, CHANNELS, generator=draw) for _ in range(3)]
                    out = distractors * torch.randn(CHANNELS, SIZE, generator=draw).double()
                    _plant(block, head, tuple(some), out @ _both(OUT, SIZE))
    return model


def write(folder: Path, *, distractors: float = 0.0, doubled: bool = False) -> Path:
    """Write the network, in float32, with a tokenizer of whole words."""
    build(distractors=distractors, doubled=doubled).float().save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>"
    ).save_pretrained(folder)
    return folder
