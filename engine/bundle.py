"""Train the bundled model `sequences` and write its revisions, its card and its stimulus set.

1. Build a tokenizer in which every word of the language is one token, and other text is bytes.
2. Train a small GPT-NeoX model on passages drawn on the fly from the training split, and keep it
   at three steps. Once the tasks are learnt, a penalty on the norms of the heads gathers in a few
   what many would share, so that ablating single heads has something to find.
3. Round each revision to float16, write it in Hugging Face format, load it again, and measure
   its accuracy on prompts of the evaluation split.

Run it as `python -m patchclamp.engine.bundle --out FOLDER --stimuli FILE`. With one thread, one
seed gives the same weights again on the same machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, GPTNeoXConfig
from transformers import GPTNeoXForCausalLM as Model
from transformers import PreTrainedTokenizerFast as Tokens

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
    """Its peak."""
    warm_up: float = 0.05
    """The share of the steps in which the learning rate rises; from there it falls to zero."""
    weight_decay: float = 0.1
    filler_weight: float = 0.1
    """In the loss, of a word that the text before it does not determine; the others count 1."""
    head_penalty: float = 0.1
    """In the loss, of the logarithm of each head's norm; at a fifth of it, heads share work."""
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


def build_tokenizer() -> Tokens:
    """A tokenizer with one token for every word of the language, and bytes for any other text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spaced = [SPACE + word for word in sequences.words()]
    vocabulary = {token: number for number, token in enumerate([END_OF_TEXT, *alphabet, *spaced])}
    # Without merges two things can happen to a word: it is in the vocabulary, or falls to bytes.
    backend = Tokenizer(BPE(vocabulary, [], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return Tokens(
        tokenizer_object=backend,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def build_model(recipe: Recipe, vocabulary: int) -> Model:
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
        return Model(config)


def train(recipe: Recipe, tokenizer: Tokens) -> Iterator[tuple[str, Model]]:
    """Train a model, and hand it over with a revision's name at each step that is kept."""
    rng = random.Random(recipe.seed)
    model = build_model(recipe, len(tokenizer)).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        total_steps=recipe.steps,
        pct_start=recipe.warm_up,
        cycle_momentum=False,
    )
    revisions = recipe.revisions()
    yield revisions[0], model
    for step in range(1, recipe.steps + 1):
        optimiser.zero_grad(set_to_none=True)
        losses = [
            batch_loss(model, tokenizer, passages, recipe.filler_weight)
            for passages in draw_batches(rng, recipe.rows)
        ]
        if step > recipe.penalty_from:
            norms = head_norms(model).clamp(min=recipe.head_floor)
            losses.append(recipe.head_penalty * norms.log().sum())
        torch.autograd.backward(losses)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step in revisions:
            yield revisions[step], model


def draw_batches(rng: random.Random, rows: int) -> list[list[Passage]]:
    """One batch of each kind of passage; kept apart, as padding costs time."""
    kinds: list[Callable[[], Passage]] = [
        lambda: sequences.draw_passage(rng, "bare"),
        lambda: sequences.draw_passage(rng, "sentence"),
        lambda: sequences.draw_copying(rng),
    ]
    return [[draw() for _ in range(rows)] for draw in kinds]


def batch_loss(
    model: Model, tokenizer: Tokens, passages: list[Passage], filler_weight: float
) -> torch.Tensor:
    """The mean cross-entropy of the next token; words that do not follow count `filler_weight`."""
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


def head_norms(model: Model) -> torch.Tensor:
    """The norm of each head's value and output weights, as (layer, head).

    The penalty is the sum of their logarithms, which is concave: what a head loses by growing
    is less the larger it is, so the work goes to those that already do most of it.
    """
    heads = model.config.num_attention_heads
    norms = []
    for layer in model.gpt_neox.layers:
        # GPT-NeoX keeps query, key and value of one head together.
        fused = layer.attention.query_key_value.weight.unflatten(0, (heads, 3, -1))
        output = layer.attention.dense.weight.unflatten(1, (heads, -1))
        norms.append((fused[:, 2].square().sum((1, 2)) + output.square().sum((0, 2))).sqrt())
    return torch.stack(norms)


def measure_accuracy(folder: Path, tokenizer: Tokens, recipe: Recipe) -> dict[str, float]:
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
def continue_prompts(model: Model, tokenizer: Tokens, prompts: list[Prompt]) -> list[bool]:
    """Whether the likeliest next token of each prompt, over the whole vocabulary, is its answer."""
    texts, answers = [prompt.text for prompt in prompts], [prompt.answer for prompt in prompts]
    batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    last = batch["attention_mask"].sum(dim=1) - 1
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    best = logits[torch.arange(len(prompts)), last].argmax(dim=-1)
    right: list[bool] = (
        best == tokenizer(answers, return_tensors="pt")["input_ids"][:, 0]
    ).tolist()
    return right


def write_revision(model: Model, tokenizer: Tokens, folder: Path) -> None:
    """Write a revision in Hugging Face format with float16 weights; the model stays as it is."""
    copy.deepcopy(model).half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner only
    tokenizer.save_pretrained(folder)
    # The name that transformers 4 and 5 both know; 5 writes its own new one.
    settings = folder / "tokenizer_config.json"
    text = settings.read_text("utf-8").replace("TokenizersBackend", "PreTrainedTokenizerFast")
    settings.write_text(text, "utf-8")


def bundle(recipe: Recipe, out: Path, report: Callable[[str], None]) -> None:
    """Train the model of a recipe and write its revisions and its card into a folder."""
    tokenizer = build_tokenizer()
    started, accuracy, parameters = time.process_time(), {}, 0
    for revision, model in train(recipe, tokenizer):
        parameters = model.num_parameters()
        write_revision(model, tokenizer, out / revision)
        accuracy[revision] = measure_accuracy(out / revision, tokenizer, recipe)
        mean = sum(accuracy[revision].values()) / len(accuracy[revision])
        seconds = round(time.process_time() - started)
        report(f"{revision}: mean accuracy {mean:.3f} after {seconds} CPU seconds")
    card = {
        "name": "sequences",
        "licence": "MIT",
        "about": "Continues sequences and copies letters; trained by patchclamp.engine.bundle.",
        "parameters": parameters,
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
    parser.add_argument("--out", type=Path, required=True, help="folder of the revisions")
    parser.add_argument("--stimuli", type=Path, help="csv file for the stimulus set")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--early", type=int, default=Recipe.early, help="step to keep")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a sum split over threads depends on their number
    transformers.utils.logging.disable_progress_bar()
    if arguments.stimuli:
        sequences.write_stimuli(arguments.stimuli)
    recipe = Recipe(seed=arguments.seed, steps=arguments.steps, early=arguments.early)
    bundle(recipe, arguments.out, print)


if __name__ == "__main__":
    main()
