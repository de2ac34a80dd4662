"""Marks of a tokenizer: what it does not know, and what it puts behind every text, is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from tokenizers.normalizers import BertNormalizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from patchclamp.engine import cli, run
from patchclamp.engine.deep import check_deep
from patchclamp.registry.errors import SpecError
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: marks
model: {id: MODEL}
stimuli:
  words:
    kind: items
    text: "{t}"
    spans: {animal: "{animal}"}
    items: [{t: w1 w2 w3, animal: w2}, {t: ODD w4 w5, animal: ANIMAL}]
captures:
  resid: {site: resid_post, layers: [2], positions: POSITIONS}
run: {device: cpu, threads: 1}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`, which puts nothing behind a text, and `ended`, which puts <end> there."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("plain", "ended", "bert"):
        tiny.make("bert" if name == "bert" else "llama", folder / name)
    for name in ("ended", "bert"):
        tokenizer = AutoTokenizer.from_pretrained(folder / name)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="$A <end>", special_tokens=[("<end>", tokenizer.eos_token_id)]
        )
        tokenizer.save_pretrained(folder / name)
    return folder


def spec(
    model: Path, *, odd: str = "w9", animal: str = "w4", positions: str = "last", more: str = ""
) -> str:
    given = {"MODEL": str(model), "ODD": odd, "ANIMAL": animal, "POSITIONS": positions}
    text = SPEC + more
    for name, value in given.items():
        text = text.replace(name, value)
    return text


def written(folder: Path, text: str) -> Path:
    (folder / "t.yaml").write_text(text)
    return folder / "t.yaml"


def told(text: str) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in check_deep(loads(text)).diagnostics]


UNKNOWN = (
    "1 of 2 texts, '1' first, hold what the tokenizer does not know: the model reads '<unk>' "
    "there; write them otherwise, or leave them out by 'where'"
)


def test_what_a_tokenizer_does_not_know_is_told_by_every_command_and_by_the_result(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, spec(models / "plain", odd="zebra"))
    result = run(path, out=tmp_path / "runs")
    assert [(w.code, w.message, w.severity) for w in result.warnings] == [
        ("P612", UNKNOWN, "warning")
    ]
    made = json.loads(xr.open_datatree(result.path).attrs["provenance"])
    assert made["warnings"] == [{"code": "P612", "at": "stimuli.words.text", "message": UNKNOWN}]
    for command in (["run", "--out", str(tmp_path / "runs")], ["plan"], ["validate", "--deep"]):
        assert cli.main([*command, str(path)]) == 0
        said = capsys.readouterr().out
        assert said.count("P612") == 1, command
        assert UNKNOWN in said.replace("\n", ""), command


def test_what_is_allowed_is_not_shown_and_stands_in_the_result_with_the_reason(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allow = 'allow: {P612: "names of animals do not matter"}\n'
    path = written(
        tmp_path,
        spec(models / "plain", odd="zebra", animal="zebra", positions="animal", more=allow),
    )
    result = run(path, out=tmp_path / "runs")
    assert result.warnings == ()
    made = json.loads(xr.open_datatree(result.path).attrs["provenance"])
    (record,) = made["warnings"]
    assert record["code"] == "P612"
    assert record["allowed"] == "names of animals do not matter"
    assert cli.main(["validate", "--deep", str(path)]) == 0
    assert "0 errors, 1 warning allowed" in capsys.readouterr().out
    vain = spec(models / "plain", more=allow)
    why = "P612 does not fire here, so nothing is allowed; take the line out"
    assert told(vain) == [("P600", why)]
    assert [w.message for w in run(written(tmp_path, vain), out=tmp_path).warnings] == [why]
    assert loads(vain).warnings == ()  # without a tokenizer, nobody knows


@pytest.mark.parametrize(
    ("positions", "odd", "at"),
    [("animal", "zebra", "animal"), ("[last, 0]", "zebra", "0"), ("first", "zebra", "first")],
)
def test_a_position_is_not_what_the_tokenizer_does_not_know(
    models: Path, positions: str, odd: str, at: str
) -> None:
    animal = odd if positions == "animal" else "w4"
    text = spec(models / "plain", odd=odd, animal=animal, positions=positions)
    assert ("P418", f"stimulus '1' holds at {at if at == '0' else repr(at)}, token 0, what the "
            "tokenizer does not know; write it otherwise, leave it out by 'where', or allow P612 "
            "if it is meant") in told(text)  # fmt: skip
    with pytest.raises(SpecError, match="what the tokenizer does not know; write it otherwise"):
        run(written(Path(models), text), out=models)


def test_the_same_elsewhere_is_no_error(models: Path) -> None:
    for positions in ("all", "last", "{align: left, size: 3}"):
        text = spec(models / "plain", odd="zebra", positions=positions)
        assert [code for code, _ in told(text)] == ["P612"]
    assert told(spec(models / "plain", odd="<unk>")) == []  # it is written so


@pytest.mark.parametrize("model", ["ended", "bert"])
@pytest.mark.parametrize("position", ["last", "answer"])
def test_the_last_token_is_not_one_that_the_tokenizer_adds(
    models: Path, model: str, position: str
) -> None:
    (found,) = [message for code, message in told(spec(models / model, positions=position))
                if code == "P418"]  # fmt: skip
    assert found == (
        "stimulus '0' ends with '<end>', which the tokenizer puts behind each text: say -1 if "
        f"{position!r} is that mark, and -2 if it is the last token of the text itself "
        "(2 of 2 stimuli)"
    )


def test_numbers_say_which_of_the_two_is_meant(models: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / "ended")
    module = AutoModelForCausalLM.from_pretrained(models / "ended", dtype=torch.float32)
    ids = tokenizer("w1 w2 w3", return_tensors="pt")["input_ids"]
    assert ids[0, -1] == tokenizer.eos_token_id
    with torch.no_grad():
        # Behind the last block stands a norm; before it is what the next-to-last gives.
        expected = module(ids, output_hidden_states=True).hidden_states[2][0]
    for position in (-1, -2):
        path = written(tmp_path, spec(models / "ended", positions=str(position)))
        path.write_text(path.read_text().replace("layers: [2]", "layers: [1]"))
        found: Any = run(path, out=tmp_path).groups["/captures/resid"]["activation"]
        np.testing.assert_allclose(
            found.isel(stimulus=0).squeeze(), expected[position], rtol=1e-4, atol=1e-4
        )


def test_a_window_leaves_such_an_end_out_unless_it_takes_marks_along(models: Path) -> None:
    for window, fits in (
        ("{align: left, size: 3}", True),
        ("{align: left, size: 4}", False),
        ("{align: left, size: 4, skip: none}", True),
        ("{align: centre, before: 1, after: 1}", True),
        ("{align: animal, before: 0, after: 3}", False),
    ):
        text = spec(models / "ended", positions=window)
        assert ("P418" not in [code for code, _ in told(text)]) is fits, window


def test_that_a_causal_model_reads_such_ends_is_told(models: Path, tmp_path: Path) -> None:
    text = spec(models / "ended", positions="all")
    message = (
        "the tokenizer ends each text with '<end>': what is read behind a text, as a next token, "
        "is what follows that mark; 'bos: never' in model.tokenizer puts none, and no BOS either"
    )
    assert told(text) == [("P613", message)]
    assert [w.message for w in run(written(tmp_path, text), out=tmp_path).warnings] == [message]
    never = text.replace('ended"', "ended").replace("ended}", "ended, tokenizer: {bos: never}}")
    assert told(never) == []
    assert told(never.replace("positions: all", "positions: last")) == []
    assert told(spec(models / "bert", positions="all")) == []
    assert told(spec(models / "plain")) == []


def test_of_several_models_the_one_is_named_that_knows_a_text_not(
    models: Path, tmp_path: Path
) -> None:
    ended, plain = models / "ended", models / "plain"
    matrix = f"matrix: {{grid: {{model.id: [{plain}, {ended}]}}}}\n"
    result = run(written(tmp_path, spec(plain, positions="all", more=matrix)), out=tmp_path)
    (warning,) = result.warnings
    assert warning.code == "P613"
    assert warning.message.endswith(f"(in the cell model.id={ended})")
    made = json.loads(xr.open_datatree(result.path).attrs["provenance"])
    assert [one["code"] for one in made["warnings"]] == ["P613"]
    cells = [cell["provenance"]["warnings"] for cell in made["cells"]]
    assert [[one["code"] for one in of] for of in cells] == [[], ["P613"]]


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ("{align: left, size: 2}", [[3, 4], [11, 6]]),
        ("{align: left, size: 2, skip: none}", [[60, 3], [60, 11]]),
        ("{align: centre, before: 0, after: 1}", [[4, 5], [6, 7]]),
        ("{align: left, size: 4, short: mask}", [[3, 4, 5, -1], [11, 6, 7, -1]]),
    ],
)
def test_a_window_begins_behind_what_an_encoder_begins_with(
    positions: str, expected: list[list[int]], tmp_path: Path
) -> None:
    """[CLS] stands in the place of a BOS, and is no part of a text either."""
    model = tiny.make("bert", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"cls_token": "w58", "sep_token": "w59"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="w58 $A w59", special_tokens=[("w58", 60), ("w59", 61)]
    )
    tokenizer.save_pretrained(model)
    (tmp_path / "s.yaml").write_text(spec(model, positions=positions))
    result = run(tmp_path / "s.yaml", out=tmp_path / "runs", cache=tmp_path / "cache")
    found = result.groups["/captures/resid"]["token_id"]
    assert found.to_numpy().tolist() == expected


def test_characters_that_are_passed_by_and_texts_that_are_read_alike_are_told(
    models: Path, tmp_path: Path
) -> None:
    tiny.make("llama", tmp_path / "folded")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folded")
    tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=True, clean_text=True)
    tokenizer.save_pretrained(tmp_path / "folded")
    text = spec(tmp_path / "folded", positions="all").replace("t: w1 w2 w3", 't: "w9\\u200d W4 w5"')
    text = text.replace('    spans: {animal: "{animal}"}\n', "")
    assert told(text) == [
        (
            "P612",
            "1 of 2 texts, '0' first, hold what no token stands for, as '\\u200d': the model does "
            "not read it; write them otherwise, or leave them out by 'where'",
        ),
        (
            "P614",
            "1 of 2 texts, '1' first, are read as others are: the text of '1' is other than that "
            "of '0', and their tokens are the same",
        ),
    ]
    # The negative controls: other tokens, and one text that stands there twice.
    assert told(spec(tmp_path / "folded", positions="all")) == []
    assert told(spec(models / "plain", odd="w1 w2 w3", positions="all")) == []
    same = text.replace('"w9\\u200d W4 w5"', "w9 w4 w5")
    assert same != text
    assert told(same) == []
