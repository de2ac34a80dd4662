"""What can stand at a site, and what is put there: refused before the model runs, or exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from patchclamp.analyses.readings import Change
from patchclamp.engine import run
from patchclamp.engine.batches import pad
from patchclamp.engine.steps import in_order, read_step, write_steps
from patchclamp.engine.values import edit
from patchclamp.registry.errors import SpecError

SPEC = """\
patchclamp: 1
name: sites
model: {id: "bundled:sequences"}
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'numerals' or category == 'months'
captures:
  resid: {site: resid_post, layers: 1, positions: last}
interventions:
  noise: {kind: replace, by: noise}
  zero: {kind: ablate, value: zero}
  flat: {kind: ablate, value: {along: found}}
  held: {kind: clamp, units: [3], value: [0.0]}
  drawn: {kind: ablate, value: {resample: words}, allow_no_effect: true}
  one: {kind: add, vector: {of: found, normalise: unit}, allow_no_effect: true}
  long:
    kind: add
    vector: {of: found, normalise: residual}
    scale: [0.0, 0.5]
    allow_no_effect: true
  back: {kind: add, vector: {of: found, toward: months, normalise: residual}, scale: [-0.5]}
analyses:
  found: {kind: contrast, of: resid, column: category, classes: [numerals, months]}
ANALYSES
"""


def analysed(folder: Path, analyses: str) -> Any:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.replace("ANALYSES", analyses))
    return run(spec, out=folder, cache=folder / "cache")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("with: one, units: {site: q}", "cannot be added to 'q': take a site with units, such as"),
        ("with: flat, units: {site: z}", "cannot be taken from 'z': take a site with units, such"),
        ("with: noise, units: {site: attn_pattern}", "'attn_pattern' has none: take z, or q and k"),
    ],
)
def test_what_cannot_stand_at_a_site_is_refused(what: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        analysed(tmp_path, f"  a: {{kind: ablation, {what}, metric: kl}}")
    assert "P421" in str(caught.value)


def test_a_site_without_layers_is_ablated_as_a_whole(tmp_path: Path) -> None:
    found = analysed(
        tmp_path,
        "  a: {kind: ablation, with: zero, units: {site: embed}, metric: logit_diff}\n"
        "  b: {kind: ablation, with: noise, units: {site: logits, positions: last}, metric: kl}",
    )
    assert found.analysis("a")["logit_diff"].dims == ("stimulus",)
    assert found.analysis("a")["effect"].dims == ()
    assert float(found.analysis("b")["effect"]) > 0.1


def test_units_are_held_that_the_clamp_names_and_no_others(tmp_path: Path) -> None:
    units = "units: {site: resid_post, layers: 1, positions: last"
    found = analysed(
        tmp_path,
        f"  a: {{kind: ablation, with: held, {units}}}, metric: logit_diff}}\n"
        f"  b: {{kind: ablation, with: zero, {units}, group: 1}}, metric: logit_diff}}",
    )
    held, each = (found.analysis(name)["effect"].squeeze("layer") for name in "ab")
    assert float(held) == pytest.approx(float(each.sel(unit=3)), abs=1e-6)
    assert abs(float(held)) > 1e-4


def test_a_direction_as_long_as_the_stream_that_it_was_found_in(tmp_path: Path) -> None:
    units = "units: {site: resid_post, layers: 1, positions: last}, metric: logprob"
    found = analysed(
        tmp_path,
        "\n".join(f"  {n}: {{kind: ablation, with: {n}, {units}}}" for n in ("long", "back")),
    )
    stream = found.groups["/captures/resid"]["activation"]
    assert found.analysis("long").sizes["dose"] == 2
    # What half the stream's mean length does, the unit direction does at that dose.
    length = float(np.linalg.norm(stream, axis=-1).mean())
    scale = f"normalise: unit}}, scale: [{length / 2!r}, 0.0]"
    again = SPEC.replace("normalise: unit}", scale)
    (tmp_path / "again.yaml").write_text(
        again.replace("ANALYSES", f"  unit: {{kind: ablation, with: one, {units}}}")
    )
    unit = run(tmp_path / "again.yaml", out=tmp_path, cache=tmp_path / "cache").analysis("unit")
    effect = found.analysis("long")["effect"]
    np.testing.assert_allclose(effect.sel(dose=0.5), unit["effect"].isel(dose=1), atol=1e-4)
    np.testing.assert_allclose(effect.sel(dose=0.0), 0, atol=1e-5)
    # Numerals are the contrast's first class: away from months is toward them.
    np.testing.assert_allclose(
        effect.sel(dose=0.5), found.analysis("back")["effect"].squeeze(), atol=1e-5
    )


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "mistral"])
@pytest.mark.parametrize("site", ["attn_scores", "attn_pattern"])
def test_no_query_sees_what_comes_after_it_whatever_is_put_in_place(
    name: str, site: str, twin: Callable[[str], Any]
) -> None:
    """Equal scores are an equal pattern over what is seen; nothing else is let in."""
    source = twin(name)
    texts = ((3, 4, 5, 6, 7, 8), (12, 13, 14))
    lengths = torch.tensor([len(ids) for ids in texts])
    read = read_step(source, ("attn_pattern", 1), "p", lengths)
    before = source.backends["hooks"].forward(pad(texts, pad_id=0), [read], stop=True)
    put = write_steps(source, [(Change("zero", site, 1), edit(torch.ones(1, 1)))])
    after = source.backends["hooks"].forward(
        pad(texts, pad_id=0), in_order([*put, read]), stop=True
    )
    old, new = (found["p/activation"].nan_to_num() for found in (before, after))
    seen = old > 0
    assert bool((new[~seen] == 0).all())
    counts = seen.sum(-1, keepdim=True)
    expected = torch.where(seen, 1.0 / counts if site == "attn_scores" else 1.0, 0.0)
    torch.testing.assert_close(new, expected.to(new.dtype), rtol=0, atol=1e-6)


@pytest.mark.parametrize("at", ["", ", positions: last_item.last"])
def test_scores_of_another_stimulus_can_be_put_in_place(at: str, tmp_path: Path) -> None:
    """Of a query at another place, which saw fewer keys, the others are not seen."""
    line = (
        f"  a: {{kind: ablation, with: drawn, units: {{site: attn_scores{at}}}, metric: logprob}}"
    )
    spec = tmp_path / "spec.yaml"
    spans = "    groups: template\n    spans: {last_item: '{s4}'}\n"
    text = SPEC.replace("    groups: template\n", spans).replace("ANALYSES", line)
    spec.write_text(text)
    found = run(spec, out=tmp_path, cache=tmp_path / "cache").analysis("a")
    assert bool(np.isfinite(found["logprob"]).all())
    assert float(np.abs(found["effect"]).max()) > 1e-3
