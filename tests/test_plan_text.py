"""What `patchclamp plan` says is what a run then does."""

from __future__ import annotations

from pathlib import Path

from patchclamp.engine.plan import make_plan
from patchclamp.engine.plan_text import capture_shape, describe_plan
from patchclamp.engine.run import run
from patchclamp.specs.load import load


def test_the_quick_starts_plan_in_words() -> None:
    said = describe_plan(make_plan(load("quickstart")))
    assert said.splitlines()[0] == (
        "quickstart: bundled:sequences@main, 3 layers x 4 heads, trained weights in float32"
    )
    assert "stimuli.words: 240 stimuli, 4625 tokens, longest 33, in 1 batch" in said
    assert "captures.resid: resid_post (stimulus 240, layer 3, position 1, unit 96)" in said
    assert "interventions.mean: mean of z over scrambled, per position" in said
    assert "analyses.heads: 12 conditions of words" in said
    assert said.splitlines()[-1].strip() == "14 forward passes: 2 sets clean, 12 interventions"


def test_shapes_and_passes_are_those_of_the_run(tmp_path: Path) -> None:
    plan = make_plan(load("untrained"))
    seen: list[int] = []
    result = run("untrained", out=tmp_path, progress=lambda _, done, total: seen.append(total))
    assert seen == [plan.passes()] * plan.passes()
    activation = result.groups["/captures/resid"]["activation"]
    assert dict(activation.sizes) == capture_shape(plan, plan.captures[0])
