"""The bundled model: its tokenizer, what its revisions can do, and the script that trains it."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from patchclamp.engine import bundle
from patchclamp.registry import sequences
from patchclamp.registry.models import DATA
from patchclamp.registry.sequences import Prompt

FOLDER = DATA / "models" / "sequences"
CARD = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
START, EARLY, MAIN = CARD["revisions"]
MEGABYTE = 1_000_000
TOKENIZER: Any = AutoTokenizer.from_pretrained(FOLDER / MAIN)
TEMPLATES = [f"t{number:02d}" for number in range(48)]
FRESH = bundle.evaluation_prompts(bundle.Recipe(seed=1000, evaluated=50))
"""Held-out prompts of each task; the card was made with another seed."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(revision: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER / revision, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def main() -> Any:
    return load(MAIN)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (DATA / "stimuli" / "sequences.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def encode(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text)["input_ids"]
    return ids


def accuracies(model: Any) -> dict[str, float]:
    return {
        task: sum(bundle.continue_prompts(model, TOKENIZER, prompts)) / len(prompts)
        for task, prompts in FRESH.items()
    }


# The tokenizer


def test_a_word_is_one_token_at_the_start_and_after_a_space() -> None:
    for word in sequences.words():
        assert len(encode(word)) == 1
        assert encode(word) == encode(f" {word}")
        assert encode(f"Anna {word}") == encode("Anna") + encode(word)
    assert len({encode(word)[0] for word in sequences.words()}) == len(sequences.words())


@pytest.mark.parametrize("text", ["Marching", "31", "Annas", "one-two", "été", "日本", "\t", "$"])
def test_other_text_falls_to_bytes(text: str) -> None:
    assert len(encode(text)) > 1


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back(text: str) -> None:
    back = TOKENIZER.decode(encode(text))
    # A space is put before a text that does not start with white space.
    assert back in (text, f" {text}")


def test_offsets_lead_to_the_words(rows: list[dict[str, str]]) -> None:
    for row in rows:
        text = row["prompt"]
        batch = TOKENIZER(text, return_offsets_mapping=True)
        pieces = [text[begin:end] for begin, end in batch["offset_mapping"]]
        assert pieces == re.findall(r"\w+|[^\w\s]", text)
        assert [TOKENIZER.decode([token]).strip() for token in batch["input_ids"]] == pieces


def test_nothing_is_added_and_an_answer_adds_one_token(rows: list[dict[str, str]]) -> None:
    assert TOKENIZER.bos_token is None
    assert TOKENIZER.eos_token == TOKENIZER.pad_token == bundle.END_OF_TEXT
    assert encode("") == []
    for row in rows:
        assert encode(f"{row['prompt']} {row['next']}") == encode(row["prompt"]) + encode(
            row["next"]
        )


def test_a_template_has_one_length_in_all_categories(rows: list[dict[str, str]]) -> None:
    lengths: dict[str, set[int]] = {}
    for row in rows:
        lengths.setdefault(row["template"], set()).add(len(encode(row["prompt"])))
    assert all(len(found) == 1 for found in lengths.values())


def test_all_revisions_share_the_tokenizer_that_the_script_builds(tmp_path: Path) -> None:
    bundle.build_tokenizer().save_pretrained(tmp_path)
    for revision in CARD["revisions"]:
        written = (FOLDER / revision / "tokenizer.json").read_bytes()
        assert written == (tmp_path / "tokenizer.json").read_bytes()


# The revisions


def test_the_model_is_small_and_as_its_card_says(main: Any) -> None:
    assert main.num_parameters() == CARD["parameters"] < 450_000
    assert (main.config.num_hidden_layers, main.config.num_attention_heads) == (3, 4)
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) == sorted(
        CARD["revisions"]
    )
    for revision in CARD["revisions"]:
        assert (FOLDER / revision / "model.safetensors").stat().st_size < MEGABYTE
    assert CARD["licence"] == "MIT"
    assert CARD["recipe"] == asdict(bundle.Recipe())


def test_the_last_revision_continues_fresh_prompts_of_every_task(main: Any) -> None:
    assert {task: share for task, share in accuracies(main).items() if share < 0.98} == {}
    assert min(CARD["accuracy"][MAIN].values()) >= 0.98


def test_the_last_revision_continues_the_stimuli(main: Any, rows: list[dict[str, str]]) -> None:
    prompts = [Prompt(row["prompt"], (), row["next"]) for row in rows]
    right = bundle.continue_prompts(main, TOKENIZER, prompts)
    assert sum(right) >= 0.98 * len(rows)


def test_the_first_revision_fails_and_the_early_one_is_in_between() -> None:
    start, early = accuracies(load(START)), accuracies(load(EARLY))
    assert max(start.values()) < 0.2
    assert 0.3 < sum(early.values()) / len(early) < 0.9
    assert max(early.values()) > 0.9
    assert early["copying"] < 0.2


def test_one_head_carries_the_answer(main: Any, rows: list[dict[str, str]]) -> None:
    """Mean ablation with plain hooks: one head costs most of the answer, and most cost little."""
    differences = torch.stack(
        [ablate_each(main, [row for row in rows if row["template"] == name]) for name in TEMPLATES]
    )
    whole, *ablated = differences.mean(dim=0).tolist()
    costs = sorted(1 - value / whole for value in ablated)
    assert len(costs) == 12
    assert costs[-1] > 0.5
    assert max(map(abs, costs[:-2])) < 0.1


def ablate_each(model: Any, rows: list[dict[str, str]]) -> torch.Tensor:
    """The logit difference of one template's stimuli: whole, and without each head in turn."""
    names = ("s1", "s2", "s3", "s4", "next")
    items = torch.tensor([[encode(row[name])[0] for name in names] for row in rows])
    tokens = torch.tensor([encode(row["prompt"]) for row in rows])
    scrambled = tokens.repeat(8, 1)
    for number, row in enumerate(scrambled):
        places = torch.isin(row, items[number % len(rows), :4]).nonzero().flatten().tolist()
        row[places] = row[random.Random(number).sample(places, len(places))].clone()

    z: dict[int, torch.Tensor] = {}
    layers = [layer.attention.dense for layer in model.gpt_neox.layers]
    handles = [
        dense.register_forward_pre_hook(lambda _, args, at=at: z.update({at: args[0].mean(dim=0)}))
        for at, dense in enumerate(layers)
    ]
    with torch.no_grad():
        model(input_ids=scrambled)
        for handle in handles:
            handle.remove()
        found = [answer_logits(model, tokens, items)]
        for at, dense in enumerate(layers):
            for channels in torch.arange(model.config.hidden_size).chunk(4):
                handle = dense.register_forward_pre_hook(
                    lambda _, args, at=at, channels=channels: (
                        args[0].index_copy(
                            2, channels, z[at][:, channels].expand(len(rows), -1, -1)
                        ),
                    )
                )
                found.append(answer_logits(model, tokens, items))
                handle.remove()
    return torch.stack(found)


def answer_logits(model: Any, tokens: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """The mean logit of the answer minus that of the last item shown."""
    logits = model(input_ids=tokens).logits[:, -1]
    last, answer = logits.gather(1, items[:, 3:]).mean(dim=0)
    difference: torch.Tensor = answer - last
    return difference


# The script


def test_three_steps_write_loadable_folders_and_one_seed_the_same_bytes(tmp_path: Path) -> None:
    recipe = bundle.Recipe(steps=3, early=1, rows=4, penalty_from=1, evaluated=2)
    lines: list[str] = []
    for run in ("first", "again"):
        torch.manual_seed(len(lines))  # what else draws random numbers does not matter
        bundle.bundle(recipe, tmp_path / run, lines.append)
    card = json.loads((tmp_path / "first" / "card.json").read_text(encoding="utf-8"))
    assert card["revisions"] == ["step0", "step1", "main"]
    assert len(lines) == 6
    weights = set()
    for revision in card["revisions"]:
        one, two = (
            (tmp_path / run / revision / "model.safetensors").read_bytes()
            for run in ("first", "again")
        )
        assert one == two
        weights.add(one)
        folder = tmp_path / "first" / revision
        AutoModelForCausalLM.from_pretrained(folder)
        assert AutoTokenizer.from_pretrained(folder)("March")["input_ids"] == encode("March")
    assert len(weights) == 3


def test_another_seed_gives_another_model() -> None:
    first, other = (
        bundle.build_model(bundle.Recipe(seed=seed), len(TOKENIZER)).gpt_neox.embed_in.weight
        for seed in (0, 1)
    )
    assert not torch.equal(first, other)


def test_words_that_do_not_follow_count_less() -> None:
    model = bundle.build_model(bundle.Recipe(), len(TOKENIZER))
    passages = [sequences.draw_passage(random.Random(0), "sentence")]
    with torch.no_grad():
        known_only, all_alike = (
            float(bundle.batch_loss(model, TOKENIZER, passages, weight)) for weight in (0.0, 1.0)
        )
        ids = torch.tensor([encode(passages[0].text)])
        plain = float(model(input_ids=ids, labels=ids).loss)
    assert all_alike == pytest.approx(plain, rel=1e-5)
    assert known_only != pytest.approx(plain, rel=1e-3)


def test_head_norms_are_those_of_the_values_and_outputs() -> None:
    """Scaling the value rows of one head by three changes its norm alone."""
    model = bundle.build_model(bundle.Recipe(), len(TOKENIZER))
    before = bundle.head_norms(model)
    size = model.config.hidden_size // 4
    attention = model.gpt_neox.layers[1].attention
    with torch.no_grad():
        values = attention.query_key_value.weight[2 * 3 * size :][2 * size : 3 * size]
        squares = values.square().sum()
        values *= 3
        changed = (bundle.head_norms(model).square() - before.square()).detach()
    expected = torch.zeros(3, 4)
    expected[1, 2] = 8 * squares
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-4)
