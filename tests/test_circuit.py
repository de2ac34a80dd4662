"""Circuits on real models: what pruning keeps, what random circuits keep, areas by closed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclamp.analyses.circuit_tables import SIZES, areas
from patchclamp.engine import run
from patchclamp.registry.errors import AnalysisError

SPEC = """\
patchclamp: 1
name: circuit
model: {id: bundled:sequences}
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
  scrambled: {kind: corrupt, of: words, slots: shuffle}
interventions:
  mean: {kind: ablate, value: {mean_over: scrambled, per: position}, allow_no_effect: true}
analyses:
  found:
    kind: circuit
    with: mean
    units: [{site: z}, {site: mlp_out}]
    metric: logit_diff
    circuits:
      pruned: {kind: prune, keep_above: 0.8}
      all: {kind: given, nodes: [L0H0, MLP0]}
    random: 20
    members: true
    faithfulness: true
"""


@pytest.mark.parametrize(
    ("curve", "cpr", "cmd"),
    [
        (lambda k: np.ones_like(k), 0.999, 0.0),
        (lambda k: np.zeros_like(k), 0.0, 0.999),
        (lambda k: k, 0.4999995, 0.4990005),
        (lambda k: (k >= 1).astype(float), 0.25, 0.749),
        (lambda k: np.sqrt(k), 0.6589133, 0.3400867),
        (lambda k: np.full_like(k, 2.0), 1.998, 0.999),
    ],
    ids=["one", "none", "linear", "step", "root", "twice"],
)
def test_areas_have_their_closed_forms(curve: Callable[[Any], Any], cpr: float, cmd: float) -> None:
    found = areas(SIZES, curve(np.asarray(SIZES)))
    assert found == (pytest.approx(cpr, abs=1e-7), pytest.approx(cmd, abs=1e-7))


def test_pruning_keeps_the_threshold_and_random_circuits_of_its_size_do_not(
    tmp_path: Path,
) -> None:
    spec = tmp_path / "circuit.yaml"
    spec.write_text(SPEC)
    found = run(spec, out=tmp_path).analysis("found")
    pruned = found.sel(circuit="pruned", set="words")
    assert float(pruned["faithfulness"]) > 0.8
    assert 0 < int(pruned["size"]) < found.sizes["node"]
    assert float(np.mean(pruned["random_faithfulness"] < 0.8)) > 0.9
    # Every step is there, and what stays is what no step took away.
    out = found["step_node"].values[found["step_removed"].values == 1].tolist()
    kept = found["node"].values[pruned["member"].values == 1].tolist()
    assert sorted([*out, *kept]) == sorted(found["node"].values.tolist())
    # Pruning ended when a whole round removed nothing: no member can be left out.
    assert float(np.nanmax(pruned["faithfulness_without"])) <= 0.8
    assert np.isnan(pruned["faithfulness_without"].sel(node=out[0]))


def test_a_node_that_is_not_among_the_units_is_named(tmp_path: Path) -> None:
    spec = tmp_path / "circuit.yaml"
    spec.write_text(SPEC.replace("units: [{site: z}, {site: mlp_out}]", "units: [{site: z}]"))
    with pytest.raises(AnalysisError, match="circuit 'all' has the node 'MLP0', which is none of"):
        run(spec, out=tmp_path)
