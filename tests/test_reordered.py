"""Labels, not positions: reference and partner rows in another order change no number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclamp.engine import run

SPEC = """\
patchclamp: 1
name: reordered
model: {id: MODEL}
stimuli:
  words:
    kind: jsonl
    path: words.jsonl
    text: "{text}"
    id: name
    groups: group
    answer: {correct: " w1", foil: " w2"}
  others:
    kind: jsonl
    path: others.jsonl
    text: "{text}"
    id: name
    groups: group
    partners: {of: words, by: id}
interventions:
  position: {kind: ablate, value: {mean_over: others, per: position}}
  group: {kind: ablate, value: {mean_over: others, per: group}}
  whole: {kind: ablate, value: {mean_over: others, per: all}}
  drawn: {kind: ablate, value: {resample: others}}
  patch: {kind: patch, source: others}
analyses:
  position: {kind: ablation, with: position, units: {site: z}, metric: logit_diff}
  group: {kind: ablation, with: group, units: {site: z}, metric: logit_diff}
  whole: {kind: ablation, with: whole, units: {site: mlp_out}, metric: logit_diff}
  drawn: {kind: ablation, with: drawn, units: {site: resid_post, layers: 1}, metric: logit_diff}
  patch: {kind: ablation, with: patch, units: {site: mlp_act}, metric: logit_diff}
  paths:
    kind: patching
    clean: words
    corrupt: others
    direction: denoising
    units: {site: resid_post}
    normalise: false
    metric: logit_diff
run: {backend: hooks, device: cpu, threads: 1}
"""

GROUPS = "xxyyz"


def rows(first: int, order: list[int]) -> str:
    lines = [
        {
            "name": f"s{number}",
            "group": GROUPS[number],
            "text": " ".join(f"w{first + 5 * number + place}" for place in range(5)),
        }
        for number in order
    ]
    return "\n".join(map(json.dumps, lines))


def analyses(folder: Path, model: Path, order: list[int]) -> dict[str, Any]:
    folder.mkdir()
    (folder / "words.jsonl").write_text(rows(3, list(range(5))))
    (folder / "others.jsonl").write_text(rows(30, order))
    (folder / "spec.yaml").write_text(SPEC.replace("MODEL", str(model)))
    return dict(run(folder / "spec.yaml", out=folder, cache=folder / "cache").analyses)


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_rows_in_another_order_are_the_same_rows(
    order: list[int], twin: Callable[[str], Any], tmp_path: Path
) -> None:
    model = twin("gpt2").folder
    expected = analyses(tmp_path / "as-they-are", model, list(range(5)))
    found = analyses(tmp_path / "reordered", model, order)
    for name, data in expected.items():
        value = data["logit_diff"]
        other = found[name]["logit_diff"].sel(stimulus=value["stimulus"])
        np.testing.assert_allclose(other, value, rtol=0, atol=1e-5, err_msg=name)
        assert float(np.abs(data["effect"]).max()) > 1e-3, name
    # The negative control: by position alone, other rows would stand in.
    whole, position = expected["position"]["effect"], expected["group"]["effect"]
    assert float(np.abs(whole - position).max()) > 1e-3
