"""Circuits on real models: what pruning keeps, what random circuits keep, areas by closed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import induction
import numpy as np
import pytest

from patchclamp.analyses.circuit_tables import SIZES, areas
from patchclamp.engine import run
from patchclamp.registry.errors import AnalysisError, SpecError

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


EDGES = """\
patchclamp: 1
name: edges
model: MODEL
stimuli:
  repeats:
    kind: items
    text: "{text}"
    groups: none
    answer: {correct: " {right}", foil: " {wrong}"}
    items:
ITEMS
  scrambled:
    kind: items
    text: "{text}"
    groups: none
    partners: {of: repeats, by: order}
    items:
OTHERS
interventions:
  other: {kind: patch, source: scrambled}
analyses:
  found:
    kind: circuit
    with: other
    units: {site: z}
    metric: logit_diff
    circuits:
      both: {kind: given, nodes: [L0H0, L1H0]}
      none: {kind: prune, keep_above: 0.8, protect: []}
    edges: {keep_above: 0.9}
    random: 20
"""


def planted(folder: Path, **more: Any) -> str:
    """Return a study of the planted network: sequences that repeat, and others in their place."""
    model = induction.write(folder / "model", **more)
    rng = np.random.default_rng(1)
    items, others = [], []
    for _ in range(6):
        words = [f"w{number}" for number in rng.permutation(14)]
        items.append(
            f"      - {{text: {' '.join([*words[:10], *words[:4]])}, right: {words[4]}, "
            f"wrong: {words[12]}}}"
        )
        others.append(
            f"      - {{text: {' '.join(f'w{n}' for n in rng.integers(0, 14, size=14))}}}"
        )
    text = EDGES.replace("MODEL", str(model)).replace("ITEMS", "\n".join(items))
    return text.replace("OTHERS", "\n".join(others))


def test_pruning_edges_finds_the_wires_that_were_planted(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(planted(tmp_path, distractors=0.002))
    found = run(tmp_path / "spec.yaml", out=tmp_path).analysis("found").sel(circuit="both")
    kept = {
        (cell["sender"].item(), cell["receiver"].item())
        for row in found["edge"]
        for cell in row
        if np.isfinite(cell)
    }
    # Positions are alike in both sets, and what L0H0 reads by them too.
    assert kept == {
        ("embed", "L0H0.v"),
        ("L0H0", "L1H0.k"),
        ("embed", "L1H0.q"),
        ("embed", "L1H0.v"),
        ("L1H0", "logits"),
    }
    assert int(found["edge_size"]) == 5
    assert float(found["edge_faithfulness"][0]) > 0.9
    # The control: as many random edges do not keep it, and every other edge was there to be kept.
    assert float((found["random_edge_faithfulness"] < 0.9).mean()) > 0.9
    assert int(np.isfinite(found["edge_effect"]).sum()) == 3 + 3 * 2 + 3
    assert float(found["step_share"][found["step_removed"].values == 1][-1]) > 0.9


def test_an_emptied_circuit_stays_empty(tmp_path: Path) -> None:
    """Where the metric lives without any head, pruning leaves none, and does not begin again."""
    text = planted(tmp_path).replace(
        "{kind: patch, source: scrambled", "{kind: ablate, value: zero, allow_no_effect: true"
    )
    text = text.replace("units: {site: z}", "units: {site: z, positions: first}")
    text = text.replace("    edges: {keep_above: 0.9}\n", "    faithfulness: true\n")
    (tmp_path / "spec.yaml").write_text(text)
    found = run(tmp_path / "spec.yaml", out=tmp_path).analysis("found").sel(circuit="none")
    assert int(found["size"]) == 0
    assert not found["member"].any()
    # Each head was left out once; a second round had nothing left to try.
    assert int(found["step_removed"].sum()) == found.sizes["node"] == found.sizes["step"]
    assert float(found["faithfulness"][0]) > 0.8
    assert np.isfinite(found["random_faithfulness"]).all()


def test_edges_of_single_positions_are_refused(tmp_path: Path) -> None:
    text = planted(tmp_path).replace("units: {site: z}", "units: {site: z, positions: last}")
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(SpecError, match="edges are of all positions: leave out 'positions'"):
        run(tmp_path / "spec.yaml", out=tmp_path)
