"""The metric table: one number per stimulus from the model's next-token distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Metric:
    """A metric; `function` is `"module:function"` over the answer readings of a pass.

    `needs` says what a stimulus must come with. `estimand` names the quantity and its version,
    so that a fraction is never compared with percentage points. `ratio` says whether zero means
    *no effect at all*, without which a share of the clean baseline has no meaning. None as
    `function` is one that is not implemented yet: specs that name it are valid and are not run.
    """

    name: str
    summary: str
    function: str | None
    units: str
    estimand: str
    needs: Literal["nothing", "answer", "foil"]
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
            needs="foil",
            ratio=True,
        ),
        Metric(
            "logprob",
            "log-probability of the correct answer",
            "patchclamp.analyses.metrics:logprob",
            "nat",
            "logprob/1",
            needs="answer",
            ratio=False,
        ),
        Metric(
            "accuracy",
            "1 where the correct answer is the most probable token of the vocabulary, else 0",
            "patchclamp.analyses.metrics:accuracy",
            "1",
            "accuracy/1",
            needs="answer",
            ratio=True,
        ),
        Metric(
            "forced_choice",
            "1 where the correct answer is more probable than the foil, else 0",
            "patchclamp.analyses.metrics:forced_choice",
            "1",
            "forced_choice/1",
            needs="foil",
            ratio=True,
        ),
        Metric(
            "probability",
            "probability of the correct answer",
            None,
            "1",
            "probability/1",
            needs="answer",
            ratio=True,
        ),
        Metric(
            "answer_mass",
            "probability of all spellings of all answers together",
            None,
            "1",
            "answer_mass/1",
            needs="answer",
            ratio=True,
        ),
        Metric(
            "rank",
            "number of tokens that are more probable than the correct answer",
            None,
            "token",
            "rank/1",
            needs="answer",
            ratio=False,
        ),
        Metric(
            "cross_entropy",
            "mean negative log-probability of each token of the text, given those before it",
            None,
            "nat",
            "cross_entropy/1",
            needs="nothing",
            ratio=False,
        ),
        Metric(
            "entropy",
            "entropy of the next-token distribution",
            None,
            "nat",
            "entropy/1",
            needs="nothing",
            ratio=False,
        ),
        Metric(
            "kl",
            "Kullback-Leibler divergence from the clean run, over the whole vocabulary",
            None,
            "nat",
            "kl/1",
            needs="nothing",
            ratio=False,
        ),
        Metric(
            "js",
            "Jensen-Shannon divergence from the clean run, over the whole vocabulary",
            None,
            "nat",
            "js/1",
            needs="nothing",
            ratio=False,
        ),
    ],
)
