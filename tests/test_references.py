"""Analyses come after those whose results they need, in whatever order they are written."""

from __future__ import annotations

from patchclamp.specs.load import loads
from patchclamp.specs.references import analyses_in_order

SPEC = """\
patchclamp: 1
name: t
model: bundled:sequences
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", labels: [category], groups: template,
    answer: {correct: " {next}", foil: " {last}"}}
captures: {resid: {site: resid_post}}
interventions: {push: {kind: add, vector: decode, site: resid_post}}
analyses:
  steer: {kind: steering, stimuli: words, with: [push], metric: logit_diff}
  other: {kind: probe, of: resid, target: category}
  decode: {kind: probe, of: resid, target: category}
"""


def test_an_analysis_comes_after_one_that_its_intervention_needs() -> None:
    order = analyses_in_order(loads(SPEC).spec)
    assert sorted(order) == ["decode", "other", "steer"]
    assert order.index("decode") < order.index("steer")
