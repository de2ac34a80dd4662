"""Two backends, every architecture: same numbers, padded or alone, and heads where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import ask
from patchclamp.engine.batches import pad
from patchclamp.engine.nnsight_backend import Nnsight
from patchclamp.engine.steps import (
    answers_step,
    in_order,
    read_answers_of,
    read_step,
    write_steps,
)
from patchclamp.engine.tokens import Spelling, TokenTable
from patchclamp.engine.values import edit
from patchclamp.engine.weights import load_weights

TEXTS = ((3, 4, 5, 6, 7, 8, 9, 10, 11), (12, 13, 14), (20,), (30, 31, 32, 33, 34, 35))
LAST = torch.tensor([len(ids) - 1 for ids in TEXTS])
CORRECT = torch.tensor([7, 8, 9, 10])
LENGTHS = torch.tensor([len(ids) for ids in TEXTS])
SAID = Spelling("correct", ("answer", "correct"), ("?",) * 4, ((7,), (8,), (9,), (10,)))
AFTER_ALL_LAYERS = ("logits", "logprobs")
BACKENDS = ("nnsight", "hooks")
TOKENS = TokenTable(TEXTS, (SAID,), (0,) * 4)


@pytest.fixture(params=list(tiny.TWINS))
def source(request: pytest.FixtureRequest, twin: Callable[[str], Any]) -> Any:
    return twin(request.param)


def steps_for(source: Any, rows: list[int]) -> list[dict[str, Any]]:
    reads = [
        read_step(source, (site, layer), f"{site}.{layer}", LENGTHS[rows])
        for site in source.architecture.sites
        for layer in range(source.shape.layers)
    ]
    return in_order([*reads, answers_step(source, ask(TOKENS, rows))])


def forward(source: Any, rows: list[int], backend: str = "nnsight") -> dict[str, torch.Tensor]:
    inputs = pad([TEXTS[row] for row in rows], pad_id=0)
    return source.backends[backend].forward(inputs, steps_for(source, rows), stop=False)


def test_nnsight_equals_plain_hooks(source: Any) -> None:
    ours, plain = forward(source, [0, 1, 2, 3]), forward(source, [0, 1, 2, 3], "hooks")
    assert ours.keys() == plain.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, plain[key], rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_logits_of_answers_alone_are_those_of_the_whole_vocabulary(
    source: Any, backend: str
) -> None:
    if source.architecture.encoder:
        pytest.skip("it has no answers")
    asked = ask(TOKENS, range(4))
    runner, inputs = source.backends[backend], pad(TEXTS, pad_id=0)
    narrow = runner.forward(inputs, read_answers_of(source, asked), stop=False)
    # The model is left as it was, and what is not asked for is not computed.
    whole = runner.forward(inputs, [answers_step(source, asked)], stop=False)
    assert "answers.logsumexp" not in narrow
    for key, value in narrow.items():
        torch.testing.assert_close(value, whole[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stopping_early_changes_no_number(source: Any, backend: str) -> None:
    steps = [s for s in steps_for(source, [0, 1]) if s["place"]["site"] not in AFTER_ALL_LAYERS]
    runner = source.backends[backend]
    inputs = pad(TEXTS[:2], pad_id=0)
    whole = runner.forward(inputs, steps, stop=False)
    stopped = runner.forward(inputs, steps, stop=True)
    for key, value in whole.items():
        torch.testing.assert_close(value, stopped[key], rtol=0, atol=0, equal_nan=True)


def test_a_stimulus_gives_the_same_numbers_in_any_batch(source: Any) -> None:
    together = forward(source, [0, 1, 2, 3])
    for row in range(len(TEXTS)):
        alone = forward(source, [row])
        for key, value in alone.items():
            batched = together[key][row : row + 1]
            if not key.startswith("answers."):
                batched = batched[tuple(slice(size) for size in value.shape)]
            scale = float(value.nan_to_num().abs().max())
            atol = 1e-5 * max(scale, 1.0)
            torch.testing.assert_close(batched, value, rtol=0, atol=atol, equal_nan=True)


def test_left_padding_with_mask_and_positions_gives_the_same_numbers(source: Any) -> None:
    """The engine pads on the right; the sum over real tokens does not depend on the side."""
    right = pad(TEXTS, pad_id=0)
    rolls = [max(map(len, TEXTS)) - len(ids) for ids in TEXTS]
    left = {
        name: torch.stack([row.roll(n) for row, n in zip(value, rolls, strict=True)])
        for name, value in right.items()
    }
    left["position_ids"] = (left["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        a = source.module(**right, use_cache=False).logits
        b = source.module(**left, use_cache=False).logits
    for row, (ids, n) in enumerate(zip(TEXTS, rolls, strict=True)):
        expected = a[row, : len(ids)]
        scale = float(expected.abs().max())
        torch.testing.assert_close(b[row, n:], expected, rtol=0, atol=1e-5 * scale)


def test_without_position_ids_left_padding_would_be_wrong(tmp_path: Path) -> None:
    """The negative control: what the engine's own positions protect GPT-2 from."""
    module = AutoModelForCausalLM.from_pretrained(tiny.make("gpt2", tmp_path / "gpt2")).eval()
    ids = torch.tensor([[0, 0, 0, *TEXTS[1]]])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        padded = module(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, -1]
        alone = module(input_ids=torch.tensor([TEXTS[1]]), use_cache=False).logits[0, -1]
    assert float((padded - alone).abs().max()) > 1e-2 * float(alone.abs().max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_zeroing_a_head_equals_zeroing_its_rows_of_the_output_projection(
    source: Any, backend: str
) -> None:
    """A head index means that head: the same ablation, done to the weights instead."""
    layer, head = 1, 2
    steps = [
        *write_steps(source, [(Change("zero", "z", layer, head), edit(torch.zeros(1, 1)))]),
        answers_step(source, ask(TOKENS, range(4))),
    ]
    inputs = pad(TEXTS, pad_id=0)
    runner = source.backends[backend]
    ablated = runner.forward(inputs, in_order(steps), stop=False)["answers.logit_correct"]

    module = load_weights(source, "cpu")
    projection = module.get_submodule(source.architecture.sites["z"].path.format(layer=layer))
    size = projection.weight.numel() // module.config.hidden_size // source.shape.heads
    channels = slice(head * size, (head + 1) * size)
    with torch.no_grad():
        if type(projection).__name__ == "Conv1D":  # GPT-2 keeps (in, out)
            projection.weight[channels] = 0
        else:
            projection.weight[:, channels] = 0
        logits = module(**inputs, use_cache=False).logits
    expected = logits[torch.arange(4), LAST, CORRECT].double()
    torch.testing.assert_close(ablated, expected, rtol=1e-5, atol=1e-5)
    clean = forward(source, [0, 1, 2, 3])["answers.logit_correct"]
    assert float((ablated - clean).abs().max()) > 1e-3


def test_a_write_reaches_a_later_read_but_not_an_earlier_one(source: Any) -> None:
    reads = [read_step(source, ("z", layer), f"z.{layer}", LENGTHS[:1]) for layer in range(3)]
    zero = write_steps(source, [(Change("zero", "z", 1, 0), edit(torch.zeros(1, 1)))])
    steps = in_order([*reads, *zero])
    runner = source.backends["nnsight"]
    inputs = pad(TEXTS[:1], pad_id=0)
    changed = runner.forward(inputs, steps, stop=True)
    clean = runner.forward(inputs, reads, stop=True)
    assert torch.equal(changed["z.0/activation"], clean["z.0/activation"])
    assert float(changed["z.1/activation"][:, 0].abs().max()) == 0
    assert torch.equal(changed["z.1/activation"][:, 1:], clean["z.1/activation"][:, 1:])
    assert not torch.equal(changed["z.2/activation"], clean["z.2/activation"])


def test_answers_equal_the_distribution_of_a_plain_forward(source: Any) -> None:
    found = forward(source, [0, 1, 2, 3])
    with torch.no_grad():
        logits = source.module(**pad(TEXTS, pad_id=0), use_cache=False).logits
    final = logits[torch.arange(4), LAST].double()
    correct = final[torch.arange(4), CORRECT]
    torch.testing.assert_close(found["answers.logit_correct"], correct)
    torch.testing.assert_close(found["answers.logsumexp"], final.logsumexp(1))
    order = final.argsort(dim=1, descending=True)
    rank = (order == CORRECT[:, None]).nonzero()[:, 1]
    assert torch.equal(found["answers.rank"], rank)


def test_hooks_say_which_step_was_never_reached(source: Any) -> None:
    class Unused(torch.nn.Module):
        pass

    source.module.unused = Unused()
    part = {"path": "unused", "io": "output", "order": (0, 0)}
    step = {"do": "read", "place": {"parts": [part]}, "key": "x"}
    runner = source.backends["hooks"]
    with pytest.raises(RuntimeError, match="1 places were never reached; the first: unused"):
        runner.forward(pad(TEXTS, pad_id=0), [{**step, "positions": None}], stop=False)
    del source.module.unused


def test_a_module_is_read_where_it_is(source: Any) -> None:
    """A pipeline takes a module to the first accelerator; one without memory cannot be moved."""
    with torch.device("meta"):
        module = type(source.module)(source.config)
    Nnsight(module, source.tokenizer)
    assert next(module.parameters()).is_meta
