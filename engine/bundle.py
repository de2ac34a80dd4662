"""Train the bundled model `sequences` and write its revisions, its card and its stimulus set.

1. Build a tokenizer in which every word of the artificial language is one token, and every other
   text is bytes.
2. Train a small GPT-NeoX model on passages drawn on the fly from the training split, and keep it
   at three steps. Once the tasks are learnt, a penalty on the norms of the heads gathers in a few
   heads what many would share, so that ablating single heads has something to find.
3. Round the weights of each revision to float16, write it in Hugging Face format, load it again,
   and measure its accuracy on prompts of the evaluation split.

Run it as `python -m patchclamp.engine.bundle --out FOLDER --stimuli FILE`. With one thread, one
seed gives the same weights again on the same machine.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

from patchclamp.registry import sequences
from patchclamp.registry.sequences import Passage, Prompt

END_OF_TEXT = "<|endoftext|>"
SPACE = "\u0120"  # how a byte-level tokenizer spells a space before a word
CONTEXT = 128  # positions; the longest passage has fewer than 60


@dataclass(frozen=True)
class Recipe:
    """The choices of a training run; the defaults are those of the bundled model."""

    seed: int = 0
    steps: int = 2000
    early: int = 80
    """The step of the half-trained revision: it continues most sequences, and copies nothing."""
    rows: int = 48
    """Passages of each kind (bare, sentence, copying) in one step."""
    learning_rate: float = 3e-3
    """Its peak, which `rate_factor` scales."""
    warm_up: int = 100
    """Steps to the peak, from where a cosine leads to zero."""
    weight_decay: float = 0.1
    filler_weight: float = 0.1
    """In the loss, of a word that the text before it does not determine; the others count 1."""
    head_penalty: float = 0.1
    """In the loss, of the logarithm of each head's norm; below 0.06, heads go on sharing work."""
    head_floor: float = 0.2
    """The norm below which a head is not penalised: idle heads stay faint, not exactly zero."""
    penalty_from: int = 300
    """The step after which heads are penalised; earlier, copying would never be learnt."""
    hidden: int = 96
    layers: int = 3
    heads: int = 4
    evaluated: int = 200
    """Prompts of each task whose continuations are counted."""

    def revisions(self) -> dict[int, str]:
        """The steps after which the model is kept, each with the name of its folder."""
        return {0: "step0", self.early: f"step{self.early}", self.steps: "main"}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for every word of the language, and one for every byte of any other text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spaced = [SPACE + word for word in sequences.words()]
    vocabulary = {token: number for number, token in enumerate([END_OF_TEXT, *alphabet, *spaced])}
    # Without merges, ignore_merges leaves two outcomes: a piece that is in the vocabulary as a whole, or its bytes.
    backend = Tokenizer(BPE(vocabulary, [], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def build_model(recipe: Recipe, vocabulary: int) -> GPTNeoXForCausalLM:
    """A GPT-NeoX model with the random weights of the seed; global random state is left alone."""
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=4 * recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=CONTEXT,
        initializer_range=0.05,  # wider than the usual 0.02, which suits widths in the thousands
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return GPTNeoXForCausalLM(config)


def train(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[str, GPTNeoXForCausalLM]]:
    """Train a model, and hand it over with its revision's name at each step that the recipe keeps."""
    rng = random.Random(recipe.seed)
    model = build_model(recipe, len(tokenizer)).train()
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(rate_factor, recipe))
    revisions = recipe.revisions()
    yield revisions[0], model
    for step in range(1, recipe.steps + 1):
        optimiser.zero_grad(set_to_none=True)
        for passages in draw_batches(rng, recipe.rows):
            batch_loss(model, tokenizer, passages, recipe.filler_weight).backward()
        if step > recipe.penalty_from:
            norms = head_norms(model).clamp(min=recipe.head_floor)
            (recipe.head_penalty * norms.log().sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step in revisions:
            yield revisions[step], model


def rate_factor(recipe: Recipe, step: int) -> float:
    """The learning rate after `step` steps, as a share of its peak.

    >>> [round(rate_factor(Recipe(steps=300), step), 2) for step in (0, 50, 99, 200, 300)]
    [0.01, 0.51, 1.0, 0.5, 0.0]
    """
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.5 * (1 + math.cos(math.pi * done))


def draw_batches(rng: random.Random, rows: int) -> list[list[Passage]]:
    """One batch of each kind of passage; kept apart, as padding costs time."""
    kinds: list[Callable[[], Passage]] = [
        lambda: sequences.draw_passage(rng, "bare"),
        lambda: sequences.draw_passage(rng, "sentence"),
        lambda: sequences.draw_copying(rng),
    ]
    return [[draw() for _ in range(rows)] for draw in kinds]


def batch_loss(
    model: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    passages: list[Passage],
    filler_weight: float,
) -> torch.Tensor:
    """The weighted mean cross-entropy of the next token: known words count 1, all others `filler_weight`."""
    batch = tokenizer([passage.text for passage in passages], return_offsets_mapping=True)
    longest = max(map(len, batch["input_ids"]))
    tokens = torch.zeros(len(passages), longest, dtype=torch.long)
    weights = torch.zeros(len(passages), longest)
    for row, (passage, ids, offsets) in enumerate(
        zip(passages, batch["input_ids"], batch["offset_mapping"], strict=True)
    ):
        known = set(passage.known)
        tokens[row, : len(ids)] = torch.tensor(ids)
        weights[row, : len(ids)] = torch.tensor(
            [1.0 if begin in known else filler_weight for begin, _ in offsets]
        )
    # Padding stands on the right and has no weight, so a causal model needs no attention mask.
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), tokens[:, 1:], reduction="none"
    )
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


def head_norms(model: GPTNeoXForCausalLM) -> torch.Tensor:
    """The norm of each head's value and output weights, as (layer, head).

    The penalty is the sum of their logarithms, which is concave: what a head loses by growing
    is less the larger it is, so the work goes to those that already do most of it.
    """
    heads = model.config.num_attention_heads
    norms = []
    for layer in model.gpt_neox.layers:
        fused = layer.attention.query_key_value.weight.unflatten(
            0, (heads, 3, -1)
        )  # GPT-NeoX interleaves q, k, v
        output = layer.attention.dense.weight.unflatten(1, (heads, -1))
        norms.append((fused[:, 2].square().sum((1, 2)) + output.square().sum((0, 2))).sqrt())
    return torch.stack(norms)


def measure_accuracy(
    folder: Path, tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> dict[str, float]:
    """The share of held-out prompts that a written revision continues correctly, for each task."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return {
        task: sum(continue_prompts(model, tokenizer, prompts)) / len(prompts)
        for task, prompts in evaluation_prompts(recipe).items()
    }


def evaluation_prompts(recipe: Recipe) -> dict[str, list[Prompt]]:
    """Held-out prompts of each task, which is a category, a form and a step, or copying."""
    rng = random.Random(recipe.seed + 1)
    tasks = {
        f"{category} {form} {step:+d}": [
            sequences.draw_prompt(rng, category=category, form=form, step=step)
            for _ in range(recipe.evaluated)
        ]
        for category in sequences.CATEGORIES
        for form in sequences.FORMS
        for step in sequences.STEPS
    }
    return tasks | {
        "copying": [sequences.draw_copying_prompt(rng) for _ in range(recipe.evaluated)]
    }


@torch.no_grad()
def continue_prompts(
    model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[Prompt]
) -> list[bool]:
    """Whether the likeliest next token of each prompt, over the whole vocabulary, is its answer."""
    batch = tokenizer(
        [prompt.text for prompt in prompts], padding=True, padding_side="right", return_tensors="pt"
    )
    last = batch["attention_mask"].sum(dim=1) - 1
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    best = logits[torch.arange(len(prompts)), last].argmax(dim=-1)
    answers = tokenizer([prompt.answer for prompt in prompts], return_tensors="pt")["input_ids"][
        :, 0
    ]
    return (best == answers).tolist()


def write_revision(
    model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write a revision in Hugging Face format with float16 weights; the model stays as it is."""
    rounded = GPTNeoXForCausalLM(model.config)
    rounded.load_state_dict(model.state_dict())
    rounded.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner only
    tokenizer.save_pretrained(folder)
    # The name that transformers 4 and 5 both know; 5 writes its own new one.
    settings = folder / "tokenizer_config.json"
    text = settings.read_text("utf-8").replace("TokenizersBackend", "PreTrainedTokenizerFast")
    settings.write_text(text, "utf-8")


def bundle(recipe: Recipe, out: Path, report: Callable[[str], None]) -> None:
    """Train the model of a recipe and write its revisions and its card into a folder."""
    tokenizer = build_tokenizer()
    started, accuracy, model = time.process_time(), {}, None
    for revision, model in train(recipe, tokenizer):
        write_revision(model, tokenizer, out / revision)
        accuracy[revision] = measure_accuracy(out / revision, tokenizer, recipe)
        mean = sum(accuracy[revision].values()) / len(accuracy[revision])
        report(
            f"{revision}: mean accuracy {mean:.3f} after {time.process_time() - started:.0f} CPU seconds"
        )
    card = {
        "name": "sequences",
        "licence": "MIT",
        "about": "Continues sequences and copies letters; trained by patchclamp.engine.bundle.",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": "float16",
        "revisions": list(accuracy),
        "recipe": asdict(recipe),
        "cpu_seconds": round(time.process_time() - started),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "accuracy": accuracy,
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line, and write the bundle."""
    parser = argparse.ArgumentParser(description="Train the bundled model `sequences`.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the revisions and card.json"
    )
    parser.add_argument("--stimuli", type=Path, help="csv file for the stimulus set")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument(
        "--early", type=int, default=Recipe.early, help="step of the half-trained revision"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a sum split over threads depends on their number
    transformers.utils.logging.disable_progress_bar()
    if arguments.stimuli:
        sequences.write_stimuli(arguments.stimuli)
    recipe = Recipe(seed=arguments.seed, steps=arguments.steps, early=arguments.early)
    bundle(recipe, arguments.out, print)


if __name__ == "__main__":
    main()
