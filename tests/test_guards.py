"""Each guard passes on a right measurement and fails, by name, on a wrong one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from patchclamp.engine import run
from patchclamp.engine.answering import ask_all, asking, clean_asking, collect
from patchclamp.engine.backend import Step, open_backend
from patchclamp.engine.body import not_finite
from patchclamp.engine.guards import (
    check_answers,
    check_captures,
    check_identities,
    deviation,
    note_precision,
)
from patchclamp.engine.passes import Passes
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.engine.recording import outstanding, record_clean
from patchclamp.engine.records import Cache
from patchclamp.engine.results import open_result
from patchclamp.engine.values import Values
from patchclamp.engine.verdicts import Verdict, of_revisions, of_texts
from patchclamp.engine.weights import load_weights
from patchclamp.registry.errors import GuardError
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: guards
model: gpt_neox
stimuli:
  words:
    kind: items
    text: "{text}"
    answer: {correct: " w1", foil: " w2"}
    items: [{text: w1 w2 w3 w4 w5}, {text: w6 w7}]
captures:
  last: {site: resid_post}
interventions:
  zero: {kind: ablate, value: zero}
analyses:
  heads: {kind: ablation, units: {site: z}, metric: {kind: logit_diff}}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("models")
    tiny.make("gpt_neox", folder / "gpt_neox")
    return make_plan(loads(SPEC, folder=folder))


class Spoilt:
    """A real backend whose inputs or steps are spoilt on the way."""

    def __init__(self, plan: Plan, *, mask: bool = True, writes: bool = True) -> None:
        self.module = load_weights(plan.model, "cpu")
        self.inner = open_backend("hooks", self.module, plan.model.tokenizer)
        self.mask, self.writes = mask, writes

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        steps: Sequence[Step],
        *,
        stop: bool,
        prefix: dict[str, Any] | None = None,
    ) -> dict[str, torch.Tensor]:
        given: dict[str, Any] = dict(inputs)
        if not self.mask:
            # What a loop does that pads on the left and forgets to say so.
            given["input_ids"] = inputs["input_ids"].roll(1, dims=1)
        kept = [step for step in steps if self.writes or step["do"] != "write"]
        return self.inner.forward(given, kept, stop=stop, prefix=prefix)


def judge(plan: Plan, backend: Spoilt) -> list[Any]:
    passes = Passes(plan, backend, lambda _: None)
    verdicts = check_identities(passes, backend.module)
    values = Values(plan)
    with TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        asked = clean_asking(plan, "words")
        record_clean(passes, outstanding(plan, cache, [asked]), cache)
        verdicts += check_captures(passes, plan.captures, cache)
        clean = collect(plan, asked, cache)
        verdicts += check_answers(passes, asked, clean, {})
        asked = asking(plan, "words", plan.conditions()["words"], values)
        ask_all(passes, asked, cache)
        verdicts += check_answers(passes, asked, collect(plan, asked, cache), clean[()])
    return verdicts


def test_a_first_stimulus_of_one_token_does_not_hide_what_attention_is(plan: Plan) -> None:
    """Of one token the pattern is 1 whatever its positions, so the longest one is looked at."""
    text = SPEC.replace("{text: w1 w2", "{text: w9}, {text: w1 w2")
    made = make_plan(loads(text, folder=plan.loaded.folder))
    assert len(made.sets["words"].tokens.ids[0]) == 1
    backend = Spoilt(made)
    row = replace(made.model.architecture, rotary="")
    unturned = replace(made, model=replace(made.model, architecture=row))
    check_identities(Passes(made, backend, lambda _: None), backend.module)
    with pytest.raises(GuardError, match="'site identity' failed on attn_pattern v = z: the site"):
        check_identities(Passes(unturned, backend, lambda _: None), backend.module)


def test_a_right_measurement_passes_every_guard(plan: Plan) -> None:
    verdicts = judge(plan, Spoilt(plan))
    assert {v.guard for v in verdicts} == {
        "finite",
        "intervention had effect",
        "batched = alone",
        "site identity",
        "precision",
    }
    identities = {v.on for v in verdicts if v.guard == "site identity"}
    assert "z W_O + b_O = attn_out" in identities
    assert all(v.as_dict()["verdict"] == "ok" for v in verdicts)


def test_padding_that_reaches_a_number_is_caught(plan: Plan) -> None:
    with pytest.raises(GuardError, match=r"guard 'batched = alone' failed on words, stimulus '1'"):
        judge(plan, Spoilt(plan, mask=False))


def test_an_intervention_that_never_reaches_the_model_is_caught(plan: Plan) -> None:
    with pytest.raises(GuardError, match="'zero' at z L0H0 changes no logit at all"):
        judge(plan, Spoilt(plan, writes=False))


@pytest.mark.parametrize(
    ("site", "path", "identity"),
    [
        ("attn_out", "gpt_neox.layers.{layer}.mlp", "resid_pre"),
        ("z", "gpt_neox.layers.{layer}.attention.dense", "z W_O"),
        ("resid_post", "gpt_neox.layers.{layer}.mlp", "resid_pre"),
    ],
)
def test_a_site_table_that_does_not_fit_the_model_is_caught(
    plan: Plan, site: str, path: str, identity: str
) -> None:
    row = plan.model.architecture
    wrong = replace(row.places[site], path=path, io="output")
    model = replace(plan.model, architecture=replace(row, places={**row.places, site: wrong}))
    spoilt = replace(plan, model=model)
    with pytest.raises(GuardError, match=rf"guard 'site identity' failed on {identity}"):
        judge(spoilt, Spoilt(spoilt))


def test_weights_in_another_precision_are_noted(plan: Plan) -> None:
    module = load_weights(plan.model, "cpu")
    assert note_precision(plan, module) == Verdict(
        "precision", "weights in float32", 0.0, float("inf")
    )
    module.gpt_neox.layers[0].to(torch.bfloat16)
    noted = note_precision(plan, module)
    assert noted.on == "weights in float32, some in bfloat16"
    assert 0.1 < noted.value < 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_that_are_not_finite_are_counted_where_there_is_a_token(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    tensor = torch.full((3, 2, 4), largest, dtype=dtype)  # its sum is no number of this precision
    there = torch.tensor([True, True, True, False, False, True]).view(3, 2, 1)
    assert not_finite(tensor, there).tolist() == [0, 0, 0]
    tensor[0, 0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=dtype)
    tensor[1, 1] = float("nan")  # padding
    assert not_finite(tensor, there).tolist() == [3, 0, 0]
    assert not_finite(torch.zeros(2, 0, 4, dtype=dtype), there[:2, :0]).tolist() == [0, 0]


def test_a_number_where_alone_there_is_none_is_a_deviation() -> None:
    """As where padding is taken for a token, or a token for padding."""
    there, padded = np.array([1.0, -2.0, 3.0]), np.array([1.0, -2.0, np.nan])
    assert deviation(there, padded) == deviation(padded, there) == float("inf")
    assert deviation(padded, padded) == 0
    assert deviation(padded + 0.5, padded) == 0.25


def test_texts_are_said_to_be_whole_and_to_begin_once(plan: Plan) -> None:
    """What was refused otherwise stands in the result, too: of the longest text and its answer."""
    assert [verdict.as_dict() for verdict in of_texts(plan)] == [
        {
            "guard": "truncation",
            "on": "words, tokens of the longest stimulus",
            "value": 5.0,
            "limit": 64,
            "verdict": "ok",
        },
        {
            "guard": "double BOS",
            "on": "words, stimuli that begin with two",
            "value": 0.0,
            "limit": 0.0,
            "verdict": "ok",
        },
    ]


def test_revisions_of_a_sweep_are_said_to_differ(plan: Plan, tmp_path: Path) -> None:
    assert not list(of_revisions([plan]))
    text = "patchclamp: 1\nname: s\nmodel: bundled:sequences\nstimuli: {w: {kind: items, items: "
    text += "[{t: one two}], text: '{t}'}}\ncaptures: {r: {site: resid_post}}\n"
    text += "matrix: {grid: {model.revision: [step0, step80], captures.r.layers: [0, 1]}}\n"
    (tmp_path / "s.yaml").write_text(text)
    result = run(tmp_path / "s.yaml", out=tmp_path / "runs", cache=tmp_path / "cache")
    (found,) = [guard for guard in result.guards if guard["guard"] == "weights differ"]
    on = "2 revisions of bundled:sequences, those with the weights of another"
    assert (found["on"], found["value"], found["verdict"]) == (on, 0.0, "ok")
    stored = open_result(result.path).provenance["guards"]
    assert found in stored
    texts = [guard for guard in stored if guard["guard"] in ("truncation", "double BOS")]
    assert len(texts) == 2 * 4
