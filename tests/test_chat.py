"""Texts inside a chat template, and tokenizers that put marks of their own around texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import tiny
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import loads

CHAT = (
    "<end> {% for m in messages %}w7 {{ m['content'] }} w7{% endfor %}"
    "{% if add_generation_prompt %} w8{% endif %}"
)
SPEC = """\
patchclamp: 1
name: chat
model: {id: ./model, tokenizer: {MODE}}
stimuli:
  a:
    kind: items
    text: "{t}"
    spans: {s: "{s}"}
    ANSWER
    items: ITEMS
captures: {r: {of: a, site: resid_post, positions: s}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.make("llama", tmp_path / "model")
    return tmp_path


def tokenizer(folder: Path, single: str, chat: str | None = None) -> None:
    """Give the model a tokenizer that makes texts of this form: `$A` is the text."""
    made = Tokenizer(WordLevel({w: i for i, w in enumerate(tiny.WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    marks = [("<end>", tiny.WORDS.index("<end>"))]
    made.post_processor = TemplateProcessing(
        single=single, pair=f"{single} $B", special_tokens=marks
    )
    whole = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<end>", eos_token="<end>"
    )
    whole.chat_template = chat
    whole.save_pretrained(folder / "model")


def plan_of(folder: Path, items: str, *, mode: str = "chat: user", answer: str = "") -> Plan:
    text = SPEC.replace("MODE", mode).replace("ITEMS", items).replace("    ANSWER\n", answer)
    return make_plan(loads(text, "t.yaml", folder))


def words(plan: Plan) -> list[list[str]]:
    return [[tiny.WORDS[id_] for id_ in ids] for ids in plan.sets["a"].tokens.ids]


def test_the_template_writes_all_marks_and_no_other_is_added(folder: Path) -> None:
    tokenizer(folder, "<end> $A", CHAT)
    plan = plan_of(folder, "[{t: w1 w2, s: w2}, {t: w3, s: w3}]")
    assert words(plan) == [
        ["<end>", "w7", "w1", "w2", "w7", "w8"],
        ["<end>", "w7", "w3", "w7", "w8"],
    ]
    assert plan.captures[0].chosen.index.tolist() == [[3], [2]]


def test_a_span_is_of_the_text_though_the_template_says_the_same(folder: Path) -> None:
    tokenizer(folder, "<end> $A", CHAT)
    plan = plan_of(folder, "[{t: w7, s: w7}, {t: w7 w1, s: w7}, {t: w8, s: w8}]")
    assert plan.captures[0].chosen.index.tolist() == [[2], [2], [2]]


def test_an_answer_follows_what_the_template_ends_with(folder: Path) -> None:
    tokenizer(folder, "<end> $A", CHAT)
    answer = '    answer: {correct: " w9", foil: " w10"}\n'
    plan = plan_of(folder, "[{t: w1 w2, s: w2}]", answer=answer)
    (correct, foil) = plan.sets["a"].tokens.spellings
    assert [tiny.WORDS[one.tokens[0][0]] for one in (correct, foil)] == ["w9", "w10"]
    assert words(plan)[0][-1] == "w8"


def test_a_mark_is_added_once_or_not_at_all(folder: Path) -> None:
    tokenizer(folder, "<end> $A")
    items = "[{t: w1 w2, s: w2}]"
    for mode in ("bos: auto", "bos: always"):
        assert words(plan_of(folder, items, mode=mode)) == [["<end>", "w1", "w2"]]
    assert words(plan_of(folder, items, mode="bos: never")) == [["w1", "w2"]]
    with pytest.raises(SpecError, match="'0' begins with two BOS tokens: the tokenizer adds one"):
        plan_of(folder, '[{t: "<end> w2", s: w2}]', mode="bos: auto")


def test_no_answer_follows_a_mark_of_the_end(folder: Path) -> None:
    tokenizer(folder, "$A <end>")
    answer = '    answer: {correct: " w9", foil: " w10"}\n'
    with pytest.raises(SpecError, match="' w9' cannot follow the text, which the tokenizer ends"):
        plan_of(folder, "[{t: w1 w2, s: w2}]", mode="bos: auto", answer=answer)
