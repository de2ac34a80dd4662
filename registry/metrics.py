"""The metric table: one number per stimulus from the model's next-token distribution."""

from __future__ import annotations

from dataclasses import dataclass

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Metric:
    """A metric; `function` is `"module:function"` over the answer readings of a pass.

    `estimand` names the quantity and its version, so that a fraction is never compared with
    percentage points. `ratio` says whether zero means *no effect at all*, without which a
    share of the clean baseline has no meaning.
    """

    name: str
    summary: str
    function: str
    units: str
    estimand: str
    needs_foil: bool
    ratio: bool


METRICS: Table[Metric] = Table(
    "metric",
    [
        Metric(
            "logit_diff",
            "logit of the correct answer minus logit of the foil",
            "patchclamp.analyses.metrics:logit_diff",
            "logit",
            "logit_diff/1",
            needs_foil=True,
            ratio=True,
        ),
        Metric(
            "logprob",
            "log-probability of the correct answer",
            "patchclamp.analyses.metrics:logprob",
            "nat",
            "logprob/1",
            needs_foil=False,
            ratio=False,
        ),
        Metric(
            "accuracy",
            "1 where the correct answer is the most probable token of the vocabulary, else 0",
            "patchclamp.analyses.metrics:accuracy",
            "1",
            "accuracy/1",
            needs_foil=False,
            ratio=True,
        ),
        Metric(
            "forced_choice",
            "1 where the correct answer is more probable than the foil, else 0",
            "patchclamp.analyses.metrics:forced_choice",
            "1",
            "forced_choice/1",
            needs_foil=True,
            ratio=True,
        ),
    ],
)
