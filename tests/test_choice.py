"""Choices: planted models whose accuracy, bias and confidence are known, and real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import logsumexp, softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from patchclamp.analyses import choice
from patchclamp.analyses.bootstrap import share_interval
from patchclamp.analyses.context import Context
from patchclamp.analyses.readings import AnswerReading, ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine import run
from patchclamp.engine.plan import make_plan
from patchclamp.specs.analyses_descriptive import Choice
from patchclamp.specs.load import load

CONTEXT = Context(Seeds(0, "analyses.c"))
LETTERS = np.array(["A", "B", "C", "D"])
HERE = Path(__file__).parent


def entry(**options: Any) -> Choice:
    return Choice(kind="choice", stimuli="mcq", **options)


def answers(
    logits: np.ndarray, key: np.ndarray, *, other: float = -3.0, groups: np.ndarray | None = None
) -> xr.Dataset:
    """Answers with these logits, and `other` as the logit of all else that can be said."""
    n, k = logits.shape
    mass = logsumexp(logits, axis=1)
    coords: dict[str, Any] = {
        "stimulus": [f"s{i}" for i in range(n)],
        "option": LETTERS[:k],
        "topic": ("stimulus", np.where(np.arange(n) % 3 == 0, "x", "y")),
    }
    if groups is not None:
        coords["group"] = ("stimulus", groups)
    return xr.Dataset(
        {
            "logit_option": (("stimulus", "option"), logits),
            "right_option": ("stimulus", LETTERS[key], {"units": "text", "long_name": "right"}),
            "rank": ("stimulus", (logits > logits[np.arange(n), key][:, None]).sum(1)),
            "logit_answers": ("stimulus", mass),
            "logit_max": ("stimulus", np.maximum(logits.max(axis=1), other)),
            "logsumexp": ("stimulus", np.logaddexp(mass, other)),
        },
        coords=coords,
        attrs={"options": 1},
    )


def analysed(data: xr.Dataset, **options: Any) -> xr.Dataset:
    return choice.analyse(entry(**options), {"answers": data}, CONTEXT)


RNG = np.random.default_rng(0)
LOGITS, KEY = RNG.normal(size=(90, 4)) * 2, RNG.integers(0, 4, 90)


def test_it_asks_for_the_clean_answers() -> None:
    assert choice.readings(entry(), ModelShape(2, 2)) == {"answers": AnswerReading("mcq")}


def test_every_number_is_what_a_loop_over_stimuli_says() -> None:
    found = analysed(answers(LOGITS, KEY), by="topic")
    chosen = LOGITS.argmax(axis=1)
    right = chosen == KEY
    assert float(found["accuracy"]) == pytest.approx(right.mean())
    assert float(found["base_rate"]) == np.bincount(KEY).max() / 90
    everything = np.concatenate([LOGITS, np.full((90, 1), -3.0)], axis=1)
    p = softmax(everything, axis=1)
    assert float(found["answer_mass"]) == pytest.approx(p[:, :4].sum(axis=1).mean())
    assert float(found["probability"]) == pytest.approx(p[np.arange(90), KEY].mean())
    alone = softmax(LOGITS, axis=1)
    assert float(found["confidence"]) == pytest.approx(alone.max(axis=1).mean())
    brier = [((row - np.eye(4)[k]) ** 2).sum() for row, k in zip(alone, KEY, strict=True)]
    assert float(found["brier"]) == pytest.approx(np.mean(brier))
    for n, letter in enumerate(LETTERS):
        of = found.sel(option=letter)
        assert float(of["option_bias"]) == pytest.approx((chosen == n).mean() - (n == KEY).mean())
        assert float(of["option_accuracy"]) == pytest.approx(right[n == KEY].mean())
    for name in ("x", "y"):
        rows = found["topic"].to_numpy() == name
        assert float(found["accuracy_by"].sel({"class": name})) == pytest.approx(right[rows].mean())
        assert int(found["n_by"].sel({"class": name})) == rows.sum()
    assert found["bin_count"].sum() == 90
    assert found.attrs["n_groups"] == 90


def test_a_model_that_says_one_letter_has_the_base_rate_of_it_and_a_bias() -> None:
    logits = np.tile([5.0, 0, 0, 0], (90, 1))
    found = analysed(answers(logits, KEY))
    share = (KEY == 0).mean()
    assert float(found["accuracy"]) == pytest.approx(share)
    assert found["option_bias"].sel(option="A") == pytest.approx(1 - share)
    assert found["option_accuracy"].to_numpy().tolist() == [1, 0, 0, 0]
    assert float(found["calibration_p"]) == pytest.approx(1 / 1001)  # far too sure of itself


def test_honest_probabilities_are_calibrated_and_sharpened_ones_are_not() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(600, 4))
    p = softmax(logits, axis=1)
    key = np.array([rng.choice(4, p=row) for row in p])
    assert float(analysed(answers(logits, key))["calibration_p"]) > 0.05
    sharp = analysed(answers(3 * logits, key))
    assert float(sharp["calibration_p"]) == pytest.approx(1 / 1001)
    assert float(sharp["calibration_error"]) > 0.2
    assert float(sharp["accuracy"]) == float(analysed(answers(logits, key))["accuracy"])


def test_a_tie_is_no_choice() -> None:
    found = analysed(answers(np.zeros((8, 4)), np.arange(8) % 4))
    assert float(found["accuracy"]) == 0


def test_intervals_are_over_groups_and_never_without_width() -> None:
    logits = np.repeat(np.random.default_rng(3).normal(size=(9, 4)) * 2, 10, axis=0)
    key = np.repeat(np.arange(9) % 4, 10)
    alone = analysed(answers(logits, key))
    grouped = analysed(answers(logits, key, groups=np.repeat(np.arange(9), 10).astype(str)))
    assert grouped.attrs["n_groups"] == 9

    def width(data: xr.Dataset) -> float:
        return float(data["accuracy_high"] - data["accuracy_low"])

    assert width(grouped) > 2 * width(alone)
    sure = np.where(np.arange(4) == KEY[:, None], 9.0, 0.0)
    perfect = analysed(answers(sure, KEY))
    assert float(perfect["accuracy_high"]) == 1
    # Wilson's lower end for 90 of 90
    assert float(perfect["accuracy_low"]) == pytest.approx(90 / (90 + 1.96**2), abs=1e-4)


@pytest.mark.parametrize(("values", "low", "high"), [([0] * 20, 0, 0.161), ([1] * 20, 0.839, 1)])
def test_shares_of_0_and_1_have_the_interval_of_wilson(
    values: list[int], low: float, high: float
) -> None:
    found = share_interval(values, None, 200, np.random.default_rng(0))
    assert found == pytest.approx((low, high), abs=1e-3)


def test_a_class_of_one_group_has_no_interval() -> None:
    groups = np.where(np.arange(90) % 3 == 0, "only", np.arange(90).astype(str))
    found = analysed(answers(LOGITS, KEY, groups=groups), by="topic")
    assert bool(found["accuracy_by_low"].sel({"class": "x"}).isnull())
    assert not bool(found["accuracy_by_low"].sel({"class": "y"}).isnull())


def test_an_answer_and_its_foil_are_a_choice_without_options() -> None:
    data = answers(LOGITS[:, :2], np.zeros(90, int)).assign_coords(option=["correct", "foil"])
    data["right_option"] = ("stimulus", np.full(90, "correct"), data["right_option"].attrs)
    found = analysed(data.assign_attrs(options=0))
    assert float(found["accuracy"]) == pytest.approx((LOGITS[:, 0] > LOGITS[:, 1]).mean())
    assert float(found["base_rate"]) == 0.5
    assert "option_bias" not in found


def test_one_answer_competes_with_all_tokens() -> None:
    data = answers(LOGITS[:, :1], np.zeros(90, int), other=0.0)
    data["rank"] = ("stimulus", (LOGITS[:, 0] < 0).astype(int))
    found = analysed(data.assign_attrs(options=0))
    assert float(found["accuracy"]) == float(found["top_accuracy"]) == (LOGITS[:, 0] > 0).mean()
    p = 1 / (1 + np.exp(-LOGITS[:, 0]))
    assert float(found["probability"]) == float(found["answer_mass"]) == pytest.approx(p.mean())
    assert float(found["confidence"]) == pytest.approx(np.maximum(p, 1 - p).mean())
    assert not {"base_rate", "brier", "p_option", "option_bias"} & set(found)
    assert "all tokens" in found["accuracy"].attrs["long_name"]


def test_spellings_share_the_mass() -> None:
    data = answers(LOGITS, KEY)
    shares = np.log([0.9, 0.1]) + data["logit_answers"].to_numpy()[:, None]
    data["logit_variant"] = (("stimulus", "variant"), shares)
    found = analysed(data.assign_coords(variant=[" {x}", "{x}"]))
    np.testing.assert_allclose(found["variant_share"], [0.9, 0.1])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not (HERE.parents[1] / "shared" / "models" / "stories260k").is_dir():
        pytest.skip("the material beside the project is not here")
    out = tmp_path_factory.mktemp("runs")
    return {name: run(HERE / "specs" / f"choice_{name}.yaml", out=out, cache=out / "cache")
            for name in ("stories", "sequences")}  # fmt: skip


def test_letters_are_scored_as_a_plain_forward_scores_them(results: dict[str, Any]) -> None:
    """Each spelling of each letter, token by token, in the story model's own tokens."""
    folder = HERE.parents[1] / "shared" / "models" / "stories260k"
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    result = results["stories"]
    stimuli, found = result.groups["/stimuli/mmlu"], result.analysis("mmlu")
    assert sorted(set(stimuli["n_tokens"].to_numpy()))[-1] <= 240
    for number in range(0, 80, 20):
        text = str(stimuli["text"].to_numpy()[number])
        before = len(tokenizer(text).input_ids)
        logs = []
        for letter in "ABCD":
            of_letter = []
            for spelling in (f" {letter}", letter):
                ids = tokenizer(text + spelling).input_ids
                with torch.no_grad():
                    steps = module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
                places = range(before, len(ids))
                of_letter.append(sum(float(steps[i - 1, ids[i]]) for i in places))
            logs.append(np.logaddexp(*of_letter))
        ours = found["p_option"].isel(stimulus=number)
        np.testing.assert_allclose(ours, softmax(logs), atol=1e-4)
        mass = float(found["p_answers"].isel(stimulus=number))
        assert mass == pytest.approx(np.exp(logsumexp(logs)), rel=1e-4)


def test_a_model_that_has_read_only_stories_guesses(results: dict[str, Any]) -> None:
    mmlu, arc = (results["stories"].analysis(name) for name in ("mmlu", "arc"))
    for data in (mmlu, arc):
        assert float(data["accuracy_low"]) < 0.25 < float(data["accuracy_high"])
        assert float(data["answer_mass"]) < 0.2
        assert float(data["option_bias"].max()) > 0.2
    assert mmlu.attrs["n_groups"] == 40
    parts = results["stories"].groups["/stimuli/mmlu"]
    for part in ("train", "test"):
        assert int(mmlu["n_by"].sel({"class": part})) == (parts["split"].to_numpy() == part).sum()
    straddling = parts["group"].groupby("split").map(lambda g: xr.DataArray(len(set(g.values))))
    assert int(straddling.sum()) == 40


def test_the_bundled_model_knows_what_comes_next_and_no_multiple_choice(
    results: dict[str, Any],
) -> None:
    following, weekdays, mmlu = (
        results["sequences"].analysis(name) for name in ("next", "weekdays", "mmlu")
    )
    assert float(following["accuracy"]) == 1 > float(following["accuracy_low"])
    assert float(weekdays["answer_mass"]) > 0.99
    assert weekdays["option_bias"].to_numpy() == pytest.approx(0)
    assert float(mmlu["answer_mass"]) < 0.01
    assert float(mmlu["option_bias"].max()) > 0.7


def test_among_options_the_logit_difference_is_from_the_strongest_wrong_one(
    results: dict[str, Any],
) -> None:
    heads, weekdays = (results["sequences"].analysis(name) for name in ("heads", "weekdays"))
    logs = np.log(weekdays["p_option"].transpose("stimulus", "option").to_numpy())
    right = weekdays["option"].to_numpy() == weekdays["right_option"].to_numpy()[:, None]
    difference = logs[right] - np.where(right, -np.inf, logs).max(axis=1)
    np.testing.assert_allclose(heads["logit_diff_clean"], difference, atol=1e-6)
    assert float(heads["effect"].min()) < -1


def test_an_answer_of_two_tokens_is_an_error_unless_it_is_asked_for(shared: Path) -> None:
    path = HERE / "specs" / "choice_stories.yaml"
    changed = load(path, ["stimuli.mmlu.answer.tokens=one"])
    with pytest.raises(Exception, match="the option 'A', as ' A' is 2 tokens after the text"):
        make_plan(changed)
