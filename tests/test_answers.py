"""Answers read from logits, against log-probabilities computed one sequence at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr
from scipy.stats import entropy
from transformers import AutoModelForCausalLM

import tiny
from patchclamp.engine.answers import ask
from patchclamp.engine.backend import open_backend
from patchclamp.engine.batches import pad
from patchclamp.engine.scoring import read_answers, reduce_answers
from patchclamp.engine.tokens import Spelling, TokenTable, continuations

TEXTS = ((3, 4, 5, 6, 7), (12, 13, 14), (20,), (30, 31, 32))
VOCABULARY = 64


def table(
    parts: dict[str, list[list[tuple[int, ...]]]], key: tuple[int, ...] = (0,) * 4, **options: Any
) -> TokenTable:
    """A token table from the tokens of each stimulus, by part and spelling."""
    spellings = tuple(
        Spelling(part, ("answer",), ("?",) * 4, tuple(tokens))
        for part, written in parts.items()
        for tokens in written
    )
    return TokenTable(TEXTS, spellings, key, **options)


ONE = {
    "correct": [[(7,), (8,), (9,), (10,)], [(17,), (18,), (19,), (20,)]],
    "foil": [[(1,), (2,), (3,), (4,)], [(21,), (22,), (23,), (24,)]],
}
OPTIONS = {name: [[(n,)] * 4, [(n + 20,)] * 4] for n, name in enumerate("ABC", start=10)}
LONG = {
    "correct": [[(7, 8, 9), (7,), (5, 6), (1, 2)], [(7, 8, 3), (4, 4), (6,), (2, 2, 2)]],
    "foil": [[(1, 2), (2, 2, 2), (3,), (4,)], [(7, 1), (3,), (8, 8), (5, 5)]],
}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.make("llama", tmp_path_factory.mktemp("models") / "llama")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logs_after(module: Any, ids: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of the token that follows, from a sequence alone."""
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([ids])).logits[0, -1]
    return log_softmax(logits.double().numpy())


def sequence_logprob(module: Any, text: tuple[int, ...], answer: tuple[int, ...]) -> float:
    steps = [logs_after(module, (*text, *answer[:n]))[token] for n, token in enumerate(answer)]
    return float(sum(steps))


def measured(module: Any, tokens: TokenTable, rows: list[int], **options: Any) -> dict[str, Any]:
    asked = ask(tokens, rows, **options)
    part = {"path": "lm_head", "io": "output", "order": (9, 0), "split": ""}
    step = {**asked.step, "place": {"form": "one", "parts": [part]}}
    found = open_backend("hooks", module, None).forward(pad(asked.ids, 0), [step], stop=False)
    return {key.removeprefix("answers."): value.numpy() for key, value in found.items()}


def together(combine: str, values: list[float]) -> float:
    return {"logsumexp": np.logaddexp.reduce, "max": max, "first": lambda v: v[0]}[combine](values)


@pytest.mark.parametrize("combine", ["logsumexp", "max", "first"])
@pytest.mark.parametrize("parts", [ONE, LONG], ids=["one token", "several tokens"])
def test_spellings_are_put_together_as_asked(module: Any, parts: Any, combine: str) -> None:
    found = measured(module, table(parts, combine=combine), [0, 1, 2, 3])
    for row, text in enumerate(TEXTS):
        logs = {
            part: [sequence_logprob(module, text, tokens[row]) for tokens in written]
            for part, written in parts.items()
        }
        for part, values in logs.items():
            mine = found[f"logit_{part}"][row] - found["logsumexp"][row]
            assert mine == pytest.approx(together(combine, values), abs=2e-5)
        whole = np.logaddexp.reduce([*logs["correct"], *logs["foil"]])
        assert found["logit_answers"][row] - found["logsumexp"][row] == pytest.approx(
            whole, abs=2e-5
        )
        for variant in range(2):
            written = np.logaddexp(logs["correct"][variant], logs["foil"][variant])
            mine = found["logit_variants"][row, variant] - found["logsumexp"][row]
            assert mine == pytest.approx(written, abs=2e-5)


def test_the_options_are_read_and_the_strongest_wrong_one_is_the_foil(module: Any) -> None:
    key = (0, 1, 2, 0)
    found = measured(module, table(OPTIONS, key), [0, 1, 2, 3])
    assert found["logit_options"].shape == (4, 3)
    for row, text in enumerate(TEXTS):
        logs = logs_after(module, text)
        expected = [np.logaddexp(logs[n], logs[n + 20]) for n in (10, 11, 12)]
        mine = found["logit_options"][row] - found["logsumexp"][row]
        np.testing.assert_allclose(mine, expected, atol=2e-5)
        others = [value for n, value in enumerate(mine) if n != key[row]]
        correct = found["logit_correct"][row] - found["logsumexp"][row]
        assert correct == pytest.approx(mine[key[row]], abs=1e-12)
        assert found["logit_foil"][row] - found["logsumexp"][row] == pytest.approx(max(others))


def test_the_rank_counts_what_is_more_probable_than_all_spellings_together(module: Any) -> None:
    found = measured(module, table(ONE), [0, 1, 2, 3])
    for row, text in enumerate(TEXTS):
        p = np.exp(logs_after(module, text))
        own = [tokens[row][0] for tokens in ONE["correct"]]
        larger = [n for n in range(len(p)) if n not in own and p[n] > p[own].sum()]
        assert found["rank"][row] == len(larger)
        assert found["argmax"][row] == p.argmax()
        largest = np.exp(found["logit_max"][row] - found["logsumexp"][row])
        assert largest == pytest.approx(p.max(), rel=1e-4)


def test_an_answer_is_no_rival_of_itself() -> None:
    """Two spellings of 0.3 beat a token of 0.35; with 'first' the second spelling is no rival."""
    logits = torch.log(torch.tensor([[[0.3, 0.3, 0.35, 0.05]]]))
    spelled = {"correct": [[(1,)], [(0,)]], "foil": [[(3,)], [(2,)]]}
    tokens = TokenTable(((5,),), table(spelled).spellings, (0,))
    for combine, rank in (("logsumexp", 0), ("max", 1), ("first", 1)):
        step = ask(TokenTable(tokens.ids, tokens.spellings, (0,), combine), [0]).step
        assert int(read_answers(step, logits)["rank"]) == rank


def test_the_rank_of_a_long_answer_is_that_of_its_least_expected_token(module: Any) -> None:
    found = measured(module, table(LONG), [0, 1, 2, 3])
    for row, text in enumerate(TEXTS):
        ranks = []
        for tokens in LONG["correct"]:
            answer = tokens[row]
            each = [logs_after(module, (*text, *answer[:n])) for n in range(len(answer))]
            ranks.append(max((e > e[t]).sum() for e, t in zip(each, answer, strict=True)))
        assert found["rank"][row] == min(ranks)


def test_an_answer_that_greedy_decoding_writes_has_rank_0(module: Any) -> None:
    written = [int(logs_after(module, TEXTS[1]).argmax())]
    for _ in range(2):
        written.append(int(logs_after(module, (*TEXTS[1], *written)).argmax()))
    other = (*written[:2], (written[2] + 1) % VOCABULARY)
    for answer, right in ((tuple(written), True), (other, False)):
        found = measured(module, table({"correct": [[answer] * 4]}), [1])
        assert (found["rank"][0] == 0) == right


def test_a_stimulus_is_scored_the_same_in_any_company(module: Any) -> None:
    all_ = measured(module, table(LONG), [3, 1, 0, 2, 1])
    for at, row in enumerate([3, 1, 0, 2, 1]):
        alone = measured(module, table(LONG), [row])
        for key, value in alone.items():
            np.testing.assert_allclose(all_[key][at], value[0], atol=1e-4)


def test_one_way_serves_every_answer_that_begins_as_it_does() -> None:
    assert continuations([(7, 8, 9), (7, 8, 3), (1,), (7, 1)]) == ((7, 8),)
    assert continuations([(1,), (2,)]) == ((),)
    assert continuations([]) == ((),)
    asked = ask(table(LONG), [0])
    assert asked.ids == ((*TEXTS[0], 7, 8), (*TEXTS[0], 1))
    assert asked.first == (0,)
    assert (table(LONG).longest, table(LONG).reach, table(LONG).rows_each) == (5, 7, 3)


def test_what_is_read_of_the_whole_distribution(module: Any) -> None:
    found = measured(module, TokenTable(TEXTS), [0, 1, 3], reads=("entropy", "text"))
    assert "rank" not in found
    for at, row in enumerate([0, 1, 3]):
        text = TEXTS[row]
        assert found["entropy"][at] == pytest.approx(
            entropy(np.exp(logs_after(module, text))), abs=2e-5
        )
        losses = [-logs_after(module, text[:n])[text[n]] for n in range(1, len(text))]
        assert found["cross_entropy"][at] == pytest.approx(np.mean(losses), abs=2e-5)


def test_a_text_of_one_token_has_no_cross_entropy(module: Any) -> None:
    found = measured(module, TokenTable(TEXTS), [2, 0], reads=("text",))
    assert math.isnan(found["cross_entropy"][0])
    assert found["cross_entropy"][1] > 0


def test_a_text_is_the_same_text_before_an_answer_of_several_tokens(module: Any) -> None:
    bare = measured(module, TokenTable(TEXTS), [0, 1], reads=("text", "entropy"))
    forced = measured(module, table(LONG), [0, 1], reads=("text", "entropy"))
    for key, value in bare.items():
        np.testing.assert_allclose(forced[key], value, atol=1e-5)


def test_divergences_are_those_of_whole_distributions() -> None:
    rng = np.random.default_rng(0)
    clean, changed = rng.normal(size=(2, 3, VOCABULARY)) * 3
    tokens = TokenTable(((1,), (2,), (3,)))
    step = ask(tokens, [0, 1, 2], clean=torch.tensor(clean)).step
    found = reduce_answers(step, torch.tensor(changed))
    p, q = (np.exp(log_softmax(logits, axis=1)) for logits in (clean, changed))
    np.testing.assert_allclose(found["kl"], entropy(p, q, axis=1), rtol=1e-10)
    middle = (p + q) / 2
    js = (rel_entr(p, middle).sum(1) + rel_entr(q, middle).sum(1)) / 2
    np.testing.assert_allclose(found["js"], js, rtol=1e-10)
    assert float(found["js"].max()) <= math.log(2)


def test_the_divergence_of_a_run_from_itself_is_exactly_0(module: Any) -> None:
    reads = ("distribution",)
    clean = measured(module, TokenTable(TEXTS), [0, 1], reads=reads)["distribution"]
    found = measured(module, TokenTable(TEXTS), [0, 1], clean=torch.tensor(clean))
    assert found["kl"].tolist() == found["js"].tolist() == [0.0, 0.0]


def test_a_token_without_any_probability_adds_nothing_to_a_divergence() -> None:
    clean = torch.tensor([[0.0, 0.0, -math.inf]])
    step = ask(TokenTable(((1,),)), [0], clean=clean, reads=("entropy",)).step
    found = reduce_answers(step, torch.tensor([[0.0, math.log(3), -math.inf]]))
    assert float(found["kl"]) == pytest.approx(0.5 * math.log(0.5 / 0.25 * 0.5 / 0.75))
    assert float(found["entropy"]) == pytest.approx(entropy([0.25, 0.75]))


def test_gradients_pass_through_the_scores() -> None:
    logits = torch.randn(4, VOCABULARY, dtype=torch.float64, requires_grad=True)
    step = ask(TokenTable(((1,), (2,), (3,), (4,)), table(ONE).spellings, (0,) * 4), range(4)).step
    found = reduce_answers(step, logits)
    (found["logit_correct"] - found["logsumexp"]).sum().backward()  # type: ignore[no-untyped-call]
    p = logits.detach().softmax(1)
    assert logits.grad is not None
    for row in range(4):
        own = [tokens[row][0] for tokens in ONE["correct"]]
        expected = -p[row].clone()
        expected[own] += p[row, own] / p[row, own].sum()
        torch.testing.assert_close(logits.grad[row], expected)
