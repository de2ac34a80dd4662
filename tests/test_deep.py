"""Deep checks: what stimuli, tokenizer and config tell, at its place, without opening weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import tiny
from patchclamp.engine import cli
from patchclamp.engine.deep import Deep, check_deep
from patchclamp.engine.plan import make_plan
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import load, loads

SPEC = """\
patchclamp: 1
name: t
model: {id: models/llama}
stimuli:
  words:
    kind: csv
    path: words.csv
    text: "{text}"
    labels: [sort, n]
    groups: none
    answer: {correct: " {right}", foil: " {wrong}"}
    spans: {item: "{item}"}
captures:
  resid: {of: words, site: resid_post, layers: [0, 2], positions: last}
interventions:
  zero: {kind: ablate, value: zero}
analyses:
  heads: {kind: ablation, stimuli: words, units: {site: z, layers: 1}, metric: logit_diff}
  decode: {kind: probe, of: resid, target: sort, controls: [majority], cv: {folds: 2}}
"""

HEADS = (
    "  heads: {kind: ablation, stimuli: words, units: {site: z, layers: 1}, metric: logit_diff}\n"
)

WORDS = """\
id,text,sort,right,wrong,item,n
a,w1 w2 w3,x,w4,w5,w2,1
b,w7 w8,y,w9,w10,w7,2
c,w3 w4,x,w4,w5,w4,3
d,w9 w8,y,w9,w10,w8,4
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models without weights: whatever opens them fails."""
    folder = tmp_path_factory.mktemp("models")
    for architecture in ("llama", "gpt_neox"):
        tiny.make(architecture, folder / architecture)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return folder


@pytest.fixture
def folder(tmp_path: Path, models: Path) -> Path:
    (tmp_path / "models").symlink_to(models)
    (tmp_path / "words.csv").write_text(WORDS)
    return tmp_path


def deep(folder: Path, text: str = SPEC) -> Deep:
    return check_deep(loads(text, "t.yaml", folder))


def found(folder: Path, text: str) -> list[tuple[str, int, int, str]]:
    return [(d.code, d.line, d.column, d.message) for d in deep(folder, text).diagnostics]


def placed(folder: Path, text: str, length: int) -> list[tuple[str, int, str, str]]:
    """Problems with what the text says where they are."""
    lines = text.splitlines()
    return [
        (code, line, message, lines[line - 1][column - 1 :][:length])
        for code, line, column, message in found(folder, text)
    ]


def test_a_good_spec_has_no_problem_and_needs_no_weights(folder: Path, models: Path) -> None:
    assert not list(models.rglob("*.safetensors"))
    assert deep(folder).diagnostics == ()


BAD = [
    ("{text}", "{txt}", "P402", 8, '"{txt}"', "stimulus set 'words' has no column 'txt'"),
    ("words.csv", "wrods.csv", "P401", 7, "wrods.csv",
     "cannot read wrods.csv: No such file or directory"),
    ("{right}", "{right} w1", "P406", 11, '" {right} w1"',
     "stimulus 'a': the correct answer ' w4 w1' is 2 tokens after the text: 'w4' 'w1'; it must be "
     "one token"),
    ("{wrong}", "{right}", "P406", 11, '" {right}"}',
     "stimulus 'a': foil and correct answer are the same token, 'w4'"),
    ('foil: " {wrong}"', 'options: [w4, w5, w9], variants: [" {x}"]', "P406", 11, '" {right}"',
     "stimulus 'a': the correct answer ' w4' is not among the options"),
    ('correct: " {right}", foil: " {wrong}"',
     'correct: "{right}", options: [w4, w9], variants: [" {x}", "  {x}"]', "P406", 11, '"  {x}"',
     "stimulus 'a': the spellings ' w4' and '  w4' of one answer are the same token, 'w4': it "
     "would count twice"),
    ('correct: " {right}"', 'correct: " x9"', "P406", 11, '" x9"',
     "stimulus 'a': the correct answer ' x9' holds what the tokenizer does not know: '<unk>'"),
    ("{item}", "w2", "P418", 12, '"w2"', "stimulus 'b': 'w2' does not stand in 'w7 w8'"),
    ('text: "{text}"', 'text: "{text} {text}"', "P418", 12, '"{item}"',
     "stimulus 'a': 'w2' stands 2 times in 'w1 w2 w3 w1 w2 w3'; say which with 'occurrence: first' "
     "or 'last'"),
    ("positions: last", "positions: itm.last", "P418", 14, 'itm.last',
     "the stimulus set 'words' has no span 'itm'"),
    ("positions: last", "positions: [first, -3]", "P418", 14, '-3]',
     "stimulus 'b' has 2 tokens and no position -3 (3 of 4 stimuli)"),
    ("positions: last", "positions: {align: left, size: 3}", "P418", 14, '{align',
     "stimulus 'b' has 2 tokens, and a window at 'left' lacks 1 of its 3 (3 of 4 stimuli)"),
    ("positions: last", "positions: {align: item.first, before: 0, after: 1}", "P418", 14, '{align',
     "stimulus 'c' has 2 tokens, and a window at 'item.first' lacks 1 of its 2 (2 of 4 stimuli)"),
    ("positions: last", "positions: {align: centre, before: 0, after: 2, short: drop}", "P417", 14,
     "{align",
     "the window leaves 0% of the stimuli of 'words', and 'at_least' asks for 90%; "
     "stimulus 'a' has 3 tokens, and a window at 'centre' lacks 1 of its 3"),
    ("positions: last", "positions: all", "P418", 19, "resid, target",
     "in capture 'resid' stimulus 'b' has no token at position 2 (3 of 12 tokens are missing): "
     "choose 'positions' that every stimulus has"),
    ("resid_post, layers: [0, 2]", "attn_pattern, layers: [0, 2]", "P418", 19, "resid, target",
     "in capture 'resid' stimulus 'b' has no token at key 2 (3 of 12 tokens are missing): choose "
     "'keys' that every stimulus has"),
    ("layers: [0, 2]", "layers: [0, 3, 7]", "P412", 14, '[0, 3',
     "'models/llama': there is no layer 3, 7 among 3 layers, 0..2"),
    ("layers: [0, 2]", "heads: 1", "P421", 14, '1, ',
     "the site 'resid_post' has no heads; leave 'heads' out"),
    ("layers: 1}", "layers: 1, heads: [L1H0, L2H3]}", "P421", 18, '1, heads',
     "'layers' leaves out the layer of L2H3: the name says it, leave it out"),
    ("site: resid_post, layers: [0, 2]", "site: embed, layers: [0, 2]", "P421", 14, '[0, 2]',
     "the site 'embed' is in no layer; leave 'layers' out"),
    ("layers: 1}", "heads: [0, 4]}", "P421", 18, '4]',
     "'models/llama' has 3 layers of 4 heads, counted from 0, and no head 4"),
    ("layers: 1}", "heads: [L2H3, L3H0]}", "P421", 18, '[L2H3',
     "'models/llama' has 3 layers of 4 heads, counted from 0, and no head L3H0"),
    ("{site: z, layers: 1}", "{site: v, heads: 2}", "P421", 18, '2}',
     "'models/llama' has 3 layers of 2 key-value heads, counted from 0, and no head 2"),
    ("value: zero", "value: zero, site: resid_post, units: [47, 48]", "P421", 16, '[47',
     "'models/llama' has 48 units, 0..47, and no 48"),
    ("folds: 2", "folds: 5", "P417", 19, '5}', "5 folds, and 'words' has 4 stimuli"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "line", "at", "message"), BAD)
def test_a_problem_has_code_place_and_reason(
    folder: Path, old: str, new: str, code: str, line: int, at: str, message: str
) -> None:
    assert old in SPEC
    assert placed(folder, SPEC.replace(old, new, 1), len(at)) == [(code, line, message, at)]


RSA = "  geometry: {kind: rsa, of: resid, test: {permute: sort}, "
CONTRAST = RSA + "contrast: {kind: "

CLASSES = [
    (CONTRAST + "categorical, column: sort, classes: [x, z]}}", "P420", 'z]',
     "no stimulus of 'words' has the sort 'z'"),
    (CONTRAST + "discriminative, column: sort, target: xx}}", "P420", 'xx}',
     "no stimulus of 'words' has the sort 'xx'"),
    (RSA + "against: {m: {kind: ordinal, column: sort, order: [x, w]}}}", "P420", 'w]',
     "no stimulus of 'words' has the sort 'w'"),
    ("  m: {kind: contrast, of: resid, factors: [sort, n]}", "P420", 'n]}',
     "a factor has two values; 'n' of 'words' has 4"),
    ("  g: {kind: rsa, of: resid, test: {permute: n}, contrast: {kind: discriminative, "
     "column: n}}", "P417", 'n}}',
     "one stimulus of 'words' has the n '1'; pairs within a class need two"),
    ("  d: {kind: probe, of: resid, target: n, cv: {folds: 2}}", "P417", 'n, cv',
     "all of the n '1' in 'words' is one stimulus: the fold that holds it out leaves nothing to "
     "learn it from"),
    ("  s: {kind: selection, column: sort, target: q, methods: {m: {kind: maximum, of: resid}}, "
     "cv: {folds: 2}}", "P420", 'q, ', "no stimulus of 'words' has the sort 'q'"),
    ("  c: {kind: circuit, stimuli: words, units: {site: z}, metric: logit_diff, circuits: {g: "
     "{kind: given, nodes: [L1H1, MLP3]}}}", "P421", 'MLP3',
     "'models/llama' has 3 layers of 4 heads, counted from 0, and no node MLP3"),
    ("  c: {kind: circuit, stimuli: words, units: {site: z}, metric: logit_diff, circuits: {g: "
     "{kind: given, nodes: [9.1]}}}", "P421", '"9.1"',
     "a node is a head such as L9H1, or an MLP such as MLP11; got '9.1'"),
    ("  c: {kind: circuit, stimuli: words, units: {site: z}, metric: logit_diff, circuits: {g: "
     "{kind: given, path: gone.nc}}}", "P401", 'gone.nc', "cannot read gone.nc: no such file"),
    ("  a: {kind: attention, of: resid, pairs: [[last, item], [last, itm]]}", "P418", 'itm]',
     "the stimulus set 'words' has no span 'itm'"),
    ("  d: {kind: probe, of: resid, target: {kind: layer, layers: [0, 3]}, cv: {folds: 2}}",
     "P412", '[0, 3]', "'models/llama': there is no layer 3 among 3 layers, 0..2"),
]  # fmt: skip


@pytest.mark.parametrize(("analysis", "code", "at", "message"), CLASSES)
def test_analyses_are_held_against_their_stimuli(
    folder: Path, analysis: str, code: str, at: str, message: str
) -> None:
    text = SPEC + analysis.replace("[9.1]", '["9.1"]') + "\n"
    assert placed(folder, text, len(at)) == [(code, 20, message, at)]


def test_a_plan_holds_analyses_against_their_stimuli_too(folder: Path) -> None:
    text = SPEC.replace("models/llama", "bundled:sequences").replace("    answer:", "    # answer:")
    text = text.replace(HEADS, "  s: {kind: selection, column: sort, target: x, k: 2, methods: {m: "
                        "{kind: maximum, of: resid}}, cv: {folds: 2}}\n")  # fmt: skip
    assert make_plan(loads(text, "t.yaml", folder)).captures
    misspelt = text.replace("target: x,", "target: xx,")
    with pytest.raises(SpecError, match=r"P420.*target: no stimulus of 'words' has the sort 'xx'"):
        make_plan(loads(misspelt, "t.yaml", folder))


TESTED = [
    ("geometry: {kind: rsa, of: resid, contrast: {kind: discriminative, column: sort}, test: "
     "{permute: sort}}", "sort}}", 'class "x" is made up by one group', "a,a,a,c,d,d"),
    ("geometry: {kind: rsa, of: resid, against: {m: {kind: category, column: sort}}, test: "
     "{permute: sort}}", "sort}}", "allows 10 distinct arrangements.*whole groups", "a,b,c,d,e,f"),
    ("decode: {kind: probe, of: resid, target: sort, cv: {folds: 2}}", "sort, cv",
     "allows 10 distinct arrangements", "a,b,c,d,e,f"),
    ("s: {kind: selection, column: sort, target: x, k: 2, methods: {m: {kind: maximum, of: resid}},"
     " cv: {folds: 2}, test: {permute: sort}}", "sort}}", "allows 10 distinct", "a,b,c,d,e,f"),
    ("s: {kind: selection, column: sort, target: x, k: 2, methods: {m: {kind: maximum, of: resid}},"
     " cv: {folds: 2}}", "", "", "a,b,c,d,e,f"),
    ("decode: {kind: probe, of: resid, target: sort, cv: {folds: 2}, controls: [majority]}", "",
     "", "a,b,c,d,e,f"),
]  # fmt: skip


@pytest.mark.parametrize(("analysis", "at", "message", "groups"), TESTED)
def test_tests_need_something_to_exchange(
    folder: Path, analysis: str, at: str, message: str, groups: str
) -> None:
    rows = zip("abcdef", "xxxyyy", groups.split(","), strict=True)
    lines = [f"{id_},w1{n} w2,{sort},w4,w5,w2,{group}" for n, (id_, sort, group) in enumerate(rows)]
    (folder / "words.csv").write_text("\n".join([WORDS.splitlines()[0], *lines, ""]))
    text = SPEC[: SPEC.index("analyses:")].replace("groups: none", "groups: n")
    text += f"analyses:\n  {analysis}\n"
    found = placed(folder, text, len(at))
    if not at:
        assert found == []
        return
    ((code, _, said, there),) = found
    assert (code, there) == ("P417", at)
    assert re.search(message.replace('"', "'"), said)


def test_a_class_against_all_others_needs_groups_of_both_only(folder: Path) -> None:
    (folder / "words.csv").write_text(
        WORDS.splitlines()[0] + "\n"
        + "".join(f"i{n},w1{n} w2,{sort},w4,w5,w2,{n}\n" for n, sort in enumerate("xxxxyyyz"))
    )  # fmt: skip
    text = SPEC[: SPEC.index("analyses:")].replace("groups: none", "groups: n")
    one = text + f"analyses:\n{CONTRAST}discriminative, column: sort, target: x}}}}\n"
    assert found(folder, one) == []
    every = text + f"analyses:\n{RSA}against: {{m: {{kind: category, column: sort}}}}}}\n"
    assert [d[0] for d in found(folder, every)] == ["P417"]


def test_no_text_is_learnt_and_tested_on(folder: Path) -> None:
    def told(groups: str, more: str = "") -> list[str]:
        text = SPEC.replace(HEADS, "").replace("groups: none", f"groups: {groups}")
        return [d[3] for d in found(folder, text.replace("target: sort,", f"target: sort,{more}"))]

    (folder / "words.csv").write_text(
        WORDS.replace("w7 w8,y", "w1 w2 w3,x").replace(",w7,2", ",w2,2")
    )
    assert told("none")[0] == (
        "the text 'w1 w2 w3' is of more than one stimulus ('a' and 'b'; so many: 1), and would be "
        "tested on where it was learnt: give copies one group, or take each text once"
    )
    assert not [message for message in told("text") if "where it was learnt" in message]
    (folder / "words.csv").write_text(WORDS)
    assert told("none") == []


def test_two_sets_have_the_same_classes(folder: Path) -> None:
    (folder / "more.csv").write_text(WORDS.replace(",y,", ",z,"))  # the same texts, and stimuli
    text = SPEC.replace("captures:", "  more: {kind: csv, path: more.csv, text: '{text}', "
                        "labels: [sort], groups: none}\ncaptures:", 1)  # fmt: skip
    text = text.replace(HEADS, "").replace("target: sort,", "target: sort, test_on: more,")
    (problem,) = [d for d in found(folder, text) if d[0] == "P420"]
    assert problem[3] == "only 'words' has the sort 'y': train and test on the same classes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,dissimilarity\nx,y,far\n",
         "the rating 'dissimilarity' of a row is 'far', which is no number"),
        ("a,c,dissimilarity\nx,y,1\n", "it has no column 'b'"),
        (None, "No such file or directory"),
    ],
)  # fmt: skip
def test_tables_of_ratings_are_read(folder: Path, content: str | None, message: str) -> None:
    model = "against: {m: {kind: continuous, column: sort, ratings: people.csv}}}\n"
    text = SPEC + RSA + model
    if content is not None:
        (folder / "people.csv").write_text(content)
    (problem,) = deep(folder, text).diagnostics
    assert problem.code == "P401"
    assert problem.message.startswith(f"cannot read people.csv: {message}")


def test_a_label_that_a_stimulus_lacks_is_named(folder: Path) -> None:
    (folder / "words.csv").write_text(WORDS.replace("w7 w8,y,", "w7 w8, ,"))
    assert [d[:2] + d[3:] for d in found(folder, SPEC)] == [
        ("P416", 19, "stimulus 'b' of 'words' has no sort: leave it out by 'where'"),
        ("P417", 19, "all of the sort ' ' in 'words' is one stimulus: the fold that holds it out "
         "leaves nothing to learn it from"),
    ]  # fmt: skip


def test_the_nearest_class_is_proposed(folder: Path) -> None:
    (folder / "words.csv").write_text(WORDS.replace(",x,", ",months,").replace(",y,", ",days,"))
    text = SPEC + CONTRAST + "discriminative, column: sort, target: moths}}\n"
    (problem,) = deep(folder, text).diagnostics
    assert (problem.suggestion, problem.allowed) == ("months", ("days", "months"))


def test_what_is_not_numbers_has_no_differences(folder: Path) -> None:
    text = SPEC + RSA + "against: {m: {kind: continuous, column: sort}}}\n"
    assert found(folder, text) == [
        ("P420", 20, 99, "stimulus 'a' of 'words': the sort 'x' is no number")
    ]


def test_a_column_of_one_class_compares_with_nothing(folder: Path) -> None:
    (folder / "words.csv").write_text(WORDS.replace(",y,", ",x,"))
    assert [d[:2] + d[3:] for d in found(folder, SPEC)] == [
        ("P420", 19, "every stimulus of 'words' has the sort 'x': nothing to compare with")
    ]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("id,text,sort,right,wrong,item,n\n", "P403",
         "stimulus set 'words' is empty: words.csv has no rows"),
        (WORDS.replace("\nb,", "\na,"), "P404", "stimulus id 'a' stands 2 times in 'id'"),
        (WORDS + "e," + "w1 " * 63 + "w2 w3,x,w4,w5,w2,5\n", "P407",
         "stimulus 'e' has 65 tokens, the model reads 64; "
            "nothing is truncated silently, 'where: tokens <= 64' leaves it out"),
        (WORDS + "e,w1\n", "P401",
         "cannot read words.csv: row 5 has 2 values, the header names 7 columns"),
    ],
)  # fmt: skip
def test_stimuli_that_cannot_be_used(folder: Path, content: str, code: str, message: str) -> None:
    (folder / "words.csv").write_text(content)
    assert [(d[0], d[3]) for d in found(folder, SPEC)] == [(code, message)]


def test_all_problems_are_told_at_once_in_order(folder: Path) -> None:
    text = SPEC.replace("{item}", "w2").replace("[0, 2]", "7").replace("folds: 2", "folds: 9")
    assert [(d[0], d[1]) for d in found(folder, text)] == [("P418", 12), ("P412", 14), ("P417", 19)]


def test_a_site_that_this_architecture_lacks(folder: Path) -> None:
    text = SPEC.replace("resid_post", "resid_mid").replace("models/llama", "models/gpt_neox")
    ((code, line, column, message),) = found(folder, text)
    assert (code, line, column) == ("P413", 14, 28)
    assert message.startswith("'models/gpt_neox' has no site 'resid_mid': ")
    assert "attention and MLP read the stream in parallel" in message
    assert found(folder, SPEC.replace("resid_post", "mlp_act")) == []


def test_what_is_valid_and_not_implemented_is_checked_and_no_problem(folder: Path) -> None:
    text = SPEC.replace("positions: last", "positions: {align: item, before: 0, after: 0}").replace(
        "groups: none", "groups: none\n    take: {n: 4}\n    where: words in 2..3"
    )
    assert found(folder, text) == []


SOURCES = [
    ("where: tokens > 9", "P403", 'tokens > 9', "none of 4 rows meets 'tokens > 9'"),
    ("where: n > 1", "P416", 'n > 1',
     "row 1: the text '1' and the number 1 cannot be compared; write number(n) (column 3 of "
     "'n > 1')"),
    ("where: wrods > 1", "P402", 'wrods > 1', "stimulus set 'words' has no column 'wrods'"),
    ("take: {n: 3, by: sort}", "P417", '3, ',
     "3 stimuli are to be taken with sort 'x', and there are 2; write 'fewer: true' if that is "
     "enough"),
    ('columns: {more: "{txt}"}', "P402", '"{txt}"', "stimulus set 'words' has no column 'txt'"),
    ('columns: {more: "{n + 1}"}', "P416", '"{n + 1}"',
     "row 1: '{n + 1}' has no value: '+' takes two numbers or two texts; got the text '1' and "
     "the number 1; write number(n)"),
    ("id: sort", "P404", 'sort', "stimulus id 'x' stands 2 times in 'sort'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "at", "message"), SOURCES)
def test_rows_are_chosen_and_columns_made(
    folder: Path, line: str, code: str, at: str, message: str
) -> None:
    text = SPEC.replace("    groups: none\n", f"    groups: none\n    {line}\n")
    assert placed(folder, text, len(at)) == [(code, 11, message, at)]


def test_a_double_bos_is_told(folder: Path) -> None:
    (folder / "words.csv").write_text(WORDS.replace("w1 w2 w3", "<end> w2 w3"))
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(folder / "models" / "llama")
    own = folder / "own"
    own.mkdir()
    (own / "config.json").write_text((folder / "models/llama/config.json").read_text())
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<end>", unk_token="<unk>"
    )
    made.save_pretrained(own)
    text = SPEC.replace("models/llama}", "own, tokenizer: {bos: always}}")
    assert found(folder, text) == []  # the text begins with it, so that it is not added
    (folder / "words.csv").write_text(WORDS.replace("w1 w2 w3", "<end> <end> w2"))
    assert [(d[0], d[3]) for d in found(folder, text)] == [
        ("P407", "stimulus 'a' begins with two BOS tokens: the tokenizer adds one already")
    ]
    window = text.replace("positions: last", "positions: {align: left, size: 2}")
    (folder / "words.csv").write_text(WORDS)
    assert found(folder, window) == []
    table = deep(folder, window).tables[0]
    assert "is        BOS        item  answer" in table


@pytest.mark.parametrize(
    ("choice", "message"),
    [("bos: always", "has no BOS token"), ("chat: user", "has no chat template")],
)
def test_a_tokenizer_that_lacks_what_is_asked(folder: Path, choice: str, message: str) -> None:
    text = SPEC.replace("models/llama}", f"models/llama, tokenizer: {{{choice}}}}}")
    at = choice.split()[1]
    assert placed(folder, text, len(at)) == [
        ("P407", 3, f"the tokenizer of 'models/llama' {message}", at)
    ]


PARTNERS = SPEC.replace(
    "captures:",
    """\
  other:
    kind: csv
    path: other.csv
    text: "{text}"
    groups: none
    partners: {of: words, by: id}
captures:""",
)


@pytest.mark.parametrize(
    ("rows", "old", "new", "message"),
    [
        ("a,w1 w2 w9\nb,w7 w9\nc,w3 w9\nd,w9 w9\n", "", "", None),
        ("a,w1 w2\nb,w7 w9\nc,w3 w9\nd,w9 w9\n", "", "",
         "the partner of stimulus 'a' has 2 tokens instead of 3; write 'equal_length: any' if "
         "lengths may differ"),
        ("a,w1 w2\nb,w7 w9\nc,w3 w9\nd,w9 w9\n", "by: id", "equal_length: any", None),
        ("a,w1 w2 w9\nb,w7 w9\nc,w3 w9\n", "", "",
         "'other' has no partner for stimulus 'd' of 'words'"),
        ("a,w1 w2 w9\nb,w7 w9\nc,w3 w9\n", "by: id", "by: order",
         "'other' has 3 stimuli, 'words' has 4: in order, they cannot be partners"),
    ],
)  # fmt: skip
def test_partners_match(folder: Path, rows: str, old: str, new: str, message: str | None) -> None:
    (folder / "other.csv").write_text(f"id,text\n{rows}")
    text = PARTNERS.replace(old, new) if old else PARTNERS
    said = found(folder, text)
    assert [(d[0], d[3]) for d in said] == ([("P422", message)] if message else [])
    assert all(d[1] == 18 for d in said)


def test_a_corrupt_set_of_other_lengths(folder: Path) -> None:
    bundled = load("quickstart", ["model.id=bundled:sequences"])
    assert check_deep(bundled).diagnostics == ()
    text = SPEC.replace("captures:", "  mixed: {kind: corrupt, of: words}\ncaptures:").replace(
        "    groups: none\n", "    groups: none\n    slots: [right, wrong]\n"
    )
    assert [(d[0], d[1], d[3]) for d in found(folder, text)] == [
        ("P405", 11, "stimulus 'a': slot value 'w4' does not stand in 'w1 w2 w3' after 0")
    ]  # fmt: skip


TEMPLATE = """\
patchclamp: 1
name: t
model: {id: models/llama}
stimuli:
  made:
    kind: template
    vocabularies: {low: [w1, w2, w3, w4], high: [w11, w12, w13, w14]}
    words: {fill: {words: [w21, w22, w23, w24], exclude: [low]}}
    for: {seq: [low, high], i: 0..1}
    draw: {f: {source: fill, n: 2, share: [seq]}}
    columns: {s1: "{seq[i]}", next: "{seq[i + 2]}"}
    text: "{f[0]} {s1} {f[1]} {seq[i + 1]}"
    labels: [seq, i]
    spans: {s1: "{s1}"}
    slots: [s1]
    answer: {correct: " {next}", foil: " {s1}"}
"""


def test_a_template_is_generated_with_shared_words(folder: Path) -> None:
    result = deep(folder, TEMPLATE)
    assert result.diagnostics == ()
    (table,) = result.tables
    assert "made: 4 stimuli of 4 tokens, as models/llama reads them" in table
    from patchclamp.engine.problems import Problems
    from patchclamp.engine.stimuli import read_stimuli

    made = read_stimuli(Problems(loads(TEMPLATE, "t.yaml", folder)), 0)["made"]
    assert made.labels == {"seq": ("low", "low", "high", "high"), "i": ("0", "1", "0", "1")}
    words = [text.split() for text in made.texts]
    assert [w[1] for w in words] == ["w1", "w2", "w11", "w12"]
    assert [w[3] for w in words] == ["w2", "w3", "w12", "w13"]
    assert words[0][::2] == words[2][::2]
    assert words[1][::2] == words[3][::2]
    assert made.correct == (" w3", " w4", " w13", " w14")


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "at", "message"),
    [
        ("i: 0..1", "i: 0..2", "P416", 11, '"{seq[i + 2]}"',
         "row 3: '{seq[i + 2]}' has no value: there is no item 4 in a list of 4"),
        ("i: 0..1", "i: 3..1", "P416", 9, '3..1',
         "a loop is a list, or a range upwards such as 0..7; got '3..1'"),
        ("i: 0..1", "i: 0..999999", "P417", 9, '{seq',
         "these loops make 400,002 rows; at most 200,000 are allowed"),
        ("source: fill, n: 2", "source: full, n: 2", "P402", 10, 'full',
         "no word list or vocabulary 'full'"),
        ("n: 2,", "n: 9,", "P417", 10, '9,', "9 words are to be drawn from 'fill', which has 4"),
        ("share: [seq]", "share: [sq]", "P402", 10, 'sq]', "no loop 'sq' under 'for'"),
        ("exclude: [low]", "exclude: [lwo]", "P402", 8, 'lwo]', "no vocabulary 'lwo'"),
        ("words: [w21, w22, w23, w24]", "path: gone.txt", "P401", 8, 'gone.txt',
         "cannot read gone.txt: No such file or directory"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_generated(
    folder: Path, old: str, new: str, code: str, line: int, at: str, message: str
) -> None:
    text = TEMPLATE.replace(old, new, 1)
    assert placed(folder, text, len(at)) == [(code, line, message, at)]


def test_a_hub_id_that_is_out_of_reach_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    (problem,) = deep(folder, SPEC.replace("models/llama", "EleutherAI/pythia-70m")).diagnostics
    assert (problem.code, problem.severity, problem.line, problem.column) == (
        "P419",
        "warning",
        3,
        13,
    )
    assert problem.message.startswith(
        "'EleutherAI/pythia-70m' cannot be checked here: it is not in the local cache, and the hub "
        "could not be asked ("
    )
    text = SPEC.replace("models/llama", "EleutherAI/pythia-70m").replace("{text}", "{txt}")
    assert [d[0] for d in found(folder, text)] == ["P402", "P419"]


def test_each_combination_of_a_matrix_is_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import patchclamp.engine.deep as module

    asked = []
    for name in ("find_model", "read_stimuli"):
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, _f=original, _n=name, **k: asked.append(_n) or _f(*a, **k)
        )
    text = SPEC + (
        "matrix:\n  grid:\n    model.id: [models/llama, models/gpt_neox]\n"
        "    captures.resid.layers: [0, 2, 3]\n"
    )
    result = deep(folder, text)
    assert asked == ["find_model", "read_stimuli"] * 2
    assert [(d.code, d.line, d.column, d.message) for d in result.diagnostics] == [
        ("P412", 23, 35, f"'models/{m}': there is no layer 3 among 3 layers, 0..2 (matrix value)")
        for m in ("gpt_neox", "llama")
    ]
    assert len(result.tables) == 2


def test_a_problem_of_some_cells_names_the_first(folder: Path) -> None:
    text = SPEC.replace("resid_post", "resid_mid") + (
        "matrix: {grid: {model.id: [models/llama, models/gpt_neox]}}\n"
    )
    ((code, line, column, message),) = found(folder, text)
    assert (code, line, column) == ("P413", 14, 28)
    assert message.endswith("(in the cell model.id=models/gpt_neox)")


def test_the_command_prints_tables_and_problems(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "t.yaml"
    path.write_text(SPEC)
    assert cli.main(["validate", "--deep", str(path)]) == 0
    out = capsys.readouterr().out
    assert out == f"{path}\n\n{TABLE}\n1 spec, 1 valid, 0 errors\n"
    path.write_text(SPEC.replace("[0, 2]", "9"))
    assert cli.main(["validate", "--deep", "--format", "line", str(path)]) == 1
    assert capsys.readouterr().out == (
        f"{path}:14:48: error[P412]: captures.resid.layers: 'models/llama': there is no layer 9 "
        "among 3 layers, 0..2\n"
    )
    path.write_text(SPEC.replace("resid_post", "resid_pst"))
    assert cli.main(["validate", "--deep", str(path)]) == 1
    assert "error[P204]" in capsys.readouterr().out


TABLE = """\
words: 4 stimuli of 2..3 tokens, as models/llama reads them

  stimulus a
  position  0   1     2
  token     w1  w2    w3
  is            item  answer
  correct   ␣w4  ->  w4
  foil      ␣w5  ->  w5

  stimulus b
  position  0     1
  token     w7    w8
  is        item  answer
  correct   ␣w9   ->  w9
  foil      ␣w10  ->  w10
"""


def test_the_table_shows_spaces_and_wraps(folder: Path, capsys: Any) -> None:
    result = check_deep(load("quickstart"))
    words, scrambled = result.tables
    assert "correct   ␣nine   ->  ␣nine" in words
    assert words != scrambled
    (folder / "words.csv").write_text(WORDS.replace("w1 w2 w3", "w2 " + "w1 " * 50 + "w3"))
    table = deep(folder).tables[0]
    assert max(map(len, table.splitlines())) <= 100
    assert table.count("  position") == 4
    (folder / "words.csv").write_text(WORDS)
