"""What only stimuli, tokenizer and config can tell: every problem at its place, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from patchclamp.engine.efforts import all_passes
from patchclamp.engine.plan import make_plan
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: t
model: {id: models/llama}
stimuli:
  words:
    kind: csv
    path: words.csv
    text: "{text}"
    labels: [kind_of]
    groups: none
    answer: {correct: " {right}", foil: " {wrong}"}
captures:
  resid: {site: resid_post, layers: [0, 2], positions: last}
interventions:
  zero: {kind: ablate, value: zero}
analyses:
  heads: {kind: ablation, units: {site: z, layers: 1}, metric: {kind: logit_diff}}
"""

WORDS = """\
id,text,kind_of,right,wrong
a,w1 w2 w3,x,w4,w5
b,w7 w8,y,w9,w10
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for architecture in ("llama", "gpt_neox"):
        tiny.make(architecture, folder / architecture)
    return folder


@pytest.fixture
def folder(tmp_path: Path, models: Path) -> Path:
    (tmp_path / "models").symlink_to(models)
    (tmp_path / "words.csv").write_text(WORDS)
    return tmp_path


def plan(folder: Path, text: str = SPEC) -> Any:
    return make_plan(loads(text, "t.yaml", folder))


def test_a_plan_counts_its_passes_before_loading_weights(folder: Path) -> None:
    made = plan(folder)
    assert made.model.shape.layers == 3
    assert made.captures[0].layers == (0, 2)
    assert tuple(made.sets["words"].tokens.ids) == ((3, 4, 5), (9, 10))
    assert made.sets["words"].tokens.first_spelling("correct") == ((6,), (11,))
    assert made.sets["words"].tokens.first_spelling("foil") == ((7,), (12,))
    # one clean batch, and one for each of the four heads of layer 1
    assert all_passes(made, optimise=False) == 1 + 4
    # all four side by side, from what a clean pass leaves before layer 1
    assert all_passes(made) == 1 + 1 + 1


def test_analyses_that_need_the_same_condition_share_its_pass(folder: Path) -> None:
    twice = SPEC + (
        "  again: {kind: ablation, units: {site: z, layers: 0..1}, metric: {kind: accuracy}}\n"
    )
    assert all_passes(plan(folder, twice), optimise=False) == 1 + 8


BAD = [
    ("models/llama", "models/lama", "P408", "did you mean 'models/llama'?", 3),
    ("models/llama", "models/lama", "P408", "could not be had from the hub", 3),
    ("id: models/llama", "id: ./gone", "P408", "there is no model folder './gone'", 3),
    (
        "id: models/llama",
        "id: bundled:sequence",
        "P408",
        "unknown bundled model 'bundled:sequence'",
        3,
    ),
    (
        "id: models/llama",
        "id: bundled:sequences, revision: step9",
        "P409",
        "'bundled:sequences' has no revision 'step9'",
        3,
    ),
    ("models/llama}", "models/llama, revision: x}", "P409", "has no revisions", 3),
    ("words.csv", "wrods.csv", "P401", "cannot read wrods.csv: No such file", 6 + 1),
    ("{text}", "{txt}", "P402", "stimulus set 'words' has no column 'txt'", 8),
    ("[kind_of]", "[kind]", "P402", "stimulus set 'words' has no column 'kind'", 9),
    ("groups: none", "groups: topic", "P402", "stimulus set 'words' has no column 'topic'", 10),
    (
        "{right}",
        "{right} w1",
        "P406",
        "the correct answer ' w4 w1' is 2 tokens after the text: 'w4' 'w1'; it must be one token",
        11,
    ),
    ("{wrong}", "{right}", "P406", "foil and correct answer are the same token, 'w4'", 11),
    ("[0, 2]", "[0, 3, 7]", "P412", "there is no layer 3, 7 among 3 layers, 0..2", 13),
    ("layers: 1}", "layers: 5}", "P412", "there is no layer 5", 17),
    ("models/llama}", "models/gpt_neox}\n#", "P413", "has no site 'resid_mid'", 14),
]


@pytest.mark.parametrize(("old", "new", "code", "message", "line"), BAD)
def test_a_problem_has_code_place_and_reason(
    folder: Path, old: str, new: str, code: str, message: str, line: int
) -> None:
    text = SPEC.replace(old, new, 1)
    if code == "P413":
        text = text.replace("resid_post", "resid_mid")
    with pytest.raises(SpecError) as caught:
        plan(folder, text)
    (found,) = caught.value.diagnostics
    assert (found.code, found.line) == (code, line)  # type: ignore[attr-defined]
    assert message in str(caught.value)
    assert f"t.yaml:{line}:" in str(caught.value)


def test_nearest_names_are_proposed(folder: Path) -> None:
    for old, new, close in (
        ("{text}", "{txt}", "text"),
        ("[kind_of]", "[kind_off]", "kind_of"),
        ("id: models/llama", "id: bundled:sequence", "bundled:sequences"),
    ):
        with pytest.raises(SpecError, match=f"did you mean '{close}'"):
            plan(folder, SPEC.replace(old, new, 1))


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    text = SPEC.replace("[0, 2]", "9").replace("{text}", "{txt}").replace("layers: 1", "layers: 4")
    with pytest.raises(SpecError) as caught:
        plan(folder, text)
    codes = [d.code for d in caught.value.diagnostics]  # type: ignore[attr-defined]
    assert sorted(codes) == ["P402", "P412", "P412"]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("id,text,kind_of,right,wrong\n", "P403", "stimulus set 'words' is empty"),
        ("", "P403", "stimulus set 'words' is empty"),
        (WORDS.replace("\nb,", "\na,"), "P404", "stimulus id 'a' stands 2 times in 'id'"),
        (WORDS + "c,w1\n", "P401", "row 3 has 2 values, the header names 5 columns"),
        (WORDS.replace("right", "text"), "P401", "the header names text twice"),
        (WORDS + '"c,w1', "P401", "line 4: unexpected end of data"),
        (WORDS + "c,,x,w4,w5\n", "P407", "stimulus 'c' has no tokens"),
        (
            WORDS + "c," + "w1 " * 65 + ",x,w4,w5\n",
            "P407",
            "stimulus 'c' has 65 tokens, the model reads 64; "
            "nothing is truncated silently, 'where: tokens <= 64' leaves it out",
        ),
    ],
)
def test_stimuli_that_cannot_be_used_are_refused(
    folder: Path, content: str, code: str, message: str
) -> None:
    (folder / "words.csv").write_text(content)
    with pytest.raises(SpecError) as caught:
        plan(folder)
    (found,) = caught.value.diagnostics
    assert found.code == code  # type: ignore[attr-defined]
    assert message in str(caught.value)


JSONL = SPEC.replace("kind: csv", "kind: jsonl").replace("words.csv", "words.jsonl")


def test_jsonl_and_items_give_the_same_plan_as_csv(folder: Path) -> None:
    (folder / "words.jsonl").write_text(
        '{"id": "a", "text": "w1 w2 w3", "kind_of": "x", "right": "w4", "wrong": "w5", "l": [1]}\n'
        "\n"
        '{"id": "b", "text": "w7 w8", "kind_of": "y", "right": "w9", "wrong": "w10"}\n'
    )
    items = SPEC.replace("kind: csv", "kind: items").replace(
        "    path: words.csv\n",
        "    items:\n"
        "      - {id: a, text: w1 w2 w3, kind_of: x, right: w4, wrong: w5}\n"
        "      - {id: b, text: w7 w8, kind_of: y, right: w9, wrong: w10}\n",
    )
    expected = plan(folder).sets["words"]
    for text in (JSONL, items):
        made = plan(folder, text).sets["words"]
        assert made.tokens == expected.tokens
        assert made.table.digest == expected.table.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{\n", "line 1 is not JSON"),
        ("[1]\n", "line 1 is not a JSON object"),
        ('{"id": "a", "text": "w1"}\n{"id": "b"}\n', "row 2 of words.jsonl has other columns"),
        ("\n", "stimulus set 'words' is empty"),
    ],
)
def test_bad_jsonl_is_refused_by_line(folder: Path, content: str, message: str) -> None:
    (folder / "words.jsonl").write_text(content)
    with pytest.raises(SpecError, match=message):
        plan(folder, JSONL)


def test_rows_without_ids_are_numbered(folder: Path) -> None:
    (folder / "words.csv").write_text(WORDS.replace("id,", "nr,"))
    assert plan(folder).sets["words"].table.ids == ("0", "1")


def test_a_mean_per_position_must_reach_every_position_it_replaces(folder: Path) -> None:
    text = SPEC.replace("value: zero", "value: {mean_over: short, per: position}").replace(
        "captures:",
        "  short:\n    kind: items\n    text: '{t}'\n    groups: none\n    items: [{t: w1 w2}]\n"
        "captures:",
    )
    text = text.replace("{site: resid_post", "{of: words, site: resid_post")
    with pytest.raises(SpecError) as caught:
        plan(folder, text)
    assert "'words' reaches 3 tokens, but 'short'" in str(caught.value)
    assert "positions 2..2 have no mean" in str(caught.value)
    plan(folder, text.replace("per: position", "per: all"))


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (lambda m: (m / "config.json").unlink(), "P410", "holds no readable model"),
        (
            lambda m: (m / "config.json").write_text('{"model_type": "t5"}'),
            "P411",
            "is a 't5' model, whose sites are not known",
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(
    folder: Path, tmp_path: Path, damage: Any, code: str, message: str
) -> None:
    (tmp_path / "own").mkdir()
    model = tiny.make("llama", tmp_path / "own" / "llama")
    damage(model)
    with pytest.raises(SpecError) as caught:
        plan(folder, SPEC.replace("models/llama", "own/llama"))
    (found,) = caught.value.diagnostics
    assert found.code == code  # type: ignore[attr-defined]
    assert message in str(caught.value)


def test_a_hub_id_is_found_in_the_local_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot laid out as the hub's client caches it, read without a network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--owner--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / commit).symlink_to((folder / "models" / "llama").resolve())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    made = plan(folder, SPEC.replace("models/llama", "owner/tiny"))
    assert made.model.revision == commit
    assert made.model.shape.layers == 3
