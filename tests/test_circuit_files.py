"""Circuits of files, on other sets, and what heads of the bundled model carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_circuit import SPEC

from patchclamp.engine import run
from patchclamp.registry.errors import SpecError

FILED = """\
patchclamp: 1
name: again
model: {id: "bundled:sequences"}
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'numerals'
    take: {n: 24}
  months:
    kind: builtin
    set: sequences
    text: "{prompt}"
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'months'
    take: {n: 24}
  scrambled: {kind: corrupt, of: words, slots: shuffle}
interventions:
  mean: {kind: ablate, value: {mean_over: scrambled, per: all}, allow_no_effect: true}
analyses:
  known:
    kind: circuit
    stimuli: words
    with: mean
    units: [{site: z}, {site: mlp_out}]
    metric: logit_diff
    transfer: [months]
    circuits:
      pruned: {kind: given, path: FILE}
      nothing: {kind: given, nodes: [L2H0]}
    random: 30
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("circuit")
    (folder / "spec.yaml").write_text(SPEC)
    return run(folder / "spec.yaml", out=folder)


def test_a_circuit_of_a_file_is_the_one_that_was_found(found: Any, tmp_path: Path) -> None:
    spec = tmp_path / "again.yaml"
    spec.write_text(FILED.replace("FILE", str(found.path)))
    known, before = run(spec, out=tmp_path).analysis("known"), found.analysis("found")
    member = known["member"].sel(circuit="pruned")
    assert bool((member == before["member"].sel(circuit="pruned", node=member["node"])).all())
    # It carries months, which it was not found on; random circuits of its size carry neither.
    faithful = known["faithfulness"].sel(circuit="pruned")
    random = known["random_faithfulness"].sel(circuit="pruned")
    assert known["set"].to_numpy().tolist() == ["words", "months"]
    assert bool((faithful > 0.5).all())
    assert bool((random.mean("draw") < faithful).all())
    assert bool((random.median("draw") < 0.5).all())
    assert float(known["faithfulness"].sel(circuit="nothing").max()) < 0.1


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("none.nc", "pruned", "cannot read none.nc"),
        ("FILE", "other", "it has no circuits called 'other'; it has found/pruned, found/all"),
    ],
)
def test_a_circuit_that_no_file_has_is_said(
    path: str, name: str, said: str, found: Any, tmp_path: Path
) -> None:
    text = FILED.replace("FILE", path).replace("pruned: {kind: given", f"{name}: {{kind: given")
    spec = tmp_path / "again.yaml"
    spec.write_text(text.replace("FILE", str(found.path)))
    with pytest.raises(SpecError, match=said) as caught:
        run(spec, out=tmp_path)
    assert "P401" in str(caught.value)


def test_the_network_s_heads_carry_every_task_and_one_most(tmp_path: Path) -> None:
    """As by plain hooks (`test_bundled_model`): one head of the middle layer carries the answer."""
    head, _, tail = SPEC.partition("    where: category == 'numerals'\n    take: {n: 24}\n")
    text = head + tail.partition("analyses:")[0] + HEADS
    (tmp_path / "spec.yaml").write_text(text)
    heads = run(tmp_path / "spec.yaml", out=tmp_path).analysis("heads")
    share = heads["logit_diff"] - heads["logit_diff_clean"]
    each = share.groupby("category").mean() / heads["logit_diff_clean"].groupby("category").mean()
    assert bool((each.sel(layer=1, head=1) < -0.6).all())
    others = each.where((each["layer"] != 1) | (each["head"] != 1))
    assert float(others.min()) > -0.15
    assert set(each["category"].to_numpy()) == {
        "letters", "months", "number_words", "numerals", "weekdays"
    }  # fmt: skip
    p = heads["p_max"]
    assert bool((p.sel(layer=0) < 0.01).all())
    assert float(p.sel(layer=1, head=1)) < 0.01
    assert float(p.sel(layer=2).min()) > 0.01


HEADS = """\
analyses:
  heads:
    kind: ablation
    stimuli: words
    with: mean
    units: {site: z}
    metric: logit_diff
    correct: max
"""
